"""The pre-alignment on small synthetic heads: right by default, and what it recognises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, read_image, resample
from itk_ncr.preprocessing import normalise
from itk_ncr.registration import GivenMasks
from itk_ncr.registration.affine import AffineSettings, Alignment, View, align, overlap
from itk_ncr.settings import RegistrationSettings

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
SIZE = 96
GRID = Grid.of_array((SIZE, SIZE), spacing=2.0)
# What each tissue looks like: (air, scalp, skull, fluid, grey, white).
T1 = (0.0, 1.0, 0.1, 0.25, 0.6, 0.9)
T2 = (0.0, 0.9, 0.1, 1.0, 0.6, 0.4)
INVERTED = (0.0, 0.1, 0.9, 0.75, 0.4, 0.1)


def tissues(seed: int = 0) -> NDArray[np.int_]:
    """A slice of a head that is the same nowhere twice: folds, ventricles, skull and scalp."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    angle = np.arctan2(y, 0.8 * x)
    radius = np.hypot(y, 1.25 * x + 0.02 * y)
    rng = np.random.default_rng(seed)
    folds = sum(
        rng.uniform(0.5, 1.2) * np.sin(k * angle + rng.uniform(0, 6)) for k in (3, 5, 8, 11)
    )
    labels = np.zeros((SIZE, SIZE), int)
    labels[radius < 43] = 1
    labels[radius < 38] = 2
    labels[radius < 34] = 3
    labels[radius < 32 + 0.5 * folds] = 4
    labels[radius < 25 + 1.5 * folds] = 5
    for side in (-1, 1):
        labels[np.hypot((y - 2) / 2.2, x - side * 4.5) < 4] = 3
        labels[np.hypot(y + 4, x - side * 13) < 4] = 4
    return labels


def head(contrast: tuple[float, ...], labels: NDArray[np.int_], noise: float = 0.02) -> Image:
    """The slice in a contrast; air is 0."""
    values = np.asarray(contrast)[labels]
    values = values + noise * np.random.default_rng(1).standard_normal(values.shape)
    return Image(np.where(labels > 0, values.clip(0.01), 0).astype(np.float32), GRID)


def brain(contrast: tuple[float, ...], labels: NDArray[np.int_]) -> Image:
    """The same without skull and scalp."""
    return head(contrast, np.where(labels >= 3, labels, 0))


def motion(degrees: float, shift: tuple[float, float], scale: float = 1.0) -> AffineMap:
    """A similarity about the middle of the grid."""
    a = np.radians(degrees)
    matrix = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return AffineMap(
        tuple(map(tuple, matrix)), tuple(GRID.centre - matrix @ GRID.centre + np.asarray(shift))
    )


def moved(image: Image, truth: AffineMap) -> Image:
    """The image whose alignment to ``image`` is ``truth``."""
    return resample(image, image.grid, affine=truth.inverse())


def found(fixed: Image, moving: Image, **options: object) -> Alignment:
    views = []
    for image in (fixed, moving):
        scaled = normalise(image.array)
        views.append(View(Image(scaled.values, image.grid), scaled.foreground))
    return align(*views, **options)  # type: ignore[arg-type]


def error(affine: AffineMap, truth: AffineMap, among: NDArray[np.bool_]) -> float:
    """Largest distance over some pixels, in pixels."""
    points = GRID.points()[among]
    return float(np.linalg.norm(affine(points) - truth(points), axis=-1).max() / 2.0)


@pytest.mark.parametrize("contrast", [T1, T2, INVERTED])
@pytest.mark.parametrize(("degrees", "shift"), [(25, (10, -6)), (-40, (-20, 15)), (0, (40, 0))])
def test_a_head_is_found_whatever_the_contrast(contrast, degrees, shift):
    labels = tissues()
    truth = motion(degrees, shift, 1.05)
    result = found(head(T1, labels), moved(head(contrast, labels), truth))
    assert error(result.affine, truth, labels > 0) < 1.0
    assert result.contrasts == ("one" if contrast is T1 else "two")
    assert result.stripped is None


@pytest.mark.parametrize("whole", ["fixed", "moving"])
def test_a_brain_is_found_in_a_whole_head_and_recognised(whole):
    labels = tissues()
    truth = motion(12, (8, -6), 1.1)
    both = (head(T1, labels), brain(T1, labels))
    fixed, moving = both if whole == "fixed" else both[::-1]
    result = found(fixed, moved(moving, truth))
    assert result.stripped == ("moving" if whole == "fixed" else "fixed")
    assert error(result.affine, truth, labels >= 3) < 1.0


def test_a_strip_of_an_image_stays_where_it_is():
    labels = tissues()
    image = head(T1, labels)
    strip = Image(image.array[40:56], GRID.cropped((40, 0), (16, SIZE)))
    for fixed, moving in ((image, strip), (strip, image)):
        result = found(fixed, moving)
        assert error(result.affine, AffineMap.identity(2), labels > 0) < 0.2
        assert result.stripped is None


@pytest.mark.parametrize("value", [0.05, 1.3])
def test_a_huge_lesion_is_not_another_contrast(value):
    labels = tissues()
    ill = head(T1, labels).array.copy()
    rows, columns = np.indices(ill.shape)
    ill[(np.hypot(rows - 44, columns - 64) < 14) & (labels >= 3)] = value
    truth = motion(8, (4, -6))
    result = found(Image(ill, GRID), moved(head(T1, labels), truth))
    assert result.contrasts == "one"
    assert error(result.affine, truth, labels > 0) < 1.5


@pytest.mark.parametrize("height", [30, 42, 54, 66])
def test_slices_of_two_persons_are_of_one_contrast_until_one_is_inverted(height):
    """Anatomy that differs is as often brighter as it is darker."""
    slices = []
    for name in ("fixed_t1", "moving_t1"):
        volume = read_image(EXAMPLES / f"{name}.nii.gz")
        index = round(height / 96 * (volume.array.shape[0] - 1))
        array = volume.array[index].astype(np.float32)
        slices.append(Image(array, Grid.of_array(array.shape, volume.grid.spacing[:2])))
    fixed, moving = slices
    assert found(fixed, moving).contrasts == "one"
    inverted = np.where(moving.array > 0, 1.05 * moving.array.max() - moving.array, 0)
    assert found(fixed, Image(inverted.astype(np.float32), moving.grid)).contrasts == "two"


def test_a_masked_region_has_no_say():
    labels = tissues()
    truth = motion(6, (8, 0))
    moving = moved(head(T1, labels), truth)
    # A second head that lies where it should not, beside which the true one is faint.
    decoy = head(T1, labels).array
    fixed = 0.3 * decoy
    region = np.zeros(decoy.shape, bool)
    region[:, 52:] = True
    fixed[region] = 3 * np.roll(decoy, -14, 0)[region]
    scaled = [normalise(a) for a in (fixed, moving.array)]
    views = [
        View(Image(scaled[0].values, GRID), scaled[0].foreground, ~region),
        View(Image(scaled[1].values, GRID), scaled[1].foreground),
    ]
    told = align(*views).affine
    blind = align(View(views[0].values, views[0].foreground), views[1]).affine
    among = (labels > 0) & ~region
    assert error(told, truth, among) < 1.0 < error(blind, truth, among)


def test_without_shear_axes_stay_at_right_angles():
    labels = tissues()
    shear = AffineMap(((1.0, 0.25), (0.0, 1.0)), (-20.0, 0.0))
    pair = head(T1, labels), moved(head(T1, labels), shear)
    free = np.asarray(found(*pair).affine.matrix)
    rigid = np.asarray(found(*pair, settings=AffineSettings(shear=False)).affine.matrix)
    assert abs(free[:, 0] @ free[:, 1]) > 0.15
    # Turn and scale are applied in one step, which is exact to second order.
    assert abs(rigid[:, 0] @ rigid[:, 1]) < 0.01


def test_nothing_better_than_the_start_leaves_the_start():
    image = head(T1, tissues())
    assert found(image, image).affine == AffineMap.identity(2)


def test_the_overlap_is_that_of_the_foreground():
    among = np.zeros(GRID.shape, bool)
    among[:, :48] = True
    half = GRID.cropped((0, 0), (SIZE, 48))
    assert overlap(AffineMap.identity(2), GRID, half, among) == 1.0
    assert overlap(AffineMap.identity(2), GRID, half) == pytest.approx(0.5)


def test_masks_of_both_images_are_checked_like_images():
    masks = GivenMasks(moving_roi=head(T1, tissues()))
    assert len(masks.all()) == 4
    assert RegistrationSettings().preset == "auto"
