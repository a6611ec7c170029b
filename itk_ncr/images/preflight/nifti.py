"""NIfTI-1: what ITK's reader would let pass.

It fills truncated files with zeros, does not look at the gzip checksum, turns NaN and Inf into 0,
and takes one of two geometries when they disagree.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.preflight.header import (
    Header,
    Refused,
    beside,
    gzip_chunks,
    is_gzip,
    packed_limit,
    plain_chunks,
    require_claim,
    require_file,
    require_length,
    require_spacing,
)

# The numbers of the NIfTI-1 standard: code -> numpy type.
TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
    1024: "i8", 1280: "u8",
}  # fmt: skip
REFUSED_TYPES = {
    1: "single bits", 32: "complex numbers", 128: "RGB colours", 1536: "128 bit floats",
    1792: "complex numbers", 2048: "complex numbers", 2304: "RGBA colours",
}  # fmt: skip
FIRST_OFFSET = 352  # header and extension mark of a single file
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by the low bits of xyzt_units
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Where the two geometries of a file part by more than this, they mean different things.
AGREEMENT_VOXELS = 0.1


def inspect_nifti(path: Path) -> Header:
    """Check a .nii, .nii.gz or .hdr/.img file; see :class:`Header`."""
    length = require_file(path)
    packed = is_gzip(path)
    if packed != path.name.lower().endswith(".gz"):
        raise Refused(
            "is packed with gzip; rename it to .nii.gz"
            if packed
            else "is not a gzip file; if it is plain NIfTI, rename it to .nii"
        )
    order, fields = _fields(_start(path, packed))
    size, components = _size(fields["dim"])
    dtype = _type(fields, order)
    held = packed_limit(length) if packed else None
    claimed = require_claim(size, dtype.itemsize * components, held)
    offset = _offset(fields)
    data, data_packed, data_length = path, packed, length
    if not fields["single"]:
        data, data_packed = _image_of_pair(path)
        data_length = require_file(data)
    if not data_packed:
        require_length(offset + claimed, data_length)
    header = Header(size, components)
    if not data_packed and data_length > offset + claimed:
        header.notes.append(
            f"the file has {data_length - offset - claimed} bytes more than its header needs"
        )
    if data_packed or dtype.kind == "f":
        header.lost = _scan(data, data_packed, offset, claimed, dtype, fields["slope"])
        if header.lost is not None and components > 1:
            raise Refused(f"{len(header.lost[0])} of its values are NaN or Inf")
    spacing = fields["pixdim"][1 : 1 + len(size)]
    require_spacing(np.abs(spacing))
    _geometry(fields, header)
    if not np.isfinite([fields["slope"], fields["intercept"]]).all():
        header.notes.append("its intensity scale (scl_slope, scl_inter) is NaN or Inf, and ignored")
    return header


def _start(path: Path, packed: bool) -> bytes:
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            return file.read(348)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise Refused("damaged gzip file: its first bytes cannot be unpacked") from None


def _fields(start: bytes) -> tuple[str, dict[str, Any]]:
    """Byte order and the fields used here, by name."""
    for order in "<>":
        if len(start) >= 4 and struct.unpack(order + "i", start[:4])[0] == 348:
            return order, _fields_of(start, order)
        if len(start) >= 4 and struct.unpack(order + "i", start[:4])[0] == 540:
            raise Refused("is NIfTI-2, which ITK cannot read; convert it to NIfTI-1 or .nrrd")
    raise Refused("is not a NIfTI file (its header has no valid length)")


def _fields_of(start: bytes, order: str) -> dict[str, Any]:
    require_length(348, len(start))

    def get(form: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + form, start, at)

    magic = start[344:348]
    if magic not in (b"n+1\0", b"ni1\0"):
        raise Refused("is not a NIfTI file (its magic is missing; Analyze 7.5 is not supported)")
    return {
        "single": magic == b"n+1\0",
        "dim": get("8h", 40),
        "datatype": get("h", 70)[0],
        "bitpix": get("h", 72)[0],
        "pixdim": get("8f", 76),
        "offset": get("f", 108)[0],
        "slope": get("f", 112)[0],
        "intercept": get("f", 116)[0],
        "units": start[123],
        "qform_code": get("h", 252)[0],
        "sform_code": get("h", 254)[0],
        "quaternion": get("6f", 256),
        "sform": get("12f", 280),
    }


def _size(dim: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Size in space and number of components."""
    count = dim[0]
    if not 1 <= count <= 7:
        raise Refused(f"its header claims {count} dimensions")
    lengths = list(dim[1 : 1 + count]) + [1] * (7 - count)
    if min(lengths[:count]) < 1:
        raise Refused(f"its header claims the size {tuple(lengths[:count])}")
    if lengths[3] > 1:
        raise Refused(f"is 4D ({lengths[3]} volumes); extract one volume first")
    if max(lengths[5:]) > 1:
        raise Refused(f"has {count} dimensions; extract one volume first")
    if lengths[1] == 1 and lengths[2] == 1:
        raise Refused("is 1D; an image of 2 or 3 dimensions is needed")
    # A vector image of 2D keeps dim[3] = 1; a scalar one says by its count that it is 2D.
    flat = count == 2 or (count > 4 and lengths[2] == 1 and lengths[4] == 2)
    return tuple(lengths[: 2 if flat else 3]), lengths[4]


