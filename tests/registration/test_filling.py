"""Lesions filled from their surroundings, from another image and from the other side."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

import itk_ncr
from itk_ncr.errors import ArgumentError, ImageValueError, RegistrationAborted, ShapeError
from itk_ncr.images import ImageWarning
from itk_ncr.registration.filling.blending import blended, match_on_rim, surroundings

from .conftest import bend, texture

SHAPE = (72, 80)


def symmetric_head(shape=SHAPE, tilt=0.0, shift=0.0):
    """An ellipsoid whose texture is the same on both sides of the last axis, turned and moved."""
    half = texture(shape, 5, 3.0)
    whole = half + np.flip(half, -1)
    whole = (whole - whole.min()) / (whole.max() - whole.min())
    centre = [(n - 1) / 2 for n in shape]
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    radius = sum(((a - c) / (0.36 * n)) ** 2 for a, c, n in zip(axes, centre, shape, strict=True))
    head = np.where(radius < 1, 60 + 140 * whole, 0)
    head = ndimage.rotate(head, tilt, axes=(-2, -1), reshape=False, order=1)
    return ndimage.shift(head, (0,) * (len(shape) - 1) + (shift,), order=1).astype(np.float32)


def ball(shape, centre, radius):
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2


def placed(array, spacing=1.0, direction=None):
    grid = itk_ncr.Grid.of_array(array.shape, spacing=(spacing,) * array.ndim)
    if direction is not None:
        grid = dataclasses.replace(grid, direction=direction)
    return itk_ncr.Image(array, grid)


def ill(head, lesion, level=20.0):
    return np.where(lesion, level, head).astype(head.dtype)


def error(filled, head, lesion):
    return float(np.abs(filled.array.astype(float) - head)[lesion].mean())


LEFT = ball(SHAPE, (34, 52), 8)


@pytest.mark.parametrize("tilt", [0.0, 8.0])
def test_the_other_side_of_a_tilted_head_fills_a_lesion(tilt):
    head = symmetric_head(tilt=tilt, shift=3)
    image, mask = placed(ill(head, LEFT)), placed(LEFT)
    mirrored = itk_ncr.fill_lesion(image, mask, "mirror")
    smooth = itk_ncr.fill_lesion(image, mask, "smooth")
    # Of a range of 140; interpolation of the texture alone costs about 2.
    assert error(mirrored, head, LEFT) < 0.05 * 140
    assert error(mirrored, head, LEFT) < 0.6 * error(smooth, head, LEFT)


def test_left_and_right_are_those_of_the_patient_not_of_the_array():
    head = symmetric_head(tilt=3)
    turned = np.array([[0.0, 1.0], [1.0, 0.0]])  # x runs along the first axis of the array
    image = placed(ill(head, LEFT).T.copy(), direction=turned)
    mask = placed(LEFT.T.copy(), direction=turned)
    filled = itk_ncr.fill_lesion(image, mask, "mirror")
    assert error(filled, head.T, LEFT.T) < 0.05 * 140


def test_volumes_are_mirrored_too():
    shape = (24, 36, 40)
    head, lesion = symmetric_head(shape, shift=1), ball(shape, (12, 18, 27), 4)
    image, mask = placed(ill(head, lesion), 2.0), placed(lesion, 2.0)
    mirrored = itk_ncr.fill_lesion(image, mask, "mirror")
    smooth = itk_ncr.fill_lesion(image, mask, "smooth")
    assert error(mirrored, head, lesion) < 0.6 * error(smooth, head, lesion)


@pytest.mark.parametrize(
    "lesion",
    [ball(SHAPE, (36, 40), 7), ball(SHAPE, (34, 54), 7) | ball(SHAPE, (34, 25), 7)],
    ids=["across the middle", "on both sides"],
)
def test_lesions_without_a_healthy_other_side_fall_back_with_a_warning(lesion):
    head = symmetric_head()
    image, mask = placed(ill(head, lesion)), placed(lesion)
    with pytest.warns(ImageWarning, match=r"no mirror fill: .* of the lesion lie on its mirror"):
        filled = itk_ncr.fill_lesion(image, mask, "mirror")
    expected = itk_ncr.fill_lesion(image, mask, "smooth")
    np.testing.assert_array_equal(filled.array, expected.array)
    with pytest.warns(ImageWarning, match="filled with kind='partner'"):
        filled = itk_ncr.fill_lesion(image, mask, "mirror", partner=placed(head))
    assert error(filled, head, lesion) < 2


def test_an_image_without_symmetry_is_not_mirrored():
    head = np.where(symmetric_head() > 0, 60 + 140 * texture(SHAPE, 8), 0).astype(np.float32)
    with pytest.warns(ImageWarning, match="the image is not symmetric"):
        itk_ncr.fill_lesion(placed(ill(head, LEFT)), placed(LEFT), "mirror")


def test_a_partner_on_another_scale_and_grid_fills_a_lesion():
    head = symmetric_head()
    bent, _ = bend(head, 3, peak=2.0)
    partner = itk_ncr.Image(
        (0.7 * bent + 25).astype(np.float32), dataclasses.replace(placed(head).grid, origin=(9, -4))
    )
    filled = itk_ncr.fill_lesion(placed(ill(head, LEFT)), placed(LEFT), "partner", partner=partner)
    smooth = itk_ncr.fill_lesion(placed(ill(head, LEFT)), placed(LEFT), "smooth")
    assert error(filled, head, LEFT) < 0.5 * error(smooth, head, LEFT)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_type_and_everything_three_voxels_off_the_mask_stay_as_they_were(dtype):
    array = ill(symmetric_head(), LEFT).astype(dtype)
    filled = itk_ncr.fill_lesion(placed(array), placed(LEFT), "smooth")
    far = ndimage.distance_transform_edt(~LEFT) >= 3
    assert filled.array.dtype == dtype
    np.testing.assert_array_equal(filled.array[far], array[far])
    assert (filled.array[LEFT] > 60).all()
    assert (array[LEFT] == 20).all()  # the input is not written to


def test_what_is_not_finite_in_a_lesion_is_filled():
    head = symmetric_head()
    image = placed(np.where(LEFT, np.nan, head).astype(np.float32))
    filled = itk_ncr.fill_lesion(image, placed(LEFT), "mirror")
    assert np.isfinite(filled.array).all()
    assert error(filled, head, LEFT) < 0.05 * 140


def test_a_mask_on_a_coarser_grid_is_laid_on_the_image():
    head = symmetric_head()
    coarse = placed(LEFT[::2, ::2].copy(), 2.0)
    filled = itk_ncr.fill_lesion(placed(ill(head, LEFT)), coarse, "smooth")
    assert (filled.array[ball(SHAPE, (34, 52), 6)] > 60).all()


EVERYTHING = np.ones(SHAPE, np.uint8)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (0 * EVERYTHING, "must cover part of the image; got no voxel"),
        (EVERYTHING, "must leave part of what the image shows"),
        ((symmetric_head() > 0).astype(np.uint8), "must leave part of what the image shows"),
        (LEFT * texture(SHAPE, 1), "must be binary, one value besides 0; got values from"),
        (LEFT + 1 * (LEFT & (np.arange(80) > 50)), "must be binary"),
        (np.where(LEFT, np.nan, 0), "must be binary, .* got NaN"),
        (
            np.where(LEFT & (np.arange(80) > 50), np.nan, LEFT),
            "must be binary, .* from 1 to 1, and .* NaN or",
        ),
    ],
)
def test_masks_that_say_nothing_are_refused(mask, said):
    with pytest.raises(ImageValueError, match=f"lesion mask {said}"):
        itk_ncr.fill_lesion(placed(symmetric_head()), placed(mask), "smooth")


def test_calls_that_make_no_sense_are_refused():
    image, mask = placed(symmetric_head()), placed(LEFT)
    with pytest.raises(ArgumentError, match=r"kind must be one of smooth, .*; got 'pcs'"):
        itk_ncr.fill_lesion(image, mask, "pcs")
    with pytest.raises(ArgumentError, match="partner must be given with kind='partner'"):
        itk_ncr.fill_lesion(image, mask, "partner")
    with pytest.raises(ShapeError, match="lesion mask must be scalar with 2 axes"):
        itk_ncr.fill_lesion(image, placed(np.ones((4, 5, 6), np.uint8)), "smooth")
    with pytest.raises(ImageValueError, match="image must show something"):
        itk_ncr.fill_lesion(placed(np.full(SHAPE, 7.0)), mask, "mirror")
    with pytest.raises(RegistrationAborted):
        itk_ncr.fill_lesion(image, mask, "mirror", abort=lambda: True)


def test_intensities_on_the_rim_give_gain_and_offset_back():
    image = texture((40, 40), 2).astype(np.float32)
    around = surroundings(ball((40, 40), (20, 20), 6))
    match = match_on_rim((image - 0.3) / 1.25, image, around.rim)
    np.testing.assert_allclose((match.gain, match.offset), (1.25, 0.3), atol=1e-4)
    assert match_on_rim(image, image, around.rim & False).gain == 1


def test_a_fill_fades_over_two_voxels_outside_the_mask():
    mask = np.zeros((1, 12), bool)
    mask[0, 6:] = True
    faded = blended(np.zeros((1, 12)), np.ones((1, 12), np.float32), surroundings(mask).weight)
    np.testing.assert_allclose(faded[0, 2:8], [0, 0, 1 / 3, 2 / 3, 1, 1], atol=1e-6)


def enantiomorphic(fixed, moving, **options):
    return itk_ncr.register(fixed, moving, method="enantiomorphic", affine="none", **options)


def test_a_registration_of_the_filled_image_is_hardly_misled():
    healthy = symmetric_head()
    moving = placed(bend(healthy, 4, peak=2.0)[0])
    options = {"method": "instance", "affine": "none", "mask": "none"}
    truth = itk_ncr.register(placed(healthy), moving, **options)
    fixed, mask = placed(ill(healthy, LEFT)), placed(LEFT)
    unaware = itk_ncr.register(fixed, moving, **options)
    result = enantiomorphic(fixed, moving, lesion_mask=mask)

    def off(found):
        difference = found.displacement.array - truth.displacement.array
        return np.linalg.norm(difference, axis=-1)[LEFT].mean()

    assert off(result) < 0.35 * off(unaware)
    np.testing.assert_array_equal(result.noncorrespondence.array, LEFT)
    assert result.engine == "enantiomorphic"
    assert not result.finds_mask


def test_a_lesion_of_the_moving_image_is_filled_as_well():
    healthy = symmetric_head()
    fixed = placed(bend(healthy, 4, peak=2.0)[0])
    moving, mask = placed(ill(healthy, LEFT)), placed(LEFT)
    truth = enantiomorphic(fixed, placed(healthy), moving_lesion_mask=mask)
    result = enantiomorphic(fixed, moving, moving_lesion_mask=mask)
    difference = truth.displacement.array - result.displacement.array
    assert np.linalg.norm(difference, axis=-1).max() < 0.5
    assert result.noncorrespondence_moving.array[LEFT].all()


def test_a_lesion_across_the_middle_is_masked_instead():
    healthy, lesion = symmetric_head(), ball(SHAPE, (36, 40), 7)
    moving = placed(bend(healthy, 4, peak=2.0)[0])
    result = enantiomorphic(placed(ill(healthy, lesion)), moving, lesion_mask=placed(lesion))
    said = [w for w in result.warnings if "it was masked" in w]
    assert len(said) == 1
    assert said[0].startswith("no mirror fill of the fixed image:")
    np.testing.assert_array_equal(result.noncorrespondence.array, lesion)


def test_without_a_lesion_there_is_nothing_to_fill():
    image = placed(symmetric_head())
    with pytest.raises(ArgumentError, match="lesion_mask must be given with method='enantiomor"):
        enantiomorphic(image, image)
    with pytest.raises(ImageValueError, match="lesion mask must be binary"):
        enantiomorphic(image, image, lesion_mask=placed(texture(SHAPE, 1)))
