"""MetaImage, read without ITK: .mha, and .mhd with its data beside it.

ITK's reader unpacks as many bytes as ``CompressedDataSize`` says and leaves the rest of the voxels
as the memory was.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.formats.content import (
    Content,
    Place,
    Refused,
    beside,
    inflated,
    note_rest,
    opened,
    packed_limit,
    plain_chunks,
    read_array,
    require_claim,
    require_components,
    require_dimensions,
    require_length,
    require_spacing,
)
from itk_ncr.images.formats.words import numbers_in

# MetaIO's own sizes: a LONG has 4 bytes wherever it was written.
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
HEADER_LIMIT = 2**16
AXES_LIMIT = 5
TRUE = ("true", "t", "1")


def read_meta(path: Path, vector: bool) -> Content:
    """Read a .mha or .mhd file; see :class:`Content`."""
    with opened(path) as (file, length):
        fields, start = _fields(file.read(HEADER_LIMIT))
        size, components, dtype = _layout(fields)
        shortened = size
        while len(shortened) > 3 and shortened[-1] == 1:
            shortened = shortened[:-1]
        require_dimensions(shortened, vector)
        require_components(components, len(shortened), vector)
        place = _place(fields, size, len(shortened))
        notes = _notes(fields)
        name = fields["ElementDataFile"]
        if name.upper() == "LOCAL":
            flat = _voxels(file, start, length, fields, size, components, dtype, notes)
        elif name.upper().startswith("LIST") or "%" in name:
            raise Refused("is spread over several files; convert it to one .mha file first")
        else:
            with opened(beside(path, name)) as (data, data_length):
                flat = _voxels(data, 0, data_length, fields, size, components, dtype, notes)
    shape = (*shortened[::-1], components) if vector else shortened[::-1]
    return Content(flat.reshape(shape), place, notes)


def _layout(fields: dict[str, str]) -> tuple[tuple[int, ...], int, np.dtype[Any]]:
    """Size, number of components and type of one number."""
    count = _numbers(fields, "NDims", int)
    if len(count) == 1 and not 1 <= count[0] <= AXES_LIMIT:
        raise Refused(f"its header claims {count[0]} dimensions; 2 or 3 can be read")
    size = tuple(_numbers(fields, "DimSize", int))
    if count != [len(size)]:
        raise Refused(f"its header contradicts itself (NDims {count}, {len(size)} in DimSize)")
    kind = fields.get("ElementType", "").removesuffix("_ARRAY")
    if kind not in TYPES:
        raise Refused(f"its ElementType is unknown ({kind[:40] or 'missing'})")
    components = (_numbers(fields, "ElementNumberOfChannels", int, [1]) or [0])[0]
    if components < 1:
        raise Refused(f"its header claims {components} values in a voxel")
    order = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    dtype = np.dtype((">" if order.lower() in TRUE else "<") + TYPES[kind])
    return size, components, dtype


def _voxels(
    file: IO[bytes],
    start: int,
    length: int,
    fields: dict[str, str],
    size: tuple[int, ...],
    components: int,
    dtype: np.dtype[Any],
    notes: list[str],
) -> NDArray[Any]:
    """The stored numbers, flat; ``start`` is where the header ends."""
    packed = fields.get("CompressedData", "False").lower() in TRUE
    binary = fields.get("BinaryData", "True").lower() in TRUE  # ITK's default
    held = packed_limit(length) if packed else None
    claimed = require_claim(size, dtype.itemsize * components, held)
    skip = (_numbers(fields, "HeaderSize", int, [0]) or [0])[0]
    if skip == -1 and binary and not packed:
        require_length(claimed, length)
        return read_array(file, length - claimed, claimed).view(dtype)
    if skip < 0:
        raise Refused(f"its header has an unreadable HeaderSize ({skip})")
    begin = start or skip  # there is nothing to skip between a header and its own data
    if packed:
        return inflated(plain_chunks(file, begin, length - begin), claimed, notes=notes).view(dtype)
    if binary:
        require_length(begin + claimed, length)
        note_rest(begin + claimed, length, notes)
        return read_array(file, begin, claimed).view(dtype)
    return numbers_in(plain_chunks(file, begin, length - begin), claimed // dtype.itemsize, dtype)


def _fields(start: bytes) -> tuple[dict[str, str], int]:
    """The header's fields, and where it ends."""
    fields: dict[str, str] = {}
    at = 0
    while (end := start.find(b"\n", at)) >= 0:
        key, found, value = start[at:end].decode("latin-1").partition("=")
        if not found or ":" in key:
            key, found, value = start[at:end].decode("latin-1").partition(":")
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
    except (ValueError, OverflowError):
        raise Refused(f"its header has an unreadable {key} ({fields[key][:60]!r})") from None


def _place(fields: dict[str, str], size: tuple[int, ...], dimension: int) -> Place:
    def first(keys: tuple[str, ...], default: list[float]) -> list[float]:
        for key in keys:
            if key in fields:
                return _numbers(fields, key, float)
        return default

    total = len(size)
    spacing = first(("ElementSpacing", "ElementSize"), [1.0] * total)
    origin = first(("Offset", "Origin", "Position"), [0.0] * total)
    matrix = first(("TransformMatrix", "Rotation", "Orientation"), np.eye(total).ravel().tolist())
    if len(spacing) != total or len(origin) != total or len(matrix) != total**2:
        raise Refused("its header has the wrong number of spacings, offsets or directions")
    require_spacing(spacing[:dimension])
    if not np.isfinite([*origin, *matrix]).all():
        raise Refused("its geometry is not finite")
    # Each row of the file is the direction of one axis: the transpose of ITK's matrix.
    direction = np.reshape(matrix, (total, total)).T[:dimension, :dimension]
    return Place(np.array(spacing[:dimension]), np.array(origin[:dimension]), direction)


def _notes(fields: dict[str, str]) -> list[str]:
    """Entries that ITK ignores too, but that may matter."""
    slope = _numbers(fields, "ElementToIntensityFunctionSlope", float, [1.0])
    offset = _numbers(fields, "ElementToIntensityFunctionOffset", float, [0.0])
    if (slope, offset) == ([1.0], [0.0]):
        return []
    return ["its intensity function (slope and offset) is ignored, as ITK does"]
