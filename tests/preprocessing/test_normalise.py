"""What an image shows, and on what scale, whatever its air, its unit and its padding are."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from itk_ncr.preprocessing import ScaledImage, Window, common_window, normalise

AIR, CSF, GREY, WHITE, FAT = 0.0, 30.0, 110.0, 170.0, 600.0
SHAPES = [(72, 64), (30, 36, 32)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])


def radius(shape, scale=1.0, shift=0.0):
    """Distance from the middle; 1 at 84 % of each half axis, times the scale."""
    axes = list(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    axes[-1] = axes[-1] - shift
    return np.sqrt(sum((a / (0.84 * scale)) ** 2 for a in axes))


def brain(shape, scale=1.0):
    """A stripped brain: fluid outside and in the ventricle, grey and white matter, air 0."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(shape), 1.5)
    folds = 0.2 * noise / np.abs(noise).max()
    r = radius(shape, scale)
    values = np.select(
        [r + folds < 0.25, r + folds < 0.65, r + folds < 0.92, r < 1], [CSF, WHITE, GREY, CSF], AIR
    )
    # Tissue is uneven, and its borders are soft: nothing but air has one value.
    soft = ndimage.gaussian_filter(values * (1 + 0.5 * folds), 0.7)
    return np.where((r < 1) & (soft > 6), soft + 3 * folds, AIR).astype(np.float32)


def noise(shape, deviation):
    return np.random.default_rng(1).normal(0, deviation, shape).astype(np.float32)


def head(shape):
    """A brain in a dark skull in a scalp of fat, brighter than all tissue and of a third."""
    r = radius(shape, 1.1)
    inner = brain(shape, 0.9)
    return np.where(inner > 0, inner, np.where((r > 0.9) & (r < 1), FAT, 3)).astype(np.float32)


def padded(image, value):
    return np.pad(image, 6, constant_values=value)


def inner(result):
    middle = (slice(6, -6),) * result.values.ndim
    return ScaledImage(result.values[middle], result.foreground[middle])


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


TWINS = {
    "noise": lambda image: image + noise(image.shape, 0.001 * WHITE),
    "noise of the air": lambda image: np.where(image > 0, image, noise(image.shape, 0.001 * WHITE)),
    "more noise": lambda image: image + noise(image.shape, 0.01 * WHITE),
    "rician": lambda image: np.hypot(
        image + noise(image.shape, 3), noise(image.shape[::-1], 3).reshape(image.shape)
    ),
    "offset": lambda image: image + 700,
    "negative offset": lambda image: image - 700,
    "gain": lambda image: image * 3e-4,
    "negative": lambda image: 255 - image,
    "air without values": lambda image: np.where(image > 0, image, np.nan),
    "air as padding": lambda image: np.where(image > 0, image, -2000),
}


@shapes
@pytest.mark.parametrize("kind", TWINS)
def test_air_and_unit_change_little(shape, kind) -> None:
    image = brain(shape)
    plain, twin = normalise(image), normalise(TWINS[kind](image).astype(np.float32))
    assert dice(plain.foreground, twin.foreground) >= 0.98
    # Noise in tissue stays; 1 % of white matter is 0.01 of the scale.
    assert np.abs(plain.values - twin.values)[plain.foreground].mean() < 0.02
    assert np.abs(plain.values - twin.values)[~plain.foreground].mean() < 0.002
    assert twin.notes == ()


@shapes
@pytest.mark.parametrize("value", [np.nan, np.inf, -2000, -1])
@pytest.mark.parametrize("make", [brain, head])
def test_padding_is_neither_object_nor_scale(shape, value, make) -> None:
    image = make(shape)
    plain, twin = normalise(image), normalise(padded(image, value))
    assert dice(plain.foreground, inner(twin).foreground) >= 0.98
    assert np.abs(plain.values - inner(twin).values).mean() < 0.005
    assert twin.foreground.sum() == inner(twin).foreground.sum()
    assert twin.values.sum() == pytest.approx(inner(twin).values.sum())


@shapes
@pytest.mark.parametrize("value", [np.nan, -2000])
def test_padding_around_a_head_that_leaves_little_air_changes_nothing(shape, value) -> None:
    tight = head(shape)[(slice(2, -2),) * len(shape)]
    tight += np.abs(noise(tight.shape, 1))
    plain, twin = normalise(tight), inner(normalise(padded(tight, value)))
    assert np.array_equal(plain.foreground, twin.foreground)
    assert np.array_equal(plain.values, twin.values)


@shapes
def test_a_stripped_brain_is_on_the_scale_that_networks_were_trained_on(shape) -> None:
    """Background 0, the brightest percent of the tissue cut off: so were all training images."""
    image = brain(shape)
    top = np.quantile(image[image > 0], 0.99)
    assert np.abs(normalise(image).values - np.clip(image / top, 0, 1.5)).max() < 0.02


