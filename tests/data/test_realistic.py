"""Realistic lesions: truth fits the image, levels are as stated, the rest is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt, uniform_filter

import itk_ncr
from itk_ncr.data import CONTRASTS, LESION_MODELS, Placement, make_phantom, random_lesion
from itk_ncr.data.phantoms.models import landmarks
from itk_ncr.errors import ArgumentError, ShapeError
from tests.data.conftest import seeded

SHAPES = {"2D": (80, 72), "3D": (40, 44, 42)}
SPACING = {"2D": 2.0, "3D": 3.5}
NOISE = 0.02


def head(dimension: str, *, even: bool = False) -> tuple[torch.Tensor, torch.Tensor, Placement]:
    """A ball with white matter of 0.8, a cortex of 0.6, a ventricle of 0.25 and noise."""
    shape, spacing = SHAPES[dimension], SPACING[dimension]
    axes = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * spacing for n in shape], indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    inside = radius < 66
    values = np.where(radius < 56, 0.8, 0.6)
    # A twelfth of it all.
    values[radius < (19 if dimension == "2D" else 29)] = 0.25
    if even:
        values[:] = 0.7
    values += NOISE * np.random.default_rng(0).standard_normal(shape)
    image = torch.from_numpy(np.where(inside, values, 0).astype(np.float32))[None]
    grid = itk_ncr.Grid.of_array(shape, (spacing,) * len(shape))
    return image, torch.from_numpy(inside), Placement.of(grid)


CASES = pytest.mark.parametrize("dimension", SHAPES)
KINDS = pytest.mark.parametrize("kind", LESION_MODELS)


@CASES
@KINDS
def test_what_is_called_affected_is_where_the_image_changed_beyond_noise(dimension, kind):
    image, inside, placement = head(dimension)
    made = random_lesion(image, inside, placement, seeded(3), kind=kind, size_ml=(20, 60))
    before = image
    if made.displacement is not None:
        before = itk_ncr.ops.warp(image[None], made.displacement)[0]
    # Means of 3 voxels: of noise alone they stay below this.
    change = uniform_filter((made.image - before)[0].numpy(), 3)
    far = distance_transform_edt(~made.affected.numpy()) > 2
    assert np.abs(change[far & inside.numpy()]).max() < 4 * NOISE
    # A solid tumour looks like grey matter, so that some of it cannot be told from cortex.
    seen = np.abs(change[made.affected.numpy()]) > NOISE
    assert seen.mean() > (0.3 if kind == "isointense" else 0.6)
    assert (made.affected | ~made.mask).all()


@CASES
@KINDS
def test_the_background_stays_and_tissue_never_becomes_background(dimension, kind):
    image, inside, placement = head(dimension)
    for seed in range(3):
        made = random_lesion(image, inside, placement, seeded(seed), kind=kind)
        assert torch.equal(made.image[0][~inside], image[0][~inside])
        assert (made.image[0][inside] > 0).all()
        assert made.image.max() <= 1.5
        assert not (made.affected & ~inside).any()
        assert made.mask.any()


@CASES
def test_the_same_generator_draws_the_same_lesion_and_another_one_does_not(dimension):
    image, inside, placement = head(dimension)
    one, same, other = (random_lesion(image, inside, placement, seeded(s)) for s in (8, 8, 9))
    assert torch.equal(one.image, same.image)
    assert torch.equal(one.mask, same.mask)
    assert one.kind == same.kind
    assert not torch.equal(one.mask, other.mask)


@CASES
def test_nothing_changes_far_away_where_nothing_is_pushed(dimension):
    image, inside, placement = head(dimension)
    for kind in ("spots", "infarct", "cavity", "isointense"):
        for seed in range(4):
            made = random_lesion(image, inside, placement, seeded(seed), kind=kind, size_ml=(3, 10))
            changed = (made.image != image)[0].numpy()
            mm = distance_transform_edt(~made.mask.numpy()) * SPACING[dimension]
            # Soft edges end at four sigmas, a halo at twice its width, a push at 2.4 radii.
            limit = 20 if made.displacement is None else 60
            assert mm[changed].max() < limit


@CASES
@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("kind", ["cyst", "infarct", "haemorrhage", "isointense", "oedema"])
def test_the_inside_has_the_intensity_that_the_model_states(dimension, contrast, kind):
    image, inside, placement = head(dimension, even=True)
    marks = landmarks(image, inside, contrast)
    level = CONTRASTS[contrast][LESION_MODELS[kind].core]
    reference = 0.7 if level.of == "tissue" else marks.of(level.of)
    means = []
    for seed in range(3):
        made = random_lesion(
            image, inside, placement, seeded(seed), kind=kind, contrast=contrast, size_ml=(60, 120)
        )
        depth = distance_transform_edt(made.mask.numpy()) * SPACING[dimension]
        deep = torch.from_numpy(depth > 0.7 * depth.max())
        means.append(float(made.image[0][deep].mean()) / reference)
    low, high = level.share
    # Texture of up to 15 %, averaged over the middle; edges of up to 5 mm sigma reach into it.
    top = min(high, 1.5 / reference)
    assert all(0.85 * low - 0.12 < m < 1.15 * top + 0.12 for m in means), means
    assert max(means) - min(means) > 0.005


def test_a_tumour_is_a_dark_core_in_a_bright_ring_in_darker_tissue():
    image, inside, placement = head("3D")
    rings = 0
    for seed in range(5):
        made = random_lesion(
            image, inside, placement, seeded(seed), kind="tumour", contrast="t1", size_ml=(60, 120)
        )
        values = made.image[0].numpy()
        depth = distance_transform_edt(made.mask.numpy())
        assert values[depth > 0.8 * depth.max()].mean() < 0.5
        white = (image[0] > 0.7).numpy() & (distance_transform_edt(depth == 0) > 1.5)
        around = made.affected.numpy() & white
        assert around.sum() > 100
        # Healthy: 0.8. Oedema fades outwards.
        assert values[around].mean() < 0.76
        rings += values[(depth > 0) & (depth <= 1)].mean() > 0.7
    # Four of five tumours have a ring.
    assert rings >= 2


@CASES
def test_fluid_is_as_noisy_as_the_image(dimension):
    image, inside, placement = head(dimension, even=True)
    levels = []
    for seed in range(4):
        made = random_lesion(
            image, inside, placement, seeded(seed), kind="cyst", contrast="t1", size_ml=(60, 120)
        )
        deep = distance_transform_edt(made.mask.numpy()) > 3
        values = made.image[0].numpy()
        rough = values - uniform_filter(values, 3)
        levels.append(rough[deep].std())
    whole = image[0].numpy()
    expected = (whole - uniform_filter(whole, 3))[inside.numpy()]
    middle = np.quantile(np.abs(expected), 0.68)
    assert np.mean(levels) == pytest.approx(middle, rel=0.3)


@CASES
def test_a_push_is_invertible_away_from_the_lesion_and_keeps_the_outline(dimension):
    image, inside, placement = head(dimension)
    pushed = 0
    for seed in range(6):
        made = random_lesion(
            image, inside, placement, seeded(seed), kind="tumour", size_ml=(30, 120)
        )
        if made.displacement is None:
            continue
        pushed += 1
        assert float(itk_ncr.ops.jacobian_determinant(made.displacement).min()) > 0
        rim = distance_transform_edt(inside.numpy()) <= 1.0
        length = made.displacement.square().sum(1).sqrt()[0].numpy()
        assert length[rim & inside.numpy()].max() < 1.2
        # Tissue next to the lesion comes from nearer to its middle.
        centre = torch.nonzero(made.mask).float().mean(0)
        place = torch.nonzero(torch.from_numpy(length > 0.7 * length.max())).T
        towards = centre[:, None] - place
        flow = made.displacement[0][(slice(None), *place)]
        assert float((towards * flow).sum(0).mean()) > 0
    assert pushed >= 3


def test_sizes_span_the_range_that_is_asked_for():
    image, inside, placement = head("3D")
    voxel = SPACING["3D"] ** 3 / 1000
    for seed in range(3):
        small = random_lesion(image, inside, placement, seeded(seed), size_ml=(0.5, 1))
        huge = random_lesion(image, inside, placement, seeded(seed), size_ml=(100, 150))
        assert 0.2 <= float(small.mask.sum()) * voxel <= 1.1
        # Pieces may overlap.
        assert 30 <= float(huge.mask.sum()) * voxel <= 151


@pytest.mark.parametrize(
    ("contrast", "levels"),
    # Fluid, grey and white matter: IXI in T1, a glioma in T2, multiple sclerosis in FLAIR.
    [("t1", (0.27, 0.6, 0.8)), ("t2", (1.0, 0.6, 0.45)), ("flair", (0.2, 0.8, 0.72))],
)
def test_a_contrast_is_told_by_its_histogram(contrast, levels):
    random = np.random.default_rng(0)
    tissue = random.choice(levels, 20_000, p=(0.1, 0.45, 0.45)).astype(np.float32)
    tissue += (0.03 * random.standard_normal(20_000)).astype(np.float32)
    image = torch.from_numpy(tissue).view(1, 200, 100)
    assert landmarks(image, torch.ones(200, 100, dtype=torch.bool)).contrast == contrast


def test_what_does_not_fit_is_refused_in_one_line():
    image, inside, placement = head("2D")
    with pytest.raises(ArgumentError, match="kind must be one of cavity"):
        random_lesion(image, inside, placement, seeded(0), kind="hole")
    with pytest.raises(ArgumentError, match="contrast must be one of t1"):
        random_lesion(image, inside, placement, seeded(0), contrast="pd")
    with pytest.raises(ArgumentError, match="inside must hold a voxel"):
        random_lesion(image, inside & False, placement, seeded(0))
    with pytest.raises(ShapeError, match="inside must have the shape"):
        random_lesion(image, inside[1:], placement, seeded(0))


def test_a_small_specimen_gets_lesions_in_proportion():
    image, inside, _ = head("2D")
    tiny = Placement.of(itk_ncr.Grid.of_array(SHAPES["2D"], (0.01, 0.01)))
    made = random_lesion(image, inside, tiny, seeded(1), kind="cyst", size_ml=(30, 60))
    share = float(made.mask.sum()) / float(inside.sum())
    assert 0.05 < share < 0.25


def test_a_model_is_inserted_into_an_image_of_any_type_with_its_displacement():
    image, inside, _ = head("3D")
    grid = itk_ncr.Grid.of_array(SHAPES["3D"], (3.5, 3.5, 3.5))
    healthy = itk_ncr.Image((400 * image[0].numpy()).astype(np.int16), grid)
    made = make_phantom(
        healthy, "tumour", seeded(2), size_mm=40_000, mass_effect_mm=5, contrast="t1"
    )
    assert made.image.array.dtype == np.int16
    assert made.lesion.array.sum() * 3.5**3 == pytest.approx(40_000, rel=0.01)
    assert made.affected is not None
    assert (made.affected.array >= made.lesion.array).all()
    assert made.displacement is not None
    longest = np.linalg.norm(made.displacement.array, axis=-1).max()
    assert 3 < longest < 6
    outside = ~inside.numpy()
    np.testing.assert_array_equal(made.image.array[outside], healthy.array[outside])
    # Beyond twice the widest halo, the image is the healthy one through the displacement.
    moved = itk_ncr.images.resample(healthy, grid, displacement=made.displacement).array
    far = distance_transform_edt(made.lesion.array == 0) * 3.5 > 40
    assert far[inside.numpy()].sum() > 1000
    assert np.abs(made.image.array - moved)[far & inside.numpy()].max() <= 1
    still = make_phantom(healthy, "tumour", seeded(2), size_mm=40_000, mass_effect_mm=0)
    assert still.displacement is None


def test_realistic_draws_several_models():
    image, _, _ = head("2D")
    healthy = itk_ncr.Image(image[0].numpy(), itk_ncr.Grid.of_array(SHAPES["2D"], (2.0, 2.0)))
    kinds = {make_phantom(healthy, "realistic", seeded(s)).kind for s in range(12)}
    assert len(kinds) >= 4
    assert kinds <= set(LESION_MODELS)
    with pytest.raises(ArgumentError, match="contrast must be one of t1, t2, flair"):
        make_phantom(healthy, "cavity", seeded(0), contrast="pd")
