"""NRRD, read without ITK: .nrrd, and .nhdr with its data beside it.

ITK's reader crashes on header lines of a kilobyte, and where a line holds more entries than the
image has axes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.formats.content import (
    BZIP2_LIMIT,
    Content,
    Place,
    Refused,
    beside,
    bunzipped,
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
from itk_ncr.images.formats.words import BLANKS, numbers_in

TYPES = {
    "i1": "signed char, int8, int8_t, char",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
TYPE_OF = {name: code for code, names in TYPES.items() for name in names.split(", ")}
DOMAIN_KINDS = {"domain", "space", "time", "???", "none", "unknown"}
# Signs that lead to left, posterior, superior.
SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
# Fields under two names.
SYNONYMS = {
    "datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip",
    "axismins": "axis mins", "axismaxs": "axis maxs", "centers": "centerings",
}  # fmt: skip
HEADER_LIMIT = 2**20
AXES_LIMIT = 16
HEX_DIGITS = b"0123456789abcdefABCDEF"


def read_nrrd(path: Path, vector: bool) -> Content:
    """Read a .nrrd or .nhdr file; see :class:`Content`."""
    with opened(path) as (file, length):
        fields, begin = _fields(file.read(HEADER_LIMIT))
        sizes = _sizes(fields)
        domain = _domain(fields, sizes)
        components = int(np.prod([n for axis, n in enumerate(sizes) if axis not in domain]))
        while len(domain) > 3 and sizes[domain[-1]] == 1:
            domain = domain[:-1]
        size = tuple(sizes[axis] for axis in domain)
        require_dimensions(size, vector)
        require_components(components, len(size), vector)
        place = _place(fields, domain, sizes)
        notes: list[str] = []
        name = fields.get("data file")
        if name is None:
            flat = _voxels(file, begin, length, fields, sizes, notes)
        elif name.upper().startswith("LIST") or re.search(r"%\d*d", name):
            raise Refused("is spread over several files; convert it to one .nrrd file first")
        else:
            with opened(beside(path, name)) as (data, data_length):
                flat = _voxels(data, 0, data_length, fields, sizes, notes)
    return Content(_arranged(flat, sizes, domain, vector), place, notes)


def _fields(start: bytes) -> tuple[dict[str, str], int]:
    """The header's fields in lower case, and the offset of the data."""
    if not re.match(rb"NRRD000\d", start):
        raise Refused("is not a NRRD file (its magic is missing)")
    found = re.search(rb"\r?\n\r?\n", start)
    if found is None:
        if b"data file:" not in start and b"datafile:" not in start:
            raise Refused("truncated (its header has no end)")
        text, begin = start, len(start)  # a header of its own may end with the file
    else:
        text, begin = start[: found.start()], found.end()
    fields: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").splitlines()[1:]:
        if line.startswith("#") or ":=" in line.split(": ")[0]:
            continue
        key, colon, value = line.partition(":")
        key = SYNONYMS.get(key.strip().lower(), key.strip().lower())
        if colon and key in fields:
            raise Refused(f"its header has two lines of {key[:40]!r}")
        if colon:
            fields[key] = value.strip()
    return fields, begin


def _sizes(fields: dict[str, str]) -> list[int]:
    dimension, sizes = _integers(fields, "dimension"), _integers(fields, "sizes")
    if len(dimension) != 1 or not 1 <= dimension[0] <= AXES_LIMIT:
        raise Refused(f"its header claims {str(dimension)[1:-1][:40]} dimensions")
    if dimension != [len(sizes)]:
        raise Refused(
            f"its header contradicts itself (dimension {dimension[0]}, {len(sizes)} sizes)"
        )
    if min(sizes) < 1:
        raise Refused(f"header claims the size {tuple(sizes)}")
    return sizes


