"""The formulas against slow loops, numpy's own statistics and brute force."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError
from itk_ncr.losses import (
    LocalNCC,
    local_ncc,
    masked_mse,
    masked_ncc,
    mind,
    mind_descriptor,
)

masked_centred_ncc = partial(masked_ncc, centred=True)


def saving(similarity, moved, fixed, weight):
    """N times what masking a voxel saves, to first order."""
    weight = weight.clone().requires_grad_()
    (found,) = torch.autograd.grad(similarity(moved, fixed, weight).sum(), weight)
    return found * weight.numel()


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mse_against_a_loop_over_channels_and_voxels():
    moved, fixed, weight = (
        random(1, 2, 3, 4),
        random(1, 2, 3, 4, seed=1),
        random(1, 1, 3, 4, seed=2),
    )
    total = 0.0
    for c, y, x in itertools.product(range(2), range(3), range(4)):
        total += float(weight[0, 0, y, x] * (moved[0, c, y, x] - fixed[0, c, y, x]) ** 2)
    assert_close(masked_mse(moved, fixed, weight).item(), total / (2 * 3 * 4))


def test_a_foreground_of_a_rectangle_is_a_crop():
    moved, fixed = random(1, 1, 8, 9), random(1, 1, 8, 9, seed=1)
    inside = torch.zeros_like(fixed)
    inside[..., 2:7, 3:6] = 1
    crop = (..., slice(2, 7), slice(3, 6))
    for similarity in (masked_mse, masked_ncc, masked_centred_ncc):
        assert_close(
            similarity(moved, fixed, foreground=inside), similarity(moved[crop], fixed[crop])
        )


def test_centred_ncc_is_one_minus_the_squared_correlation_coefficient_of_numpy():
    moved, fixed, weight = (
        random(1, 1, 6, 7),
        random(1, 1, 6, 7, seed=1),
        random(1, 1, 6, 7, seed=2),
    )
    flat = [t.numpy().ravel() for t in (moved, fixed, weight)]
    c = np.cov(flat[0], flat[1], aweights=flat[2])
    expected = 1 - c[0, 1] ** 2 / (c[0, 0] * c[1, 1])
    assert_close(masked_centred_ncc(moved, fixed, weight, eps=1e-12).item(), expected)


def test_published_ncc_is_one_minus_the_squared_cosine():
    moved, fixed = random(1, 1, 6, 7), random(1, 1, 6, 7, seed=1)
    a, b = moved.numpy().ravel(), fixed.numpy().ravel()
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert_close(masked_ncc(moved, fixed, eps=1e-12).item(), 1 - cosine**2)
    # by hand with its eps: sums 2, 4 and 1 of one voxel each
    one = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 1.0)
    assert_close(masked_ncc(*one, eps=0.5), torch.tensor([1 - 4.5 / 4.5]))
    crossed = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    assert_close(masked_ncc(*crossed, eps=0.5), torch.tensor([1 - 0.5 / 1.5]))


@pytest.mark.parametrize("shape", [(7, 6), (5, 4, 6)])
def test_local_ncc_against_a_loop_over_windows_with_numpys_weighted_covariance(shape):
    moved, fixed = random(1, 1, *shape), random(1, 1, *shape, seed=1)
    weight = random(1, 1, *shape, seed=2)
    weight[weight < 0.5] = 0
    radius, noise, eps = 1, 0.1, 1e-3
    m, f, w = (t[0, 0].numpy() for t in (moved, fixed, weight))
    expected, seen = np.zeros(shape), 0
    for centre in np.ndindex(*shape):
        window = tuple(slice(max(p - radius, 0), p + radius + 1) for p in centre)
        weights = w[window].ravel()
        if weights.sum() == 0:
            continue
        seen += 1
        mean_m, mean_f = (np.average(i[window].ravel(), weights=weights) for i in (m, f))
        dm, df = m[window].ravel() - mean_m, f[window].ravel() - mean_f
        vm, vf, c = ((weights * p).sum() / weights.sum() for p in (dm * dm, df * df, dm * df))
        expected[centre] = vf / (vf + noise**2) * (1 - c**2 / (vf * vm + eps))
    assert seen > expected.size // 2
    assert_close(
        local_ncc(moved, fixed, weight, radius=radius, noise=noise, eps=eps).item(),
        float((expected * w).sum() / expected.size),
    )


def test_the_remembered_local_ncc_equals_the_one_that_differentiates_everything():
    moved, fixed = random(2, 2, 6, 7, 5).requires_grad_(), random(2, 2, 6, 7, 5, seed=1)
    weight, foreground = random(2, 1, 6, 7, 5, seed=2), random(2, 1, 6, 7, 5, seed=3)
    weight[weight < 0.3] = 0
    remembered = LocalNCC(fixed, weight, foreground=foreground)(moved)
    (gradient,) = torch.autograd.grad((remembered * torch.tensor([1.0, -2.0])).sum(), moved)
    open_weight = weight.clone().requires_grad_()
    whole = local_ncc(moved, fixed, open_weight, foreground=foreground)
    (expected,) = torch.autograd.grad((whole * torch.tensor([1.0, -2.0])).sum(), moved)
    assert_close(remembered, whole)
    assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_a_local_ncc_is_remembered_between_calls():
    model, moved = LocalNCC(random(1, 1, 8, 9), radius=1), random(1, 1, 8, 9, seed=1)
    first = model(moved)
    model(random(1, 1, 8, 9, seed=2))
    assert torch.equal(model(moved), first)


def test_windows_that_straddle_a_lesion_see_their_healthy_part_only():
    fixed = random(1, 1, 24, 24)
    moved = 0.8 * fixed + 0.1
    lesion = torch.zeros_like(fixed)
    lesion[..., 8:14, 8:14] = 1
    ill = torch.where(lesion > 0, 5.0, fixed)
    assert local_ncc(moved, ill, 1 - lesion, radius=2) < 1e-6
    # the mask outside the windows only: windows at the rim are spoilt
    assert local_ncc(moved, ill, foreground=1 - lesion, radius=2) > 0.01


def test_windows_flat_in_the_fixed_image_do_not_count():
    generator = torch.Generator().manual_seed(2)
    flat = torch.full((1, 1, 16, 16), 0.5) + 1e-4 * torch.rand(1, 1, 16, 16, generator=generator)
    textured = torch.rand(1, 1, 16, 16, generator=generator)
    assert local_ncc(textured, flat, noise=0.01) < 1e-3
    assert local_ncc(torch.full_like(flat, 0.5), textured, noise=0.01) > 0.99


def test_local_ncc_is_precise_far_from_zero_in_float32():
    fixed, moved = random(1, 1, 12, 12) * 0.05, random(1, 1, 12, 12, seed=1) * 0.05
    exact = local_ncc(moved, fixed)
    assert_close(
        local_ncc(moved.float() + 10, fixed.float() + 10).double(), exact, rtol=2e-3, atol=0
    )


def test_gradient_of_local_ncc_without_any_weight():
    fixed = random(1, 1, 5, 6, seed=1)
    assert torch.autograd.gradcheck(LocalNCC(fixed), random(1, 1, 5, 6).requires_grad_())


def test_refuses_a_noise_of_zero():
    with pytest.raises(ArgumentError, match="noise and eps must be positive"):
        LocalNCC(random(1, 1, 4, 4), noise=0.0)


def test_mind_descriptor_against_a_loop():
    image, radius, step = random(1, 1, 7, 8), 1, 2
    pixels = image[0, 0].numpy()
    height, width = pixels.shape
    offsets = [(-step, 0), (step, 0), (0, -step), (0, step)]
    pairs = [
        (a, b) for a, b in itertools.combinations(offsets, 2) if a[0] * b[0] + a[1] * b[1] == 0
    ]
    assert len(pairs) == 4

    def at(y, x):
        return pixels[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]

    distances = np.zeros((4, height, width))
    for k, (a, b) in enumerate(pairs):
        for y, x in np.ndindex(height, width):
            patch = [
                (at(j + a[0], i + a[1]) - at(j + b[0], i + b[1])) ** 2
                for j in range(max(y - radius, 0), min(y + radius + 1, height))
                for i in range(max(x - radius, 0), min(x + radius + 1, width))
            ]
            distances[k, y, x] = np.mean(patch)
    distances -= distances.min(0)
    variance = distances.mean(0)
    variance = np.clip(variance, 1e-3 * variance.mean(), 1e3 * variance.mean())
    found = mind_descriptor(image, radius=radius, dilation=step)
    assert_close(found[0], torch.from_numpy(np.exp(-distances / variance)))


def test_mind_refuses_a_distance_of_zero_to_its_neighbours():
    with pytest.raises(ArgumentError, match="dilation must be at least 1"):
        mind_descriptor(random(1, 1, 4, 4), dilation=0)


def test_mind_has_twelve_numbers_in_3d_and_barely_feels_a_smooth_change_of_contrast():
    fixed = random(1, 1, 9, 10, 11)
    assert mind_descriptor(fixed).shape == (1, 12, 9, 10, 11)
    gamma = mind((1 - fixed) ** 1.5, fixed)
    other = mind(random(1, 1, 9, 10, 11, seed=4), fixed)
    assert gamma < 0.25 * other


def brute_force_masks(shape):
    voxels = int(np.prod(shape))
    bits = torch.arange(2**voxels).unsqueeze(1) >> torch.arange(voxels) & 1
    return bits.double().view(-1, 1, *shape)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_mask_for_mse_is_where_the_squared_difference_exceeds_tau(seed):
    tau = 0.1
    moved, fixed = random(1, 1, 3, 4, seed=seed), random(1, 1, 3, 4, seed=seed + 100)
    masks = brute_force_masks((3, 4))  # all 4096
    pairs = (image.expand(len(masks), -1, -1, -1) for image in (moved, fixed))
    losses = masked_mse(*pairs, 1 - masks) + tau * masks.flatten(1).mean(1)
    best = masks[losses.argmin()]
    assert 0 < best.sum() < 12
    assert torch.equal(best, ((moved - fixed).square() > tau)[0].double())


@pytest.mark.parametrize("seed", range(5))
def test_the_best_mask_for_ncc_is_where_masking_saves_more_than_tau(seed):
    # Global NCC is no sum over voxels, so g depends on the mask: at an optimum every masked voxel
    # has g > tau / N, and no other one has.
    tau, ncc = 0.0015, partial(masked_ncc, eps=1e-9)
    fixed = random(1, 1, 16, 16, seed=seed) + 1
    moved = fixed + 0.2 * (random(1, 1, 16, 16, seed=seed + 100) - 0.5)
    moved[..., :4, :4] += 0.5

    def loss(mask):
        return ncc(moved, fixed, 1 - mask) + tau * mask.mean()

    mask = torch.zeros_like(fixed)
    for _ in range(50):
        previous = mask
        mask = (saving(ncc, moved, fixed, 1 - mask) > tau).double()
        if torch.equal(previous, mask):
            break
    assert torch.equal(previous, mask)
    assert mask[..., :4, :4].all()
    assert 16 < mask.sum() < 180
    # the condition for an optimum over soft masks, by autograd
    soft = mask.clone().requires_grad_()
    loss(soft).sum().backward()
    assert torch.equal(soft.grad < 0, mask > 0)
    # No single voxel is better off the other way, but for what one of 120 voxels does to g: 5 %.
    for index in np.ndindex(16, 16):
        flipped = mask.clone()
        flipped[(0, 0, *index)] = 1 - flipped[(0, 0, *index)]
        assert loss(flipped) > loss(mask) - 0.05 * tau / 256


def test_masking_an_outlier_saves_the_closed_form_of_ncc_and_nearly_its_squared_difference():
    fixed = random(1, 1, 40, 40) + 1
    moved = fixed + 0.02 * (random(1, 1, 40, 40, seed=1) - 0.5)
    moved[..., 10:12, 20:24] += 0.4
    a, b, c = (fixed * moved).sum(), fixed.square().sum(), moved.square().sum()
    ncc = a**2 / (b * c)
    g = ncc * (fixed**2 / b + moved**2 / c - 2 * fixed * moved / a)
    found = saving(partial(masked_ncc, eps=0), moved, fixed, torch.ones_like(fixed))
    assert_close(found, 1600 * g)
    # section 1.4: about NCC r^2 / RMS^2
    rough = ncc * (fixed - moved).square() / fixed.square().mean()
    outliers = (..., slice(10, 12), slice(20, 24))
    assert_close(found[outliers], rough[outliers], rtol=0.05, atol=0)


def test_the_derivative_of_ncc_predicts_what_masking_one_voxel_saves():
    moved, fixed = random(1, 1, 30, 30), random(1, 1, 30, 30, seed=1)
    found = saving(masked_ncc, moved, fixed, torch.ones_like(fixed)) / 900
    for index in [(3, 4), (17, 22), (29, 0)]:
        weight = torch.ones_like(fixed)
        weight[(0, 0, *index)] = 0
        saved = masked_ncc(moved, fixed) - masked_ncc(moved, fixed, weight)
        # second order: of the size of one voxel in 900
        assert_close(saved[0], found[(0, 0, *index)], rtol=0.02, atol=1e-7)
