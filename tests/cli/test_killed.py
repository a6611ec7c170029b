"""`kill -9` at random moments: nothing is damaged, the same command resumes, nothing is left."""

from __future__ import annotations

import csv
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from itk_ncr.checkpoints import read_state, verify_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]
MOMENTS = 12
COMMAND = [sys.executable, "-m", "itk_ncr"]


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """The time of these tests is that of the step of CI that they run in."""
    return iter([None])


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name.startswith(".itk-ncr-")]


def moments(kill_after, words: list[str], seed: str) -> Iterator[float]:
    """Run a command undisturbed, and draw moments of its time; most of it is the imports."""
    begun = time.monotonic()
    assert not kill_after(words, 900)
    lasts = time.monotonic() - begun
    chance = random.Random(seed)
    yield from (chance.uniform(0.3, 1.05) * lasts for _ in range(MOMENTS))


def complete(folder: Path) -> bool:
    record = json.loads((folder / "summary.json").read_text())
    return all((folder / name).is_file() for name in record["outputs"].values())


def test_register(kill_after, pair, tmp_path):
    words = [*COMMAND, "register", *map(str, pair), "--threads", "1", "-q", "--no-report"]
    out = tmp_path / "out"
    for moment in moments(kill_after, [*words, "-o", str(tmp_path / "whole")], "register"):
        kill_after([*words, "-o", str(out), "--overwrite"], moment)
        visible = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
        assert visible <= {"whole", "out"}
    assert not kill_after([*words, "-o", str(out), "--overwrite"], 900)
    assert complete(out)
    assert not hidden(tmp_path)
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in out.iterdir()} == names
    for name in names - {"summary.json", "transform.h5", "transform_inverse.h5"}:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_batch(kill_after, pair, tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text(
        "name,fixed,moving\n" + "".join(f"{name},{pair[0]},{pair[1]}\n" for name in "abcd")
    )
    words = [*COMMAND, "batch", str(table), "--no-report", "--affine=none", "--mask=none", "-q"]
    words += ["--workers", "2", "--threads", "1"]
    out = tmp_path / "out"
    done: set[str] = set()
    for moment in moments(kill_after, [*words, "-o", str(tmp_path / "whole")], "batch"):
        kill_after([*words, "-o", str(out)], moment)
        folders = {f.name for f in out.glob("[a-z]") if f.is_dir()} if out.exists() else set()
        assert done <= folders
        assert all(complete(out / name) for name in folders)
        done = folders
        if len(done) == 4:
            break
    assert not kill_after([*words, "-o", str(out)], 900)
    with (out / "summary.csv").open(newline="") as lines:
        assert [row["status"] for row in csv.DictReader(lines)] == ["done"] * 4
    assert {path.name for path in out.iterdir()} == {*"abcd", "summary.csv", "cohort.json"}
    assert not hidden(tmp_path)


def test_train(kill_after, tmp_path, blobs, save):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        save(blobs((32, 32), shift=0.03 * (number - 3)), images / f"p{number}.nrrd")
    words = [*COMMAND, "train", str(images), "--preset", "mri-2d", "--reduce", "1", "--width", "2"]
    words += ["--batch", "2", "--lesions", "0", "--variant", "regnet", "--threads", "1", "-q"]
    words += ["--steps", "60", "--validate-every", "20", "--name", "small", "--val", "0.2"]
    out = tmp_path / "out"
    step = 0
    for moment in moments(kill_after, [*words, "-o", str(tmp_path / "whole")], "train"):
        kill_after([*words, "-o", str(out)], moment)
        if (out / "state.safetensors").exists():
            reached = read_state(out / "state.safetensors")[1]["step"]
            assert reached >= step
            step = reached
        if (out / "model" / "model.json").exists():
            verify_model(out / "model")
    assert not kill_after([*words, "-o", str(out)], 900)
    assert not hidden(tmp_path)
    ours, theirs = (
        read_state(f / "model" / "weights.safetensors")[0] for f in (out, tmp_path / "whole")
    )
    assert all(np.array_equal(ours[name].numpy(), theirs[name].numpy()) for name in theirs)
    assert {path.name for path in out.iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}
