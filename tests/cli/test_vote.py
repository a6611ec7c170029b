"""``itk-ncr vote``: a folder out, or one line that says why not."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import ndimage

import itk_ncr
from itk_ncr.cli import command_line


@pytest.fixture
def files(tmp_path):
    """A patient and two healthy images as NRRD."""
    rows, columns = np.indices((40, 44))
    disc = np.hypot(rows - 20, columns - 22) < 16
    common = ndimage.gaussian_filter(np.random.default_rng(9).standard_normal(disc.shape), 2.0)
    for number, name in enumerate(("patient", "one", "two")):
        texture = np.random.default_rng(number).standard_normal(disc.shape)
        own = ndimage.gaussian_filter(texture, 3.0)
        image = (disc * (120 + 160 * common + 60 * own)).clip(0).astype(np.float32)
        grid = itk_ncr.Grid.of_array(image.shape)
        itk_ncr.write_image(itk_ncr.Image(image, grid), tmp_path / f"{name}.nrrd")
    return tmp_path


def vote(folder, *words):
    named = [folder / word if word.endswith(".nrrd") else word for word in words]
    return CliRunner().invoke(command_line, ["vote", *map(str, named)])


def test_a_vote_writes_its_folder_and_says_how_each_image_agrees(files):
    out = files / "out"
    done = vote(files, "patient.nrrd", "one.nrrd", "two.nrrd", "-o", str(out), "--affine", "none")
    assert done.exit_code == 0, done.output
    record = json.loads((out / "summary.json").read_text())
    assert record["tool"] == "itk-ncr vote"
    assert [image["name"] for image in record["images"]] == ["one.nrrd", "two.nrrd"]
    assert {out / name for name in record["outputs"].values()} == set(out.iterdir())
    assert "two.nrrd" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["patient.nrrd", "one.nrrd", "missing.nrrd"], "missing.nrrd"),
        (["patient.nrrd", "one.nrrd"], "two images or more"),
        (["patient.nrrd", "one.nrrd", "patient.nrrd"], "like fixed image"),
    ],
)
def test_a_fault_is_one_line_and_leaves_no_folder(files, words, said):
    out = files / "out"
    done = vote(files, *words, "-o", str(out), "--affine", "none")
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output
    assert len([line for line in done.output.splitlines() if line.startswith("error")]) == 1
    assert not out.exists()
