"""Tiny pairs in files, and tables of them."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

# A fraction of a second each: neither an affine nor a mask is sought.
QUICK = {"affine": "none", "mask": "none"}


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No test may hang; on a machine that does much else, one takes minutes."""

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _processors_as_before() -> Iterator[None]:
    """A job sets the threads of its process, which is ours where a test does it here."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files fixed.nrrd, moving.nrrd, labels.nrrd and fixed_labels.nrrd of a disc that moves."""
    folder = tmp_path_factory.mktemp("images")
    for name, centre in {"fixed": 11.5, "moving": 13.0}.items():
        rows, columns = np.indices((24, 24))
        distance = np.hypot(rows - 11.5, columns - centre)
        save(100 / (1 + np.exp(2 * (distance - 7))), folder / f"{name}.nrrd")
        prefix = "fixed_" * (name == "fixed")
        save((distance < 7).astype(np.uint8) * 4, folder / f"{prefix}labels.nrrd")
    (folder / "broken.nrrd").write_text("no image")
    return folder


def save(array: np.ndarray, path: Path) -> None:
    kind = array if array.dtype == np.uint8 else array.astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(kind), str(path))


@pytest.fixture
def table(tmp_path: Path, images: Path) -> Callable[..., Path]:
    """Write a table beside copies of the images; a row is given as a dict."""

    def write(*rows: dict[str, str], name: str = "pairs.csv") -> Path:
        for image in images.iterdir():
            if not (tmp_path / image.name).exists():
                (tmp_path / image.name).write_bytes(image.read_bytes())
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path / name

    return write


@pytest.fixture(name="row")
def _row() -> Callable[..., dict[str, str]]:
    def row(name: str, **more: str) -> dict[str, str]:
        return {"name": name, "fixed": "fixed.nrrd", "moving": "moving.nrrd", **more}

    return row


@pytest.fixture(name="quick")
def _quick() -> dict[str, str]:
    return dict(QUICK)


@pytest.fixture(name="summary")
def _summary() -> Callable[[Path], list[dict[str, str]]]:
    def read(folder: Path) -> list[dict[str, str]]:
        with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture(name="complete")
def _complete() -> Callable[[Path], bool]:
    def complete(folder: Path) -> bool:
        """Whether every file that the record of a pair names is there."""
        outputs = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["outputs"]
        return all((folder / name).is_file() for name in outputs.values())

    return complete


@pytest.fixture(name="kill_workers", scope="session")
def _kill_workers() -> Callable[..., threading.Thread]:
    return kill_workers


def kill_workers(folder: Path, times: int) -> threading.Thread:
    """Kill, in the background, so many processes as soon as they write to a folder."""

    def kill() -> None:
        left, killed = times, {os.getpid()}
        while left:
            for stage in folder.glob(".itk-ncr-*/"):
                process = int(stage.name.split("-")[3])
                if process not in killed:
                    os.kill(process, signal.SIGKILL)
                    killed.add(process)
                    left -= 1
            time.sleep(0.01)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread
