"""Masks that are inverted or elsewhere, and images that lie far apart, are used and asked about."""

from __future__ import annotations

import numpy as np
import pytest

import itk_ncr
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.registration import plausibility


def disc(image: itk_ncr.Image, radius: float, inverted: bool = False) -> itk_ncr.Image:
    rows, columns = np.indices(image.array.shape)
    inside = np.hypot(rows - 36, columns - 32) < radius
    return itk_ncr.Image((inside != inverted).astype(np.uint8), image.grid)


def place(grid: Grid, origin: tuple[float, ...]) -> Grid:
    return Grid(grid.size, grid.spacing, origin, grid.direction)


@pytest.mark.parametrize("method", ["affine", "demons"])
@pytest.mark.parametrize("role", ["lesion_mask", "moving_lesion_mask"])
def test_every_method_asks_about_a_mask_of_most_of_the_object(slice_pair, method, role):
    fixed, moving, _ = slice_pair
    mask = disc(fixed, 9, inverted=True)
    found = itk_ncr.register(fixed, moving, method=method, affine="none", threads=1, **{role: mask})
    name = role.replace("_", " ")
    (asked,) = (text for text in found.warnings if "1 = ignore" in text)
    assert asked.startswith(f"{name} covers 90.")
    assert "% of the object in the " in asked
    right = itk_ncr.register(
        fixed, moving, method="affine", affine="none", threads=1, **{role: disc(fixed, 9)}
    )
    assert not [text for text in right.warnings if "mask" in text]


@pytest.mark.parametrize("role", ["lesion_mask", "roi_mask"])
def test_a_mask_that_has_lost_its_header_is_asked_about_with_the_distance(slice_pair, role):
    fixed, moving, _ = slice_pair
    array = disc(fixed, 20).array
    lost = itk_ncr.Image(array, place(fixed.grid, (12.0, -16.0)))
    found = itk_ncr.register(
        fixed, moving, method="affine", affine="none", threads=1, **{role: lost}
    )
    (asked,) = (text for text in found.warnings if "lies" in text)
    assert "has the size of the fixed image, 64x72, but lies 20 mm from it" in asked


def test_a_mask_of_the_same_place_needs_no_other_likeness():
    grid = Grid((30, 30, 30), (1.0, 1.0, 1.0), (-14.5, 2.0, 7.0), np.eye(3))
    flipped = Grid(
        grid.size,
        grid.spacing,
        (14.5, 31.0, 7.0),
        np.diag([-1.0, -1.0, 1.0]),
    )
    nudged = place(grid, (-14.5, 2.4, 7.0))
    elsewhere_but_of_another_size = Grid((20, 30, 30), grid.spacing, (100.0, 2.0, 7.0), np.eye(3))
    for mask in (grid, flipped, nudged, elsewhere_but_of_another_size):
        assert plausibility.doubts_about_place("lesion mask", "fixed image", mask, grid) == []
    halved = Grid(grid.size, (0.5, 0.5, 0.5), grid.origin, grid.direction)
    assert plausibility.doubts_about_place("lesion mask", "fixed image", halved, grid)


@pytest.mark.parametrize(
    ("inside", "example"), [(0.4, "0.4"), (-1.0, "-1"), (np.nan, "nan"), (1.0, None), (255.0, None)]
)
@pytest.mark.parametrize("role", ["moving_lesion_mask", "roi_mask"])
def test_a_mask_of_other_values_than_a_mask_has_is_asked_about(slice_pair, inside, example, role):
    fixed, moving, _ = slice_pair
    mask = disc(fixed, 20).array.astype(np.float32)
    mask[36, 30:34] = inside
    found = itk_ncr.register(
        fixed, moving, method="affine", affine="none", threads=1,
        **{role: itk_ncr.Image(mask, fixed.grid)},
    )  # fmt: skip
    asked = [text for text in found.warnings if "no whole number" in text]
    assert [text.partition("such as ")[2].split(", ")[0] for text in asked] == (
        [] if example is None else [example]
    )
    assert all(" in 0.087 % of its voxels. All but 0" in text for text in asked)


def test_a_registration_that_moves_by_half_a_metre_warns(slice_pair):
    fixed, moving, _ = slice_pair
    far = itk_ncr.Image(moving.array, place(moving.grid, (499.0, 0.0)))
    found = itk_ncr.register(fixed, far, method="affine", threads=1)
    (asked,) = (text for text in found.warnings if "apart by their headers" in text)
    assert abs(float(asked.split("lie ")[1].split(" mm")[0]) - 499) < 5
    near = itk_ncr.register(fixed, moving, method="affine", threads=1)
    assert not [text for text in near.warnings if "apart" in text]


def test_a_shift_within_the_image_is_no_reason_to_ask():
    grid = Grid.of_array((100, 100), (1.0, 1.0))
    for shift, asked in ((60.0, 0), (80.0, 1)):
        motion = AffineMap(np.eye(2), (shift, 0.0))
        assert len(plausibility.doubts_about_motion(motion, grid)) == asked
