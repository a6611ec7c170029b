"""Images turn as far and to the side they should, and what belongs together moves together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.testing import assert_close

from itk_ncr.data import AUGMENTATIONS, Augmentation
from itk_ncr.data.augmentation import (
    Side,
    add_noise,
    change_contrast,
    draw_motions,
    move,
    rotation,
)
from itk_ncr.errors import ArgumentError
from tests.data.conftest import seeded


def turned(degrees: float, shape: tuple[int, ...], spacing: tuple[float, ...], axis=(1, 0, 0)):
    """The affine that rotates about the middle of the grid."""
    linear = rotation(degrees, len(shape), spacing, axis)
    centre = (np.asarray(shape) - 1) / 2
    return np.column_stack([linear, centre - linear @ centre])


def ball(shape: tuple[int, ...], centre: tuple[float, ...], sigma: float = 2.0) -> torch.Tensor:
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    square = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
    return torch.tensor(np.exp(-square / (2 * sigma**2)), dtype=torch.float32)[None]


def test_a_positive_angle_turns_what_is_shown_counter_clockwise() -> None:
    # 12 voxels to the right of the middle; after 30 degrees 12 cos 30 right and 12 sin 30 up.
    image = ball((41, 41), (20, 32))
    moved = move(Side(image), turned(30, (41, 41), (1, 1))).image[0]
    expected = (20 - 12 * math.sin(math.pi / 6), 20 + 12 * math.cos(math.pi / 6))
    assert ndimage.center_of_mass(moved.numpy()) == pytest.approx(expected, abs=0.02)


def test_a_rotation_in_anisotropic_voxels_is_one_in_millimetres() -> None:
    # Rows are 2 mm apart: 16 mm to the right become 8 rows up.
    image = ball((41, 41), (20, 36))
    moved = move(Side(image), turned(90, (41, 41), (2.0, 1.0))).image[0]
    assert ndimage.center_of_mass(moved.numpy()) == pytest.approx((12, 20), abs=0.02)


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 0.6, 0.8)])
def test_a_rotation_in_3d_keeps_its_axis_and_has_its_angle(axis) -> None:
    spacing = (1.5, 1.0, 2.0)
    in_voxels = rotation(25, 3, spacing, axis)
    in_mm = in_voxels * np.asarray(spacing)[:, None] / np.asarray(spacing)
    assert_close(in_mm @ axis, np.asarray(axis), atol=1e-12, rtol=0)
    assert_close(in_mm @ in_mm.T, np.eye(3), atol=1e-12, rtol=0)
    assert np.trace(in_mm) == pytest.approx(1 + 2 * math.cos(math.radians(25)))


def test_labels_and_lesion_move_with_the_image() -> None:
    lesion = (ball((40, 36), (14, 22), 4.0) > 0.5).float()
    side = Side(lesion, labels=(7 * lesion[0]).to(torch.uint8), lesion=lesion)
    motion = turned(8, (40, 36), (1, 1))
    motion[:, -1] += (2.3, -1.6)
    moved = move(side, motion)
    assert moved.labels is not None
    assert moved.lesion is not None
    assert set(moved.labels.unique().tolist()) == {0, 7}
    assert_close(moved.lesion, (moved.image > 0.5).float())
    # Nearest and linear above one half differ on the outline only, by less than half a voxel.
    differ = (moved.labels > 0) != (moved.image[0] > 0.5)
    outline = ndimage.binary_dilation(moved.lesion[0] > 0) ^ ndimage.binary_erosion(
        moved.lesion[0] > 0
    )
    assert not (differ.numpy() & ~outline).any()
    # And neither stayed where it was.
    assert ((moved.labels > 0) != (side.labels > 0)).sum() > 20


def test_only_the_moving_image_is_shifted_and_by_no_more_than_allowed() -> None:
    settings = Augmentation(shift_voxels=4.0)
    shifts = []
    for seed in range(200):
        fixed, moving = draw_motions(settings, seeded(seed), (30, 40), (1, 1))
        assert fixed is None
        assert moving is not None
        assert_close(moving[:, :2], np.eye(2))
        shifts.append(moving[:, 2])
    assert np.abs(shifts).max() <= 4.0
    # Uniform over the whole range: of 200 draws the most extreme is beyond 3.9 almost surely.
    assert (np.abs(shifts).max(0) > 3.8).all()


def test_a_whole_shift_moves_the_content_by_so_many_voxels() -> None:
    image = torch.rand(1, 9, 11, generator=seeded(0))
    motion = np.array([[1.0, 0, -2], [0, 1, 3]])
    moved = move(Side(image), motion).image
    assert_close(moved[0, 2:, :-3], image[0, :-2, 3:])
    assert moved[0, :2].eq(0).all()  # came from outside
    assert moved[0, :, -3:].eq(0).all()
    repeated = move(Side(image), motion, fill_outside=False).image
    assert_close(repeated[0, :2, :-3], image[0, :1, 3:].expand(2, -1))


def test_both_images_are_flipped_or_none() -> None:
    settings = Augmentation(flip=True)
    image = torch.rand(1, 6, 8, generator=seeded(0))
    outcomes = []
    for seed in range(40):
        motions = draw_motions(settings, seeded(seed), (6, 8), (1, 1))
        one, two = (move(Side(image), m).image for m in motions)
        assert_close(one, two)
        flipped = not torch.equal(one, image)
        if flipped:
            assert_close(one, image.flip(-1), atol=1e-5, rtol=0)
        outcomes.append(flipped)
    assert 8 < sum(outcomes) < 32


def test_mri_turns_one_image_by_3_degrees_or_both_alike_by_8() -> None:
    def angle(motion) -> float:
        if motion is None:
            return 0.0
        # A flip changes the sign of the last column.
        return math.degrees(math.atan(-motion[1, 0] / motion[0, 0]))

    settings = Augmentation(rotate_one_degrees=3.0, rotate_both_degrees=8.0)
    kinds = {"both": 0, "fixed": 0, "moving": 0}
    largest = {"one": 0.0, "both": 0.0}
    for seed in range(300):
        fixed, moving = (angle(m) for m in draw_motions(settings, seeded(seed), (30, 30), (1, 1)))
        if fixed == moving:
            kinds["both"] += 1
            largest["both"] = max(largest["both"], abs(fixed))
        else:
            assert 0 in (fixed, moving)
            kinds["fixed" if moving == 0 else "moving"] += 1
            largest["one"] = max(largest["one"], abs(fixed + moving))
    assert min(kinds.values()) > 50
    assert 2.8 < largest["one"] <= 3.0
    assert 7.5 < largest["both"] <= 8.0


def test_oct_shifts_the_moving_image_down_or_up_by_a_quarter_of_its_height_at_most() -> None:
    largest = 0.0
    for seed in range(100):
        fixed, moving = draw_motions(AUGMENTATIONS["oct"], seeded(seed), (48, 100), (1, 1))
        difference = moving - fixed
        assert_close(difference[:, :2], np.zeros((2, 2)))
        assert difference[1, 2] == pytest.approx(0)
        largest = max(largest, abs(difference[0, 2]))
    assert 11 < largest <= 12


def test_noise_spares_the_background_and_has_its_deviation() -> None:
    image = torch.full((1, 100, 100), 0.5)
    image[:, :50] = 0
    noisy = add_noise(image, 0.05, seeded(0))
    assert noisy[:, :50].eq(0).all()
    # 5000 values: the deviation is known to 1 %.
    assert float((noisy - image)[:, 50:].std()) == pytest.approx(0.05, rel=0.04)


def test_contrast_keeps_the_background_and_the_order_of_intensities_without_a_bias() -> None:
    image = torch.linspace(0, 1, 50).view(1, 5, 10)
    changed = change_contrast(image, Augmentation(gamma=0.4), seeded(1))
    assert changed[0, 0, 0] == 0
    assert (changed.flatten().diff() > 0).all()
    assert (changed - image).abs().max() > 0.01
    biased = change_contrast(torch.ones(1, 30, 30), Augmentation(bias=0.3), seeded(1))
    assert math.exp(-0.3) <= biased.min() < biased.max() <= math.exp(0.3)
    # Smooth: four knots over 30 voxels, each at most 0.6 (in the logarithm) from the next.
    assert biased.log().diff(dim=-1).abs().max() < 0.6 / 9


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_setting_without_meaning_is_refused(value) -> None:
    with pytest.raises(ArgumentError, match="noise must be finite"):
        Augmentation(noise=value)
