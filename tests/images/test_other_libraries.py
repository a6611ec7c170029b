"""Images of libraries that keep an affine arrive with their values at their place.

MONAI, TorchIO and nibabel need not be installed: classes of the same attributes stand in.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import itk_ncr
from itk_ncr.errors import ArgumentError, GeometryError, ImageReadError, ShapeError
from itk_ncr.geometry import Grid
from itk_ncr.images import Image, as_image, read_displacement, read_image, write_image

ROTATION = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
GRID = Grid((5, 6, 7), (0.5, 1.5, 2.5), (1.0, -2.0, 3.0), ROTATION)
IMAGE = Image(np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32), GRID)
RAS = np.diag([-1.0, -1, 1, 1])


def affine_of(grid):
    """RAS, 4 x 4."""
    full = np.eye(4)
    dimension = grid.dimension
    full[:dimension, :dimension], full[:dimension, 3] = grid.matrix, grid.origin
    return RAS @ full


class MetaTensor(torch.Tensor):
    """MONAI's, as far as it is looked at."""

    @classmethod
    def of(cls, array, affine, **meta):
        tensor = torch.as_tensor(np.ascontiguousarray(array)).as_subclass(cls)
        tensor.affine, tensor.meta = torch.as_tensor(affine), meta
        return tensor


class Header(dict):
    def get_xyzt_units(self):
        return self.get("units", "mm"), "sec"


def nibabel_image(array, affine, **header):
    header = Header({"intent_code": 0, **header})
    return SimpleNamespace(dataobj=array, affine=affine, header=header)


def torchio_image(array, affine):
    data = torch.as_tensor(np.ascontiguousarray(array))[None]
    return SimpleNamespace(data=data, affine=affine, spatial_shape=array.shape)


def same(image, expected=IMAGE):
    assert image.array.shape == expected.array.shape
    assert np.array_equal(image.array, expected.array)
    assert image.grid.equals(expected.grid, 1e-6)


MAKERS = {
    "nibabel": nibabel_image,
    "torchio": torchio_image,
    "monai with a channel": lambda array, affine: MetaTensor.of(array[None], affine),
    "monai without": MetaTensor.of,
    "monai, a batch": lambda array, affine: MetaTensor.of(array[None, None], affine[None]),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("take", [as_image, read_image])
def test_an_oblique_image_keeps_its_place(maker, take):
    same(take(MAKERS[maker](IMAGE.array.T, affine_of(GRID))))


@pytest.mark.parametrize("maker", MAKERS)
def test_a_shear_is_refused_by_its_name(maker):
    sheared = affine_of(GRID) @ np.array(
        [[1, 0.05, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    with pytest.raises(GeometryError, match="sheared"):
        as_image(MAKERS[maker](IMAGE.array.T, sheared))


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.full((4, 4), np.nan), "affine"),
        (np.diag([1.0, 0, 1, 1]), "positive spacing"),
        (np.eye(5), "4 x 4"),
        (np.diag([1.0, 1, 1, 2]), "last row"),
    ],
)
def test_an_affine_that_no_image_can_have_is_refused(maker, affine, reason):
    with pytest.raises(GeometryError, match=reason):
        as_image(MAKERS[maker](IMAGE.array.T, affine))


def test_rounded_cosines_are_made_orthonormal():
    rounded = affine_of(GRID)
    rounded[:3, :3] = (rounded[:3, :3] / GRID.spacing).round(3) * GRID.spacing
    grid = as_image(nibabel_image(IMAGE.array.T, rounded)).grid
    direction = np.asarray(grid.direction)
    np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-6)
    assert grid.equals(GRID, 0.02)


def test_monai_may_keep_lps_and_two_dimensions():
    same(as_image(MetaTensor.of(IMAGE.array.T, RAS @ affine_of(GRID), space="LPS")))
    flat = Image(IMAGE.array[0], Grid((5, 6), (0.5, 1.5), (1, 2), np.eye(2)))
    full = affine_of(flat.grid)
    part = full[np.ix_([0, 1, 3], [0, 1, 3])]
    same(as_image(MetaTensor.of(flat.array.T, full)), flat)
    same(as_image(MetaTensor.of(flat.array.T[None], part)), flat)
    same(as_image(MetaTensor.of(flat.array.T[None], full, spatial_shape=[5, 6])), flat)
    with pytest.raises(ShapeError, match="one slice of a volume or a 2D image with a channel"):
        as_image(MetaTensor.of(flat.array.T[None], full))
    with pytest.raises(ShapeError, match="a batch or several channels"):
        as_image(MetaTensor.of(np.zeros((2, 5, 6, 7)), np.eye(4)))
    with pytest.raises(ArgumentError, match="carries its own geometry"):
        as_image(MetaTensor.of(IMAGE.array.T, np.eye(4)), spacing=(1, 1, 1))
    with pytest.raises(ArgumentError, match="must say what its channels mean"):
        as_image(MetaTensor.of(np.zeros((3, 5, 6, 7)), np.eye(4)), vector=True)


