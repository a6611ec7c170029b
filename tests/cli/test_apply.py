"""Things carried along a displacement that is known, and along a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

# A whole number of voxels of 1.5 mm, so that linear interpolation is exact.
SHIFT_MM = (3.0, -1.5)


@pytest.fixture
def shifted(tmp_path, save) -> Path:
    """A run folder whose map is x -> x + SHIFT_MM, on a fixed grid of another size."""
    folder = tmp_path / "run"
    folder.mkdir()
    fixed, moving = np.empty((10, 12, 2), np.float32), np.empty((9, 14, 2), np.float32)
    fixed[:] = SHIFT_MM
    moving[:] = np.negative(SHIFT_MM)
    save(fixed, folder / "displacement.nrrd", vector=True)
    save(moving, folder / "displacement_inverse.nrrd", vector=True)
    return folder


@pytest.fixture
def ramp() -> np.ndarray:
    """Different values everywhere: 100 rows + columns."""
    return (100 * np.arange(9)[:, None] + np.arange(14)).astype(np.float32)


def test_an_image_of_the_moving_space_comes_out_on_the_fixed_grid(
    shifted, ramp, save, run, read, tmp_path
):
    image = save(ramp, tmp_path / "image.nrrd")
    result = run("apply", shifted, image, "-o", tmp_path / "out.nii.gz", "--fill", -1)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'out.nii.gz'}\n"
    out = read(tmp_path / "out.nii.gz")
    assert out.shape == (10, 12)
    # x + 3 mm is two columns on, y - 1.5 mm one row back.
    assert np.array_equal(out[1:10, 0:12], ramp[0:9, 2:14])
    assert (out[0] == -1).all()


def test_the_inverse_brings_it_back(shifted, ramp, save, run, read, tmp_path):
    image = save(ramp, tmp_path / "image.nrrd")
    run("apply", shifted, image, "-o", tmp_path / "there.nrrd", "-q")
    result = run("apply", shifted, tmp_path / "there.nrrd", "-o", tmp_path / "b.mha", "--inverse")
    assert result.exit_code == 0
    assert np.array_equal(read(tmp_path / "b.mha")[:, 2:], ramp[:, 2:])


def test_labels_keep_their_numbers_and_become_whole(shifted, save, run, read, tmp_path):
    labels = np.zeros((9, 14), np.float64)
    labels[3:6, 4:9] = 1021
    path = save(labels, tmp_path / "labels.nii")
    field = np.full((10, 12, 2), 0.6, np.float32)  # no whole number of voxels
    save(field, tmp_path / "half.nrrd", vector=True)
    result = run("apply", tmp_path / "half.nrrd", path, "--labels", "-o", tmp_path / "out.nrrd")
    assert result.exit_code == 0, result.output
    out = read(tmp_path / "out.nrrd")
    assert out.dtype == np.int32
    assert set(np.unique(out)) == {0, 1021}


def test_points_go_where_their_image_goes(shifted, save, run, tmp_path):
    table = tmp_path / "points.csv"
    table.write_text("name,X,y,z?\nfirst,4.5,6.0,a\nsecond,6,7.5,b\n\n", encoding="utf-8")
    result = run("apply", shifted, table, "-o", tmp_path / "out.csv", "-q")
    assert result.exit_code == 0, result.output
    # From the moving to the fixed image, that is against the displacement.
    assert (tmp_path / "out.csv").read_text() == (
        "name,X,y,z?\nfirst,1.500000,7.500000,a\nsecond,3.000000,9.000000,b\n"
    )
    run("apply", shifted, tmp_path / "out.csv", "--inverse", "-o", tmp_path / "back.csv")
    assert "first,4.500000,6.000000,a" in (tmp_path / "back.csv").read_text()


def test_landmarks_tell_how_far_off_carried_points_are(shifted, run, tmp_path):
    table, target = tmp_path / "points.csv", tmp_path / "target.csv"
    table.write_text("x,y\n4.5,6\n6,7.5\n3,3\n")
    # Carried by (-3, 1.5); the second is 2 mm off then, the third was there before.
    target.write_text("y,x\n7.5,1.5\n9,5\n3,3\n")
    words = ["apply", shifted, table, "-o", tmp_path / "out.csv", "--landmarks", target]
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1] == (
        "landmarks: median error 2.00 mm, before 1.80 mm; 33% are closer"
    )
    target.write_text("x,y\n1.5,7.5\n")
    result = run(*words, "--overwrite")
    assert result.exit_code == 2
    assert "must have a row for each of the 3 points; got 1" in result.stderr
    result = run("apply", shifted, tmp_path / "i.nrrd", "-o", tmp_path / "o.nrrd", *words[-2:])
    assert result.exit_code == 2
    assert "--landmarks is for a table of points" in result.stderr


def test_a_voxel_and_a_point_travel_together(shifted, save, run, read, tmp_path):
    image = np.zeros((9, 14), np.float32)
    image[4, 6] = 1
    save(image, tmp_path / "image.nrrd")
    (tmp_path / "p.tsv").write_text(f"x\ty\n{6 * 1.5}\t{4 * 1.5}\n")
    run("apply", shifted, tmp_path / "image.nrrd", "-o", tmp_path / "out.nrrd")
    run("apply", shifted, tmp_path / "p.tsv", "-o", tmp_path / "out.tsv")
    row, column = np.argwhere(read(tmp_path / "out.nrrd") == 1)[0]
    assert (tmp_path / "out.tsv").read_text() == f"x\ty\n{column * 1.5:.6f}\t{row * 1.5:.6f}\n"


def test_a_single_field_moves_points_along_its_arrows(shifted, run, tmp_path):
    table = tmp_path / "points.csv"
    # As spreadsheets write it: byte order mark, semicolons, CRLF.
    table.write_bytes(b"\xef\xbb\xbfx;y\r\n4.5;6\r\n")
    result = run("apply", shifted / "displacement.nrrd", table, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.csv").read_text() == "x;y\n7.500000;4.500000\n"


def test_no_cell_of_the_points_becomes_a_formula(shifted, run, tmp_path):
    (tmp_path / "points.csv").write_text("x,y,=1+1\n4.5,6,@SUM(A1)\n-4.5,6,\uff1d2+2\n")
    result = run("apply", shifted, tmp_path / "points.csv", "-o", tmp_path / "out.csv", "-q")
    assert result.exit_code == 0, result.output
    heading, *lines = (tmp_path / "out.csv").read_text().splitlines()
    assert heading == "x,y,'=1+1"
    assert [line.split(",")[2] for line in lines] == ["'@SUM(A1)", "'\uff1d2+2"]
    assert lines[1].startswith("-")


def test_points_outside_are_warned_about(shifted, run, tmp_path):
    (tmp_path / "points.csv").write_text("x,y\n1000,0\n")
    result = run("apply", shifted, tmp_path / "points.csv", "-o", tmp_path / "out.csv", "-q")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: 1 of 1 points")


def test_a_run_carries_points_there_and_back(registered, run, tmp_path):
    (tmp_path / "points.csv").write_text("x,y\n30,27\n40.5,33\n28,20\n")
    run("apply", registered, tmp_path / "points.csv", "-o", tmp_path / "there.csv")
    run("apply", registered, tmp_path / "there.csv", "--inverse", "-o", tmp_path / "back.csv")
    tables = [
        np.loadtxt(tmp_path / name, delimiter=",", skiprows=1)
        for name in ("points.csv", "there.csv", "back.csv")
    ]
    assert np.abs(tables[1] - tables[0]).max() > 0.5
    # Two linear interpolations of fields sampled every 1.5 mm.
    assert np.abs(tables[2] - tables[0]).max() < 0.15


def test_a_run_carries_its_moving_image_as_it_did(registered, pair, run, read, tmp_path):
    result = run("apply", registered, pair[1], "-o", tmp_path / "out.nrrd")
    assert result.exit_code == 0
    assert np.array_equal(read(tmp_path / "out.nrrd"), read(registered / "warped.nrrd"))


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("p.csv", "", "must have a heading"),
        ("p.csv", "a,b\n1,2\n", "columns x, y; got a, b"),
        ("p.csv", "x,y,z\n1,2,3\n", "columns x, y and no z, because the run is 2D; got x, y, z"),
        ("p.csv", "x,x,y\n1,2,3\n", "columns x, y; got x, x, y"),
        ("p.csv", "x,y\n1,left\n", "must hold numbers; got '1,left' in line 2"),
        (
            "p.csv",
            "x,y\n1,2\n\n1\n",
            "must have 2 cells in a line, as its heading; got '1' in line 4",
        ),
        ("p.csv", "x;y\n1,5;2,5\n", "got '1,5;2,5' in line 2. Write decimal points"),
        ("p.csv", "x,y\n1,2,3\n", "got '1,2,3' in line 2"),
        ("p.csv", 'x,y,n\n1,2,"a\n', "p.csv': line 2: unexpected end of data"),
        ("p.csv", "x,y\n1,nan\n", "must be finite; got '1,nan' in line 2"),
        ("p.fcsv", "# Markups fiducial file\n1,2\n", "columns x, y; got # Markups fiducial file"),
        ("p.csv", b"\xff\xfe\x00x", "is not text"),
        ("p.csv", "x,y\n1,2\0\n", "p.csv"),
        ("none.csv", None, "none.csv': No such file"),
        ("none.nrrd", None, "none.nrrd"),
        ("text.nrrd", "no image", "text.nrrd"),
    ],
)
def test_an_input_that_cannot_be_carried_is_named(
    shifted, run, tree, tmp_path, name, content, fragment
):
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
    before = tree(tmp_path)
    ending = Path(name).suffix.replace("fcsv", "csv")
    result = run("apply", shifted, tmp_path / name, "-o", tmp_path / f"out{ending}")
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert fragment in result.stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["nowhere", "image.nrrd", "-o", "out.nrrd"], "'nowhere' does not exist"),
        (["empty", "image.nrrd", "-o", "out.nrrd"], "'empty' holds no displacement"),
        (["run/displacement.nrrd", "image.nrrd", "-o", "o.nrrd", "--inverse"], "--inverse needs"),
        (["image.nrrd", "image.nrrd", "-o", "out.nrrd"], "a displacement has 2"),
        (["solid.nrrd", "image.nrrd", "-o", "out.nrrd"], "solid.nrrd"),
        (["hole.nrrd", "image.nrrd", "-o", "out.nrrd"], "hole.nrrd"),
        (["run", "volume.nrrd", "-o", "out.nrrd"], "volume.nrrd"),
        (["run", "image.nrrd", "-o", "out.xyz"], "must end in .nii.gz"),
        (["run", "points.csv", "-o", "out.nrrd"], "must end in .csv"),
        (["run", "points.csv", "-o", "out.csv", "--labels"], "--labels is for images"),
        (["run/transform.h5", "image.nrrd", "-o", "out.nrrd"], "is a transform"),
        (["deep", "volume.nrrd", "-o", "out.png"], "it is 3D and a picture is flat"),
        (["run", "labels.nrrd", "-o", "o.nrrd", "--labels", "--fill", "nan"], "fill_value"),
        (["run", "image.nrrd", "-o", "image.nrrd"], "exists. Add --overwrite"),
        (["run", "image.nrrd", "-o", "image.nrrd", "--overwrite"], "is an input"),
        (["run", "halves.nrrd", "-o", "out.nrrd", "--labels"], "labels must be whole numbers"),
        (["run", "labels.nrrd", "-o", "o.nrrd", "--labels", "--fill", ".5"], "fill_value"),
    ],
)
def test_a_call_that_makes_no_sense_is_named(
    shifted, save, run, tree, tmp_path, monkeypatch, words, fragment
):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("points.csv").write_text("x,y\n1,1\n")
    save(np.ones((9, 14), np.float32), Path("image.nrrd"))
    save(np.full((9, 14), 0.5, np.float32), Path("halves.nrrd"))
    save(np.ones((9, 14), np.uint8), Path("labels.nrrd"))
    save(np.ones((4, 9, 14), np.float32), Path("volume.nrrd"))
    save(np.zeros((4, 10, 12, 3), np.float32), Path("solid.nrrd"), vector=True)
    hole = np.zeros((10, 12, 2), np.float32)
    hole[3, 3] = np.nan
    save(hole, Path("hole.nrrd"), vector=True)
    Path("deep").mkdir()
    save(np.zeros((4, 10, 12, 3), np.float32), Path("deep/displacement.nrrd"), vector=True)
    (shifted / "transform.h5").write_text("")
    before = tree(tmp_path)
    result = run("apply", *words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert fragment in result.stderr
    assert tree(tmp_path) == before


def test_a_picture_comes_out_as_a_picture(shifted, run, read, tmp_path):
    grey = np.zeros((9, 14), np.uint8)
    grey[2:6, 3:9] = 201
    sitk.WriteImage(sitk.GetImageFromArray(grey), str(tmp_path / "grey.png"))
    result = run("apply", shifted, tmp_path / "grey.png", "-o", tmp_path / "out.png")
    assert result.exit_code == 0, result.output
    out = read(tmp_path / "out.png")
    assert out.dtype == np.uint8
    assert out.max() == 201
    assert out.shape == (10, 12)


def test_an_image_that_lies_elsewhere_is_remarked(shifted, ramp, save, run, tmp_path):
    far = sitk.GetImageFromArray(ramp)
    far.SetOrigin((1e4, 0))
    sitk.WriteImage(far, str(tmp_path / "far.nrrd"))
    result = run("apply", shifted, tmp_path / "far.nrrd", "-o", tmp_path / "out.nrrd", "-q")
    assert result.exit_code == 0
    assert result.stderr.startswith("note: no voxel of ")
    near = save(ramp, tmp_path / "near.nrrd")
    assert run("apply", shifted, near, "-o", tmp_path / "near_out.nrrd", "-q").stderr == ""


def test_overwriting_is_possible_when_asked_for(shifted, save, run, read, tmp_path):
    image = save(np.ones((9, 14), np.float32), tmp_path / "image.nrrd")
    (tmp_path / "out.nrrd").write_text("old")
    result = run("apply", shifted, image, "-o", tmp_path / "out.nrrd", "--overwrite")
    assert result.exit_code == 0
    assert sitk.ReadImage(str(tmp_path / "out.nrrd")).GetSize() == (12, 10)
