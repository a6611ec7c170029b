"""Calibration of a network's mask probabilities."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from itk_ncr.data import Source, collate
from itk_ncr.errors import ArgumentError
from itk_ncr.networks import NCRNet, NCRPyramid
from itk_ncr.training.streams import generator_of

STREAM = 4
# Validation pairs that the temperature is fitted to: some million voxels.
PAIRS = 32
# Nearer than this to 0 or 1, a probability says no more than that it is sure.
SURE = 1e-6
# Temperatures from a thirtieth to thirty: beyond, all is 1/2, or 0 and 1.
HOTTEST = 30.0
HALVINGS = 40

Network = TypeVar("Network", bound=nn.Module)


def fit_temperature(logits: Tensor, truth: Tensor) -> float:
    """The number by which logits must be divided to fit the truth best.

    It minimises the cross-entropy, which is convex in its inverse. The order of the voxels and the
    mask at 1/2 stay.

    Parameters
    ----------
    logits : Tensor, shape (n,)
    truth : Tensor, shape (n,)
        0 or 1.

    Returns
    -------
    float
        More than 1 where the probabilities are too sure of themselves; at most 30, at least 1/30.
        1 if the truth is 0 everywhere or 1 everywhere: then nothing can be fitted.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599.
    """
    truth = truth.double()
    if not 0 < float(truth.sum()) < truth.numel():
        return 1.0
    logits = logits.double()
    low, high = 1 / HOTTEST, HOTTEST
    for _ in range(HALVINGS):
        inverse = (low * high) ** 0.5
        slope = (logits * ((inverse * logits).sigmoid() - truth)).mean()
        low, high = (low, inverse) if slope > 0 else (inverse, high)
    return 1 / (low * high) ** 0.5


def finds_mask(network: nn.Module) -> bool:
    """Whether the network has a mask decoder whose probabilities can be tempered."""
    return isinstance(network, NCRNet | NCRPyramid) and network.segmentation is not None


def temper(network: Network, temperature: float) -> Network:
    """A copy of a network whose mask logits are divided by a temperature.

    The number goes into the weights of the heads, so that every engine that runs the network gives
    the same probabilities.

    Raises
    ------
    ArgumentError
        If the temperature is not positive, or the network finds no mask.
    """
    if not 0 < temperature < float("inf"):
        raise ArgumentError(f"temperature must be positive and finite; got {temperature}.")
    network = copy.deepcopy(network)
    if not finds_mask(network):
        raise ArgumentError(
            f"network must be ncr-net or ncr-pyramid with a mask; got {type(network).__name__}. "
            "Train a variant that finds one."
        )
    with torch.no_grad():
        for head in network.segmentation.heads:  # type: ignore[union-attr]
            last = head[-1]
            last.weight /= temperature
            last.bias /= temperature
    return network


def temperature_of(network: nn.Module, source: Source, seed: int, *, pairs: int = PAIRS) -> float:
    """Fit the temperature of a network's finest mask to pairs with known lesions.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    source : Source
        Pairs that nothing was learnt from; where a pair has no lesion, all of it corresponds.
    seed : int
        Decides which lesions are inserted.
    pairs : int
        At most this many, evenly spread over the source.
    """
    device = next(network.parameters()).device
    count = min(pairs, len(source))
    logits, truth = [], []
    with torch.no_grad():
        for number in range(count):
            index = number * len(source) // count
            batch = collate([source.sample(index, generator_of(seed, index, STREAM))]).to(device)
            found = network(batch.fixed, batch.moving, scales=1).noncorrespondence
            if not found:
                raise ArgumentError("network must find a mask; got none. Train another variant.")
            lesion = torch.zeros_like(found[0]) if batch.lesion is None else batch.lesion
            inside = functional.max_pool2d if batch.fixed.ndim == 4 else functional.max_pool3d
            # Lesions may be as dark as the background: close to tissue counts.
            within = inside(batch.fixed, 3, 1, 1) > 0
            logits.append(found[0].logit(SURE)[within].cpu())
            truth.append((lesion > 0.5)[within].cpu())
    return fit_temperature(torch.cat(logits), torch.cat(truth))
