"""Where voxels lie, and affine maps: against ITK's own arithmetic, and by their laws."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from itk_ncr.errors import ArgumentError, GeometryError, ShapeError
from itk_ncr.geometry import AffineMap, Grid


def random_grid(seed: int, dimension: int) -> Grid:
    generator = np.random.default_rng(seed)
    direction = np.linalg.qr(generator.normal(size=(dimension, dimension)))[0]  # of either hand
    return Grid(
        tuple(generator.integers(2, 9, dimension)),
        tuple(generator.uniform(0.3, 4, dimension)),
        tuple(generator.uniform(-200, 200, dimension)),
        direction,
    )


def random_affine(seed: int, dimension: int) -> AffineMap:
    generator = np.random.default_rng(seed)
    matrix = np.eye(dimension) + generator.uniform(-0.3, 0.3, (dimension, dimension))
    return AffineMap(matrix, generator.uniform(-50, 50, dimension))


def in_sitk(grid: Grid) -> sitk.Image:
    image = sitk.Image(list(grid.size), sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(np.ravel(grid.direction).tolist())
    return image


seeds = st.integers(0, 2**31)
dimensions = st.sampled_from([2, 3])


@given(seed=seeds, dimension=dimensions)
@settings(max_examples=30, deadline=None)
def test_points_are_where_itk_puts_them(seed, dimension):
    grid = random_grid(seed, dimension)
    image = in_sitk(grid)
    points = grid.points()
    assert points.shape == (*grid.shape, dimension)
    for index in [(0,) * dimension, tuple(n - 1 for n in grid.size), (1, *(0,) * (dimension - 1))]:
        expected = image.TransformIndexToPhysicalPoint([int(i) for i in index])
        np.testing.assert_allclose(points[index[::-1]], expected, atol=1e-9)
    probe = grid.centre + np.random.default_rng(seed).normal(size=dimension)
    expected = image.TransformPhysicalPointToContinuousIndex(probe.tolist())
    np.testing.assert_allclose(grid.continuous_index(probe), expected, atol=1e-9)


@given(seed=seeds, dimension=dimensions)
@settings(max_examples=30, deadline=None)
def test_slabs_of_points_are_the_points(seed, dimension):
    grid = random_grid(seed, dimension)
    whole = grid.points()
    cut = grid.shape[0] // 2
    parts = np.concatenate([grid.points(0, cut), grid.points(cut)])
    # Bit for bit: results must not depend on how a grid was cut into slabs.
    assert np.array_equal(parts, whole)


@given(seed=seeds, dimension=dimensions)
@settings(max_examples=30, deadline=None)
def test_resizing_keeps_the_first_and_last_centre(seed, dimension):
    grid = random_grid(seed, dimension)
    other = grid.resized([n * 2 + 1 for n in grid.shape])
    np.testing.assert_allclose(other.corners(), grid.corners(), atol=1e-9)
    assert other.resized(grid.shape).equals(grid, 1e-9)


@given(seed=seeds, dimension=dimensions)
@settings(max_examples=30, deadline=None)
def test_cropping_keeps_every_voxel_in_its_place(seed, dimension):
    grid = random_grid(seed, dimension)
    start, shape = [1] * dimension, [n - 1 for n in grid.shape]
    kept = grid.points()[(slice(1, None),) * dimension]
    np.testing.assert_allclose(grid.cropped(start, shape).points(), kept, atol=1e-9)
    padded = grid.cropped([-2] * dimension, [n + 4 for n in grid.shape])
    inner = padded.points()[(slice(2, -2),) * dimension]
    np.testing.assert_allclose(inner, grid.points(), atol=1e-9)


def test_an_axis_of_one_voxel_is_allowed():
    grid = Grid((5, 4, 1), (1, 2, 3), (0, 0, 7), np.eye(3))
    assert grid.points().shape == (1, 4, 5, 3)
    assert (grid.points()[..., 2] == 7).all()
    assert grid.resized((1, 8, 10)).spacing[2] == 3


def test_size_and_shape_are_the_reverse_of_each_other():
    grid = Grid.of_array((3, 4, 5), spacing=(1, 2, 3))
    assert grid.size == (5, 4, 3)
    assert grid.shape == (3, 4, 5)
    assert grid.voxels == 60
    np.testing.assert_array_equal(grid.points()[2, 0, 0], [0, 0, 6])
    assert Grid.of_array((4, 5), spacing=2).spacing == (2, 2)


def test_grids_are_values():
    grid = random_grid(1, 3)
    assert hash(grid) == hash(dataclasses.replace(grid))
    assert grid == dataclasses.replace(grid)
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.spacing = (1.0, 1.0, 1.0)


def test_equality_is_measured_in_voxels():
    grid = random_grid(2, 3)
    near = dataclasses.replace(
        grid, origin=tuple(o + 5e-4 * min(grid.spacing) for o in grid.origin)
    )
    far = dataclasses.replace(grid, origin=tuple(o + 5e-3 * min(grid.spacing) for o in grid.origin))
    assert grid.equals(near)
    assert not grid.equals(far)
    assert grid.equals(far, tolerance=0.1)
    assert not grid.equals(Grid(tuple(n + 1 for n in grid.size), *dataclasses.astuple(grid)[1:]))
    flat = Grid((5, 4, 1), (1, 1, 1), (0, 0, 0), np.eye(3))
    assert not flat.equals(Grid((5, 4, 1), (1, 1, 5), (0, 0, 0), np.eye(3)))


GOOD = {"size": (4, 5), "spacing": (1, 1), "origin": (0, 0), "direction": np.eye(2)}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"spacing": (1, np.nan)}, "spacing must be finite"),
        ({"spacing": (1, 0)}, "spacing must be positive"),
        ({"spacing": (1, -2)}, "spacing must be positive"),
        ({"spacing": (1, 1e300)}, "spacing must be between 1e-12 and 1e.12 mm; got"),
        ({"spacing": (1e-300, 1)}, "spacing must be between"),
        ({"origin": (0, -1e300)}, "origin must lie within 1e.12 mm of 0; got"),
        ({"spacing": (1, 2, 3)}, "spacing must have 2 numbers"),
        ({"spacing": "ab"}, "spacing must be numbers"),
        ({"origin": (np.inf, 0)}, "origin must be finite"),
        ({"origin": (0,)}, "origin must have 2 numbers"),
        ({"direction": [[1, 1], [1, 1]]}, "direction must be invertible"),
        ({"direction": np.zeros((2, 2))}, "direction must be invertible"),
        ({"direction": [[1, 0.01], [0, 1]]}, "direction must be orthonormal"),
        ({"direction": [[2, 0], [0, 2]]}, "direction must be orthonormal"),
        ({"direction": np.full((2, 2), np.nan)}, "direction must be finite"),
        ({"direction": np.eye(3)}, "direction must have 2 x 2 numbers"),
        ({"size": (4, 0)}, "size must be at least 1"),
        ({"size": (4, 5, 6, 7)}, "size must have 2 or 3 axes"),
        ({"size": (4,)}, "size must have 2 or 3 axes"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(wrong, reason):
    with pytest.raises(GeometryError, match=reason) as caught:
        Grid(**(GOOD | wrong))
    assert "\n" not in str(caught.value)


def test_a_size_must_be_whole():
    with pytest.raises(ArgumentError, match="size must be whole numbers"):
        Grid(**(GOOD | {"size": (4.5, 5)}))


@pytest.mark.parametrize("rounding", [1e-7, 1e-5, 9e-4])
def test_rounded_directions_are_repaired_and_exact_ones_left_alone(rounding):
    exact = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    noise = np.random.default_rng(1).uniform(-1, 1, (3, 3))
    grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), exact + rounding * noise)
    direction = np.asarray(grid.direction)
    if rounding < 1e-6:
        assert np.array_equal(direction, exact + rounding * noise)
    else:
        np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(direction, exact, atol=2 * rounding)


def test_a_left_handed_direction_stays_left_handed():
    direction = np.diag([1.0, 1.0, -1.0]) + 1e-4
    grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), direction)
    assert np.linalg.det(grid.direction) == pytest.approx(-1)


@given(seed=seeds, dimension=dimensions)
@settings(max_examples=30, deadline=None)
def test_affine_maps_form_a_group(seed, dimension):
    outer, inner = random_affine(seed, dimension), random_affine(seed + 1, dimension)
    points = np.random.default_rng(seed).uniform(-100, 100, (6, dimension))
    np.testing.assert_allclose(outer.compose(inner)(points), outer(inner(points)), atol=1e-9)
    np.testing.assert_allclose(outer.inverse()(outer(points)), points, atol=1e-9)
    assert AffineMap.from_homogeneous(outer.homogeneous) == outer
    assert np.array_equal(AffineMap.identity(dimension)(points), points)
    # Composition does not commute: the order is told apart.
    assert np.abs(outer.compose(inner)(points) - inner(outer(points))).max() > 1e-3


@given(seed=seeds, dimension=dimensions)
@settings(max_examples=30, deadline=None)
def test_a_matrix_between_arrays_is_a_map_between_their_points(seed, dimension):
    fixed, moving = random_grid(seed, dimension), random_grid(seed + 1, dimension)
    generator = np.random.default_rng(seed)
    matrix = np.eye(dimension, dimension + 1) + generator.uniform(-0.3, 0.3, (1, dimension + 1))
    positions = generator.uniform(0, 20, (5, dimension))
    there = positions @ matrix[:, :-1].T + matrix[:, -1]
    points = positions[:, ::-1] @ fixed.matrix.T + fixed.origin
    found = AffineMap.between_voxels(matrix, fixed, moving)(points)
    np.testing.assert_allclose(moving.continuous_index(found), there[:, ::-1], atol=1e-8)


@given(seed=seeds, dimension=dimensions)
@settings(max_examples=30, deadline=None)
def test_affine_maps_mean_what_itk_means(seed, dimension):
    affine = random_affine(seed, dimension)
    theirs = sitk.AffineTransform(dimension)
    theirs.SetMatrix(np.ravel(affine.matrix).tolist())
    theirs.SetTranslation(affine.translation)
    point = np.random.default_rng(seed).uniform(-100, 100, dimension)
    np.testing.assert_allclose(affine(point), theirs.TransformPoint(point.tolist()), atol=1e-9)


@pytest.mark.parametrize(
    ("matrix", "translation", "reason"),
    [
        (np.ones((2, 2)), (0, 0), "matrix must be invertible"),
        (np.zeros((3, 3)), (0, 0, 0), "matrix must be invertible"),
        (np.full((2, 2), np.nan), (0, 0), "matrix must be finite"),
        (np.eye(2), (0, np.inf), "translation must be finite"),
        (np.eye(3), (0, 0), "matrix must have 2 x 2 numbers"),
        (np.eye(4), (0, 0, 0, 0), "translation must have 2 or 3 numbers"),
    ],
)
def test_an_affine_map_that_cannot_be_is_refused(matrix, translation, reason):
    with pytest.raises(GeometryError, match=reason):
        AffineMap(matrix, translation)


def test_maps_of_different_dimension_do_not_compose():
    with pytest.raises(ShapeError, match="inner must have 3 axes"):
        AffineMap.identity(3).compose(AffineMap.identity(2))
    with pytest.raises(GeometryError, match="last row"):
        AffineMap.from_homogeneous(np.ones((4, 4)))
