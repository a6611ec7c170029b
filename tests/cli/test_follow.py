"""``itk-ncr follow``: a folder out, or one line that says why not."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import ndimage

import itk_ncr
from itk_ncr.cli import command_line


@pytest.fixture
def visits(tmp_path):
    """Two visits, the second with a bright spot."""
    rows, columns = np.indices((40, 44))
    disc = np.hypot(rows - 20, columns - 22) < 16
    texture = ndimage.gaussian_filter(np.random.default_rng(9).standard_normal(disc.shape), 2.0)
    first = (disc * (120 + 160 * texture)).clip(0).astype(np.float32)
    second = np.where(np.hypot(rows - 20, columns - 28) < 5, 300, first).astype(np.float32)
    for name, image in (("first", first), ("second", second)):
        grid = itk_ncr.Grid.of_array(image.shape)
        itk_ncr.write_image(itk_ncr.Image(image, grid), tmp_path / f"{name}.nrrd")
    return tmp_path


def follow(folder, *words):
    named = [folder / word if word.endswith(".nrrd") else word for word in words]
    return CliRunner().invoke(command_line, ["follow", *map(str, named)])


def test_a_follow_up_writes_its_folder_and_says_its_volumes(visits):
    out = visits / "out"
    done = follow(visits, "first.nrrd", "second.nrrd", "-o", str(out), "--affine", "none")
    assert done.exit_code == 0, done.output
    record = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert record["tool"] == "itk-ncr follow"
    assert [visit["name"] for visit in record["visits"]] == ["first.nrrd", "second.nrrd"]
    assert {out / name for name in record["outputs"].values()} == set(out.iterdir())
    assert "appeared, second.nrrd" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["first.nrrd", "missing.nrrd"], "missing.nrrd"),
        (["first.nrrd"], "two or more"),
        (["first.nrrd", "first.nrrd"], "like visit 1"),
        (["first.nrrd", "second.nrrd", "--moved", "-1"], "--moved"),
    ],
)
def test_a_fault_is_one_line_and_leaves_no_folder(visits, words, said):
    out = visits / "out"
    done = follow(visits, *words, "-o", str(out), "--affine", "none")
    assert done.exit_code == 2
    assert said in done.output
    assert len([line for line in done.output.splitlines() if line.startswith("error")]) == 1
    assert not out.exists()
