"""Common output of all formats, and the small checks that they share."""

from __future__ import annotations

import bz2
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.memory import require_memory

CHUNK = 2**22
# Deflate cannot pack more than 1032 bytes into one.
DEFLATE_LIMIT = 1032
# bzip2 packs at most 900,000 bytes of one value into some 40.
BZIP2_LIMIT = 2**15
DISPLACEMENT_ADVICE = (
    "A displacement field in NIfTI has the size (x, y, z, 1, 3), (x, y, 1, 1, 2) in 2D, "
    "and intent 1006 or 1007. Fields in voxels, of Learn2Reg or VoxelMorph: `itk-ncr convert`"
)


class Refused(Exception):
    """Reason not to read a file, in a few words; the reader adds its name."""


@dataclass(frozen=True)
class Place:
    """Spacing, origin and direction along (x, y, z), mm, LPS, not yet checked."""

    spacing: NDArray[np.float64]
    origin: NDArray[np.float64]
    direction: NDArray[np.float64]

    @classmethod
    def of_matrix(cls, to_mm: NDArray[np.float64]) -> Place:
        """The place of a (D + 1, D + 1) matrix from index to mm."""
        steps = np.linalg.norm(to_mm[:-1, :-1], axis=0)
        require_spacing(steps)
        return cls(steps, to_mm[:-1, -1], to_mm[:-1, :-1] / steps)


@dataclass
class Content:
    """The voxels of a file and where they lie.

    Attributes
    ----------
    array : ndarray, shape (z, y, x) or (y, x), and an axis of components for vectors
        Values, scaled as the header says.
    place : Place
        As the header has it: directions may be off by rounding.
    notes : list of str
        What the reader should be warned about.
    """

    array: NDArray[Any]
    place: Place
    notes: list[str] = field(default_factory=list)


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """A regular, readable file and its length.

    One open file serves all of a check and its read, so that no other content can come between.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("its name is not valid UTF-8; rename the file or folder") from None
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Refused("is a folder; name a file in it")
        if not stat.S_ISREG(status.st_mode):
            raise Refused("is not a regular file")  # a pipe would wait for ever
        if status.st_size == 0:
            raise Refused("is empty (0 bytes)")
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise Refused("no such file") from None
    except OSError as error:  # too long, a loop of links, forbidden, a failing disk
        raise Refused(reason_of(error)) from None


def require_file(path: Path) -> int:
    """Length of a regular, readable file."""
    with opened(path) as (_, length):
        return length


def reason_of(error: Exception) -> str:
    """The system's own words, in lower case."""
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return text[:1].lower() + text[1:]


