"""Weights from files of torch, whatever their tensors are called."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itk_ncr.errors import CheckpointError

# Older versions of torch do not write it, and nothing depends on it.
COUNTER = "num_batches_tracked"
Layer = tuple[str, dict[str, Tensor]]


def import_weights(network: nn.Module, path: str | os.PathLike[str]) -> dict[str, str]:
    """Fill a network with the weights of a ``.pt`` file that holds the same layers.

    Layers are matched by kind and shape, in the order of their definition: of two layers that are
    alike, the first in the file goes to the first in the network (in NCR-Net: registration before
    segmentation).

    Parameters
    ----------
    network : nn.Module
        For the released weights ``build_network("ncr-net", dimension=2, width=8,
        compat="released")``. Changed only if everything fits.
    path : path
        State dictionary, or a dictionary with one inside. Only tensors are read, no code.

    Returns
    -------
    dict of str to str
        Which tensor of the file went into which of the network.

    Raises
    ------
    CheckpointError
        If the file cannot be read, holds anything but tensors, or does not fit; the first tensor
        that does not is named.
    """
    found = _layers(read_tensors(path))
    state = network.state_dict()
    filled: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    for prefix, tensors in _layers(state):
        match = next((layer for layer in found if _kind(layer) == _kind((prefix, tensors))), None)
        if match is None:
            leaf, tensor = next(iter(tensors.items()))
            raise CheckpointError(
                f"weights of '{path}' must fit the network; no layer is left in it for "
                f"{_joined(prefix, leaf)}, {_shape(tensor)}. Check dimension, width and variant."
            )
        found.remove(match)
        for leaf, tensor in tensors.items():
            name = _joined(prefix, leaf)
            filled[name] = match[1].get(leaf, tensor).to(tensor.dtype)
            if leaf in match[1]:
                origins[name] = _joined(match[0], leaf)
    if found:
        prefix, tensors = found[0]
        leaf, tensor = next(iter(tensors.items()))
        raise CheckpointError(
            f"weights of '{path}' must fit the network; it has no place for "
            f"{_joined(prefix, leaf)}, {_shape(tensor)}. Check dimension, width and variant."
        )
    network.load_state_dict(filled)
    return origins


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a ``.pt`` file, in order; nothing in it is executed.

    Raises
    ------
    CheckpointError
        If the file cannot be read or holds anything but tensors.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"weights must be a file; there is none at '{path}'.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # What torch raises for a broken or unsafe file depends on its version; its texts are pages.
        raise CheckpointError(
            f"weights in '{path}' must be a file of torch with nothing but tensors; it is damaged "
            f"or holds other things ({type(error).__name__}). Save network.state_dict() alone."
        ) from error
    while isinstance(content, Mapping) and not _all_tensors(content):
        inner = [value for value in content.values() if _all_tensors(value)]
        if len(inner) != 1:
            break
        content = inner[0]
    if not _all_tensors(content):
        kind = type(content).__name__
        if isinstance(content, Mapping) and content:
            name, value = next((n, v) for n, v in content.items() if not isinstance(v, Tensor))
            kind = f"{type(value).__name__} {name!r}"
        raise CheckpointError(
            f"weights in '{path}' must be a dictionary of tensors; got {kind}. "
            "Save network.state_dict() alone."
        )
    return {str(name): tensor for name, tensor in content.items()}


def _all_tensors(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(value, Tensor) for value in content.values())
    )


def _layers(state: Mapping[str, Tensor]) -> list[Layer]:
    """Tensors by what is in front of the last dot, in order."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        prefix, _, leaf = name.rpartition(".")
        layers.setdefault(prefix, {})[leaf] = tensor
    return list(layers.items())


def _kind(layer: Layer) -> dict[str, tuple[int, ...]]:
    return {leaf: tuple(tensor.shape) for leaf, tensor in layer[1].items() if leaf != COUNTER}


def _joined(prefix: str, leaf: str) -> str:
    return f"{prefix}.{leaf}" if prefix else leaf


def _shape(tensor: Tensor) -> str:
    return "shape " + "x".join(map(str, tensor.shape))