@shapes
@pytest.mark.parametrize("air", [-1000, -1024])
@pytest.mark.parametrize("sd", [0.0, 4.0])
def test_ct_numbers_are_as_their_brain_window(shape, air, sd) -> None:
    image = brain(shape)
    numbers = np.where(image > 0, image / 4, air).astype(np.float32) + noise(shape, sd)
    ct, clipped = normalise(numbers), normalise(np.clip(numbers, 0, 80))
    assert dice(normalise(image).foreground, ct.foreground) >= 0.98
    assert np.abs(ct.values - clipped.values).mean() < 0.02
    assert ct.notes == ("looks like CT: numbers are cut to the brain window, 0 to 80.",)


@shapes
def test_ct_numbers_stored_with_an_offset_are_recognised(shape) -> None:
    image = brain(shape)
    numbers = np.where(image > 0, image / 4 + 1024, 0).astype(np.float32)
    stored = normalise(numbers)
    tissue = image > 0.7 * GREY
    contrast = np.ptp(np.quantile(stored.values[tissue], [0.1, 0.9]))
    assert contrast > 0.2
    assert stored.notes[0].startswith("looks like CT")


@pytest.mark.parametrize(
    ("inside", "size", "around", "window"),
    [(-100, 0.8, 40, "soft-tissue"), (-850, 0.6, 40, "chest"), (35, 0.9, 900, "brain")],
)
def test_the_window_of_a_ct_follows_what_it_shows(inside, size, around, window) -> None:
    shape = (48, 40)
    r = radius(shape)
    numbers = np.select([r < size, r < 1], [inside, around], -1000.0) + noise(shape, 5)
    (note,) = normalise(numbers).notes
    assert f"the {window} window" in note


TRUNKS = pytest.mark.parametrize("shape", [(96, 104), (10, 96, 104)], ids=["2d", "3d"])


def body(shape, around=50.0, cavity=-95.0, sd=10.0):
    """A trunk: skin of fat, muscle, an organ, a spine; air -1000."""
    r, organ, spine = (
        np.broadcast_to(radius(shape[-2:], scale, shift), shape)
        for scale, shift in ((1.0, 0.0), (0.3, 0.25), (0.15, -0.3))
    )
    places = [spine < 1, organ < 1, r < 0.6, r < 0.8, r < 1]
    values = np.select(places, [450, 60, cavity, around, -100])
    values = np.where(r < 1, values, -1000.0)
    return (ndimage.gaussian_filter(values, 0.6) + noise(shape, sd)).astype(np.float32)


@TRUNKS
@pytest.mark.parametrize(("cavity", "window"), [(-95, "soft-tissue"), (-850, "chest")])
@pytest.mark.parametrize("offset", [1000, 1024])
def test_a_body_stored_with_an_offset_has_the_window_of_its_ct_numbers(
    shape, cavity, window, offset
) -> None:
    numbers = body(shape, cavity=cavity)
    plain, stored = normalise(numbers), normalise(np.maximum(numbers + offset, 0))
    assert f"the {window} window" in plain.notes[0]
    assert f"the {window} window" in stored.notes[0]
    assert dice(plain.foreground, stored.foreground) > 0.98
    # Clipped air is off by half its noise, some 5 of 400 HU.
    assert np.abs(plain.values - stored.values).mean() < 0.02


