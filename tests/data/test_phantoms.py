"""Lesions lie where their mask says, look as they should, and leave the rest alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

import itk_ncr
from itk_ncr.data import (
    APPEARANCES,
    NAMED_LESIONS,
    NO_JITTER,
    TEST_LESIONS,
    Appearance,
    Jitter,
    LesionBank,
    LesionMask,
    Placement,
    insert_lesion,
    random_blob,
)
from itk_ncr.errors import ArgumentError, ImageReadError, ShapeError
from tests.data.conftest import seeded

# A coarse MNI-like grid, RAS as brains are stored: 48 x 56 x 48 voxels of 3.5 mm.
SPACING, SHAPE = 3.5, (48, 56, 48)
GRID = itk_ncr.Grid.of_array(
    SHAPE, (SPACING,) * 3, (82.25, 98.0, -70.0), np.diag([-1.0, -1.0, 1.0])
)


def ball_file(path: Path, centre_ras_mm: tuple[float, float, float], radius_mm: float) -> Path:
    """A mask of a ball at a place in RAS mm."""
    distance = np.linalg.norm(GRID.points() * (-1, -1, 1) - centre_ras_mm, axis=-1)
    array = (distance < radius_mm).astype(np.uint8)
    itk_ncr.write_image(itk_ncr.Image(array, GRID), path)
    return path


def test_a_mask_on_its_own_grid_is_itself(tmp_path) -> None:
    path = ball_file(tmp_path / "ball.nii.gz", (-30, 20, 10), 20)
    found = LesionMask.read(path).on(Placement.of(GRID), SHAPE)
    assert torch.equal(found, torch.from_numpy(itk_ncr.read_image(path).array > 0))


def test_a_mask_is_cut_at_the_height_of_a_slice_and_lies_where_its_millimetres_are(
    tmp_path,
) -> None:
    mask = LesionMask.read(ball_file(tmp_path / "ball.nii.gz", (-30, 20, 10), 20))
    for height, radius in ((10.0, 20.0), (24.0, np.sqrt(20**2 - 14**2))):
        plane = Placement.of(itk_ncr.Grid.of_array((192, 160)), slice_mm=height)
        found = mask.on(plane, (192, 160)).numpy()
        # x = column - 79.5, y = 79 - row.
        row, column = ndimage.center_of_mass(found)
        assert (column - 79.5, 79 - row) == pytest.approx((-30, 20), abs=0.5)
        # Voxels of 3.5 mm: the radius is known to a fraction of one.
        assert np.sqrt(found.sum() / np.pi) == pytest.approx(radius, abs=1.2)
    above = Placement.of(itk_ncr.Grid.of_array((192, 160)), slice_mm=45.0)
    assert not mask.on(above, (192, 160)).any()


def test_a_mask_on_a_finer_cropped_grid_keeps_its_place_and_volume(tmp_path) -> None:
    mask = LesionMask.read(ball_file(tmp_path / "ball.nii.gz", (-30, 20, 10), 20))
    fine = Placement.of(GRID).cropped([10, 12, 8]).stretched([0.5, 0.5, 1.0])
    found = mask.on(fine, (56, 60, 30)).numpy()
    mm = fine.matrix @ np.append(ndimage.center_of_mass(found), 1.0)
    assert mm * (-1, -1, 1) == pytest.approx((-30, 20, 10), abs=0.5)
    assert found.sum() * SPACING**3 / 4 == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.1)


def test_a_flip_puts_the_lesion_into_the_other_hemisphere(tmp_path) -> None:
    mask = LesionMask.read(ball_file(tmp_path / "ball.nii.gz", (-30, 20, 10), 15))
    bank = LesionBank([mask], jitter=Jitter(shift_mm=0, scale=0, rotate_degrees=0, flip=True))
    inside, placement = torch.ones(SHAPE, dtype=torch.bool), Placement.of(GRID)
    sides = set()
    for seed in range(12):
        found = bank.draw(placement, inside, seeded(seed))
        x, y, z = placement.matrix @ np.append(ndimage.center_of_mass(found.numpy()), 1.0)
        assert (abs(x), -y, z) == pytest.approx((30, 20, 10), abs=0.3)
        sides.add(round(-x))
    assert sides == {-30, 30}


def test_jitter_moves_and_scales_within_its_limits(tmp_path) -> None:
    mask = LesionMask.read(ball_file(tmp_path / "ball.nii.gz", (-30, 20, 10), 18))
    bank = LesionBank([mask], jitter=Jitter(shift_mm=9, scale=0.2, rotate_degrees=20, flip=False))
    inside, placement = torch.ones(SHAPE, dtype=torch.bool), Placement.of(GRID)
    volume = 4 / 3 * np.pi * 18**3
    places, sizes = [], []
    for seed in range(30):
        found = bank.draw(placement, inside, seeded(seed)).numpy()
        mm = placement.matrix @ np.append(ndimage.center_of_mass(found), 1.0)
        places.append(mm * (-1, -1, 1) - (-30, 20, 10))
        sizes.append(np.cbrt(found.sum() * SPACING**3 / volume))
    assert np.abs(places).max() < 9.5
    assert np.abs(places).max() > 7
    assert 0.8 < min(sizes) < 0.9
    assert 1.1 < max(sizes) < 1.25


def test_drawn_lesions_stay_inside_the_object_and_are_large_enough(tmp_path) -> None:
    # Half of the ball is outside the object, then all of it.
    mask = LesionMask.read(ball_file(tmp_path / "ball.nii.gz", (-30, 0, 0), 15))
    bank = LesionBank([mask], jitter=NO_JITTER)
    placement = Placement.of(GRID)
    left = placement.matrix @ np.vstack([np.indices(SHAPE).reshape(3, -1), np.ones(np.prod(SHAPE))])
    x = torch.from_numpy(-left[0].reshape(SHAPE))
    found = bank.draw(placement, x > -32, seeded(0))
    assert found is not None
    assert not (found & (x <= -32)).any()
    assert bank.draw(placement, x > 0, seeded(0)) is None


def test_a_slice_of_unknown_height_gets_no_real_lesion(tmp_path) -> None:
    mask = LesionMask.read(ball_file(tmp_path / "ball.nii.gz", (0, 0, 0), 30))
    placement = Placement.of(itk_ncr.Grid.of_array((192, 160)))
    inside = torch.ones(192, 160, dtype=torch.bool)
    assert LesionBank([mask]).draw(placement, inside, seeded(0)) is None


def test_the_bank_leaves_out_the_lesions_of_the_tests(tmp_path) -> None:
    for name in ("soop_1", "lesymap_002", *TEST_LESIONS):
        ball_file(tmp_path / f"{name}.nii.gz", (0, 0, 0), 20)
    bank = LesionBank.from_folder(tmp_path)
    assert {mask.name for mask in bank.masks} == {"soop_1", "lesymap_002"}
    assert len(LesionBank.from_folder(tmp_path, exclude=()).masks) == 2 + len(TEST_LESIONS)
    assert {lesion.mask for lesion in NAMED_LESIONS.values()} <= set(TEST_LESIONS)


def test_all_masks_that_cannot_be_used_are_named(tmp_path) -> None:
    ball_file(tmp_path / "good.nii.gz", (0, 0, 0), 20)
    ball_file(tmp_path / "empty.nii.gz", (500, 0, 0), 20)
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    with pytest.raises(ImageReadError, match=r"2 files.*broken.*empty"):
        LesionBank.from_folder(tmp_path)


@pytest.mark.parametrize("name", APPEARANCES)
@pytest.mark.parametrize("shape", [(60, 50), (24, 30, 28)])
def test_a_lesion_changes_its_mask_and_a_soft_rim_but_no_background(name, shape) -> None:
    image = 0.6 + 0.1 * torch.rand(1, *shape, generator=seeded(1))
    image[:, : shape[0] // 2] = 0
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice(n // 2 - 5, n // 2 + 5) for n in shape)] = True
    spacing = (1.0, 1.5, 1.2)[: len(shape)]
    appearance = APPEARANCES[name]
    ill = insert_lesion(image, mask, appearance, seeded(2), white=0.8, spacing_mm=spacing)
    assert ill[image == 0].eq(0).all()
    tissue = image[0] > 0
    distance = torch.from_numpy(ndimage.distance_transform_edt(~mask.numpy(), spacing))
    far = distance > 4 * appearance.rim_mm[1] + max(spacing)
    assert torch.equal(ill[0][far], image[0][far])
    depth = ndimage.distance_transform_edt(mask.numpy(), spacing)
    core = torch.from_numpy(depth > 2.5 * appearance.rim_mm[1]) & tissue
    assert core.sum() > 8
    low, high = appearance.level or appearance.gain
    shares = ill[0][core] / (0.8 if appearance.level else image[0][core])
    # The median of the texture's factor is 1, in so few voxels roughly.
    slack = 3 * appearance.texture
    assert low * (1 - slack) < shares.median() < high * (1 + slack)
    assert (ill[0] - image[0])[core].abs().min() > 0 or name in ("acute", "grey", "bright")


def test_the_edge_of_a_lesion_is_soft_over_its_rim() -> None:
    image, mask = torch.ones(1, 10, 60), torch.zeros(10, 60, dtype=torch.bool)
    mask[:, 30:] = True
    dark = Appearance(level=(0.3, 0.3), rim_mm=(2.0, 2.0))
    ill = insert_lesion(image, mask, dark, seeded(0), white=1.0, spacing_mm=(1.0, 0.5))
    # An edge blurred by a Gaussian of 2 mm, 4 voxels: the normal distribution.
    x = (torch.arange(60) - 29.5) / 4
    expected = 1 - 0.7 * 0.5 * (1 + torch.erf(x / 2**0.5))
    # Near the end of the row, border values repeat.
    assert (ill[0, 5] - expected)[10:50].abs().max() < 0.01


def test_an_appearance_needs_either_a_level_or_a_gain() -> None:
    with pytest.raises(ArgumentError, match="either a level or a gain"):
        Appearance()
    with pytest.raises(ArgumentError, match="either a level or a gain"):
        Appearance(level=(0.1, 0.2), gain=(0.1, 0.2))


def test_a_mask_of_another_size_is_refused() -> None:
    mask = torch.ones(4, 5, dtype=torch.bool)
    with pytest.raises(ShapeError, match="mask must have the shape"):
        insert_lesion(
            torch.ones(1, 5, 5), mask, APPEARANCES["acute"], seeded(0), white=1.0,
            spacing_mm=(1, 1),
        )  # fmt: skip


def test_blobs_lie_inside_with_a_radius_in_millimetres() -> None:
    inside = torch.zeros(80, 70, dtype=torch.bool)
    inside[5:75, 5:65] = True
    sizes = []
    for seed in range(40):
        blob = random_blob(inside, (2.0, 1.0), seeded(seed), radius_mm=(6.0, 12.0))
        assert blob.any()
        assert not (blob & ~inside).any()
        sizes.append(float(blob.sum()) * 2.0)
    # At the rim blobs are cut; the outline wobbles by a quarter of the radius.
    assert max(sizes) < np.pi * (12 * 1.5) ** 2
    assert np.pi * 6**2 < np.median(sizes) < np.pi * 12**2


def test_the_centre_of_a_blob_lies_where_it_may() -> None:
    inside = torch.ones(40, 40, dtype=torch.bool)
    centres = torch.zeros_like(inside)
    centres[30:, 30:] = True
    for seed in range(10):
        blob = random_blob(inside, (1.0, 1.0), seeded(seed), radius_mm=(3.0, 4.0), centres=centres)
        assert (blob & centres).any()
        assert not blob[:20].any()
