"""Small pairs in files, a command runner, and a watch over what a command may take."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner, Result

from itk_ncr.cli import command_line


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the command line in this process."""

    def call(*words: object) -> Result:
        return CliRunner().invoke(command_line, [str(word) for word in words])

    return call


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No call may hang; on a machine that does much else, one takes minutes."""

    def stop(*_: object) -> None:
        raise TimeoutError("the command hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def blobs(shape: tuple[int, ...], shift: float = 0.0) -> np.ndarray:
    """An object with an inside: an ellipsoid and a few bumps, moved along its last axis."""
    axes = list(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    axes[-1] = axes[-1] - shift * (1 - axes[0] ** 2)
    radius = sum((a / 0.75) ** 2 for a in axes)
    image = 80.0 / (1 + np.exp(12 * (radius - 1)))
    for number, centre in enumerate([(-0.3, 0.2), (0.3, -0.25), (0.05, 0.4), (-0.1, -0.35)]):
        place = (*([0.1] * (len(shape) - 2)), *centre)
        distance = sum((a - c) ** 2 for a, c in zip(axes, place, strict=True))
        image += (60 - 25 * number) * np.exp(-distance / 0.03)
    return image.astype(np.float32)


def save(array: np.ndarray, path: Path, spacing: float = 1.5, vector: bool = False) -> Path:
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing([spacing] * image.GetDimension())
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture(scope="session", autouse=True)
def _threads_as_before() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_thread(_threads_as_before: None) -> None:
    """Small images gain nothing from a second thread, and a busy machine loses much."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A 2D pair, fixed and moving."""
    folder = tmp_path_factory.mktemp("pair")
    return (
        save(blobs((40, 48)), folder / "fixed.nrrd"),
        save(blobs((40, 48), shift=0.12), folder / "moving.nrrd"),
    )


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A 3D pair, fixed and moving."""
    folder = tmp_path_factory.mktemp("volumes")
    return (
        save(blobs((20, 24, 28)), folder / "fixed.nii.gz"),
        save(blobs((20, 24, 28), shift=0.1), folder / "moving.nii.gz"),
    )


@pytest.fixture(scope="session")
def registered(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the 2D pair, with labels; not to be written to."""
    folder = tmp_path_factory.mktemp("registered")
    labels = save((blobs((40, 48), shift=0.12) > 60).astype(np.float32) * 3, folder / "labels.nrrd")
    words = ["register", *pair, "-o", folder / "run", "--labels", labels, "--seed", 7, "-q"]
    words += ["--threads", 1]
    result = CliRunner().invoke(command_line, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture(name="read")
def _read() -> Callable[[Path], np.ndarray]:
    return read


@pytest.fixture(name="save", scope="session")
def _save() -> Callable[..., Path]:
    return save


@pytest.fixture(name="blobs", scope="session")
def _blobs() -> Callable[..., np.ndarray]:
    return blobs


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
