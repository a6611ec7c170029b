"""Named tensors and a JSON record in one file, written atomically with a checksum.

The file is a safetensors file, which holds numbers and cannot hold code. Its metadata has one
entry: JSON with the record, a version, and a SHA-256 over record and tensors, for a flipped bit in
a weight would otherwise load without a word.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.errors import ArgumentError, CheckpointError
from itk_ncr.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
# The one entry of the metadata: with more, safetensors writes them in an order that changes from
# run to run, and equal states would not be equal files.
ENTRY = "itk_ncr"
# Levels of lists and objects in a record; ours have six.
DEEPEST = 32
# Bytes of a safetensors header that are read without the tensors; ours have some ten thousand.
LARGEST_HEADER = 16_000_000
# Files of these names are pickles as a rule: reading one runs whatever its author put in.
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")


def write_state(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], record: Mapping[str, Any]
) -> None:
    """Write tensors and a record so that the file is complete, or as it was before.

    Parameters
    ----------
    path : path
        Replaced if it exists; its folder must exist. Nothing else is ever visible under this name.
    tensors : mapping of str to Tensor
        Of any device and type; copied to the CPU.
    record : mapping
        Plain JSON values; numbers must be finite.

    Raises
    ------
    ArgumentError
        If the record is not JSON.
    CheckpointError
        If the file cannot be written. Nothing is left behind.
    """
    from safetensors.torch import save

    # Copies: tensors may be views of each other, which the format does not know.
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    try:
        text = json.dumps(record, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"record must hold plain JSON values and finite numbers; {error}."
        ) from error
    entry = {"version": FORMAT_VERSION, "sha256": _digest(plain, text), "record": text}
    replace_file(Path(path), save(plain, metadata={ENTRY: json.dumps(entry, sort_keys=True)}))


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by :func:`write_state`.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    tensors : dict of str to Tensor
        On the CPU.
    record : dict
        The values that were saved with them.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, damaged, not of this package, or of a later version.
    """
    path = Path(path)
    require_no_pickle(path)
    if not path.is_file():
        raise CheckpointError(f"cannot read '{path}': there is no such file.")
    try:
        # Read once: header and tensors of a file that is being replaced must not be of two files.
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {_line(error)}.") from error
    return parse_state(content, path)


def parse_state(content: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """:func:`read_state` for the content of a file; ``path`` is its name in errors."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
        entry = _entry(path, _metadata(content))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"cannot read '{path}': it is not a safetensors file, or truncated ({_line(error)})."
        ) from error
    if _digest(tensors, entry["record"]) != entry["sha256"]:
        raise CheckpointError(
            f"cannot read '{path}': it is damaged (its SHA-256 is not that of its content). "
            "Take another copy."
        )
    return tensors, _record(path, entry)


def read_record(path: Path) -> dict[str, Any]:
    """The record alone, from the header of the file; nothing is verified and no tensor read.

    Raises
    ------
    CheckpointError
        If the header is missing, damaged, or not of this package.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            content = start + file.read(min(int.from_bytes(start, "little"), LARGEST_HEADER))
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {_line(error)}.") from error
    try:
        metadata = _metadata(content)
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"cannot read '{path}': it is not a safetensors file, or truncated ({_line(error)})."
        ) from error
    return _record(path, _entry(path, metadata))


def _record(path: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    try:
        record = read_json(entry["record"])
    except ValueError as error:
        raise CheckpointError(f"cannot read '{path}': its record: {_line(error)}.") from None
    if not isinstance(record, dict):
        raise CheckpointError(f"cannot read '{path}': its record must be an object.")
    return record


def read_json(text: str) -> Any:
    """Parse JSON that is finite and not deeply nested.

    Raises
    ------
    ValueError
        If it is not JSON, holds a number that is not finite, or is nested too deeply.
    """

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise ValueError(f"its numbers must be finite; got {number[:20]}")
        return value

    try:
        value = json.loads(text, parse_float=finite, parse_constant=finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _require_shallow(value)
    return value


def _require_shallow(value: Any) -> None:
    """Refuse nesting beyond what a record has, which recursion could not follow."""
    layer = [value]
    for _ in range(DEEPEST):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return
    raise ValueError("it is nested too deeply")


def require_no_pickle(path: Path) -> None:
    """Refuse file names of formats that can execute code when opened."""
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(
            f"weights must be a .safetensors file or a model's folder; got '{path}'. Files of this "
            "kind can run code when they are opened, so this one was not."
        )


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically, flushed to disk first.

    Raises
    ------
    CheckpointError
        If the file cannot be replaced; the old one stays.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise CheckpointError(f"cannot write '{path}': {_line(error)}.") from error


def _metadata(content: bytes) -> Mapping[str, str] | None:
    """The metadata of a safetensors file that was read without error."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__")


def _entry(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Our entry of a file's metadata."""
    try:
        entry = read_json((metadata or {})[ENTRY])
        version = int(entry["version"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise CheckpointError(
            f"cannot read '{path}': it was not written by itk_ncr. Give a file of `itk-ncr train`."
        ) from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"cannot read '{path}': its format has version {version}, this program knows "
            f"{FORMAT_VERSION}. Install a later itk_ncr."
        )
    if not isinstance(entry.get("record"), str) or not isinstance(entry.get("sha256"), str):
        raise CheckpointError(f"cannot read '{path}': its record is damaged. Take another copy.")
    return dict(entry)


def _digest(tensors: Mapping[str, Tensor], record: str) -> str:
    """SHA-256 of the record and of every tensor's name, type, shape and values."""
    import torch

    digest = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()).rstrip(".")