def test_nibabel_brings_units_vectors_and_axes_of_length_one():
    same(as_image(nibabel_image(IMAGE.array.T[..., None], affine_of(GRID))))
    metres = affine_of(GRID)
    metres[:3] /= 1000
    same(as_image(nibabel_image(IMAGE.array.T, metres, units="meter")))
    with pytest.raises(ShapeError, match=r"Extract one volume first: image.slicer"):
        as_image(nibabel_image(np.zeros((4, 5, 6, 2)), np.eye(4)))
    vectors = np.random.default_rng(1).normal(size=(*GRID.shape, 3))
    stored = vectors.transpose(2, 1, 0, 3)[:, :, :, None]
    field = Image(vectors, GRID)
    same(as_image(nibabel_image(stored, affine_of(GRID), intent_code=1007), vector=True), field)
    ras = stored * (-1, -1, 1)
    same(as_image(nibabel_image(ras, affine_of(GRID), intent_code=1006), vector=True), field)
    with pytest.raises(ShapeError, match=r"must have the shape \(x, y, z, 1, 3\)"):
        as_image(nibabel_image(stored[:, :, :, 0], np.eye(4)), vector=True)


def test_antspy_is_taken_as_it_writes_files(here):
    ants = pytest.importorskip("ants")
    theirs = ants.from_numpy(
        np.ascontiguousarray(IMAGE.array.T),
        origin=list(GRID.origin),
        spacing=list(GRID.spacing),
        direction=np.asarray(GRID.direction),
    )
    same(as_image(theirs))
    ants.image_write(theirs, "x.nrrd")
    same(read_image("x.nrrd"), as_image(theirs))
    flat = ants.from_numpy(np.ascontiguousarray(IMAGE.array[0].T), spacing=[0.5, 1.5])
    assert as_image(flat).grid.spacing == (0.5, 1.5)
    assert np.array_equal(as_image(flat).array, IMAGE.array[0])
    vectors = ants.merge_channels([theirs, theirs * 2, theirs * 3])
    field = as_image(vectors, vector=True)
    assert np.array_equal(field.array[..., 1], IMAGE.array * 2)
    with pytest.raises(ShapeError, match="must be scalar"):
        as_image(vectors)


def test_paths_are_read(here):
    write_image(IMAGE, "x.nrrd")
    same(as_image("x.nrrd"))
    same(as_image(here / "x.nrrd"))
    field = Image(np.random.default_rng(1).normal(size=(*GRID.shape, 3)), GRID)
    write_image(field, "u.nrrd")
    same(as_image("u.nrrd", vector=True), field)
    same(read_displacement(field), field)
    with pytest.raises(ImageReadError, match=r"cannot read fixed image 'y\.nrrd': no such file"):
        as_image("y.nrrd", role="fixed image")
    with pytest.raises(ArgumentError, match="carries its own geometry"):
        as_image("x.nrrd", spacing=(1, 1, 1))


def test_registration_takes_any_of_them(here):
    """The truth is the identity: a file, a tensor and a mask from a path, all of one image."""
    noise = np.random.default_rng(0).random((16, 18, 20))
    values = sitk.GetArrayFromImage(
        sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(noise), 2.0)
    ).astype(np.float32)
    grid = Grid((20, 18, 16), (1.0, 1.2, 1.5), (-30.0, 20, 10), ROTATION)
    write_image(Image(values, grid), "fixed.nii.gz")
    mask = np.zeros(values.shape, np.uint8)
    mask[5:8, 5:8, 5:8] = 1
    write_image(Image(mask, grid), "mask.nii.gz")
    result = itk_ncr.register(
        "fixed.nii.gz",
        MetaTensor.of(values.T[None], affine_of(grid)),
        lesion_mask=here / "mask.nii.gz",
        affine="none",
    )
    assert np.abs(result.displacement.array).max() < 0.3
    assert result.displacement.grid.equals(grid, 1e-3)


def test_filters_take_them_too(here):
    pytest.importorskip("itk")
    from itk_ncr.filters.inputs import as_input

    write_image(IMAGE, "x.nii.gz")
    for theirs in ("x.nii.gz", nibabel_image(IMAGE.array.T, affine_of(GRID))):
        image = as_input(theirs, "fixed image", 3)
        np.testing.assert_allclose(list(image.GetOrigin()), GRID.origin, atol=1e-5)