def note_rest(needed: int, length: int, notes: list[str]) -> None:
    """Note bytes behind the voxels: as a rule the header's size is not that of the image."""
    if length > needed:
        notes.append(f"the file has {length - needed} bytes more than its header needs")


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
    """Refuse what no image can have."""
    values = np.asarray(spacing, np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        raise Refused(f"spacing must be positive and finite; got {tuple(values.tolist())}")


def require_components(components: int, dimension: int, vector: bool) -> None:
    """Refuse colours where a scalar image is wanted, and scalars where vectors are."""
    if not vector and components != 1:
        colours = {3: " (RGB colours or vectors)", 4: " (RGBA colours)"}.get(components, "")
        raise Refused(
            f"has {components} values in every voxel{colours}; convert it to one, such as grey"
        )
    if vector and components != dimension:
        values = f"{components} value{'s' * (components > 1)}"
        raise Refused(f"has {values} in every voxel; a displacement has {dimension}")


def require_dimensions(size: tuple[int, ...], vector: bool) -> None:
    """Refuse images that are neither 2D nor 3D."""
    if len(size) in (2, 3):
        return
    if vector:
        raise Refused(f"is {len(size)}D (size {size}); it must be 2D or 3D with vectors as voxels")
    raise Refused(f"is {len(size)}D (size {size}); extract one volume first")


def packed_limit(length: int) -> int:
    """The most that a deflated file of this length can unpack to."""
    return DEFLATE_LIMIT * length


def read_array(file: IO[bytes], start: int, count: int) -> NDArray[np.uint8]:
    """``count`` bytes of an open file from ``start``."""
    buffer = np.empty(count, np.uint8)
    file.seek(start)
    got, view = 0, memoryview(buffer.data)
    while got < count:
        read = file.readinto(view[got : got + CHUNK])  # type: ignore[attr-defined]
        if not read:
            require_length(start + count, start + got)
        got += read
    return buffer


def plain_chunks(file: IO[bytes], start: int, length: int) -> Iterator[bytes]:
    """``length`` bytes of an open file from ``start``, a few MB at a time."""
    file.seek(start)
    while length > 0 and (chunk := file.read(min(CHUNK, length))):
        length -= len(chunk)
        yield chunk


def inflated(
    packed: Iterable[bytes],
    needed: int,
    skip: int = 0,
    held: str = "compressed data hold",
    *,
    notes: list[str],
) -> NDArray[np.uint8]:
    """``needed`` bytes behind the first ``skip`` of a zlib or gzip stream, its checksum checked.

    Refuses a stream that is damaged, cut or too short. What lies beyond is unpacked, for the
    checksum stands behind it, and not kept but noted.
    """
    buffer, got = np.empty(needed, np.uint8), 0
    for piece in _pieces(packed, notes):
        _put(buffer, piece, got - skip)
        got += len(piece)
    if got < skip + needed:
        raise Refused(f"truncated (header needs {skip + needed} bytes, {held} {got})")
    note_rest(skip + needed, got, notes)
    return buffer


def bunzipped(
    packed: Iterable[bytes], needed: int, skip: int = 0, *, notes: list[str]
) -> NDArray[np.uint8]:
    """``needed`` bytes behind the first ``skip`` of a bzip2 stream."""
    buffer, got, stream = np.empty(needed, np.uint8), 0, bz2.BZ2Decompressor()
    try:
        for chunk in packed:
            data = chunk
            while not stream.eof:
                piece = stream.decompress(data, CHUNK)
                _put(buffer, piece, got - skip)
                got, data = got + len(piece), b""
                if stream.needs_input:
                    break
    except OSError as error:
        raise Refused(f"damaged compressed data: {error}") from None
    if not stream.eof or got < skip + needed:
        raise Refused(f"truncated (header needs {skip + needed} bytes, compressed data hold {got})")
    note_rest(skip + needed, got, notes)
    return buffer


def _pieces(packed: Iterable[bytes], notes: list[str]) -> Iterator[bytes]:
    """The unpacked bytes of a zlib stream, or of the gzip streams behind each other in a file."""
    stream = zlib.decompressobj(47)  # 32 + 15: finds out by itself whether it is zlib or gzip
    begun, packed_as_gzip = False, False
    for chunk in packed:
        while chunk:
            if stream.eof:
                if not (chunk := chunk.lstrip(b"\0")):
                    break
                if not (packed_as_gzip and chunk.startswith(b"\x1f")):
                    notes.append("what follows its compressed data was not read")
                    return
                stream = zlib.decompressobj(31)
            packed_as_gzip = packed_as_gzip or (not begun and chunk[:1] == b"\x1f")
            begun = True
            try:
                piece = stream.decompress(chunk, CHUNK)
            except zlib.error as error:
                raise Refused(_damage(error, packed_as_gzip)) from None
            yield piece
            chunk = stream.unused_data if stream.eof else stream.unconsumed_tail
    if not stream.eof:
        what = "gzip stream" if packed_as_gzip else "compressed data"
        raise Refused(f"truncated (its {what} has no end)")


def _damage(error: zlib.error, gzip: bool) -> str:
    text = str(error).split(": ", 1)[-1]
    if "incorrect data check" in text:
        text = "its checksum (CRC) does not match"
    return f"damaged {'gzip file' if gzip else 'compressed data'}: {text}"


def _put(buffer: NDArray[np.uint8], piece: bytes, at: int) -> None:
    """Copy what of a piece lies inside the buffer; ``at`` may be negative."""
    data = np.frombuffer(piece, np.uint8)[max(0, -at) :]
    at = max(0, at)
    if at < len(buffer):
        data = data[: len(buffer) - at]
        buffer[at : at + len(data)] = data


def beside(path: Path, name: str) -> Path:
    """A data file named in a header: beside the header unless the name is absolute."""
    try:
        other = path.parent / name
        require_file(other)
        if other.samefile(path):
            raise Refused("is the header itself")
    except (Refused, ValueError) as refused:
        raise Refused(f"its data file {name!r} {_as_predicate(str(refused))}") from None
    return other


def _as_predicate(reason: str) -> str:
    return "is missing" if reason == "no such file" else reason
