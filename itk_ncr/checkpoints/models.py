"""Trained models: a folder each, with weights, description and card.

``weights.safetensors`` holds the tensors, ``model.json`` the description and the SHA-256 of the
weights, ``card.md`` the description for people. Nothing outside the folder is ever read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    parse_state,
    read_json,
    read_state,
    replace_file,
    require_no_pickle,
    write_state,
)
from itk_ncr.errors import ArgumentError, CheckpointError, NCRError

if TYPE_CHECKING:
    from torch import Tensor, nn

# Batch normalisation divides by these: eleven bits are too few.
FULL_PRECISION = ("running_mean", "running_var")
MOST_SETTINGS = 4000  # characters; ours have less than 100
LARGEST_DESCRIPTION = 4_000_000  # bytes; ours have some thousand
WIDEST_NUMBER = 8  # bytes


@dataclass(frozen=True)
class StoredModel:
    """Location and description of a model; its weights are not loaded.

    Attributes
    ----------
    folder : Path
    description : ModelDescription
    sha256 : str
        Of the file of weights, as it was written.
    """

    folder: Path
    description: ModelDescription
    sha256: str


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
    stored = StoredModel(folder, description, _sha256(folder / WEIGHTS))
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


def network_tensors(source: Path, description: ModelDescription) -> dict[str, Tensor]:
    """The tensors of the network that a description names, without memory (device "meta").

    Parameters
    ----------
    source : Path
        What an error calls the model.
    description : ModelDescription

    Raises
    ------
    CheckpointError
        If there is no such network, or its settings are wrong.
    """
    import torch

    from itk_ncr.networks import build_network

    settings = _network_settings(description)
    if len(str(settings)) > MOST_SETTINGS:
        raise CheckpointError(
            f"cannot build the network of model '{source}': its settings are "
            f"{len(str(settings))} characters long. Take another copy."
        )
    try:
        # Shapes only: settings of a damaged description may ask for more memory than there is.
        with torch.device("meta"):
            return build_network(description.network, **settings).state_dict()
    except (NCRError, TypeError, ValueError, RuntimeError, OverflowError, LookupError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise CheckpointError(
            f"cannot build the network of model '{source}': {reason}. Take another copy, or "
            "install the version of itk_ncr that trained it."
        ) from error


def read_weights(path: Path, wanted: Mapping[str, Tensor]) -> bytes:
    """The content of a file of weights, if its size is that of a network's tensors.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is far larger than the tensors; then it is not read.
    """
    most = sum(tensor.numel() for tensor in wanted.values()) * WIDEST_NUMBER
    most += 2 * LARGEST_DESCRIPTION
    if not path.is_file():
        raise CheckpointError(f"cannot read '{path}': there is no such file.")
    try:
        with path.open("rb") as file:
            content = file.read(min(most, path.stat().st_size) + 1)
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {error.strerror}.") from error
    if len(content) > most:
        raise CheckpointError(
            f"weights '{path}' must have at most {most} bytes, what their network needs; got more. "
            "Take another copy."
        )
    return content


def require_fit(
    source: Path,
    description: ModelDescription,
    wanted: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    """Refuse weights that are not those of the network, or not finite.

    Raises
    ------
    CheckpointError
        With the first tensor that is wrong.
    """
    import torch

    odd = sorted(
        n
        for n in wanted.keys() | tensors.keys()
        if n not in wanted or n not in tensors or wanted[n].shape != tensors[n].shape
    )
    if odd:
        raise CheckpointError(
            f"weights of model '{source}' must fit its network {description.network!r}; "
            f"{len(odd)} tensors do not, {odd[0]!r} first. Take another copy."
        )
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"weights of model '{source}' must be finite; got others in {name!r}. "
                "Take another copy."
            )


def _build(description: ModelDescription, tensors: Mapping[str, Tensor]) -> nn.Module:
    from itk_ncr.networks import build_network

    network = build_network(description.network, **_network_settings(description))
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _network_settings(description: ModelDescription) -> dict[str, Any]:
    return {**description.network_settings, "dimension": description.dimension}


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
    _verified(found)
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


def read_description(folder: Path) -> StoredModel:
    """The model in a folder, without its weights.

    Raises
    ------
    CheckpointError
        If ``model.json`` cannot be read, or is not what a model's description is.
    """
    path = folder / DESCRIPTION
    try:
        if path.stat().st_size > LARGEST_DESCRIPTION:
            raise ValueError(f"it is larger than {LARGEST_DESCRIPTION} bytes")
        content = read_json(path.read_text(encoding="utf-8"))
        description = ModelDescription.from_dict(content["description"])
        sha256 = content["sha256"]
        if not isinstance(sha256, str):
            raise ValueError("its sha256 is not text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, KeyError):
            reason = f"it lacks the entry {reason}"
        elif not isinstance(error, ValueError):
            reason = f"it is not what a model's description is ({reason})"
        raise CheckpointError(
            f"cannot read '{path}': {reason.rstrip('.')}. Take another copy."
        ) from error
    return StoredModel(folder, description, sha256)


def _verified(found: StoredModel) -> Mapping[str, Tensor]:
    """The weights of a model, if its three files agree."""
    path = found.folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"cannot read '{path}': there is no such file.")
    _require_sha256(found.folder, found.sha256, _sha256(path))
    tensors, record = read_state(path)
    _require_same_description(found, found.folder, record)
    return tensors


def require_described(found: StoredModel, source: Path, content: bytes) -> Mapping[str, Tensor]:
    """The tensors in the content of a file of weights, if it is what a description says.

    Parameters
    ----------
    found : StoredModel
        The description and the SHA-256 to expect.
    source : Path
        What an error calls the model.
    content : bytes
        Of the file of weights.

    Raises
    ------
    CheckpointError
        If the content is damaged, or not that of the description.
    """
    _require_sha256(source, found.sha256, hashlib.sha256(content).hexdigest())
    tensors, record = parse_state(content, source / WEIGHTS if source.is_dir() else source)
    _require_same_description(found, source, record)
    return tensors


def _require_sha256(source: Path, wanted: str, found: str) -> None:
    if found != wanted:
        raise CheckpointError(
            f"cannot use model '{source}': SHA-256 of {WEIGHTS} must be {wanted}; got {found}. "
            "Take another copy."
        )


def _require_same_description(found: StoredModel, source: Path, record: Mapping[str, Any]) -> None:
    written = described(record)
    if written is not None and written.orientation is None:
        # Weights of 2D models may be older than the entry; model.json then adds it.
        written = dataclasses.replace(written, orientation=found.description.orientation)
    if written != found.description:
        raise CheckpointError(
            f"cannot use model '{source}': {DESCRIPTION} is not the description its weights "
            "were written with. Take another copy."
        )


def described(record: Mapping[str, Any]) -> ModelDescription | None:
    """The description that was written with weights; newer fields have their default."""
    try:
        return ModelDescription.from_dict(record["description"])
    except (ArgumentError, KeyError, TypeError):
        return None


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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for part in iter(lambda: file.read(1 << 20), b""):
                digest.update(part)
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {error.strerror}.") from error
    return digest.hexdigest()