@TRUNKS
def test_metal_and_padding_change_nothing_in_a_ct(shape) -> None:
    numbers = body(shape)
    plain = normalise(numbers)
    twin = numbers.copy()
    middle = tuple(slice(n // 2, n // 2 + 3) for n in shape)
    twin[middle] = 3071
    outside = np.ones(shape, bool)
    outside[..., 2:-2, 2:-2] = False
    for padding in (np.nan, -2000, -3024):
        twin[outside] = padding
        other = normalise(twin)
        twin_values = np.where(np.isclose(twin, 3071), plain.values, other.values)
        assert np.abs(plain.values - twin_values).mean() < 0.002
        assert dice(plain.foreground, other.foreground) > 0.99


@shapes
def test_metal_in_a_brain_on_even_air_is_not_the_object(shape) -> None:
    image = brain(shape)
    numbers = np.where(image > 0, 30 + image / 20, -1000).astype(np.float32)
    plain = normalise(numbers)
    middle = tuple(slice(n // 2, n // 2 + 3) for n in shape)
    numbers[middle] = 3071
    found = normalise(numbers)
    assert found.window is not None
    assert np.array_equal(found.foreground, plain.foreground)


@TRUNKS
def test_a_crop_within_a_ct_has_its_window(shape) -> None:
    crop = body(shape)[..., 22:-22, 22:-22]
    scaled = normalise(crop)
    assert "the soft-tissue window" in scaled.notes[0]
    assert scaled.foreground.all()


@shapes
@pytest.mark.parametrize("unit", [3.0, 6.0, 9.0, 12.0])
def test_an_mr_image_in_the_range_of_ct_numbers_is_none(shape, unit) -> None:
    assert normalise(unit * brain(shape)).window is None


def test_two_ct_images_share_one_window() -> None:
    """What the two show together decides, whichever is fixed."""
    head = Window("brain", 0.0, (30.0,) * 100)
    trunk = Window("soft-tissue", 0.0, (-100.0,) * 60 + (50.0,) * 40)
    assert common_window(head, trunk) == common_window(trunk, head) == "soft-tissue"
    assert common_window(head, head) == "brain"


@shapes
def test_bright_fat_does_not_press_the_brain_into_the_dark(shape) -> None:
    image = head(shape)
    scaled = normalise(image)
    matter = (image > 0.8 * GREY) & (image < 1.2 * WHITE)
    assert np.median(scaled.values[matter]) > 0.3
    assert scaled.values.max() <= 1.5
    # Skull and fluid are inside the head.
    assert dice(scaled.foreground, radius(shape, 1.1) < 1) > 0.95


@shapes
def test_a_hole_in_the_object_belongs_to_it(shape) -> None:
    image = brain(shape)
    hole = radius(shape, 0.3, shift=0.3) < 1
    with_hole = np.where(hole, AIR, image)
    assert normalise(with_hole).foreground[hole].all()


@shapes
def test_faint_ghosts_and_small_things_in_the_air_are_not_the_object(shape) -> None:
    image = brain(shape, 0.6)
    ghost = np.where(image > 0, image, 0.05 * GREY * (np.indices(shape)[-1] % 9 < 4))
    ghost[(slice(1, 4),) * len(shape)] = WHITE
    found = normalise(ghost.astype(np.float32)).foreground
    assert dice(found, normalise(image).foreground) > 0.9
    assert not found[(slice(1, 4),) * len(shape)].any()


def test_two_separate_halves_are_both_the_object() -> None:
    image = brain((60, 80))
    image[:, 38:43] = AIR
    found = normalise(image).foreground
    assert found[:, :38].any()
    assert found[:, 43:].any()


@pytest.mark.parametrize("negative", [False, True])
def test_tissue_that_fills_the_image_is_all_object(negative) -> None:
    """A crop of a brain: fluid is dark and touches the border, but is not air."""
    image = ndimage.zoom(brain((72, 64))[20:52, 14:50], 2, order=1) + noise((64, 72), 2)
    assert normalise(-image if negative else image).foreground.all()


def test_saturated_fluid_at_the_border_of_a_crop_is_not_a_background() -> None:
    crop = np.where(brain((72, 64))[26:60, 14:50] > 60, 100.0, 400.0)
    crop[:, :7] = 400
    crop = ndimage.gaussian_filter(crop, 0.7) + noise(crop.shape, 15)
    assert normalise(np.minimum(crop, 255).astype(np.float32)).foreground.all()


def test_speckle_above_a_retina_is_not_air() -> None:
    rows = np.linspace(0, 1, 96)[:, None] * np.ones((1, 128))
    bright = np.where((rows > 0.4) & (rows < 0.7), 110, 30)
    speckle = np.random.default_rng(3).gamma(9, 1 / 9, rows.shape)
    assert normalise((bright * speckle).astype(np.float32)).foreground.all()


def test_stained_tissue_on_white_is_the_object_and_bright() -> None:
    r = radius((72, 96), 0.8)
    tissue = 120 + 40 * ndimage.gaussian_filter(noise(r.shape, 5), 2)
    slide = np.where(r < 1, np.clip(tissue, 60, 200), 243) + noise(r.shape, 1.5)
    scaled = normalise(slide)
    assert dice(scaled.foreground, r < 1) > 0.95
    assert scaled.values[r > 1.1].max() == 0
    assert np.median(scaled.values[r < 1]) > 0.4


def test_few_bright_voxels_in_a_black_image_are_the_object() -> None:
    image = np.zeros((40, 40), np.float32)
    image[20:22, 19:22] = [[3, 9, 4], [2, 8, 5]]
    assert normalise(image).foreground.sum() == 6


@pytest.mark.parametrize("shape", [(1, 40, 36), (40, 1, 36), (40, 36)])
def test_one_slice_is_the_same_in_two_and_in_three_dimensions(shape) -> None:
    image = brain((40, 36))
    image[18:22, 16:20] = 0
    flat, slab = normalise(image), normalise(image.reshape(shape))
    assert np.array_equal(flat.foreground.ravel(), slab.foreground.ravel())
    assert np.array_equal(flat.values.ravel(), slab.values.ravel())


def test_threads_change_no_bit() -> None:
    image = head((30, 36, 32)) + noise((30, 36, 32), 2)
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    results = []
    for count in (1, 3):
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
        results.append(normalise(image))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    one, other = results
    assert one.values.tobytes() == other.values.tobytes()
    assert one.foreground.tobytes() == other.foreground.tobytes()
