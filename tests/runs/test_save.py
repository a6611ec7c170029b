"""What Python saves is what the command writes; results and pages show in notebooks."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner
from PIL import Image as Picture

import itk_ncr
from itk_ncr.cli import command_line
from itk_ncr.errors import ArgumentError, ImageValueError, InputError, ShapeError

QUICK = {"affine": "none", "mask": "none", "threads": 1}
# Of the run, not of the result.
PASSING = {"created", "peak_memory_megabytes"}


@pytest.fixture(scope="module")
def result(images):
    fixed, moving = (str(images / f"{name}.nrrd") for name in ("fixed", "moving"))
    return itk_ncr.register(fixed, moving, **QUICK)


def record(folder):
    found = json.loads((folder / "summary.json").read_text())
    found["quality"].pop("seconds")
    return {key: value for key, value in found.items() if key not in PASSING}


def test_a_saved_result_is_the_folder_of_the_command(result, images, tmp_path):
    words = ["register", str(images / "fixed.nrrd"), str(images / "moving.nrrd")]
    words += ["--affine", "none", "--mask", "none", "--threads", "1", "-q"]
    words += ["--labels", str(images / "labels.nrrd")]
    words += ["--fixed-labels", str(images / "fixed_labels.nrrd")]
    done = CliRunner().invoke(command_line, [*words, "-o", str(tmp_path / "command")])
    assert done.exit_code == 0, done.output
    saved = result.save(
        tmp_path / "python",
        labels=str(images / "labels.nrrd"),
        fixed_labels=images / "fixed_labels.nrrd",
    )
    names = {path.name for path in (tmp_path / "command").iterdir()}
    assert {path.name for path in saved.iterdir()} == names
    assert record(saved) == record(tmp_path / "command")
    for name in names - {"summary.json", "report.html", "overview.png"}:
        if not name.endswith(".h5"):  # HDF5 writes the time
            assert (saved / name).read_bytes() == (tmp_path / "command" / name).read_bytes()


def test_images_in_memory_are_recorded_by_their_values(images, tmp_path):
    fixed = itk_ncr.read_image(images / "fixed.nrrd")
    affine = itk_ncr.AffineMap.identity(2)
    mask = np.zeros(fixed.array.shape, np.uint8)
    mask[2:4, 2:4] = 1
    result = itk_ncr.register(
        fixed.to_sitk(),
        images / "moving.nrrd",
        lesion_mask=mask,
        initial_transform=affine,
        **QUICK,
    )
    folder = result.save(str(tmp_path / "out"), ending=".nii.gz", report=False)
    inputs = record(folder)["inputs"]
    assert inputs["fixed"]["path"] is None
    assert inputs["moving"]["path"] == str(images / "moving.nrrd")
    assert inputs["initial_transform"]["matrix"] == np.eye(3).tolist()
    assert len({entry.get("voxels_sha256") for entry in inputs.values()}) == 3
    assert (folder / "warped.nii.gz").exists()
    refused = CliRunner().invoke(command_line, ["report", str(folder)])
    assert refused.exit_code == 2
    assert "registered from memory in Python. Write it to one and give that with --fixed" in (
        refused.stderr
    )
    given = ["report", str(folder), "--fixed", str(images / "fixed.nrrd")]
    assert CliRunner().invoke(command_line, given).exit_code == 0
    assert (folder / "report.html").exists()
    given[-1] = str(images / "moving.nrrd")
    assert "is not the one that was registered" in CliRunner().invoke(command_line, given).stderr


def test_saving_replaces_nothing_by_accident(result, tmp_path, tree):
    folder = tmp_path / "out"
    result.save(folder, report=False)
    before = tree(tmp_path)
    with pytest.raises(InputError, match="holds files already"):
        result.save(folder)
    with pytest.raises(ArgumentError, match=r"ending must be one of \.nii\.gz"):
        result.save(tmp_path / "other", ending="nii")
    with pytest.raises(ArgumentError, match="fixed_labels must come with labels"):
        result.save(tmp_path / "other", fixed_labels=result.mask)
    with pytest.raises(ShapeError, match="labels must be 2D"):
        result.save(tmp_path / "other", labels=np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(ImageValueError, match=r"got others\. Give"):
        result.save(tmp_path / "other", labels=np.full((24, 24), 0.5))
    assert tree(tmp_path) == before
    result.save(folder, overwrite=True)
    assert (folder / "report.html").exists()


def test_a_result_made_by_hand_cannot_be_saved(registration, tmp_path):
    _, _, result = registration((20, 24))
    with pytest.raises(ArgumentError, match="made by hand"):
        result.save(tmp_path / "out")
    with pytest.raises(ArgumentError, match="made by hand"):
        result.report()
    assert not list(tmp_path.iterdir())


def test_the_transforms_of_simpleitk_are_the_map_and_its_inverse(result, images):
    fixed, moving = (
        sitk.ReadImage(str(images / f"{name}.nrrd"), sitk.sitkFloat32)
        for name in ("fixed", "moving")
    )
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, result.to_sitk_transform()))
    inner = (slice(2, -2),) * 2  # at the rim both rules for the outside differ
    # Both interpolate linearly; the images have a range of 100.
    np.testing.assert_allclose(warped[inner], result.warped.array[inner], atol=0.05)
    back = result.to_sitk_transform(inverse=True)
    for point in [(5.0, 6.0), (12.0, 11.0), (18.0, 9.0)]:
        there = result.to_sitk_transform().TransformPoint(point)
        assert back.TransformPoint(there) == pytest.approx(point, abs=0.05)


@pytest.mark.parametrize("library", ["sitk", "itk", "nibabel", "ants"])
def test_every_image_of_a_result_leaves_by_its_name(library, result):
    pytest.importorskip({"sitk": "SimpleITK"}.get(library, library))
    leave = getattr(result, f"to_{library}")
    for name in ("warped", "mask", "noncorrespondence", "jacobian"):
        back = itk_ncr.images.as_image(leave(name))
        assert np.array_equal(back.array, getattr(result, name).array), name
        assert back.grid.equals(result.warped.grid)
    field = itk_ncr.images.as_image(leave("displacement"), vector=True)
    assert np.array_equal(field.array, result.displacement.array)
    assert type(leave()) is type(leave("warped"))
    with pytest.raises(ArgumentError, match="name must be one of warped, displacement"):
        leave("moved")


def test_a_transform_file_is_taken_for_the_affine(images, tmp_path):
    shift = sitk.TranslationTransform(2, (1.5, 0.0))
    sitk.WriteTransform(shift, str(tmp_path / "shift.tfm"))
    pair = images / "fixed.nrrd", images / "moving.nrrd"
    for path in (tmp_path / "shift.tfm", str(tmp_path / "shift.tfm")):
        result = itk_ncr.register(*pair, affine=path, mask="none", threads=1)
        assert result.affine.translation == (1.5, 0.0)
        assert result.inputs.sources["affine"]["path"] == str(path)
    with pytest.raises(ArgumentError, match="the path of a transform file"):
        itk_ncr.register(*pair, affine="shift")


def test_a_notebook_shows_images_mask_figures_and_warnings(registration, result):
    _, _, by_hand = registration((20, 24, 28))
    html = by_hand._repr_html_()
    assert "<li>look at this</li>" in html
    assert "2.10% of the fixed object" in html
    pictures = re.findall('base64,([^"]+)"', html)
    assert len(pictures) == 2  # there is no fixed image in it
    shown = np.asarray(Picture.open(io.BytesIO(base64.b64decode(pictures[1]))).convert("RGB"), int)
    coloured = shown[..., 0] - shown[..., 2] > 50
    share = (by_hand.mask.array.max(0) > 0).mean()  # the slice with most of it
    assert coloured.mean() == pytest.approx(share, rel=0.3)
    assert len(re.findall("base64", result._repr_html_())) == 3


def test_the_page_shows_in_a_notebook_and_is_that_of_the_folder(result, tmp_path):
    page = result.report()
    assert page._repr_html_().startswith("<iframe srcdoc=")
    assert page._repr_html_().count('"') < 20  # the document is escaped
    page.save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "fixed.nrrd" in text
    assert "moving.nrrd" in text
