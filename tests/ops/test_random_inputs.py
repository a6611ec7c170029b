"""Operators against their plain twins on inputs of any shape, storage, type and content."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itk_ncr import ops
from itk_ncr.ops import reference

# Adaptive squarings are left out: at powers of two the last bit of a norm decides on their number.
OPERATORS = {
    "exponential": lambda m, x, u, f: m.exponential(u, 4),
    "warp": lambda m, x, u, f: m.warp(x, u),
    "warp and fill": lambda m, x, u, f: m.warp(x, u, padding="fill", fill_value=0.25),
    "warp nearest": lambda m, x, u, f: m.warp(x, u, mode="nearest"),
    "compose": lambda m, x, u, f: m.compose(u, u),
    "jacobian": lambda m, x, u, f: m.jacobian_determinant(u),
    "box": lambda m, x, u, f: m.box_sum(x, 2),
    "resize": lambda m, x, u, f: m.resize(x, tuple(s + 3 for s in x.shape[2:])),
    "distance": lambda m, x, u, f: m.warp_mse(x, u, f),
    "weighted distance": lambda m, x, u, f: m.warp_mse(x, u, f, f[:, :1].abs()),
    "local correlation": lambda m, x, u, f: m.local_ncc(
        x[:, :1], f[:, :1].detach(), f[:, :1].abs().detach(), 1, eps=0.1
    ),
    "denoising": lambda m, x, u, f: m.total_variation_denoise(x.detach(), 0.1, 5)[0],
}
# Relative to the largest value; the worst of 3,000 draws were 1.4e-6 and 2.7e-15.
BOUNDS = {torch.float32: 2e-5, torch.float64: 1e-12}


def negated(x):
    return torch._neg_view(-x)


def imaginary_part_of_a_conjugate(x):
    return torch.complex(torch.zeros_like(x), -x).conj().imag


STORAGES = {
    "contiguous": lambda x: x,
    "negated lazily": negated,
    "part of a conjugate": imaginary_part_of_a_conjugate,
    "transposed": lambda x: x.transpose(1, -1).contiguous().transpose(1, -1),
    "every other": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "from an offset": lambda x: torch.cat([x[:, :1], x], 1)[:, 1:],
    "negated and transposed": lambda x: negated(x.transpose(-2, -1).contiguous()).transpose(-2, -1),
}


@st.composite
def inputs(draw):
    shape = draw(st.lists(st.integers(1, 9), min_size=2, max_size=3))
    dtype = draw(st.sampled_from(list(BOUNDS)))
    batch = draw(st.integers(0, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def random(channels):
        x = torch.randn(batch, channels, *shape, dtype=dtype, generator=generator)
        return STORAGES[draw(st.sampled_from(list(STORAGES)))](x)

    return random(2), random(len(shape)), random(2)


def worst(found, expected):
    """Largest difference where the values are finite, relative to the largest of them."""
    assert found.shape == expected.shape
    assert torch.equal(found.isnan(), expected.isnan())
    if not expected.numel():
        return 0.0
    # Infinities of one sign are alike.
    difference = (found - expected).where(found != expected, torch.zeros_like(found))
    largest = expected.abs().where(expected.isfinite(), torch.zeros_like(expected)).max()
    return float(difference.nan_to_num(0.0, posinf=torch.inf).abs().max() / largest.clamp_min(1))


random_inputs = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("name", OPERATORS)
@random_inputs
@given(given_inputs=inputs(), storage=st.sampled_from(list(STORAGES)))
def test_values_and_gradients_are_those_of_the_twin(name, given_inputs, storage):
    image, field, fixed = given_inputs
    bound = BOUNDS[image.dtype]
    results = []
    for module in (ops, reference):
        # A leaf of its own, which keeps how the values are stored.
        x, u = (t.detach().requires_grad_() for t in (image, field))
        y = OPERATORS[name](module, x, u, fixed)
        gradients = (None, None)
        if y.requires_grad:
            weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
            # The door's gradient comes as stored; the twin's is plain.
            weight = STORAGES[storage](weight) if module is ops and weight.ndim > 2 else weight
            gradients = torch.autograd.grad(y, (x, u), weight, allow_unused=True)
        results.append((y.detach(), *gradients))
    for found, expected in zip(*results, strict=True):
        if found is None or expected is None:
            # Rounding has no derivative: the twin gives nothing, the operator zeros, or vice versa.
            other = expected if found is None else found
            assert other is None or not other.any()
        else:
            assert worst(found, expected) <= bound


# The excluded ones interpolate the field itself: 1e30 hides its neighbours' digits.
@pytest.mark.parametrize("name", [n for n in OPERATORS if n not in ("compose", "exponential")])
@random_inputs
@given(
    given_inputs=inputs(),
    odd=st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e9]),
)
def test_numbers_that_no_field_has_show_where_they_show_in_the_twin(name, given_inputs, odd):
    image, field, fixed = given_inputs
    if field.numel():
        field = field.clone()
        field[(0,) * field.ndim] = odd
        field[(-1,) * field.ndim] = odd
    found, expected = (OPERATORS[name](m, image, field, fixed) for m in (ops, reference))
    if name == "jacobian":  # products of what is huge, in another order
        good = expected.isfinite() & (expected.abs() < 1e6)
        found, expected = found[good], expected[good]
    assert worst(found, expected) <= BOUNDS[image.dtype]


def test_a_batch_of_none_has_gradients_of_none():
    image, fixed = torch.rand(0, 2, 5, 6).requires_grad_(), torch.rand(0, 2, 5, 6).requires_grad_()
    field = torch.rand(0, 2, 5, 6).requires_grad_()
    weight = torch.rand(0, 1, 5, 6).requires_grad_()
    for module in (ops, reference):
        distance = module.warp_mse(image, field, fixed, weight)
        assert distance.shape == (0,)
        found = torch.autograd.grad(distance.sum(), (image, field, fixed, weight))
        assert [g.shape for g in found] == [image.shape, field.shape, fixed.shape, weight.shape]
        assert module.exponential(field).shape == field.shape
