"""Operators on whatever a tensor can be, against their plain twins on plain copies.

Shapes with axes of 1, batches of none, memory in any order, expanded, with gaps or lazily negated;
fields that are zero, of some voxels, far outside the image, infinite or no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from itk_ncr import ops
from itk_ncr.ops import reference

BOUNDS = {torch.float32: 2e-5, torch.float64: 1e-11}
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "axes in another order": lambda x: x.transpose(-1, 1).contiguous().transpose(-1, 1),
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "every second": lambda x: torch.stack([x, torch.full_like(x, 7.0)], -1).flatten(-2)[..., ::2],
    "a part": lambda x: torch.nn.functional.pad(x, (2, 1), value=9.0)[..., 2 : 2 + x.shape[-1]],
    "negated lazily": lambda x: torch._neg_view(-x),
    "expanded": lambda x: x[:1].expand_as(x) if x.shape[0] else x,
}
PEAKS = (0.0, 0.7, 3.1, 60.0, 1e9)

shapes = st.lists(st.integers(1, 9), min_size=2, max_size=3).map(tuple)
layouts = st.sampled_from(sorted(LAYOUTS))


@st.composite
def inputs(draw: st.DrawFn, peaks: tuple[float, ...] = PEAKS) -> tuple[Tensor, Tensor]:
    """A field (N, D, ...) and an image (N, C, ...) of one grid, each in a layout of its own."""
    shape, batch = draw(shapes), draw(st.integers(0, 3))
    dtype = draw(st.sampled_from(sorted(BOUNDS, key=str)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def tensor(channels: int) -> Tensor:
        values = torch.rand(batch, channels, *shape, generator=generator, dtype=torch.float64)
        return values.to(dtype)

    peak = draw(st.sampled_from(peaks))
    field = (2 * tensor(len(shape)) - 1) * peak
    image = tensor(draw(st.integers(1, 3)))
    return LAYOUTS[draw(layouts)](field), LAYOUTS[draw(layouts)](image)


def plain(x: Tensor) -> Tensor:
    return x.detach().resolve_neg().clone(memory_format=torch.contiguous_format)


def assert_like_twin(call: Callable[..., Tensor], *tensors: Tensor) -> None:
    """Values and gradients of an operator are those of the twin for the same numbers."""
    here = [x.detach().requires_grad_() for x in tensors]
    there = [plain(x).requires_grad_() for x in tensors]
    found, expected = call(ops, *here), call(reference, *there)
    assert found.shape == expected.shape
    bound = BOUNDS[tensors[0].dtype]
    same(found, expected, bound)
    if not expected.requires_grad:  # the derivative along an axis of one voxel
        return
    weight = torch.linspace(-1, 1, max(1, expected.numel()), dtype=expected.dtype)
    weight = weight[: expected.numel()].view_as(expected)
    for x, y in zip(
        torch.autograd.grad(found, here, weight, allow_unused=True),
        torch.autograd.grad(expected, there, weight, allow_unused=True),
        strict=True,
    ):
        if y is not None:
            same(torch.zeros_like(y) if x is None else x, y, 10 * bound)


def same(found: Tensor, expected: Tensor, bound: float) -> None:
    largest = expected.detach().abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(
        found.resolve_neg(), expected, rtol=0, atol=bound * max(1.0, largest)
    )


CASES: dict[str, Callable[..., Tensor]] = {
    "warp": lambda m, u, x: m.warp(x, u),
    "warp and fill": lambda m, u, x: m.warp(x, u, padding="fill", fill_value=0.5),
    "warp nearest": lambda m, u, x: m.warp(x, u, mode="nearest"),
}
SMALL: dict[str, Callable[..., Tensor]] = {
    "exponential": lambda m, u, x: m.exponential(u, 4),
    "compose": lambda m, u, x: m.compose(u, 0.5 * u),
    "jacobian": lambda m, u, x: m.jacobian_determinant(u),
    "box": lambda m, u, x: m.box_sum(x, 2),
    "resize up": lambda m, u, x: m.resize(x, tuple(2 * n - 1 for n in x.shape[2:])),
    "resize down": lambda m, u, x: m.resize(x, tuple((n + 1) // 2 for n in x.shape[2:])),
}


@pytest.mark.parametrize("name", CASES)
@given(drawn=inputs())
@settings(max_examples=60, deadline=None)
def test_sampling_is_that_of_the_twin_for_every_tensor(name, drawn):
    assert_like_twin(CASES[name], *drawn)


@pytest.mark.parametrize("name", SMALL)
@given(drawn=inputs(peaks=(0.0, 0.7, 3.1)))
@settings(max_examples=60, deadline=None)
def test_everything_else_is_that_of_the_twin_for_every_tensor(name, drawn):
    assert_like_twin(SMALL[name], *drawn)


@pytest.mark.parametrize("name", ["warp", "warp and fill"])
@given(
    drawn=inputs(),
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
    place=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_a_number_that_is_none_stays_where_it_is(name, drawn, bad, place):
    field, image = (plain(x) for x in drawn)
    if not field.numel():
        return
    field.view(-1)[place % field.numel()] = bad
    found = CASES[name](ops, field, image)
    expected = CASES[name](reference, field, image)
    largest = expected.nan_to_num().abs().max().item()
    torch.testing.assert_close(
        found, expected, rtol=0, atol=BOUNDS[field.dtype] * max(1.0, largest), equal_nan=True
    )
    assert int(found.isnan().any(1).sum()) <= 1
