"""Images leave for other libraries with their values at their place, as those libraries see it."""

from __future__ import annotations

import base64
import io
import re
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as Picture

from itk_ncr.errors import ImageValueError, MissingDependencyError
from itk_ncr.geometry import Grid, direction_of
from itk_ncr.images import (
    Image,
    as_image,
    read_displacement,
    read_image,
    to_xarray,
    write_image,
)
from itk_ncr.images.preview import Slice, grey

RNG = np.random.default_rng(0)
INDEX = (3, 1, 2)  # (x, y, z)


@pytest.fixture(params=[False, True], ids=["right-handed", "left-handed"])
def image(request, make_grid):
    grid = make_grid((5, 4, 6), (0.8, 1.5, 2.5), seed=1, left_handed=request.param, shift=7.0)
    return Image(RNG.normal(size=grid.shape).astype(np.float32), grid)


def point_of(grid, index):
    """LPS, mm, by the definition of a grid."""
    return np.asarray(grid.direction) @ (np.asarray(grid.spacing) * index) + grid.origin


def field_on(grid):
    return Image(RNG.normal(size=(*grid.shape, grid.dimension)).astype(np.float32), grid)


def test_nibabel_finds_a_voxel_where_it_lies(image):
    nibabel = pytest.importorskip("nibabel")
    theirs = image.to_nibabel()
    assert isinstance(theirs, nibabel.Nifti1Image)
    ras = nibabel.affines.apply_affine(theirs.affine, INDEX)
    np.testing.assert_allclose(ras, point_of(image.grid, INDEX) * (-1, -1, 1), atol=1e-5)
    assert theirs.get_fdata()[INDEX] == image.array[INDEX[::-1]]
    back = as_image(theirs)
    assert np.array_equal(back.array, image.array)
    assert back.grid.equals(image.grid, 1e-5)


