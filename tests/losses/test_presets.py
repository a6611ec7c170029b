"""The conversions against numbers worked out by hand, and against the published formula itself."""

import math

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.losses import (
    PRESETS,
    PUBLISHED,
    Functional,
    smoothness,
)


def test_there_are_three_and_each_says_where_it_comes_from():
    assert set(PRESETS) == set(PUBLISHED) == {"oct", "mri-2d", "mri-3d"}
    for weights in PUBLISHED.values():
        assert weights.source.startswith("doi:10.1007/")
        assert weights.remark


@pytest.mark.parametrize(
    ("name", "alpha", "tau", "kappa", "overlap", "similarity"),
    [
        ("oct", 0.0085, 0.0457, 0.0229, 0.4, "mse"),
        ("mri-2d", 0.042, 0.051, 0.020, 1.0, "ncc"),
        ("mri-3d", 4.0, 0.02, 0.006, 1.0, "ncc"),
    ],
)
def test_canonical_weights_are_those_of_the_dossier(name, alpha, tau, kappa, overlap, similarity):
    settings = PRESETS[name]
    assert_close(settings.alpha, alpha, rtol=0.02, atol=0)
    assert_close(settings.tau, tau, rtol=0.005, atol=0)
    assert_close(settings.kappa, kappa, rtol=0.005, atol=0)
    assert settings.lam == overlap
    assert settings.similarity == similarity


def test_level_weights_fall_and_sum_to_one():
    for settings in PRESETS.values():
        assert math.isclose(sum(settings.level_weights), 1.0)
        assert list(settings.level_weights) == sorted(settings.level_weights, reverse=True)


def test_alpha_of_each_axis_is_that_of_the_dossier():
    assert_close(PUBLISHED["oct"].alpha_per_axis(), (0.0065, 0.0108), rtol=0.005, atol=0)
    assert_close(PUBLISHED["mri-2d"].alpha_per_axis(), (0.036, 0.049), rtol=0.005, atol=0)
    assert PUBLISHED["mri-3d"].alpha_per_axis() == (4.0,)


def test_alpha_per_axis_reproduces_the_published_smoother():
    # As released: a field in coordinates from -1 to 1, squared forward differences in pixels,
    # summed over components and rows, averaged over columns.
    weights = PUBLISHED["oct"]
    height, width = weights.normalised_grid
    generator = torch.Generator().manual_seed(0)
    voxels = torch.rand(1, 2, height, width, generator=generator, dtype=torch.float64)
    scale = torch.tensor([2 / (height - 1), 2 / (width - 1)], dtype=torch.float64)
    normalised = voxels * scale.view(1, 2, 1, 1)
    released = sum(normalised.diff(dim=axis).square().sum() / width for axis in (2, 3))
    ours = smoothness(voxels, component_weights=weights.alpha_per_axis())
    assert_close(ours[0], weights.alpha * released)


def flips(settings, moved, fixed):
    """Where the functional would rather mask, from nothing masked; kappa = 0."""
    free = Functional(**(settings.__dict__ | {"kappa": 0.0}))
    mask = torch.zeros_like(fixed).requires_grad_()
    field = torch.zeros(1, fixed.ndim - 2, *fixed.shape[2:], dtype=fixed.dtype)
    free(moved, fixed, field, mask).total.sum().backward()
    return mask.grad < 0


def test_oct_masks_from_a_difference_of_214_thousandths_of_the_range():
    difference = torch.linspace(0, 1, 20001, dtype=torch.float64).view(1, 1, 1, -1)
    masked = flips(PRESETS["oct"], 0.5 * difference, -0.5 * difference)
    assert_close(difference[masked].min().item(), 0.2138, rtol=0, atol=0.0005)
    assert masked[difference > 0.2144].all()


@pytest.mark.parametrize(("name", "threshold"), [("mri-3d", 0.1414), ("mri-2d", 0.226)])
def test_mri_masks_from_a_share_of_the_root_mean_square(name, threshold):
    # One unlike voxel among many alike: NCC is 1 but for it, and g = r^2 / (N RMS^2).
    fixed = 0.5 + torch.rand(1, 1, 24, 24, 24, dtype=torch.float64)
    settings = PRESETS[name]
    rms = fixed.square().mean().sqrt()
    for share in (threshold * 0.99, threshold * 1.01):
        moved = fixed.clone()
        moved[0, 0, 12, 12, 12] += share * rms
        assert flips(settings, moved, fixed)[0, 0, 12, 12, 12] == (share > threshold)
        assert flips(settings, moved, fixed).sum() == (share > threshold)
    assert_close(math.sqrt(settings.tau), threshold, rtol=0, atol=0.0005)


def test_the_smallest_square_that_pays_is_as_the_dossier_computes():
    # a k x k square is masked when its mean evidence exceeds tau (1 + 4 kappa / (k tau)); the
    # dossier's perimeter counts the two-voxel Sobel edge, so its factor is 8 for its 4 here
    functional, k = PRESETS["oct"], 4
    mask = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
    mask[..., 18:22, 18:22] = 1
    price = 1 + 4 * functional.kappa / (k * functional.tau)
    field = torch.zeros(1, 2, 40, 40, dtype=torch.float64)
    for share, pays in ((0.85, False), (1.02, True)):
        moved = mask * math.sqrt(share * price * functional.tau)
        unmasked = functional(moved, 0 * mask, field).total
        masked = functional(moved, 0 * mask, field, mask).total
        assert (masked < unmasked) == pays
