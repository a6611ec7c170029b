"""``itk-ncr convert``: from a run to a voxel field, and back to the run's displacement."""

from __future__ import annotations

import numpy as np
import pytest

from itk_ncr.images import read_affine, read_displacement


def test_a_run_becomes_a_voxel_field_and_a_displacement_again(run, registered, pair, tmp_path):
    voxels, field, transform = (tmp_path / n for n in ("u.nii.gz", "d.nrrd", "t.h5"))
    done = run("convert", registered, "-o", voxels, "--to", "voxels")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{voxels}\n", "")
    back = ["convert", voxels, "--to", "mm", "--fixed", pair[0], "--moving", pair[1], "-q"]
    for output in (field, transform):
        done = run(*back, "-o", output)
        assert (done.exit_code, done.output) == (0, "")
    expected = read_displacement(registered / "displacement.nrrd")
    np.testing.assert_allclose(read_displacement(field).array, expected.array, atol=1e-3)


def test_what_is_assumed_of_the_moving_image_is_said(run, registered, tmp_path):
    done = run(
        "convert", registered / "displacement.nrrd", "-o", tmp_path / "u.nii", "--to", "voxels"
    )
    assert done.exit_code == 0
    assert "taken to lie on the grid of the fixed one" in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--to", "mm", "-o", "d.nrrd"], "--to mm needs --fixed"),
        (["--to", "voxels", "-o", "u.nrrd"], "must end in .nii, .nii.gz"),
        (["--to", "voxels", "-o", "u.nii", "--fixed", "f.nrrd"], "--fixed is for --to mm"),
        (["--to", "voxels", "-o", "u.nii", "--moving", "gone.nrrd"], "no such file"),
    ],
)
def test_a_call_that_cannot_be_done_is_one_line_and_no_file(
    words, reason, run, registered, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = run("convert", registered, *words)
    assert done.exit_code == 2
    assert reason in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_matrix_as_text_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "affine.mat"
    np.savetxt(path, np.eye(4))
    with pytest.raises(OSError, match="c3d_affine_tool FILE -oitk"):
        read_affine(path)
