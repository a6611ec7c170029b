"""One displacement, five programs: ours, two of ITK, SimpleITK and ANTs put every voxel alike.

Each classic mistake (direction, spacing, component order, side of the affine, sign) is made on
purpose as well, and must show.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from itk_ncr.errors import ArgumentError, GeometryError, ImageValueError, ShapeError
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import (
    Image,
    ImageWarning,
    inverse_physical_displacement,
    physical_displacement,
    resample,
    to_itk,
    to_sitk,
    to_sitk_transform,
    transform_points,
    write_image,
    write_transform,
)
from itk_ncr.ops import exponential_pair

RANGE = 100.0
TOLERANCE = 1e-3 * RANGE  # the bar of the project; 4e-5 was measured


class Pair:
    """A pair on oblique, anisotropic grids, with a field on a third one and an affine."""

    def __init__(self, dimension, left_handed, make_grid, make_noise):
        self.dimension = dimension
        self.fixed = make_grid(
            (22, 28, 24)[-dimension:], (1.2, 1.9, 2.3)[:dimension], 3, left_handed
        )
        moving = make_grid(
            (30, 26, 32)[-dimension:], (1.5, 1.1, 2.0)[:dimension], 4, not left_handed
        )
        self.moving = Image((make_noise(moving.shape, 7) * RANGE / 2).astype(np.float32), moving)
        # Covers the fixed grid, as working grids do; no voxel of one lies on a voxel of the other.
        self.working = make_grid(
            (42, 44, 46)[-dimension:], (2.0, 2.2, 1.8)[:dimension], 5, left_handed
        )
        u = [make_noise(self.working.shape, 10 + axis, 9, peak=2.0) for axis in range(dimension)]
        self.u = np.stack(u).astype(np.float32)
        generator = np.random.default_rng(6)
        self.affine = AffineMap(
            np.eye(dimension) + 0.1 * generator.normal(size=(dimension, dimension)),
            2 * generator.normal(size=dimension),
        )

    def displacement(self, affine=True):
        return physical_displacement(
            self.u, self.working, self.fixed, self.affine if affine else None
        )

    def field_on_working_grid(self):
        """The same field in mm, by the formula alone: M u with the components turned round."""
        vectors = np.moveaxis(self.u, 0, -1)[..., ::-1].astype(np.float64)
        return Image(np.einsum("ij,...j->...i", self.working.matrix, vectors), self.working)

    def reference(self):
        return to_sitk(Image(np.zeros(self.fixed.shape, np.float32), self.fixed))

    def resampled_by_sitk(self, transform):
        moved = sitk.Resample(
            to_sitk(self.moving), self.reference(), transform, sitk.sitkLinear, 0.0
        )
        return sitk.GetArrayFromImage(moved)


@pytest.fixture(params=[(2, False), (2, True), (3, False), (3, True)], ids=str)
def pair(request, make_grid, make_noise):
    return Pair(*request.param, make_grid, make_noise)


def differ(one, other):
    return np.abs(np.asarray(one, np.float64) - other).max()


# --- the proof ------------------------------------------------------------------------------------


def test_the_displacement_is_the_composite_transform_of_itk(pair):
    transform = to_sitk_transform(pair.affine, pair.field_on_working_grid())
    grid = pair.fixed
    theirs = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        list(grid.size),
        grid.origin,
        grid.spacing,
        np.ravel(grid.direction).tolist(),
    )
    ours = pair.displacement().array
    assert differ(ours, sitk.GetArrayFromImage(theirs)) < 1e-4  # mm; float32 positions
    assert np.abs(ours).max() > 3  # it does move


def test_itk_and_simpleitk_move_every_voxel_as_we_do(pair):
    itk = pytest.importorskip("itk")
    displacement = pair.displacement()
    ours = resample(pair.moving, pair.fixed, displacement=displacement).array
    inside = ours != 0
    assert 0.3 < inside.mean() < 0.99  # the rule for outside takes part in the comparison

    field, moving = to_itk(displacement), to_itk(pair.moving)
    warped = itk.warp_image_filter(
        moving, displacement_field=field, output_parameters_from_image=field
    )
    assert differ(ours, itk.array_from_image(warped)) < TOLERANCE

    dimension = pair.dimension
    vectors = itk.Image[itk.Vector[itk.D, dimension], dimension].New()
    vectors.CopyInformation(field)
    vectors.SetRegions(field.GetLargestPossibleRegion())
    vectors.Allocate()
    itk.array_view_from_image(vectors)[...] = displacement.array
    transform = itk.DisplacementFieldTransform[itk.D, dimension].New()
    transform.SetDisplacementField(vectors)
    resampled = itk.resample_image_filter(
        moving, transform=transform, reference_image=field, use_reference_image=True
    )
    assert differ(ours, itk.array_from_image(resampled)) < TOLERANCE

    assert differ(ours, pair.resampled_by_sitk(to_sitk_transform(None, displacement))) < TOLERANCE
    assert (
        differ(ours, sitk.GetArrayFromImage(sitk.Warp(
            to_sitk(pair.moving), sitk.Cast(to_sitk(displacement), sitk.sitkVectorFloat64),
            outputSize=list(pair.fixed.size), outputSpacing=pair.fixed.spacing,
            outputOrigin=pair.fixed.origin,
            outputDirection=np.ravel(pair.fixed.direction).tolist(),
        ))) < TOLERANCE
    )  # fmt: skip


def test_the_parts_together_are_the_whole(pair):
    whole = resample(pair.moving, pair.fixed, displacement=pair.displacement()).array
    deformation = pair.displacement(affine=False)
    parts = resample(pair.moving, pair.fixed, pair.affine, deformation).array
    assert differ(whole, parts) < TOLERANCE
    theirs = pair.resampled_by_sitk(to_sitk_transform(pair.affine, deformation))
    assert differ(whole, theirs) < TOLERANCE
    only = resample(pair.moving, pair.fixed, pair.affine).array
    assert differ(only, pair.resampled_by_sitk(to_sitk_transform(pair.affine, None))) < TOLERANCE


def mistakes(pair):
    """Each classic mistake, made by hand on otherwise right fields: name -> displacement."""
    points = pair.fixed.points()
    spacing, direction = np.asarray(pair.working.spacing), np.asarray(pair.working.direction)
    index = np.moveaxis(pair.working.continuous_index(points)[..., ::-1], -1, 0)
    assert (index > 0).all()  # the working grid covers the fixed one
    u = [ndimage.map_coordinates(c, index, np.float64, order=1, mode="nearest") for c in pair.u]
    u = np.stack(u, axis=-1)
    affine = pair.affine

    def field(moved):
        return Image((moved - points).astype(np.float32), pair.fixed)

    def step(vectors, matrix):
        return vectors @ matrix.T

    matrix, turned = pair.working.matrix, u[..., ::-1]
    yield "none", field(affine(points + step(turned, matrix)))
    yield "direction ignored", field(affine(points + turned * spacing))
    yield "direction transposed", field(affine(points + step(turned, direction.T * spacing)))
    yield "spacing ignored", field(affine(points + step(turned, direction)))
    yield "components in array order", field(affine(points + step(u, matrix)))
    yield "affine before the field", field(affine(points) + step(turned, matrix))
    yield "affine inverted", field(affine.inverse()(points + step(turned, matrix)))
    yield "affine left out", field(points + step(turned, matrix))
    yield "sign", field(affine(points - step(turned, matrix)))


def test_each_classic_mistake_would_show(pair):
    right = resample(pair.moving, pair.fixed, displacement=pair.displacement()).array
    off = {}
    for name, wrong in mistakes(pair):
        moved = resample(pair.moving, pair.fixed, displacement=wrong).array
        both = (right != 0) & (moved != 0)
        off[name] = float(np.mean(np.abs(right - moved)[both] > TOLERANCE))
    assert off.pop("none") == 0
    if pair.dimension == 2 and np.linalg.det(pair.working.direction) < 0:
        assert off.pop("direction transposed") == 0  # a reflection in the plane is symmetric
    assert len(off) >= 7
    for name, share in off.items():
        assert share > 0.5, (name, share)


def test_the_field_in_a_file_moves_the_image_in_ants_and_simpleitk(pair, tmp_path):
    displacement, deformation = pair.displacement(), pair.displacement(affine=False)
    ours = resample(pair.moving, pair.fixed, displacement=displacement).array
    write_image(displacement, tmp_path / "d.nii.gz")
    write_transform(tmp_path / "t.h5", pair.affine, deformation)
    read = sitk.ReadTransform(str(tmp_path / "t.h5"))
    assert differ(ours, pair.resampled_by_sitk(read)) < TOLERANCE
    field = sitk.ReadImage(str(tmp_path / "d.nii.gz"), sitk.sitkVectorFloat64)
    moved = pair.resampled_by_sitk(sitk.DisplacementFieldTransform(field))
    # The header keeps the geometry in float32 and the direction as a quaternion.
    assert differ(ours, moved) < TOLERANCE

    ants = pytest.importorskip("ants")
    write_image(pair.moving, tmp_path / "m.nii.gz")
    write_image(Image(np.zeros(pair.fixed.shape, np.float32), pair.fixed), tmp_path / "f.nii.gz")
    fixed, moving = (ants.image_read(str(tmp_path / name)) for name in ("f.nii.gz", "m.nii.gz"))
    for name in ("d.nii.gz", "t.h5"):
        moved = ants.apply_transforms(
            fixed, moving, [str(tmp_path / name)], interpolator="linear", defaultvalue=0
        )
        # ANTs arrays are (x, y, z). On the rim of the image rounding decides about inside.
        gap = np.abs(moved.numpy().T - ours)
        assert np.mean(gap > TOLERANCE) < 2e-3, name
        assert np.percentile(gap, 99.5) < TOLERANCE, name


def test_storage_does_not_matter(pair):
    """Flipping and transposing the stored arrays, with their grids, changes nothing in space."""
    displacement = pair.displacement()
    expected = resample(pair.moving, pair.fixed, displacement=displacement).array
    moving = stored_otherwise(pair.moving)
    assert moving.grid != pair.moving.grid
    assert (
        differ(expected, resample(moving, pair.fixed, displacement=displacement).array) < TOLERANCE
    )
    other = stored_otherwise(Image(expected, pair.fixed))
    field = physical_displacement(pair.u, pair.working, other.grid, pair.affine)
    assert differ(other.array, resample(moving, other.grid, displacement=field).array) < TOLERANCE


def stored_otherwise(image):
    """The same image with its first index axis reversed and its axes permuted."""
    dimension, grid = image.dimension, image.grid
    array = np.transpose(image.array[..., ::-1])
    direction = np.asarray(grid.direction).copy()
    origin = grid.points()[(0,) * (dimension - 1) + (-1,)]
    direction[:, 0] *= -1
    return Image(
        array, Grid(grid.size[::-1], grid.spacing[::-1], tuple(origin), direction[:, ::-1])
    )


# --- the way back ---------------------------------------------------------------------------------


def test_the_inverse_is_the_composite_transform_of_itk(pair):
    inverse = inverse_physical_displacement(pair.u, pair.working, pair.moving.grid, pair.affine)
    back = to_sitk_transform(pair.affine.inverse(), None)
    field = to_sitk_transform(None, pair.field_on_working_grid())
    transform = sitk.CompositeTransform([field, back])  # the affine first, then the field
    grid = pair.moving.grid
    theirs = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        list(grid.size),
        grid.origin,
        grid.spacing,
        np.ravel(grid.direction).tolist(),
    )
    assert differ(inverse.array, sitk.GetArrayFromImage(theirs)) < 1e-4
    wrong_order = sitk.CompositeTransform([back, field])
    point = grid.centre
    assert differ(transform.TransformPoint(point), wrong_order.TransformPoint(point)) > 0.1


def test_there_and_back_again(pair):
    u, u_inverse = exponential_pair(torch.from_numpy(pair.u)[None])
    there = physical_displacement(u, pair.working, pair.fixed, pair.affine)
    back = inverse_physical_displacement(u_inverse, pair.working, pair.moving.grid, pair.affine)
    points = pair.fixed.points().reshape(-1, pair.dimension)
    moved = transform_points(points, there)
    index = pair.moving.grid.continuous_index(moved)
    kept = ((index >= 0) & (index <= np.asarray(pair.moving.grid.size) - 1)).all(1)
    assert kept.sum() > 100
    error = np.linalg.norm(transform_points(moved[kept], back) - points[kept], axis=1)
    # Linear interpolation of two fields of some 4 mm, 9 voxels wide; measured .04 mean, .4 worst.
    assert error.mean() < 0.1
    assert error.max() < 1.0
    assert np.linalg.norm(moved - points, axis=1).mean() > 2


def test_without_deformation_the_way_back_is_the_inverse_affine(pair):
    still = np.zeros_like(pair.u)
    grid = pair.moving.grid
    back = inverse_physical_displacement(still, pair.working, grid, pair.affine)
    expected = pair.affine.inverse()(grid.points()) - grid.points()
    assert differ(back.array, expected) < 1e-4


def test_outside_the_working_grid_only_the_affine_moves(pair):
    small = pair.working.cropped([15] * pair.dimension, [10] * pair.dimension)
    u = np.full((pair.dimension, *small.shape), 3.0, np.float32)
    field = physical_displacement(u, small, pair.fixed, pair.affine).array
    points = pair.fixed.points()
    index = small.continuous_index(points)
    inside = ((index >= -0.5) & (index < np.asarray(small.size) - 0.5)).all(-1)
    assert 0 < inside.mean() < 1
    affine = pair.affine(points) - points
    assert differ(field[~inside], affine[~inside]) < 1e-4
    # Up to half a voxel beyond the outermost centres the rim's value holds, in full.
    step = 3 * small.matrix.sum(axis=1) @ np.asarray(pair.affine.matrix).T
    assert differ(field[inside], (affine + step)[inside]) < 1e-3


# --- details of resample --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_labels_keep_their_type_and_values(dtype):
    labels = np.arange(60).reshape(3, 4, 5).astype(dtype)
    if dtype in ("u4", "i8", "u8"):
        labels = labels * 2**26 + 1  # more than float32 can tell apart
    image = Image(labels, Grid.of_array((3, 4, 5), spacing=(1, 2, 3)))
    out = resample(image, image.grid, mode="nearest")
    assert out.array.dtype == dtype
    assert np.array_equal(out.array, labels)
    finer = resample(image, image.grid.resized((6, 8, 10)), mode="nearest")
    assert set(np.unique(finer.array)) <= set(np.unique(labels))


def test_labels_that_no_kernel_holds_are_refused():
    image = Image(np.array([[0, 2**60]]), Grid.of_array((1, 2)))
    with pytest.raises(ImageValueError, match="values below 2\\^53"):
        resample(image, image.grid, mode="nearest")


def test_linear_results_are_floats_precise_enough_for_their_source():
    grid = Grid.of_array((4, 5))
    for dtype, expected in [("u1", "f4"), ("i2", "f4"), ("i4", "f8"), ("f4", "f4"), ("f8", "f8")]:
        values = np.arange(20).reshape(4, 5).astype(dtype)
        out = resample(Image(values, grid), grid)
        assert out.array.dtype == expected
        assert np.array_equal(out.array, values)


def test_outside_is_filled_or_repeated():
    grid = Grid.of_array((4, 5))
    image = Image(np.arange(20.0).reshape(4, 5), grid)
    wide = grid.cropped((-2, -2), (8, 9))
    filled = resample(image, wide, fill_value=-7).array
    assert (filled[:2] == -7).all()
    assert (filled[:, :2] == -7).all()
    assert np.array_equal(filled[2:6, 2:7], image.array)
    repeated = resample(image, wide, padding="border").array
    assert np.array_equal(repeated, np.pad(image.array, 2, mode="edge"))


def test_vector_images_keep_their_components(make_noise):
    grid = Grid.of_array((6, 7, 8), spacing=(1, 2, 3))
    field = Image(np.random.default_rng(0).normal(size=(6, 7, 8, 3)).astype(np.float32), grid)
    # In the last plane of an axis the kernel goes all the way from the voxel before: a + (b - a).
    np.testing.assert_allclose(resample(field, grid).array, field.array, rtol=0, atol=1e-6)
    one = resample(Image(field.array[..., 1], grid), grid.resized((9, 9, 9))).array
    assert np.array_equal(resample(field, grid.resized((9, 9, 9))).array[..., 1], one)


def test_the_cut_into_slabs_does_not_show(monkeypatch, pair):
    whole = pair.displacement().array
    moved = resample(pair.moving, pair.fixed, displacement=pair.displacement()).array
    monkeypatch.setattr("itk_ncr.images.image.SLAB_VOXELS", 100)
    assert differ(pair.displacement().array, whole) < 1e-4
    again = resample(pair.moving, pair.fixed, displacement=pair.displacement()).array
    assert differ(again, moved) < TOLERANCE


def test_large_grids_need_little_more_memory_than_their_result():
    grid = Grid.of_array((128, 128, 128))
    coarse = grid.resized((16, 16, 16))
    u = np.ones((3, 16, 16, 16), np.float32)
    physical_displacement(u, coarse, coarse)  # whatever is loaded once
    tracemalloc.start()
    field = physical_displacement(u, coarse, grid, AffineMap.identity(3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A single array of float64 coordinates of the whole grid would be 50 MB.
    assert peak - field.array.nbytes < 40e6


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_displacement_that_is_not_finite_is_refused(pair, bad):
    displacement = pair.displacement()
    displacement.array[(0,) * pair.dimension] = bad
    with pytest.raises(ImageValueError, match=f"got {pair.dimension} NaN or Inf"):
        resample(pair.moving, pair.fixed, displacement=displacement)
    pair.u[0].flat[3] = bad
    with pytest.raises(ImageValueError, match="u must be finite; got 1 NaN or Inf"):
        pair.displacement()


def test_what_does_not_fit_is_refused(pair):
    displacement = pair.displacement()
    with pytest.raises(ShapeError, match="displacement must lie on the output grid"):
        resample(pair.moving, pair.moving.grid, displacement=displacement)
    with pytest.raises(ShapeError, match="displacement must have"):
        resample(pair.moving, pair.moving.grid, displacement=pair.moving)
    with pytest.raises(ShapeError, match="u must have shape"):
        physical_displacement(pair.u, pair.fixed, pair.fixed)
    with pytest.raises(ShapeError, match="affine must have"):
        resample(pair.moving, pair.fixed, AffineMap.identity(5 - pair.dimension))
    with pytest.raises(ArgumentError, match="mode must be 'linear' or 'nearest'; got 'cubic'"):
        resample(pair.moving, pair.fixed, mode="cubic")
    with pytest.raises(ArgumentError, match="padding must be"):
        resample(pair.moving, pair.fixed, padding="zeros")
    labels = Image(pair.moving.array.astype(np.uint8), pair.moving.grid)
    with pytest.raises(ArgumentError, match="fill_value must fit the pixel type uint8; got -1"):
        resample(labels, pair.fixed, mode="nearest", fill_value=-1)
    with pytest.raises(GeometryError):
        AffineMap(np.zeros((3, 3)), (0, 0, 0))


def test_points_follow_the_field(pair):
    displacement = pair.displacement()
    points = pair.fixed.points().reshape(-1, pair.dimension)
    moved = transform_points(points, displacement)
    flat = displacement.array.reshape(-1, pair.dimension)
    assert differ(moved - points, flat) < 1e-3
    theirs = to_sitk_transform(None, displacement)
    between = pair.fixed.centre + 0.37
    expected = theirs.TransformPoint(between.tolist())
    assert differ(transform_points(between[None], displacement)[0], expected) < 1e-3
    assert transform_points(np.empty((0, pair.dimension)), displacement).shape[0] == 0


def test_points_outside_are_reported_and_move_like_the_rim(pair):
    displacement = Image(np.ones((*pair.fixed.shape, pair.dimension), np.float32), pair.fixed)
    with pytest.warns(ImageWarning, match="1 of 2 points lie outside"):
        moved = transform_points([pair.fixed.centre, pair.fixed.centre + 1e3], displacement)
    assert differ(moved, np.array([pair.fixed.centre, pair.fixed.centre + 1e3]) + 1) < 1e-4
    with pytest.raises(ShapeError, match="points must have shape"):
        transform_points([1.0, 2.0], displacement)
    with pytest.raises(ArgumentError, match="points must be finite"):
        transform_points([[np.nan] * pair.dimension], displacement)
