"""Trained models: a folder each, with weights, description and card.

``weights.safetensors`` holds the tensors, ``model.json`` the description and the SHA-256 of the
weights, ``card.md`` the description for people. Nothing outside the folder is ever read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from itk_ncr.checkpoints.description import ModelDescription, model_card
from itk_ncr.checkpoints.places import (
    CARD,
    DESCRIPTION,
    WEIGHTS,
    installed_names,
    named_folder,
    shipped_names,
)
from itk_ncr.checkpoints.state import (
    replace_file,
    require_no_pickle,
    write_state,
)
from itk_ncr.checkpoints.stored import (
    StoredModel,
    network_settings,
    network_tensors,
    read_description,
    read_weights,
    require_described,
    require_fit,
    sha256_of,
    verified,
)
from itk_ncr.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

# Batch normalisation divides by these: eleven bits are too few.
FULL_PRECISION = ("running_mean", "running_var")


def save_model(
    folder: str | os.PathLike[str],
    network: nn.Module,
    description: ModelDescription,
    half: bool = False,
) -> StoredModel:
    """Write weights, description and card; ``model.json`` last, so a model is never partial.

    Parameters
    ----------
    folder : path
        Made if it does not exist; the files of an earlier model in it are replaced.
    network : Module
        Its ``settings``, by which it can be rebuilt, replace those of the description.
    description : ModelDescription
        What the model is and how it was trained.
    half : bool
        Store weights in half precision; running statistics of batch normalisation keep theirs.

    Returns
    -------
    StoredModel
        The model as written.

    Raises
    ------
    ArgumentError
        If a weight is not finite, or too large for half precision.
    CheckpointError
        If a file cannot be written.
    """
    settings = dict(getattr(network, "settings", description.network_settings))
    description = dataclasses.replace(description, network_settings=settings)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # An earlier model in this folder ends here: its description would not fit the new weights.
        (folder / DESCRIPTION).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write '{folder}': {error.strerror}.") from error
    tensors = {name: _stored(name, t, half) for name, t in network.state_dict().items()}
    write_state(folder / WEIGHTS, tensors, {"description": description.as_dict()})
    stored = StoredModel(folder, description, sha256_of(folder / WEIGHTS))
    write_description(stored)
    return stored


def write_description(stored: StoredModel) -> None:
    """Write card and ``model.json`` beside weights that are there already.

    Raises
    ------
    CheckpointError
        If a file cannot be written.
    """
    folder, description, sha256 = stored.folder, stored.description, stored.sha256
    replace_file(folder / CARD, model_card(description, sha256).encode())
    content = {"description": description.as_dict(), "sha256": sha256}
    replace_file(folder / DESCRIPTION, (json.dumps(content, indent=2) + "\n").encode())


def load_model(model: str | os.PathLike[str]) -> tuple[nn.Module, ModelDescription]:
    """Load a model.

    Parameters
    ----------
    model : str or path
        Name of a model of the package or of an added one, or the folder of a model.

    Returns
    -------
    network : Module
        With its weights, in evaluation mode on the CPU.
    description : ModelDescription
        What the model is and how it was trained.

    Raises
    ------
    ArgumentError
        If there is no such model; the known names are in the message.
    CheckpointError
        If its files are damaged or do not fit each other.
    """
    found = find_model(model)
    wanted = network_tensors(found.folder, found.description)
    content = read_weights(found.folder / WEIGHTS, wanted)
    tensors = require_described(found, found.folder, content)
    require_fit(found.folder, found.description, wanted, tensors)
    return _build(found.description, tensors), found.description


def _build(description: ModelDescription, tensors: Mapping[str, Tensor]) -> nn.Module:
    from itk_ncr.networks import build_network

    network = build_network(description.network, **network_settings(description))
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def shipped_models() -> dict[str, ModelDescription]:
    """List the models that come with the package.

    Returns
    -------
    dict of str to ModelDescription
        By name.
    """
    return {name: find_model(name).description for name in shipped_names()}


def installed_models() -> dict[str, ModelDescription]:
    """List the models that the user has added.

    Those whose description cannot be read are left out; :func:`verify_model` reports why.

    Returns
    -------
    dict of str to ModelDescription
        By name.
    """
    found = {}
    for name in installed_names():
        with contextlib.suppress(CheckpointError):
            found[name] = find_model(name).description
    return found


def verify_model(model: str | os.PathLike[str]) -> str:
    """Verify the checksums of a model's files.

    Parameters
    ----------
    model : str or path
        As for :func:`load_model`.

    Returns
    -------
    str
        SHA-256 of the weights.

    Raises
    ------
    ArgumentError
        If there is no such model.
    CheckpointError
        If the weights, or the description beside them, have changed.
    """
    found = find_model(model)
    verified(found)
    return found.sha256


def find_model(model: str | os.PathLike[str]) -> StoredModel:
    """Find a model by name or folder, without loading it.

    Parameters
    ----------
    model : str or path
        As for :func:`load_model`.

    Returns
    -------
    StoredModel
        Folder, description and checksum.

    Raises
    ------
    ArgumentError
        If there is no such model; the known names are in the message.
    CheckpointError
        If its description cannot be read.
    """
    folder = named_folder(str(model)) or Path(model)
    require_no_pickle(folder)
    if not (folder / DESCRIPTION).is_file():
        known = [*shipped_names(), *installed_names()]
        names = f"one of {', '.join(known)}" if known else "the name of one (none is installed)"
        raise ArgumentError(
            f"model must be {names}, or a folder with {DESCRIPTION} and {WEIGHTS}; got '{model}'."
        )
    return read_description(folder)


def _stored(name: str, tensor: Tensor, half: bool) -> Tensor:
    """A tensor as it is kept."""
    import torch

    if not tensor.is_floating_point():
        return tensor
    kept = tensor if not half or name.endswith(FULL_PRECISION) else tensor.to(torch.float16)
    if not torch.isfinite(kept).all():
        raise ArgumentError(
            f"weights must be finite{' in half precision' if half else ''}; got others in {name!r}."
        )
    return kept
