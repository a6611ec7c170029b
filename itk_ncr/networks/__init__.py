"""What is learnt: networks that take a pair and return a :class:`Prediction`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from itk_ncr.errors import ArgumentError
from itk_ncr.networks.folding import fold
from itk_ncr.networks.layers import halve
from itk_ncr.networks.ncr import NCRNet
from itk_ncr.networks.prepared import prepare_for_inference
from itk_ncr.networks.voxelmorph import Posterior, VoxelMorph


def _regnet(dimension: int, **settings: Any) -> nn.Module:
    return NCRNet(dimension, segmentation=False, **settings)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ncr-net": NCRNet,
    "regnet": _regnet,
    "voxelmorph": VoxelMorph,
}


def build_network(name: str, *, dimension: int, **settings: Any) -> nn.Module:
    """Build a network by its row in ``NETWORKS``.

    Parameters
    ----------
    name : str
    dimension : int
        2 or 3.
    **settings
        Keyword arguments of the network; ``network.settings`` gives them back.

    Raises
    ------
    ArgumentError
        If there is no such row, or a setting is outside its range.
    """
    if name not in NETWORKS:
        raise ArgumentError(f"network must be one of {', '.join(NETWORKS)}; got {name!r}.")
    return NETWORKS[name](dimension, **settings)


__all__ = [
    "NETWORKS",
    "NCRNet",
    "Posterior",
    "VoxelMorph",
    "build_network",
    "fold",
    "halve",
    "prepare_for_inference",
]
