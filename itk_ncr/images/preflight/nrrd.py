"""NRRD: .nrrd, and .nhdr with its data beside it."""

from __future__ import annotations

import bz2
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.preflight.header import (
    CHUNK,
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
    1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t, char",
    2: "short, short int, signed short, signed short int, int16, int16_t, ushort, unsigned short, "
    "unsigned short int, uint16, uint16_t",
    4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
    8: "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t, ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
}
BYTES_OF = {name: size for size, names in BYTES.items() for name in names.split(", ")}
DOMAIN_KINDS = {"domain", "space", "time", "???", "none", "unknown"}
# Signs that lead to left, posterior, superior.
SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
HEADER_LIMIT = 2**20


def inspect_nrrd(path: Path) -> Header:
    """Check a .nrrd or .nhdr file; see :class:`Header`."""
    length = require_file(path)
    with path.open("rb") as file:
        fields, begin = _fields(file.read(HEADER_LIMIT))
    sizes = _integers(fields, "sizes")
    if _integers(fields, "dimension") != [len(sizes)]:
        raise Refused(f"its header contradicts itself (dimension, sizes {tuple(sizes)})")
    kind = fields.get("type", "missing").lower()
    if kind not in BYTES_OF:
        raise Refused(f"its type is unknown ({kind})")
    data = path
    name = fields.get("data file", fields.get("datafile"))
    if name is not None:
        if name.upper().startswith("LIST") or re.search(r"%\d*d", name):
            raise Refused("is spread over several files; convert it to one .nrrd file first")
        data, begin = beside(path, name), 0
        length = require_file(data)
    encoding = fields.get("encoding", "missing").lower()
    deflated = encoding in ("gz", "gzip")
    claimed = require_claim(
        tuple(sizes), BYTES_OF[kind], packed_limit(length) if deflated else None
    )
    with data.open("rb") as file:
        _require_data(file, fields, encoding, begin, length, claimed, claimed // BYTES_OF[kind])
    domain = _domain(fields, sizes)
    components = int(np.prod([n for axis, n in enumerate(sizes) if axis not in domain]))
    while len(domain) > 3 and sizes[domain[-1]] == 1:
        domain = domain[:-1]
    size = tuple(sizes[axis] for axis in domain)
    if len(size) not in (2, 3):
        raise Refused(f"is {len(size)}D (size {size}); extract one volume first")
    return Header(size, components, geometry=_geometry(fields, domain))


def _fields(start: bytes) -> tuple[dict[str, str], int]:
    """The header's fields in lower case, and where the data begin."""
    if not re.match(rb"NRRD000\d", start):
        raise Refused("is not a NRRD file (its magic is missing)")
    found = re.search(rb"\r?\n\r?\n", start)
    if found is None:
        if b"data file:" not in start and b"datafile:" not in start:
            raise Refused("truncated (its header has no end)")
        text, begin = start, len(start)  # a header of its own may end with the file
    else:
        text, begin = start[: found.start()], found.end()
    fields = {}
    for line in text.decode("utf-8", "replace").splitlines()[1:]:
        if line.startswith("#") or ":=" in line.split(": ")[0]:
            continue
        key, colon, value = line.partition(":")
        if colon:
            fields[key.strip().lower()] = value.strip()
    return fields, begin


def _require_data(
    file: IO[bytes],
    fields: dict[str, str],
    encoding: str,
    begin: int,
    length: int,
    claimed: int,
    numbers: int,
) -> None:
    """Refuse voxels that are not all there."""
    lines = int(fields.get("line skip", fields.get("lineskip", "0")))
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    file.seek(begin)
    for _ in range(lines):
        file.readline()
    begin = file.tell()
    if encoding == "raw":
        require_length(claimed + (begin + skip if skip >= 0 else 0), length)
    elif encoding in ("gz", "gzip"):
        require_deflated(plain_chunks(file, begin, length - begin), claimed + max(0, skip))
    elif encoding in ("bz2", "bzip2"):
        _require_bzip2(plain_chunks(file, begin, length - begin), claimed + max(0, skip))
    elif encoding in ("txt", "text", "ascii"):
        got = sum(len(re.split(rb"[\s,]+", line.strip())) for line in file if line.strip())
        if got < numbers:
            raise Refused(f"truncated (header needs {numbers} numbers, file has {got})")
    elif encoding == "hex":
        got = sum(len(b"".join(line.split())) for line in file) // 2
        require_length(claimed, got)
    else:
        raise Refused(f"its encoding is unknown ({encoding})")


def _require_bzip2(packed: Iterator[bytes], needed: int) -> None:
    stream = bz2.BZ2Decompressor()
    got = 0
    try:
        for chunk in packed:
            data = chunk
            while not stream.eof:
                got += len(stream.decompress(data, CHUNK))
                data = b""
                if stream.needs_input:
                    break
    except OSError as error:
        raise Refused(f"damaged compressed data: {error}") from None
    if not stream.eof or got < needed:
        raise Refused(f"truncated (header needs {needed} bytes, compressed data hold {got})")


def _integers(fields: dict[str, str], key: str) -> list[int]:
    if key not in fields:
        raise Refused(f"its header has no {key}")
    try:
        return [int(word) for word in fields[key].split()]
    except ValueError:
        raise Refused(f"its header has unreadable {key} ({fields[key]!r})") from None


def _domain(fields: dict[str, str], sizes: list[int]) -> list[int]:
    """The axes that lie in space."""
    domain = list(range(len(sizes)))
    kinds = fields.get("kinds", "").lower().split()
    if len(kinds) == len(sizes):
        domain = [axis for axis in domain if kinds[axis] in DOMAIN_KINDS]
        if "complex" in kinds:
            raise Refused("holds complex numbers; convert it to one real number in a voxel")
    directions = _vectors(fields.get("space directions", ""))
    if len(directions) == len(sizes):
        domain = [axis for axis in domain if directions[axis] is not None]
    return domain


def _vectors(text: str) -> list[NDArray[np.float64] | None]:
    """``(1,0,0) none (0,1,0)`` as vectors and Nones."""
    vectors: list[NDArray[np.float64] | None] = []
    for word in re.findall(r"\([^)]*\)|none", text):
        try:
            vectors.append(
                None if word == "none" else np.array([float(n) for n in word[1:-1].split(",")])
            )
        except ValueError:
            raise Refused(f"its header has an unreadable vector ({word})") from None
    return vectors


def _geometry(fields: dict[str, str], domain: list[int]) -> dict[str, NDArray[np.float64]]:
    """Index to mm, if the header says so in a space that has a meaning for ITK."""
    dimension = len(domain)
    if "spacings" in fields:
        try:
            spacings = [float(word) for word in fields["spacings"].split()]
            require_spacing([abs(spacings[axis]) for axis in domain])
        except (ValueError, IndexError):
            raise Refused(f"its header has unreadable spacings ({fields['spacings']!r})") from None
    directions = _vectors(fields.get("space directions", ""))
    if not directions:
        return {}
    columns = [directions[axis] for axis in domain if axis < len(directions)]
    if len(columns) != dimension or any(c is None or len(c) != dimension for c in columns):
        return {}
    signs = SPACES.get(fields.get("space", "").lower(), (1,) * dimension)
    origin = _vectors(fields.get("space origin", ""))
    full = np.eye(dimension + 1)
    full[:-1, :-1] = np.stack(columns, axis=1)  # type: ignore[arg-type]
    if origin and origin[0] is not None and len(origin[0]) == dimension:
        full[:-1, -1] = origin[0]
    full[:-1] *= np.asarray(signs[:dimension], np.float64)[:, None]
    if not np.isfinite(full).all():
        raise Refused("its geometry is not finite")
    require_spacing(np.linalg.norm(full[:-1, :-1], axis=0))
    return {"header": full}