def _type(fields: dict[str, Any], order: str) -> np.dtype[Any]:
    code = fields["datatype"]
    if code in REFUSED_TYPES:
        raise Refused(f"holds {REFUSED_TYPES[code]}; convert it to one real number in a voxel")
    if code not in TYPES:
        raise Refused(f"has an unknown data type ({code})")
    dtype = np.dtype(order + TYPES[code])
    if fields["bitpix"] != 8 * dtype.itemsize:
        raise Refused(
            f"its header contradicts itself (data type {code} has {8 * dtype.itemsize} bits, "
            f"bitpix says {fields['bitpix']})"
        )
    return dtype


def _offset(fields: dict[str, Any]) -> int:
    offset = fields["offset"]
    if not np.isfinite(offset) or offset < 0 or offset != int(offset):
        raise Refused(f"its header puts the voxels at byte {offset}")
    if not fields["single"]:
        return int(offset)
    if 0 < offset < FIRST_OFFSET:
        raise Refused(f"its header puts the voxels at byte {int(offset)}, inside the header")
    return max(int(offset), FIRST_OFFSET)


def _image_of_pair(path: Path) -> tuple[Path, bool]:
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    stem = name.rsplit(".", 1)[0]
    for suffix in (".img", ".img.gz"):
        if (path.parent / (stem + suffix)).exists():
            data = beside(path, stem + suffix)
            return data, is_gzip(data)
    raise Refused(f"its data file {stem + '.img'!r} is missing")


def _scan(
    path: Path, packed: bool, offset: int, claimed: int, dtype: np.dtype[Any], slope: float
) -> tuple[NDArray[np.int64], NDArray[Any]] | None:
    """Read all voxels once: checks the stream, and finds what ITK would turn into 0."""
    if packed:
        return _non_finite(_skip(gzip_chunks(path, offset + claimed), offset), dtype, slope)
    with path.open("rb") as file:
        return _non_finite(plain_chunks(file, offset, claimed), dtype, slope)


def _skip(chunks: Iterable[bytes], count: int) -> Iterable[bytes]:
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:]
        count = max(0, count - len(chunk))


def _non_finite(
    chunks: Iterable[bytes], dtype: np.dtype[Any], slope: float
) -> tuple[NDArray[np.int64], NDArray[Any]] | None:
    positions: list[NDArray[np.int64]] = []
    values: list[NDArray[Any]] = []
    at, rest = 0, b""
    for chunk in chain(chunks, ()):
        if dtype.kind != "f":
            continue  # only unpacked, for its checksum
        whole = rest + chunk
        count = len(whole) // dtype.itemsize
        rest = whole[count * dtype.itemsize :]
        part = np.frombuffer(whole, dtype, count)
        bad = np.flatnonzero(~np.isfinite(part))
        if len(bad):
            positions.append(bad + at)
            values.append(part[bad].astype(dtype.newbyteorder("=")))
        at += count
    if not positions:
        return None
    sign = -1 if np.isfinite(slope) and slope < 0 else 1  # scaling may swap the infinities
    return np.concatenate(positions), np.concatenate(values) * sign


def _geometry(fields: dict[str, Any], header: Header) -> None:
    """The maps from index to mm that the header holds, in LPS."""
    scale = MILLIMETRES.get(int(fields["units"]) & 7)
    if scale is None:
        header.notes.append("its unit of length is unknown; mm are assumed")
        scale = 1.0
    maps = {}
    if fields["sform_code"] > 0:
        sform = np.eye(4)
        sform[:3] = np.reshape(fields["sform"], (3, 4))
        if not np.isfinite(sform).all():
            raise Refused("its sform is not finite")
        axes = sform[: len(header.size), : len(header.size)]
        steps = np.linalg.norm(axes, axis=0)
        # Of directions, not of steps: those of a microscope are short.
        if not steps.all() or abs(np.linalg.det(axes / steps)) < 1e-12:
            raise Refused("its sform is singular")
        maps["sform"] = sform
    if fields["qform_code"] > 0:
        maps["qform"] = _qform(fields)
    dimension = len(header.size)
    keep = [*range(dimension), 3]
    for name, full in maps.items():
        full = RAS_TO_LPS @ full
        full[:3] *= scale
        header.geometry[name] = full[np.ix_(keep, keep)]
    if not maps:
        header.notes.append(
            "it has no orientation (qform_code = sform_code = 0); its axes are taken as they are"
        )


def _qform(fields: dict[str, Any]) -> NDArray[np.float64]:
    b, c, d, *offset = fields["quaternion"]
    if not np.isfinite(fields["quaternion"]).all():
        raise Refused("its qform is not finite")
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < -1e-3:
        raise Refused(f"its qform is not a rotation (b² + c² + d² = {1 - rest:.4g})")
    a = np.sqrt(max(rest, 0.0))
    norm = np.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = a / norm, b / norm, c / norm, d / norm
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    spacing = np.abs(np.asarray(fields["pixdim"][1:4], np.float64))
    spacing[spacing == 0] = 1.0  # axes that a 2D image does not have
    spacing[2] *= -1 if fields["pixdim"][0] < 0 else 1
    full = np.eye(4)
    full[:3, :3] = rotation * spacing
    full[:3, 3] = offset
    return full
