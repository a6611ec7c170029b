"""What a file says about itself, and the small checks that all formats share."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.memory import require_memory

CHUNK = 2**22
# Deflate cannot pack more than 1032 bytes into one.
DEFLATE_LIMIT = 1032


class Refused(Exception):
    """Why a file must not be read, in a few words; the reader adds its name."""


@dataclass
class Header:
    """What matters of a file's header, whatever the format.

    Attributes
    ----------
    size : tuple of int
        Voxels along x, y, z, ... without trailing axes of length 1 beyond the third.
    components : int
        Values in one voxel.
    geometry : dict
        Named (D + 1, D + 1) maps from index to mm, LPS, one of which the reader must arrive at;
        empty if the format holds none.
    lost : tuple of two arrays, optional
        Flat positions and values of voxels that are not finite and that ITK would turn into 0.
    notes : list of str
        What the reader should be warned about.
    """

    size: tuple[int, ...]
    components: int = 1
    geometry: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    lost: tuple[NDArray[np.int64], NDArray[Any]] | None = None
    notes: list[str] = field(default_factory=list)


def require_file(path: Path) -> int:
    """Length of a regular, readable file."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("its name is not valid UTF-8; rename the file or folder") from None
    try:
        status = path.stat()
    except FileNotFoundError:
        raise Refused("no such file") from None
    except (OSError, ValueError) as error:  # too long, a loop of links, a null byte, forbidden
        raise Refused(reason_of(error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise Refused("is a folder; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise Refused("is not a regular file")  # a pipe would wait for ever
    if status.st_size == 0:
        raise Refused("is empty (0 bytes)")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise Refused(reason_of(error)) from None
    return status.st_size


def reason_of(error: Exception) -> str:
    """The system's own words, in lower case."""
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return text[:1].lower() + text[1:]


def require_length(needed: int, length: int) -> None:
    """Refuse a file that is shorter than its header claims."""
    if needed > length:
        raise Refused(f"truncated (header needs {needed} bytes, file has {length})")


def require_claim(size: tuple[int, ...], bytes_per_voxel: int, held: int | None) -> int:
    """Bytes of all voxels; refuse sizes that cannot be true or cannot be held.

    ``held`` is the most that the file can unpack to, if known.
    """
    claimed = bytes_per_voxel
    for n in size:
        if n < 1:
            raise Refused(f"header claims the size {size}")
        claimed *= n
    if held is not None and claimed > held:
        raise Refused(f"truncated (header needs {claimed} bytes, file can hold at most {held})")
    require_memory(2 * claimed, f"an image of size {size}", "Crop or downsample it first.")
    return claimed


def require_spacing(spacing: Any) -> None:
    """Refuse what no image can have; ITK replaces some of these by 1 without a word."""
    values = np.asarray(spacing, np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        raise Refused(f"spacing must be positive and finite; got {tuple(values.tolist())}")


def packed_limit(length: int) -> int:
    """The most that a deflated file of this length can unpack to."""
    return DEFLATE_LIMIT * length


def is_gzip(path: Path) -> bool:
    """Whether the file starts like one."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def plain_chunks(file: IO[bytes], start: int, length: int) -> Iterator[bytes]:
    """``length`` bytes of an open file from ``start``, a few MB at a time."""
    file.seek(start)
    while length > 0 and (chunk := file.read(min(CHUNK, length))):
        length -= len(chunk)
        yield chunk


def gzip_chunks(path: Path, needed: int) -> Iterator[bytes]:
    """The unpacked bytes of a whole .gz file, its checksum included in the check.

    Refuses a file that is damaged or holds less than ``needed`` bytes. What lies beyond is unpacked
    (the checksum stands behind it) and not handed out.
    """
    got = 0
    try:
        with gzip.open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                before, got = got, got + len(chunk)
                if before < needed:
                    yield chunk[: needed - before]
    except EOFError:
        if got < needed:
            require_length(needed, got)
        raise Refused("truncated (its gzip stream has no end)") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        text = str(error)
        what = "its checksum (CRC) does not match" if "CRC" in text else text
        raise Refused(f"damaged gzip file: {what}") from None
    require_length(needed, got)


def require_deflated(packed: Iterator[bytes], needed: int) -> None:
    """Refuse a zlib or gzip stream inside a file that is damaged, cut or too short."""
    stream = zlib.decompressobj(47)  # 32 + 15: finds out by itself whether it is zlib or gzip
    got = 0
    try:
        for chunk in packed:
            while chunk and not stream.eof:
                got += len(stream.decompress(chunk, CHUNK))
                chunk = stream.unconsumed_tail
            if stream.eof:
                break
    except zlib.error as error:
        raise Refused(f"damaged compressed data: {error}") from None
    if not stream.eof or got < needed:
        raise Refused(f"truncated (header needs {needed} bytes, compressed data hold {got})")


def beside(path: Path, name: str) -> Path:
    """A data file named in a header: beside the header unless the name is absolute."""
    other = path.parent / name
    try:
        require_file(other)
    except Refused as refused:
        raise Refused(f"its data file {name!r} {_as_predicate(str(refused))}") from None
    return other


def _as_predicate(reason: str) -> str:
    return "is missing" if reason == "no such file" else reason
