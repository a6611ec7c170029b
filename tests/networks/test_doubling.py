"""The enlargement by two: its own adjoint against that of torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from itk_ncr.networks.layers import CHANNELS_LAST, MODES, Head, double


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 1, 1, 6), (1, 2, 3, 4, 5), (2, 2, 1, 1, 2)])
def test_the_gradient_of_doubling_is_the_one_of_torch(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    mode = MODES[x.ndim - 2]
    plain = functional.interpolate(theirs, scale_factor=2, mode=mode, align_corners=False)
    ups = torch.randn(plain.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    double(ours).backward(ups)
    plain.backward(ups)
    assert_close(ours.grad, theirs.grad, rtol=1e-13, atol=1e-13)


def test_the_gradient_may_be_a_part_of_a_larger_one_and_in_half_precision():
    x = torch.randn(1, 4, 6, 4, 5, generator=torch.Generator().manual_seed(1))
    x = x.contiguous(memory_format=CHANNELS_LAST[3])
    other = torch.zeros(1, 2, 12, 8, 10)
    ups = torch.randn(1, 6, 12, 8, 10, generator=torch.Generator().manual_seed(2))
    exact = x.clone().requires_grad_()
    torch.cat([double(exact), other], 1).backward(ups)
    rounded = x.bfloat16().requires_grad_()
    torch.cat([double(rounded), other.bfloat16()], 1).backward(ups.bfloat16())
    # One rounding of the incoming gradient and one of the result, 2**-9 each, of sums of 64 terms
    # whose weights add up to 8 and whose size is about 1.
    assert_close(rounded.grad.float(), exact.grad, rtol=2**-8, atol=8 * 2**-8)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_head_in_training_is_its_two_convolutions(dimension):
    head = Head(dimension, 6, 2)
    shape = (2, 6, 5, 4, 3)[: dimension + 2]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    x = x.contiguous(memory_format=CHANNELS_LAST[dimension])
    found = []
    for is_training in (True, False):
        head.train(is_training).zero_grad()
        given = x.clone().requires_grad_()
        said = head(given)
        said.square().sum().backward()
        found.append([said, given.grad, *(p.grad.clone() for p in head.parameters())])
    for one, two in zip(*found, strict=True):
        assert_close(one, two, rtol=1e-5, atol=1e-6)
