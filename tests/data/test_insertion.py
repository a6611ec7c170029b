"""Lesions inserted into images of any grid and type: place, size, contrast and push in space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

import itk_ncr
from itk_ncr.data import LESION_KINDS, LESION_MODELS, NAMED_LESIONS, make_phantom, sized_blob
from itk_ncr.errors import ArgumentError, ImageReadError
from itk_ncr.images import resample, transform_points
from tests.data.conftest import seeded

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
GRIDS = {
    "2D": itk_ncr.Grid.of_array((60, 70), (1.5, 1.0), (-40.0, 30.0), TURN[:2, :2]),
    "3D": itk_ncr.Grid.of_array((26, 44, 40), (1.5, 1.5, 3.0), (12.0, -70.0, 40.0), TURN),
}


def ball(grid: itk_ncr.Grid, centre: np.ndarray, radius: float) -> np.ndarray:
    return np.linalg.norm(grid.points() - centre, axis=-1) < radius


@pytest.fixture(params=list(GRIDS))
def healthy(request: pytest.FixtureRequest) -> itk_ncr.Image:
    """A ball of tissue, brighter towards one side, on a turned grid with background -5."""
    grid = GRIDS[request.param]
    points = grid.points()
    image = np.full(grid.shape, -5.0, np.float32)
    inside = ball(grid, grid.centre, 28)
    image[inside] = 100 + 0.5 * (points - grid.centre)[inside][:, 0]
    return itk_ncr.Image(image, grid)


def centre_of(mask: itk_ncr.Image) -> np.ndarray:
    return mask.grid.points()[mask.array > 0].mean(0)


def unit(image: itk_ncr.Image) -> float:
    """mm3 of a voxel, mm2 of a pixel."""
    return float(np.prod(image.grid.spacing))


@pytest.mark.parametrize("voxels", [1, 37, 500])
@pytest.mark.parametrize("centre", [None, (3, 4)])
def test_a_sized_blob_has_so_many_voxels_within_the_object(voxels, centre):
    inside = torch.zeros(40, 36, dtype=torch.bool)
    inside[2:30, 3:33] = True
    blob = sized_blob(inside, (1.0, 2.0), seeded(voxels), voxels=voxels, centre=centre)
    assert int(blob.sum()) == voxels
    assert not (blob & ~inside).any()
    if centre is not None:
        assert blob[centre]
    with pytest.raises(ArgumentError, match="voxels"):
        sized_blob(inside, (1.0, 2.0), seeded(0), voxels=10_000)


@pytest.mark.parametrize("kind", LESION_KINDS)
def test_a_lesion_has_the_size_and_place_asked_for_in_space(healthy, kind):
    place = healthy.grid.centre + 6
    size = 700.0 if healthy.dimension == 3 else 120.0
    made = make_phantom(healthy, kind, seeded(1), at_mm=place, size_mm=size)
    assert made.size_mm == pytest.approx(size, abs=unit(healthy))
    # The outline wobbles by a quarter of a radius of 6 mm.
    assert np.linalg.norm(centre_of(made.lesion) - place) < 3
    assert made.lesion.grid == made.image.grid == healthy.grid
    if made.kind not in LESION_MODELS:
        assert made.displacement is None
        assert made.affected is None


def test_only_the_lesion_changes_and_as_its_appearance_says(healthy):
    made = make_phantom(healthy, "chronic", seeded(4), size_mm=150.0)
    # The rim ends at four sigmas of at most 1.2 mm along every axis: 8.3 mm along a diagonal.
    far = ~ball_around(made.lesion, 8.5)
    np.testing.assert_array_equal(made.image.array[far], healthy.array[far])
    assert (made.image.array[healthy.array == -5] == -5).all()
    deep = made.lesion.array.astype(bool) & ~ball_around(made.lesion, 2.0, outside=True)
    # A quarter to two fifths of white matter (about 107 above the background), texture 10 %.
    share = (made.image.array[deep].mean() + 5) / (107 + 5)
    assert 0.22 < share < 0.46
    acute = make_phantom(healthy, "acute", seeded(4), size_mm=150.0)
    ratio = (acute.image.array[deep] + 5) / (healthy.array[deep] + 5)
    assert 0.6 < ratio.mean() < 0.95


def ball_around(mask: itk_ncr.Image, radius: float, outside: bool = False) -> np.ndarray:
    """Voxels within a distance of the mask (or of what is not in it)."""
    chosen = (mask.array > 0) != outside
    return distance_transform_edt(~chosen, sampling=mask.grid.spacing[::-1]) < radius


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_the_image_keeps_its_type_and_scale(healthy, dtype):
    array = (healthy.array + 5).astype(dtype)
    image = itk_ncr.Image(array, healthy.grid)
    made = make_phantom(image, "grey", seeded(0), size_mm=150.0)
    assert made.image.array.dtype == dtype
    changed = made.image.array != array
    assert changed.any()
    assert made.image.array.max() <= array.max() * 1.2


def test_a_mask_keeps_its_place_in_space_whatever_its_grid(healthy):
    place = healthy.grid.centre - 4
    grid = itk_ncr.Grid.of_array(
        (30,) * healthy.dimension, (1.0,) * healthy.dimension, tuple(place - 15.2)
    )
    mask = itk_ncr.Image(ball(grid, place, 7).astype(np.uint8), grid)
    made = make_phantom(healthy, "chronic", seeded(0), mask=mask)
    np.testing.assert_allclose(centre_of(made.lesion), centre_of(mask), atol=0.5)
    assert made.size_mm == pytest.approx(mask.array.sum() * unit(mask), rel=0.1)
    # Half the radius, elsewhere.
    there = healthy.grid.centre + 5
    size = mask.array.sum() * unit(mask) / 2**healthy.dimension
    moved = make_phantom(healthy, "chronic", seeded(0), mask=mask, at_mm=there, size_mm=size)
    np.testing.assert_allclose(centre_of(moved.lesion), there, atol=0.7)
    assert moved.size_mm == pytest.approx(size, rel=0.25)
    away = itk_ncr.Image(mask.array, itk_ncr.Grid.of_array(grid.shape, origin=tuple(place + 500)))
    with pytest.raises(ArgumentError, match="overlap"):
        make_phantom(healthy, "chronic", seeded(0), mask=away)


def test_a_push_shows_healthy_tissue_from_where_the_truth_says(healthy):
    size = 900.0 if healthy.dimension == 3 else 150.0
    place = healthy.grid.centre + 3
    made = make_phantom(healthy, "chronic", seeded(0), at_mm=place, size_mm=size, mass_effect_mm=2)
    still = make_phantom(healthy, "chronic", seeded(0), at_mm=place, size_mm=size)
    np.testing.assert_array_equal(made.lesion.array, still.lesion.array)
    u = made.displacement
    length = np.linalg.norm(u.array, axis=-1)
    # The exponential of a velocity of 2 mm whose direction changes along the way.
    assert 1.6 < length.max() <= 2.0 + 1e-3
    # It comes from nearer to the lesion: tissue went away from it.
    towards = centre_of(made.lesion) - healthy.grid.points()
    strong = (length > 0.5) & (made.lesion.array == 0)
    assert ((u.array * towards).sum(-1)[strong] > 0).mean() > 0.95
    # ITK's rule of resampling, one point at a time.
    far = ~ball_around(made.lesion, 8.5)
    expected = resample(healthy, healthy.grid, displacement=u, padding="border").array
    np.testing.assert_allclose(made.image.array[far], expected[far], atol=1e-4)
    # One to one: neighbours along an axis keep their order.
    points = healthy.grid.points().reshape(-1, healthy.dimension)
    moved = transform_points(points, u).reshape(healthy.grid.points().shape)
    for axis in range(healthy.dimension):
        step = np.diff(healthy.grid.points(), axis=axis)
        assert ((np.diff(moved, axis=axis) * step).sum(-1) > 0).all()


def test_named_lesions_take_real_masks_where_they_are_and_else_their_size(tmp_path: Path):
    grid = itk_ncr.Grid.of_array((40, 60, 50), (3.0, 3.0, 3.0), (-73.0, -88.0, -60.0))
    brain = itk_ncr.Image((100 * ball(grid, grid.centre, 55)).astype(np.float32), grid)
    for name, lesion in NAMED_LESIONS.items():
        drawn = make_phantom(brain, name, seeded(0))
        assert drawn.size_mm == pytest.approx(lesion.volume_mm3, abs=unit(brain) / 2 + 1)
        place = grid.centre + 9
        mask = ball(grid, place, 12).astype(np.uint8)
        itk_ncr.write_image(itk_ncr.Image(mask, grid), tmp_path / f"{lesion.mask}.nii.gz")
        real = make_phantom(brain, name, seeded(0), masks=tmp_path)
        np.testing.assert_array_equal(real.lesion.array, mask)
    with pytest.raises(ImageReadError, match="soop_543"):
        make_phantom(brain, "L1", seeded(0), masks=tmp_path / "nowhere")
    flat = itk_ncr.Grid.of_array((120, 110))
    slice_ = itk_ncr.Image((100 * ball(flat, flat.centre, 50)).astype(np.uint8), flat)
    assert make_phantom(slice_, "L1", seeded(0)).size_mm == NAMED_LESIONS["L1"].area_mm2


def test_the_generator_says_everything_that_is_not_given(healthy):
    one, again, other = (make_phantom(healthy, "bright", seeded(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.image.array, again.image.array)
    assert (one.lesion.array != other.lesion.array).any()


def test_what_cannot_be_is_refused_in_one_line(healthy):
    far = healthy.grid.centre + 400
    for options, message in (
        ({"size_mm": 1e6}, "size of the lesion must be at most half"),
        ({"size_mm": -1}, "size_mm must be finite"),
        ({"size_mm": 0}, "size_mm must be finite"),
        ({"mass_effect_mm": np.inf}, "mass_effect_mm must be finite"),
        ({"at_mm": far}, "centre of the lesion must lie"),
        ({"at_mm": (1.0,)}, "centre of the lesion must have"),
        ({"size_mm": 60.0, "mass_effect_mm": 40.0}, "fold"),
        ({"mask": itk_ncr.Image(np.zeros_like(healthy.array), healthy.grid)}, "above 0"),
    ):
        with pytest.raises(ArgumentError, match=message):
            make_phantom(healthy, "chronic", seeded(0), **options)
    with pytest.raises(ArgumentError, match="lesion must be one of L1"):
        make_phantom(healthy, "L5", seeded(0))