def test_a_file_of_nibabel_is_read_by_itk_as_ours(image, tmp_path):
    """The oracle is ITK's reader: header, units and codes are right, not the affine alone."""
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(image.to_nibabel(), tmp_path / "x.nii")
    theirs = sitk.ReadImage(str(tmp_path / "x.nii"))
    expected = image.to_sitk()
    np.testing.assert_allclose(theirs.GetOrigin(), expected.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(theirs.GetDirection(), expected.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(theirs.GetSpacing(), expected.GetSpacing(), atol=1e-6)
    assert np.array_equal(sitk.GetArrayFromImage(theirs), image.array)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_displacement_through_nibabel_is_that_of_our_own_files(dimension, make_grid, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    # NIfTI's 2D images have no place for a rotation within a left-handed plane.
    grid = make_grid((5, 4, 6)[:dimension], (0.8, 1.5, 2.5)[:dimension], seed=3)
    field = field_on(grid)
    nibabel.save(field.to_nibabel(), tmp_path / "theirs.nii.gz")
    write_image(field, tmp_path / "ours.nii.gz")
    for name in ("theirs.nii.gz", "ours.nii.gz"):
        back = read_displacement(tmp_path / name)
        assert np.array_equal(back.array, field.array), name
        assert back.grid.equals(grid, 1e-4), name
    assert as_image(field.to_nibabel(), vector=True).grid.equals(grid, 1e-4)
    theirs, ours = (nibabel.load(tmp_path / f"{n}.nii.gz") for n in ("theirs", "ours"))
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-4)


def test_nibabel_keeps_the_type_of_labels(make_grid):
    pytest.importorskip("nibabel")
    grid = make_grid((5, 4, 6), (1.0, 1.0, 2.0), seed=0)
    for dtype in (np.uint8, np.int16, np.int64):
        labels = Image(RNG.integers(0, 100, grid.shape).astype(dtype), grid)
        assert labels.to_nibabel().get_data_dtype() == dtype


def test_ants_finds_a_voxel_where_it_lies(image, tmp_path):
    ants = pytest.importorskip("ants")
    theirs = image.to_ants()
    point = ants.transform_index_to_physical_point(theirs, INDEX)
    np.testing.assert_allclose(point, point_of(image.grid, INDEX), atol=1e-4)
    assert theirs.numpy()[INDEX] == image.array[INDEX[::-1]]
    ants.image_write(theirs, str(tmp_path / "x.nrrd"))
    back = read_image(tmp_path / "x.nrrd")
    assert np.array_equal(back.array, image.array)
    assert back.grid.equals(image.grid, 1e-5)


def test_ants_moves_an_image_along_a_displacement_that_left_us(make_grid):
    """The oracle is ANTs' own transform: a shift along the body's axes, on an oblique grid."""
    ants = pytest.importorskip("ants")
    grid = make_grid((6, 7, 8), (1.0, 1.2, 1.5), seed=5)
    shift = np.array([1.5, -2.0, 0.75], np.float32)
    field = Image(np.broadcast_to(shift, (*grid.shape, 3)).copy(), grid)
    transform = ants.transform_from_displacement_field(field.to_ants())
    centre = grid.centre
    np.testing.assert_allclose(
        ants.apply_ants_transform_to_point(transform, centre), centre + shift, atol=1e-4
    )


def test_whole_numbers_that_ants_cannot_hold_are_refused(make_grid):
    pytest.importorskip("ants")
    grid = make_grid((2, 2, 2), (1.0, 1.0, 1.0), seed=0)
    labels = np.zeros(grid.shape, np.int64)
    for value, fits in ((-5, True), (2**24 + 1, True), (2**32 - 1, True), (2**32, False)):
        labels.flat[0] = value
        if fits:
            assert Image(labels, grid).to_ants().numpy()[0, 0, 0] == value
    with pytest.raises(ImageValueError, match="ANTsPy has a type for"):
        Image(labels, grid).to_ants()
    labels.flat[0], labels.flat[1] = -5, 2**25 + 1
    with pytest.raises(ImageValueError, match="Renumber the labels first"):
        Image(labels, grid).to_ants()


def test_simpleitk_and_itk_get_the_same(image):
    itk = pytest.importorskip("itk")
    for theirs in (image.to_sitk(), image.to_itk()):
        point = theirs.TransformIndexToPhysicalPoint(INDEX)
        np.testing.assert_allclose(list(point), point_of(image.grid, INDEX), atol=1e-9)
        assert as_image(theirs).grid.equals(image.grid, 1e-9)
    assert np.array_equal(itk.array_from_image(image.to_itk()), image.array)


@pytest.mark.parametrize(
    ("method", "package", "extra"),
    [("to_nibabel", "nibabel", "nibabel"), ("to_ants", "ants", "ants"), ("to_itk", "itk", "itk")],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    method, package, extra, image, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'itk_ncr\[{extra}\]'"):
        getattr(image, method)()


def test_a_missing_xarray_is_named_with_the_way_to_get_it(image, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingDependencyError, match=r"^xarray must .* pip install xarray$"):
        to_xarray(image)


def test_a_bright_corner_is_drawn_where_the_patient_has_it():
    """Left, anterior and superior: right and up in the axial slice, however it is stored."""
    for code in ("LPS", "RAS", "SPL", "AIR"):
        direction = np.asarray(direction_of(code))
        grid = Grid((9, 9, 9), (1.0, 1.0, 1.0), tuple(direction @ np.full(3, -4.0)), direction)
        array = np.zeros(grid.shape, np.float32)
        x, y, z = np.round(grid.continuous_index((3.0, -3.0, 0.0))).astype(int)
        array[z, y, x] = 1
        image = Image(array, grid)
        pixels = grey(Slice.of(image).cut(image))
        assert np.argwhere(pixels == 255).tolist() == [[1, 7]], code


def test_a_notebook_shows_a_small_picture_that_needs_nothing_else(image):
    html = image._repr_html_()
    assert len(html) < 100_000
    assert "5 x 4 x 6" not in html  # sizes are (x, y, z), arrays the other way round
    assert "6 x 4 x 5" in html
    data = base64.b64decode(re.search('base64,([^"]+)"', html)[1])
    width, height = Picture.open(io.BytesIO(data)).size
    assert max(width, height) == 256
    assert "http" not in html


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_a_notebook_shows_images_of_one_value_or_none(value, make_grid):
    for shape in ((4, 5), (1, 4, 5), (4, 1, 1)):
        grid = make_grid(shape, (1.0,) * len(shape), seed=0)
        assert "base64" in Image(np.full(shape, value), grid)._repr_html_()
        assert "base64" in field_on(grid)._repr_html_()
