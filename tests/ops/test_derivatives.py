"""Adjoints, finite differences, and the same bits for any number of threads."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from itk_ncr import ops
from itk_ncr.ops import reference

SHAPES = [(6, 7, 19), (11, 19)]


def inner(a, b):
    return (a.double() * b.double()).sum()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_linear_operators_and_their_adjoints_meet_in_the_inner_product(
    shape, dtype, variant, smooth_field
):
    u = smooth_field(shape, 3.0, dtype=dtype, seed=1)
    linear = {
        "warp": lambda x: ops.warp(x, u),
        "fill": lambda x: ops.warp(x, u, padding="fill"),
        "nearest": lambda x: ops.warp(x, u, mode="nearest"),
        "box": lambda x: ops.box_sum(x, 3),
        "up": lambda x: ops.resize(x, tuple(2 * s + 1 for s in shape)),
        "down": lambda x: ops.resize(x, tuple(s // 2 for s in shape)),
    }
    bound = 1e-6 if dtype == torch.float32 else 1e-12
    for name, apply in linear.items():
        x = torch.randn(1, 2, *shape, dtype=dtype, requires_grad=True)
        y = apply(x)
        z = torch.randn_like(y)
        (back,) = torch.autograd.grad(y, x, z)
        scale = y.double().norm() * z.double().norm()
        assert (inner(y, z) - inner(x, back)).abs() <= bound * scale, name


def away_from_kinks(shape, seed):
    """Displacement whose positions keep .2 voxel from integers, where interpolation has kinks."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randint(-2, 3, (1, len(shape), *shape), generator=generator).double()
    return u + 0.2 + 0.6 * torch.rand(u.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 3, 4), (4, 5)], ids=str)
def test_derivatives_are_those_of_finite_differences(shape):
    u = away_from_kinks(shape, 3).requires_grad_()
    x = torch.rand(1, 2, *shape, dtype=torch.float64, requires_grad=True)
    small = (0.02 * away_from_kinks(shape, 4).abs() + 0.01).requires_grad_()
    assert gradcheck(ops.warp, (x, u))
    assert gradcheck(lambda a, b: ops.warp(a, b, padding="fill", fill_value=0.3), (x, u))
    assert gradcheck(lambda a: ops.warp(a, u.detach(), mode="nearest"), (x,))
    assert gradcheck(ops.compose, (small, u))
    assert gradcheck(ops.jacobian_determinant, (u,))
    assert gradcheck(lambda a: ops.box_sum(a, 1), (x,))
    assert gradcheck(lambda a: ops.resize(a, tuple(s + 2 for s in shape)), (x,))
    assert gradcheck(lambda a: ops.exponential(a, 2), (small,))
    assert gradcheck(lambda a: ops.exponential_pair(a, 2), (small,))


@pytest.mark.parametrize("shape", [(17, 12, 21), (40, 37)], ids=str)
def test_results_have_the_same_bits_for_any_number_of_threads(
    shape, threads, variant, smooth_field
):
    def everything():
        torch.manual_seed(0)
        found = []
        for batch in (1, 2, 3):  # of two samples and two threads each takes one
            v = smooth_field(shape, 6.0, batch=batch).requires_grad_()
            x = torch.rand(batch, 2, *shape).requires_grad_()
            values = [
                ops.exponential(v), ops.exponential(v, 7, keep_every=2), ops.warp(x, v),
                ops.compose(v, v), ops.jacobian_determinant(v), ops.box_sum(x, 2),
                ops.resize(x, tuple(2 * s for s in shape)),
            ]  # fmt: skip
            found += values
            for value in values:
                gradients = torch.autograd.grad(
                    value.square().sum(), (v, x), allow_unused=True, retain_graph=True
                )
                found += [g for g in gradients if g is not None]
            found += ops.total_variation_denoise(x, 0.1, 9)
        return found

    threads(1)
    alone = everything()
    for number in (2, 4):
        threads(number)
        for a, b in zip(alone, everything(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("squarings", [None, 1, 5, 7])
def test_fields_computed_again_give_the_same_bits_as_kept_ones(squarings, batch, smooth_field):
    v = smooth_field((9, 10, 17), 7.0, batch=batch).requires_grad_()
    weight = torch.randn_like(v)
    (all_kept,) = torch.autograd.grad(ops.exponential(v, squarings), v, weight)
    for keep_every in (2, 3, 20):
        again = ops.exponential(v, squarings, keep_every=keep_every)
        assert torch.equal(torch.autograd.grad(again, v, weight)[0], all_kept)


def test_rows_that_rest_in_part_have_the_same_bits_for_any_number_of_threads(
    threads, variant, smooth_field
):
    # Long rows are taken in pieces, and those that move by less than a voxel in their own way.
    v = smooth_field((23, 300), 9.0)
    v[..., 140:] *= 0.05
    v[..., 5, :] = 0
    by = torch.randn(v.shape, generator=torch.Generator().manual_seed(1))
    v.requires_grad_()

    def value_and_gradient():
        u = ops.exponential(v, 7)
        return u, torch.autograd.grad(u, v, by)[0]

    threads(1)
    alone = value_and_gradient()
    twin = reference.exponential(v, 7)
    assert (alone[0] - twin).abs().max() <= 3e-4
    for number in (2, 4, 5):
        threads(number)
        for a, b in zip(alone, value_and_gradient(), strict=True):
            assert torch.equal(a, b)


def test_expanded_transposed_and_sliced_tensors_count_as_what_they_show(smooth_field):
    u = smooth_field((9, 12), 2.0, batch=3)
    image = torch.rand(1, 1, 12, 9).transpose(2, 3).expand(3, 1, 9, 12)
    assert torch.equal(ops.warp(image, u), ops.warp(image.contiguous(), u))
    wide = torch.rand(3, 4, 9, 24)[:, ::2, :, ::2]
    assert torch.equal(ops.box_sum(wide, 2), ops.box_sum(wide.contiguous(), 2))
    v = u.clone().requires_grad_()
    # The gradient of a sum is one value expanded: stride 0.
    (by_sum,) = torch.autograd.grad(ops.exponential(v).sum(), v)
    (by_ones,) = torch.autograd.grad(ops.exponential(v), v, torch.ones_like(v))
    assert torch.equal(by_sum, by_ones)
    moved = ops.warp(image, v)
    (by_sum,) = torch.autograd.grad(moved.sum(), v, retain_graph=True)
    (by_ones,) = torch.autograd.grad(moved, v, torch.ones_like(moved))
    assert torch.equal(by_sum, by_ones)


def test_inputs_stay_as_they_are_and_results_share_no_memory_with_them(smooth_field):
    v = smooth_field((8, 9, 16), 3.0)
    before = v.clone()
    for squarings in (0, 3):
        displacement = ops.exponential(v, squarings)
        displacement.add_(1.0)
        assert torch.equal(v, before)
