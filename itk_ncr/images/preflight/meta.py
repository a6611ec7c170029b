"""MetaImage: .mha, and .mhd with its data beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from itk_ncr.images.preflight.header import (
    Header,
    Refused,
    beside,
    packed_limit,
    plain_chunks,
    require_claim,
    require_deflated,
    require_file,
    require_length,
    require_spacing,
)

BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}  # fmt: skip
HEADER_LIMIT = 2**16


def inspect_meta(path: Path) -> Header:
    """Check a .mha or .mhd file; see :class:`Header`."""
    length = require_file(path)
    with path.open("rb") as file:
        fields, start = _fields(file.read(HEADER_LIMIT))
    size = tuple(_numbers(fields, "DimSize", int))
    count = _numbers(fields, "NDims", int)
    if count != [len(size)]:
        raise Refused(f"its header contradicts itself (NDims {count}, DimSize {size})")
    kind = fields.get("ElementType", "")
    kind = kind.removesuffix("_ARRAY")
    if kind not in BYTES:
        raise Refused(f"its ElementType is unknown ({kind or 'missing'})")
    components = _numbers(fields, "ElementNumberOfChannels", int, [1])[0]
    if components < 1:
        raise Refused(f"its header claims {components} values in a voxel")
    packed = fields.get("CompressedData", "False").lower() in ("true", "t", "1")
    data, begin = path, start
    name = fields["ElementDataFile"]
    if name.upper() != "LOCAL":
        if name.upper().startswith("LIST") or "%" in name:
            raise Refused("is spread over several files; convert it to one .mha file first")
        data, begin = beside(path, name), max(0, _numbers(fields, "HeaderSize", int, [0])[0])
        length = require_file(data)
    claimed = require_claim(
        size, BYTES[kind] * components, packed_limit(length) if packed else None
    )
    if packed:
        with data.open("rb") as file:
            require_deflated(plain_chunks(file, begin, length - begin), claimed)
    elif fields.get("BinaryData", "False").lower() in ("true", "t", "1"):
        require_length(begin + claimed, length)
    else:
        _require_words(data, begin, claimed // BYTES[kind])
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    if len(size) not in (2, 3):
        raise Refused(f"is {len(size)}D (size {size}); extract one volume first")
    return Header(size, components, geometry={"header": _geometry(fields, len(size))})


def _fields(start: bytes) -> tuple[dict[str, str], int]:
    """The header's fields, and where it ends."""
    fields: dict[str, str] = {}
    at = 0
    while (end := start.find(b"\n", at)) >= 0:
        key, found, value = start[at:end].decode("latin-1").partition("=")
        at = end + 1
        if not found:
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            # File names may hold any character, numbers and words are ASCII.
            fields["ElementDataFile"] = value.strip().encode("latin-1").decode("utf-8", "replace")
            return fields, at
    raise Refused("is not a MetaImage file (its header has no ElementDataFile)")


def _numbers(
    fields: dict[str, str], key: str, kind: type, default: list[Any] | None = None
) -> list[Any]:
    if key not in fields:
        if default is None:
            raise Refused(f"its header has no {key}")
        return default
    try:
        return [kind(word) for word in fields[key].split()]
    except ValueError:
        raise Refused(f"its header has an unreadable {key} ({fields[key]!r})") from None


def _geometry(fields: dict[str, str], dimension: int) -> np.ndarray:
    def first(keys: tuple[str, ...], default: list[float]) -> list[float]:
        for key in keys:
            if key in fields:
                return _numbers(fields, key, float)
        return default

    total = len(fields["DimSize"].split())
    spacing = first(("ElementSpacing", "ElementSize"), [1.0] * total)
    origin = first(("Offset", "Position", "Origin"), [0.0] * total)
    matrix = first(("TransformMatrix", "Rotation", "Orientation"), np.eye(total).ravel().tolist())
    if len(spacing) != total or len(origin) != total or len(matrix) != total**2:
        raise Refused("its header has the wrong number of spacings, offsets or directions")
    require_spacing(spacing[:dimension])
    full = np.eye(dimension + 1)
    # Each row of the file is the direction of one axis: the transpose of ITK's matrix.
    direction = np.reshape(matrix, (total, total)).T[:dimension, :dimension]
    full[:-1, :-1] = direction * np.asarray(spacing[:dimension])
    full[:-1, -1] = origin[:dimension]
    if not np.isfinite(full).all():
        raise Refused("its geometry is not finite")
    return full


def _require_words(path: Path, begin: int, needed: int) -> None:
    """Refuse text data with too few numbers."""
    with path.open("rb") as file:
        file.seek(begin)
        got = sum(len(line.split()) for line in file)
    if got < needed:
        raise Refused(f"truncated (header needs {needed} numbers, file has {got})")