def _voxels(
    file: IO[bytes],
    begin: int,
    length: int,
    fields: dict[str, str],
    sizes: list[int],
    notes: list[str],
) -> NDArray[Any]:
    """The stored numbers, flat."""
    dtype, encoding = _type(fields), fields.get("encoding", "missing").lower()
    begin = _behind_lines(file, begin, _integer(fields, "line skip"))
    skip = _integer(fields, "byte skip")
    held = {"gz": packed_limit(length), "bz": BZIP2_LIMIT * length}.get(encoding[:2])
    claimed = require_claim(tuple(sizes), dtype.itemsize, held)
    if skip < -1 or (skip < 0 and encoding != "raw"):
        raise Refused(f"its header has a byte skip of {skip}, which encoding {encoding} has not")
    chunks = plain_chunks(file, begin, length - begin)
    if encoding == "raw":
        require_length(claimed + (begin + skip if skip >= 0 else 0), length)
        start = begin + skip if skip >= 0 else length - claimed
        note_rest(start + claimed, length, notes)
        return read_array(file, start, claimed).view(dtype)
    if encoding in ("gz", "gzip"):
        return inflated(chunks, claimed, skip, notes=notes).view(dtype)
    if encoding in ("bz2", "bzip2"):
        return bunzipped(chunks, claimed, skip, notes=notes).view(dtype)
    if encoding in ("txt", "text", "ascii"):
        return numbers_in(chunks, claimed // dtype.itemsize, dtype)
    if encoding == "hex":
        return _hexadecimal(chunks, claimed).view(dtype)
    raise Refused(f"its encoding is unknown ({encoding[:40]})")


def _type(fields: dict[str, str]) -> np.dtype[Any]:
    kind = fields.get("type", "missing").lower()
    if kind not in TYPE_OF:
        raise Refused(f"its type is unknown ({kind[:40]})")
    dtype = np.dtype(TYPE_OF[kind])
    endian = fields.get("endian", "missing").lower()
    if dtype.itemsize == 1 or fields.get("encoding", "").lower() in ("txt", "text", "ascii"):
        return dtype
    if endian not in ("little", "big"):
        raise Refused(f"its header does not say in which byte order it is (endian {endian[:40]})")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _behind_lines(file: IO[bytes], begin: int, lines: int) -> int:
    if lines < 0:
        raise Refused(f"its header has a line skip of {lines}, which is not a number of lines")
    file.seek(begin)
    for _ in range(lines):
        if not file.readline():
            raise Refused(f"truncated (it has fewer lines than its line skip of {lines})")
    return file.tell()


def _hexadecimal(chunks: Any, claimed: int) -> NDArray[np.uint8]:
    digits = b"".join(chunk.translate(BLANKS, b" ").replace(b" ", b"") for chunk in chunks)
    require_length(claimed, len(digits) // 2)
    if digits.translate(None, HEX_DIGITS):
        raise Refused("its voxels are not all hexadecimal digits")
    return np.frombuffer(bytearray.fromhex(digits[: 2 * claimed].decode("ascii")), np.uint8)


def _arranged(
    flat: NDArray[Any], sizes: list[int], domain: list[int], vector: bool
) -> NDArray[Any]:
    """Axes in the order (z, y, x), components behind."""
    others = [axis for axis in range(len(sizes)) if axis not in domain]
    order = [*reversed(domain), *others]
    array = flat.reshape(sizes[::-1]).transpose([len(sizes) - 1 - axis for axis in order])
    size = tuple(sizes[axis] for axis in reversed(domain))
    return array.reshape((*size, -1) if vector else size)


def _integer(fields: dict[str, str], key: str) -> int:
    values = _integers(fields, key) if key in fields else [0]
    if len(values) != 1:
        raise Refused(f"its header has unreadable {key} ({fields[key][:60]!r})")
    return values[0]


def _integers(fields: dict[str, str], key: str) -> list[int]:
    if key not in fields:
        raise Refused(f"its header has no {key}")
    try:
        return [int(word) for word in fields[key].split()]
    except ValueError:
        raise Refused(f"its header has unreadable {key} ({fields[key][:60]!r})") from None


def _domain(fields: dict[str, str], sizes: list[int]) -> list[int]:
    """The axes that lie in space."""
    domain = list(range(len(sizes)))
    kinds = _per_axis(fields, "kinds", fields.get("kinds", "").lower().split(), sizes)
    if kinds:
        domain = [axis for axis in domain if kinds[axis] in DOMAIN_KINDS]
        if "complex" in kinds:
            raise Refused("holds complex numbers; convert it to one real number in a voxel")
    directions = _directions(fields, sizes)
    if directions:
        domain = [axis for axis in domain if directions[axis] is not None]
    others = [n for axis, n in enumerate(sizes) if axis not in domain and n > 1]
    if len(others) > 1:
        raise Refused(f"has voxels of {' x '.join(map(str, others))} values; extract one first")
    return domain


def _per_axis(fields: dict[str, str], key: str, values: list[Any], sizes: list[int]) -> list[Any]:
    """The values, one for every axis, or none at all."""
    if key in fields and len(values) != len(sizes):
        raise Refused(
            f"its header contradicts itself (dimension {len(sizes)}, {len(values)} {key})"
        )
    return values


def _directions(fields: dict[str, str], sizes: list[int]) -> list[NDArray[np.float64] | None]:
    key = "space directions"
    return _per_axis(fields, key, _vectors(fields.get(key, "")), sizes)


def _vectors(text: str) -> list[NDArray[np.float64] | None]:
    """``(1,0,0) none (0,1,0)`` as vectors and Nones."""
    vectors: list[NDArray[np.float64] | None] = []
    # At most 400 characters: a vector is shorter, and a text of brackets is searched only once.
    for word in re.findall(r"\([^()]{0,400}\)|none", text):
        try:
            vectors.append(
                None if word == "none" else np.array([float(n) for n in word[1:-1].split(",")])
            )
        except ValueError:
            raise Refused(f"its header has an unreadable vector ({word[:60]})") from None
    return vectors


def _place(fields: dict[str, str], domain: list[int], sizes: list[int]) -> Place:
    """Position of the voxels; signs lead to LPS where the header names a space."""
    if "space directions" not in fields:
        return _upright_place(fields, domain, sizes)
    dimension = len(domain)
    directions = _directions(fields, sizes)
    # An axis of length 1 that was dropped has taken its dimension of space with it.
    space = sum(direction is not None for direction in directions)
    columns = [directions[axis] for axis in domain]
    if any(c is None or len(c) != space or c[dimension:].any() for c in columns):
        raise Refused(
            f"its header has a {dimension}D image in a space of other dimensions "
            f"({fields['space directions'][:60]})"
        )
    axes = [column[:dimension] for column in columns if column is not None]
    signs = SPACES.get(fields.get("space", "").lower(), (1,) * dimension)
    full = np.eye(dimension + 1)
    full[:-1, :-1] = np.stack(axes, axis=1)
    if "space origin" in fields:
        origin = _vectors(fields["space origin"])
        if len(origin) != 1 or origin[0] is None or len(origin[0]) != space:
            raise Refused(
                f"its header has an unreadable space origin ({fields['space origin'][:60]!r})"
            )
        full[:-1, -1] = origin[0][:dimension]
    full[:-1] *= np.asarray(signs[:dimension], np.float64)[:, None]
    if not np.isfinite(full).all():
        raise Refused("its geometry is not finite")
    return Place.of_matrix(full)


def _upright_place(fields: dict[str, str], domain: list[int], sizes: list[int]) -> Place:
    """The place by spacings and axis mins alone; a negative spacing turns its axis, as in ITK."""
    spacing, origin = np.ones(len(domain)), np.zeros(len(domain))
    spacings, starts, ends = (
        _floats(fields, key, sizes) for key in ("spacings", "axis mins", "axis maxs")
    )
    centres = fields.get("centerings", "").lower().split()
    for at, axis in enumerate(domain):
        node = axis < len(centres) and centres[axis] == "node"
        if spacings:
            spacing[at] = spacings[axis]
        elif starts and ends:
            spacing[at] = (ends[axis] - starts[axis]) / max(1, sizes[axis] - node)
        if starts and np.isfinite(starts[axis]):
            origin[at] = starts[axis] + (0 if node else spacing[at] / 2)
    require_spacing(np.abs(spacing))
    if not np.isfinite(origin).all():
        raise Refused("its geometry is not finite")
    return Place(np.abs(spacing), origin, np.diag(np.sign(spacing)))


def _floats(fields: dict[str, str], key: str, sizes: list[int]) -> list[float]:
    try:
        values = [float(word) for word in fields.get(key, "").split()]
    except ValueError:
        raise Refused(f"its header has unreadable {key} ({fields[key][:60]!r})") from None
    if key in fields and len(values) != len(sizes):
        raise Refused(f"its header has unreadable {key} ({fields[key][:60]!r})")
    return values
