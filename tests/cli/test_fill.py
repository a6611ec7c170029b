"""``itk-ncr fill``: one file out, or one line that says why not."""

import numpy as np
import pytest
from click.testing import CliRunner

import itk_ncr
from itk_ncr.cli import command_line


@pytest.fixture
def files(tmp_path):
    """An image with a dark lesion and its mask, as NIfTI."""
    axes = np.indices((40, 48))
    head = np.where(((axes - [[[20]], [[24]]]) ** 2).sum(0) < 300, 100 + 2 * axes[0], 0)
    lesion = ((axes - [[[20]], [[30]]]) ** 2).sum(0) < 20
    grid = itk_ncr.Grid.of_array(head.shape, spacing=(1.5, 1.5))
    for name, array in (("image", np.where(lesion, 20, head)), ("mask", lesion)):
        itk_ncr.write_image(itk_ncr.Image(array.astype(np.int16), grid), tmp_path / f"{name}.nii")
    return tmp_path, head, lesion


def fill(folder, *words):
    return CliRunner().invoke(command_line, ["fill", *map(str, words)])


def test_a_filled_image_is_written_in_its_own_type(files):
    folder, head, lesion = files
    out = folder / "filled.nii.gz"
    done = fill(folder, folder / "image.nii", folder / "mask.nii", "-o", out)
    assert done.exit_code == 0, done.output
    filled = itk_ncr.read_image(out)
    assert filled.array.dtype == np.int16
    assert np.abs(filled.array - head)[lesion].max() < 15
    again = fill(folder, folder / "image.nii", folder / "mask.nii", "-o", out)
    assert again.exit_code == 2
    assert "--overwrite" in again.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("image.nii", "mask.nii", "--kind", "partner"), "--kind partner needs --partner"),
        (("image.nii", "mask.nii", "--partner", "image.nii"), "--partner goes with"),
        (("image.nii", "image.nii"), "lesion mask must be binary"),
        (("image.nii", "no.nii"), "no.nii"),
        (("mask.nii", "mask.nii"), "lesion mask must leave part"),
    ],
)
def test_what_cannot_be_filled_is_one_line_and_no_file(files, monkeypatch, words, said):
    folder, _, _ = files
    monkeypatch.chdir(folder)
    done = fill(folder, *words, "-o", "out.nii")
    assert done.exit_code == 2
    assert said in done.output
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
    assert not (folder / "out.nii").exists()
