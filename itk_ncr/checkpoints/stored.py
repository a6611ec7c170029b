"""A stored model, and the checks of its files before they are used."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.checkpoints.description import ModelDescription
from itk_ncr.checkpoints.places import (
    DESCRIPTION,
    WEIGHTS,
)
from itk_ncr.checkpoints.state import (
    parse_state,
    read_json,
    read_state,
)
from itk_ncr.errors import ArgumentError, CheckpointError, NCRError

if TYPE_CHECKING:
    from torch import Tensor

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

    settings = network_settings(description)
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


def network_settings(description: ModelDescription) -> dict[str, Any]:
    """Arguments of ``build_network`` besides the name."""
    return {**description.network_settings, "dimension": description.dimension}


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


def verified(found: StoredModel) -> Mapping[str, Tensor]:
    """The weights of a model, if its three files agree."""
    path = found.folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"cannot read '{path}': there is no such file.")
    _require_sha256(found.folder, found.sha256, sha256_of(path))
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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or a :class:`CheckpointError` if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for part in iter(lambda: file.read(1 << 20), b""):
                digest.update(part)
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {error.strerror}.") from error
    return digest.hexdigest()
