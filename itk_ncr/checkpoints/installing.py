"""Installation of models: verified, and copied into the user's data folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from itk_ncr.checkpoints.models import find_model, write_description
from itk_ncr.checkpoints.places import (
    DESCRIPTION,
    WEIGHTS,
    installed_names,
    models_folder,
    shipped_names,
)
from itk_ncr.checkpoints.state import read_record, replace_file, require_no_pickle
from itk_ncr.checkpoints.stored import (
    StoredModel,
    described,
    network_tensors,
    read_description,
    read_weights,
    require_described,
    require_fit,
)
from itk_ncr.errors import ArgumentError, CheckpointError, InputError
from itk_ncr.files import hidden_name, sole_run

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Windows opens devices under these names, whatever their ending.
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def add_model(source: str | os.PathLike[str], name: str | None = None) -> StoredModel:
    """Verify a model and copy it to where it is found by name.

    Nothing is fetched, and nothing in the model is executed: its files hold numbers and JSON. What
    was there already with the same weights stays as it is.

    Parameters
    ----------
    source : path
        Folder of a model, with ``model.json`` and ``weights.safetensors``, or a ``.safetensors``
        file of weights alone: they carry their description.
    name : str, optional
        Name by which it is found from now on: letters, digits, ``.``, ``_`` and ``-``. Default:
        that of its description.

    Returns
    -------
    StoredModel
        The copy, in :func:`models_folder`.

    Raises
    ------
    InputError
        If there is no model at ``source``.
    ArgumentError
        If the name cannot be one, or belongs to another model.
    CheckpointError
        If the model is damaged or incomplete, its weights do not fit its network, or the copy
        cannot be written. Nothing is left behind.
    """
    source = Path(source)
    found, content = _verified(source)
    name = _usable(found.description.name if name is None else name)
    with sole_run(models_folder()):
        present = _present(name)
        if present is not None:
            if present.sha256 == found.sha256 and present.description == found.description:
                return present
            raise ArgumentError(
                f"name of an added model must be free; there is another model {name!r}. Remove it "
                f"first (`itk-ncr models remove {name}`), or give another name (--name)."
            )
        with _unfinished_folder() as folder:
            replace_file(folder / WEIGHTS, content)
            write_description(StoredModel(folder, found.description, found.sha256))
            try:
                os.rename(folder, models_folder() / name)
            except OSError as error:
                raise CheckpointError(
                    f"cannot write '{models_folder() / name}': {error.strerror}."
                ) from error
    return StoredModel(models_folder() / name, found.description, found.sha256)


def remove_model(name: str) -> Path:
    """Remove a model that was added.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    Path
        The folder that it was in.

    Raises
    ------
    ArgumentError
        If no model of this name was added.
    CheckpointError
        If its folder cannot be removed.
    """
    folder = models_folder() / name
    if not NAME.fullmatch(name) or not (folder / DESCRIPTION).is_file():
        added = ", ".join(installed_names()) or "none"
        what = "it comes with the package" if name in shipped_names() else "there is none"
        raise ArgumentError(
            f"name must be that of an added model; got {name!r} ({what}). Added are: {added}."
        )
    with sole_run(models_folder()):
        hidden = models_folder() / hidden_name(".removed")
        try:
            if folder.is_symlink():
                folder.unlink()
                return folder
            # Hidden first: what a killed process leaves is no model, and the next one clears it.
            os.rename(folder, hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise CheckpointError(f"cannot remove '{folder}': {error.strerror}.") from error
    return folder


def _verified(source: Path) -> tuple[StoredModel, bytes]:
    """A model to add, and the content of its file of weights; both are right."""
    require_no_pickle(source)
    found = _described_folder(source) if source.is_dir() else _described_file(source)
    weights = source / WEIGHTS if source.is_dir() else source
    wanted = network_tensors(source, found.description)
    content = read_weights(weights, wanted)
    if not source.is_dir():
        sha256 = hashlib.sha256(content).hexdigest()
        found = StoredModel(found.folder, found.description, sha256)
    tensors = require_described(found, source, content)
    require_fit(source, found.description, wanted, tensors)
    return found, content


def _described_folder(folder: Path) -> StoredModel:
    if not (folder / DESCRIPTION).is_file():
        inner = [path.parent.name for path in sorted(folder.glob(f"*/{DESCRIPTION}"))]
        hint = f"Give '{folder / inner[0]}'" if inner else "Give the folder `model` of a training"
        raise InputError(
            f"folder of a model must hold {DESCRIPTION} and {WEIGHTS}; '{folder}' has no "
            f"{DESCRIPTION}. {hint}."
        )
    return read_description(folder)


def _described_file(path: Path) -> StoredModel:
    """The model that a file of weights describes; its SHA-256 is not known yet."""
    if not path.is_file():
        raise InputError(f"model must be a folder or a file; there is no '{path}'.")
    if path.suffix.lower() != ".safetensors":
        hint = f"Give '{path.parent}'" if path.name == DESCRIPTION else "Unpack an archive first"
        raise InputError(
            f"model must be a folder with {DESCRIPTION} and {WEIGHTS}, or a .safetensors file; "
            f"got '{path}'. {hint}."
        )
    description = described(read_record(path))
    if description is None:
        raise CheckpointError(
            f"cannot read '{path}': it does not describe a model. Give the folder `model` of a "
            "training, or its weights."
        )
    return StoredModel(path.parent, description, "")


def _usable(name: str) -> str:
    """The name if it can be that of a folder on every system."""
    if not NAME.fullmatch(name) or _DEVICES.fullmatch(name) or name.endswith("."):
        raise ArgumentError(
            "name of an added model must have at most 64 letters, digits, '.', '_' and '-', and "
            f"begin with a letter or digit; got {name[:80]!r}. Give another one (--name)."
        )
    # Such a word on the command line is taken for a file that can run code, and refused.
    with contextlib.suppress(CheckpointError):
        require_no_pickle(Path(name))
        return name
    raise ArgumentError(
        f"name of an added model must not end like a pickle; got {name!r}. Give another one "
        "(--name)."
    )


def _present(name: str) -> StoredModel | None:
    """The added model of a name, if there is one.

    Raises
    ------
    ArgumentError
        If the name, or one that differs in capital letters only, is that of another model.
    """
    for other in shipped_names():
        if other.lower() == name.lower():
            raise ArgumentError(
                f"name of an added model must not be that of a model of the package; got {name!r}. "
                "Give another one (--name)."
            )
    for other in installed_names():
        if other.lower() == name.lower():
            if other == name:
                return find_model(other)
            raise ArgumentError(
                f"name of an added model must differ from {other!r} in more than capital letters; "
                f"got {name!r}. Give another one (--name)."
            )
    if os.path.lexists(models_folder() / name):
        raise ArgumentError(
            f"name of an added model must be free; '{models_folder() / name}' exists and holds no "
            "model. Remove it, or give another name (--name)."
        )
    return None


@contextlib.contextmanager
def _unfinished_folder() -> Iterator[Path]:
    """A folder beside the models that is removed unless it is renamed."""
    folder = models_folder() / hidden_name(".partial")
    try:
        folder.mkdir()
    except OSError as error:
        raise CheckpointError(f"cannot write '{folder.parent}': {error.strerror}.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
