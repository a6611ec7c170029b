"""Published numbers of parameters, and the blocks the networks are made of."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from itk_ncr.networks import build_network
from itk_ncr.networks.layers import repeat_border


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "dimension", "width", "count"),
    [
        ("ncr-net", 2, 4, 290_213),
        ("ncr-net", 2, 8, 1_157_729),
        ("ncr-net", 2, 16, 4_624_697),
        ("regnet", 2, 8, 719_502),
        ("ncr-net", 3, 4, 864_956),
        ("ncr-net", 3, 8, 3_456_332),
    ],
)
def test_the_number_of_parameters_is_that_of_the_publication(name, dimension, width, count):
    assert parameters(build_network(name, dimension=dimension, width=width)) == count


def test_the_decoders_have_the_published_share():
    network = build_network("ncr-net", dimension=2, width=8)
    shares = [network.encoder, network.registration, network.segmentation]
    assert [parameters(part) for part in shares] == [295_472, 424_030, 438_227]


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_border_is_repeated_and_its_adjoint_is_that_of_torch(dimension, generator):
    size = (4, 1, 5)[:dimension]
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    widths = (1,) * (2 * dimension)
    usual = functional.pad(x, widths, mode="replicate")
    by = torch.randn(usual.shape, generator=generator, dtype=torch.float64)
    kept = by.clone()
    ours = repeat_border(x)
    assert torch.equal(ours, usual)
    (gradient,) = torch.autograd.grad(ours, x, by)
    assert_close(gradient, torch.autograd.grad(usual, x, by)[0], rtol=0, atol=1e-12)
    assert torch.equal(by, kept)
    assert torch.autograd.gradcheck(repeat_border, (x,))
