"""Folding of batch normalisation into convolutions."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn

from itk_ncr.networks.layers import Convolution

Network = TypeVar("Network", bound=nn.Module)


def folded(layer: Convolution) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that a convolution and its normalisation are.

    By the running statistics, that is in evaluation mode.
    """
    norm, convolution = layer.norm, layer.convolution
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt() * norm.weight.double()
    weight = convolution.weight.double() * factor.view(-1, *(1,) * (convolution.weight.ndim - 1))
    before = 0.0 if convolution.bias is None else convolution.bias.double()
    bias = (before - norm.running_mean.double()) * factor + norm.bias.double()
    dtype = convolution.weight.dtype
    return weight.detach().to(dtype), bias.detach().to(dtype)


def fold(network: Network) -> Network:
    """Copy a network for inference, with the normalisation folded into its convolutions.

    Parameters
    ----------
    network : nn.Module
        Trained network; it is left unchanged.

    Returns
    -------
    nn.Module
        Copy in evaluation mode, with the same outputs; it cannot be trained further.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, Convolution):
            weight, bias = folded(layer)
            layer.convolution.weight = nn.Parameter(weight, requires_grad=False)
            layer.convolution.bias = nn.Parameter(bias, requires_grad=False)
            layer.norm = nn.Identity()  # type: ignore[assignment]
    return network
