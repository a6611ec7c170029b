"""What must hold for any image and any field."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itk_ncr import ops

SHAPES = [(19, 24, 21), (32, 41)]
few = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_zero_field_changes_nothing_not_even_at_the_border(shape, variant):
    image, zero = torch.rand(1, 2, *shape), torch.zeros(1, len(shape), *shape)
    assert (ops.warp(image, zero) - image).abs().max() <= 1e-6
    assert (ops.warp(image, zero, padding="fill") - image).abs().max() <= 1e-6
    assert ops.exponential(zero, 7).eq(0).all()
    assert ops.jacobian_determinant(zero).eq(1).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [0.05, 3.3])
def test_a_constant_velocity_stays_constant_up_to_the_rim(shape, size, variant):
    v = torch.full((1, len(shape), *shape), size)
    for squarings in (None, 7):
        assert (ops.exponential(v, squarings) - v).abs().max() <= 1e-5


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_linear_velocity_gives_the_matrix_exponential(dimension):
    torch.manual_seed(0)
    matrix = torch.randn(dimension, dimension, dtype=torch.float64) * 0.05
    shape = (41,) * dimension
    axes = [torch.arange(41, dtype=torch.float64) - 20] * dimension
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    v = torch.einsum("ab,b...->a...", matrix, x)[None]
    motion = torch.linalg.matrix_exp(matrix) - torch.eye(dimension, dtype=torch.float64)
    expected = torch.einsum("ab,b...->a...", motion, x)[None]
    inside = (slice(None), slice(None)) + (slice(12, -12),) * dimension
    # A first step of a / 2^K errs by some |A|^2 |x| / 2^(K+1): 16 squarings for 1e-3 and less.
    for dtype in (torch.float32, torch.float64):
        found = ops.exponential(v.to(dtype), 16)
        assert (found - expected)[inside].abs().max() < 1e-3
    assert shape == tuple(found.shape[2:])


@pytest.mark.parametrize("shape", [(48, 44, 40), (96, 110)], ids=str)
@pytest.mark.parametrize("peak", [1.0, 4.0, 10.0])
def test_exponentials_of_opposite_velocities_undo_each_other(shape, peak):
    # Waves of 64 voxels: at 10 voxels the gradient is .7 and the smallest determinant .25.
    # Measured .033 at 10 voxels in 2D.
    axes = torch.meshgrid(*[torch.arange(float(s)) for s in shape], indexing="ij")
    parts = [torch.sin(2 * torch.pi * sum(axes[: c + 1]) / 64 + c) for c in range(len(shape))]
    v = torch.stack(parts)[None]
    v = v / v.square().sum(1).amax().sqrt() * peak
    forward, backward = ops.exponential_pair(v)
    assert torch.equal(forward, ops.exponential(v))
    error = ops.compose(forward, backward).square().sum(1).sqrt()
    inside = (slice(None),) + (slice(12, -12),) * len(shape)
    assert error[inside].mean() < 0.05


@given(
    peak=st.floats(0.1, 3.0),
    seed=st.integers(0, 2**31),
    shape=st.lists(st.integers(12, 25), min_size=2, max_size=3).map(tuple),
)
@few
def test_negating_a_random_velocity_inverts_the_map(smooth_field, peak, seed, shape):
    v = smooth_field(shape, peak, seed)
    forward, backward = ops.exponential_pair(v, 7)
    inside = (slice(None), slice(None)) + (slice(4, -4),) * len(shape)
    error = ops.compose(forward, backward)[inside].abs().max()
    assert error < 0.15 * peak  # linear interpolation; grows with the gradient


@given(seed=st.integers(0, 2**31), batch=st.integers(2, 3))
@few
def test_every_sample_of_a_batch_is_what_it_is_alone(smooth_field, seed, batch):
    shape = (9, 11, 13)
    fields = [smooth_field(shape, 0.3 * 5.0**n, seed + n) for n in range(batch)]
    together = torch.cat(fields).requires_grad_()
    weight = torch.randn(together.shape, generator=torch.Generator().manual_seed(seed))
    found = ops.exponential(together)
    (gradient,) = torch.autograd.grad(found, together, weight)
    for n, field in enumerate(fields):
        alone = field.clone().requires_grad_()
        single = ops.exponential(alone)
        assert torch.equal(single[0], found[n])
        assert torch.equal(torch.autograd.grad(single, alone, weight[n : n + 1])[0][0], gradient[n])


@given(seed=st.integers(0, 2**31), axis=st.integers(0, 2))
@few
def test_flipping_image_and_field_together_flips_the_result(smooth_field, seed, axis):
    shape = (9, 11, 13)
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    u = smooth_field(shape, 3.0, seed)
    mirrored = u.flip(axis + 2).clone()
    mirrored[:, axis] *= -1
    found = ops.warp(image.flip(axis + 2), mirrored)
    assert (found - ops.warp(image, u).flip(axis + 2)).abs().max() <= 1e-5


@given(seed=st.integers(0, 2**31))
@few
def test_swapping_axes_of_image_and_field_together_swaps_the_result(smooth_field, seed):
    shape = (9, 11, 13)
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    u = smooth_field(shape, 3.0, seed)
    turned = u.permute(0, 1, 4, 2, 3)[:, [2, 0, 1]]
    found = ops.warp(image.permute(0, 1, 4, 2, 3), turned)
    expected = ops.warp(image, u).permute(0, 1, 4, 2, 3)
    assert (found - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channel_c_moves_along_axis_c_by_whole_voxels(axis, variant):
    image = torch.rand(1, 1, 10, 11, 12)
    u = torch.zeros(1, 3, 10, 11, 12)
    u[:, axis] = 2.0
    found = ops.warp(image, u)
    size = image.shape[axis + 2]
    same = found.narrow(axis + 2, 0, size - 2) - image.narrow(axis + 2, 2, size - 2)
    assert same.abs().max() <= 1e-6


def test_the_determinant_of_a_linear_map_is_its_own(variant):
    torch.manual_seed(1)
    matrix = torch.randn(3, 3) * 0.2
    axes = torch.meshgrid(*[torch.arange(11.0)] * 3, indexing="ij")
    u = torch.einsum("ab,b...->a...", matrix, torch.stack(axes))[None]
    expected = torch.linalg.det(matrix + torch.eye(3))
    assert (ops.jacobian_determinant(u) - expected).abs().max() < 1e-4


def test_smooth_velocities_fold_nowhere(smooth_field):
    v = smooth_field((24, 25, 26), 2.0, seed=3)
    assert ops.jacobian_determinant(ops.exponential(v)).min() > 0.3


def test_windows_of_zeros_sum_to_exactly_zero_and_others_to_their_count(variant):
    image = torch.zeros(1, 1, 12, 13, 40)
    image[..., :10] = 1e6 * torch.rand(1, 1, 12, 13, 10)
    assert ops.box_sum(image, 3)[..., 13:].eq(0).all()
    ones = ops.box_sum(torch.ones(1, 1, 12, 13, 40), 2)
    assert ones[0, 0, 6, 6, 20] == 125
    assert ones[0, 0, 0, 0, 0] == 27


@pytest.mark.parametrize("shape", [(1, 9), (7, 2), (5, 4, 6)])
@pytest.mark.parametrize("radius", [0, 1, 2, 5])
def test_box_sums_are_sums_over_windows_cut_at_the_border(shape, radius, variant):
    image = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0)).double()
    expected = torch.zeros_like(image)
    for centre in itertools.product(*map(range, shape)):
        window = tuple(slice(max(p - radius, 0), p + radius + 1) for p in centre)
        expected[(..., *centre)] = image[(..., *window)].flatten(2).sum(2)
    torch.testing.assert_close(ops.box_sum(image, radius), expected)


def test_resizing_keeps_corners_and_linear_ramps(variant):
    ramp = torch.arange(7.0).view(1, 1, 1, 1, 7).expand(1, 1, 5, 6, 7)
    found = ops.resize(ramp, (9, 3, 13))
    torch.testing.assert_close(found[0, 0, 4, 1], torch.arange(13.0) / 2)
    oracle = torch.nn.functional.interpolate(
        torch.rand(1, 2, 5, 6, 7), (9, 13, 4), mode="trilinear", align_corners=True
    )
    assert oracle.shape == (1, 2, 9, 13, 4)
    image = torch.rand(1, 2, 5, 6, 7)
    expected = torch.nn.functional.interpolate(
        image, (9, 13, 4), mode="trilinear", align_corners=True
    )
    torch.testing.assert_close(ops.resize(image, (9, 13, 4)), expected, atol=1e-6, rtol=0)


def test_torchs_own_sampler_agrees_on_smooth_fields(variant, smooth_field):
    shape = (13, 14, 24)
    image, u = torch.rand(1, 2, *shape), smooth_field(shape, 4.0)
    axes = torch.meshgrid(*[torch.arange(float(s)) for s in shape], indexing="ij")
    size = torch.tensor(shape).view(3, 1, 1, 1)
    position = (torch.stack(axes) + u[0]) * 2 / (size - 1) - 1
    expected = torch.nn.functional.grid_sample(
        image, position.flip(0).movedim(0, -1)[None], padding_mode="border", align_corners=True
    )
    # Torch's normalised coordinates round at 1e-6 of the image's width.
    torch.testing.assert_close(ops.warp(image, u), expected, atol=2e-5, rtol=0)
