"""Visits of one patient in the space in their middle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

import itk_ncr
from itk_ncr.errors import ArgumentError, GeometryError, ShapeError
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.ops import exponential
from itk_ncr.registration.studies.common_space import ChartMap, common_space, mean_affine
from itk_ncr.registration.studies.follow import present, told_apart

SHAPE = (64, 72)
GRID = Grid.of_array(SHAPE, spacing=(1.5, 1.5), origin=(-30.0, 10.0))


def head() -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    disc = np.hypot(rows - 32, (columns - 36) * 0.9) < 27
    texture = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal(SHAPE), 2.0)
    return (disc * (100 + 150 * texture)).clip(0).astype(np.float32)


def with_lesion(image: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.indices(SHAPE)
    lesion = np.hypot(rows - 30, columns - 44) < radius
    return np.where(lesion, 260, image).astype(np.float32), lesion


@pytest.fixture(scope="module")
def growth():
    """Two visits, between which a lesion of known size appeared, and its area in mm²."""
    later, lesion = with_lesion(head(), 7.0)
    visits = [itk_ncr.Image(head(), GRID), itk_ncr.Image(later, GRID)]
    found = itk_ncr.follow(visits, affine="none", threads=1)
    return visits, found, float(lesion.sum()) * 1.5**2


def test_growth_of_known_size_is_found_with_its_area(growth):
    _, found, area = growth
    interval = found.intervals[0]
    assert interval.appeared_volume == pytest.approx(area, rel=0.25)
    assert interval.vanished_volume < 0.05 * area
    assert found.volumes == pytest.approx((0.0, interval.appeared_volume))
    assert found.unit == "mm²"


def test_in_the_order_of_time_reversed_the_same_tissue_vanishes(growth):
    visits, found, _ = growth
    back = itk_ncr.follow(visits[::-1], affine="none", threads=1)
    forth = found.intervals[0].appeared_volume
    assert back.intervals[0].vanished_volume == pytest.approx(forth, rel=0.05)
    assert back.intervals[0].appeared_volume < 0.05 * forth


def test_visits_are_saved_with_masks_curve_and_maps(growth, tmp_path):
    folder = growth[1].save(tmp_path / "out")
    names = {path.name for path in folder.iterdir()}
    assert {"visit_2.nrrd", "appeared_1.nrrd", "moved_1.nrrd", "transform_2.h5"} <= names
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<polyline" in page
    assert "visit 2" in page


def smooth_field(peak_mm: float, seed: int) -> itk_ncr.Image:
    generator = torch.Generator().manual_seed(seed)
    velocity = torch.randn(1, 2, *SHAPE, generator=generator)
    velocity = torch.from_numpy(ndimage.gaussian_filter(velocity.numpy(), (0, 0, 8, 8)))
    velocity = velocity * (peak_mm / 1.5 / velocity.abs().max())
    field = exponential(velocity)[0].numpy()
    return itk_ncr.Image(np.moveaxis(field[::-1], 0, -1) * np.float32(1.5), GRID)


def test_the_middle_is_as_far_from_either_image():
    moved = smooth_field(6.0, 1)
    maps = [ChartMap(AffineMap.identity(2)), ChartMap(AffineMap.identity(2), moved)]
    space = common_space(GRID, maps)
    inner = (slice(8, -8), slice(8, -8))
    one, two = (field.array[inner] for field in space.displacements)
    assert np.abs(one).max() > 1.5  # half of 6 mm, somewhere
    np.testing.assert_allclose(one, -two, atol=0.15)  # interpolation, a tenth of a voxel


def test_the_middle_does_not_depend_on_which_image_the_chart_is():
    shift = AffineMap(((1.0, 0.0), (0.0, 1.0)), (4.0, -6.0))
    one = common_space(GRID, [ChartMap(AffineMap.identity(2)), ChartMap(shift)])
    other_grid = Grid(GRID.size, GRID.spacing, tuple(shift(GRID.origin)), GRID.direction)
    two = common_space(other_grid, [ChartMap(shift.inverse()), ChartMap(AffineMap.identity(2))])
    assert one.grid.equals(two.grid)
    for a, b in zip(one.displacements, two.displacements, strict=True):
        np.testing.assert_allclose(a.array, b.array, atol=1e-4)
    np.testing.assert_allclose(one.displacements[1].array[0, 0], (2.0, -3.0), atol=1e-4)


def test_the_mean_of_a_turn_and_none_is_half_the_turn():
    def turn(degrees: float) -> AffineMap:
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return AffineMap(((c, -s), (s, c)), (0.0, 0.0))

    half = mean_affine([turn(0), turn(40)])
    np.testing.assert_allclose(half.matrix, turn(20).matrix, atol=1e-9)
    with pytest.raises(GeometryError, match="half a turn"):
        mean_affine([turn(0), AffineMap(((-1.0, 0.0), (0.0, 1.0)), (0.0, 0.0))])


def test_a_rim_around_an_old_lesion_appeared_and_a_healed_spot_vanished():
    shown = np.ones((40, 60), bool)
    earlier = np.full((40, 60), 0.5, np.float32)
    rows, columns = np.indices(earlier.shape)
    from_left, from_right = np.hypot(rows - 20, columns - 15), np.hypot(rows - 20, columns - 45)
    later = earlier.copy()
    earlier[from_left < 4] = later[from_left < 8] = 1.0
    earlier[from_right < 5] = 0.1
    rim, spot = (from_left < 8) & (from_left >= 4), from_right < 5
    appeared, vanished = told_apart(rim | spot, earlier, later, shown)
    np.testing.assert_array_equal(appeared, rim)
    np.testing.assert_array_equal(vanished, spot)


def test_tissue_that_comes_and_goes_is_there_only_in_between():
    spot, other = np.zeros(4, bool), np.zeros(4, bool)
    spot[0] = other[3] = True
    none = np.zeros(4, bool)
    states = present([(spot, none), (none, spot | other)])
    np.testing.assert_array_equal(states[0], other)
    np.testing.assert_array_equal(states[1], spot | other)
    np.testing.assert_array_equal(states[2], none)


@pytest.mark.parametrize(
    ("visits", "options", "error", "said"),
    [
        ([head()], {}, ArgumentError, "two or more"),
        (head(), {}, ArgumentError, "must be a list"),
        ([head(), head()], {}, ArgumentError, "visit 2 like visit 1"),
        ([head(), with_lesion(head(), 5)[0]], {"moved_mm": 0}, ArgumentError, "moved_mm"),
        ([head(), np.zeros((4, *SHAPE), np.float32) + head()], {}, ShapeError, "visit 1, visit 2"),
    ],
)
def test_what_are_no_visits_is_refused_in_one_line(visits, options, error, said):
    with pytest.raises(error, match=said):
        itk_ncr.follow(visits, **options)
