"""Networks that map a pair of images to a :class:`Prediction`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from itk_ncr.errors import ArgumentError, require_choice
from itk_ncr.networks.export import write_onnx
from itk_ncr.networks.folding import fold
from itk_ncr.networks.layers import halve
from itk_ncr.networks.ncr import NCRNet
from itk_ncr.networks.prepared import prepare_for_inference
from itk_ncr.networks.pyramid import NCRPyramid
from itk_ncr.networks.released import ReleasedNCRNet, warp_released
from itk_ncr.networks.rigid import RigidPrediction, RigidTransformer
from itk_ncr.networks.uncertainty import Uncertainty, predict_with_uncertainty
from itk_ncr.networks.voxelmorph import VoxelMorph

COMPATIBLE = ("released",)


def _ncr_net(
    dimension: int, *, compat: str | None = None, segmentation: bool = True, **settings: Any
) -> nn.Module:
    """``compat="released"``: with the sampling of the code that the authors released."""
    if compat is None:
        return NCRNet(dimension, segmentation=segmentation, **settings)
    if compat not in COMPATIBLE:
        raise ArgumentError(f"compat must be {' or '.join(COMPATIBLE)}; got {compat!r}.")
    return ReleasedNCRNet(dimension, segmentation=segmentation, **settings)


def _regnet(dimension: int, **settings: Any) -> nn.Module:
    return _ncr_net(dimension, segmentation=False, **settings)


# Each network by the name that its description has.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ncr-net": _ncr_net,
    "ncr-pyramid": NCRPyramid,
    "regnet": _regnet,
    "voxelmorph": VoxelMorph,
}


def build_network(name: str, *, dimension: int, **settings: Any) -> nn.Module:
    """Build a network by its row in ``NETWORKS``.

    Parameters
    ----------
    name : str
        A row of ``NETWORKS``.
    dimension : int
        2 or 3.
    **settings
        Keyword arguments of the network, as in ``network.settings``.

    Returns
    -------
    nn.Module
        A new network with random weights, in training mode.

    Raises
    ------
    ArgumentError
        If there is no such row, or a setting is outside its range.
    """
    require_choice("network", name, NETWORKS)
    return NETWORKS[name](dimension, **settings)


__all__ = [
    "NETWORKS",
    "NCRNet",
    "NCRPyramid",
    "ReleasedNCRNet",
    "RigidPrediction",
    "RigidTransformer",
    "Uncertainty",
    "VoxelMorph",
    "build_network",
    "fold",
    "halve",
    "predict_with_uncertainty",
    "prepare_for_inference",
    "warp_released",
    "write_onnx",
]
