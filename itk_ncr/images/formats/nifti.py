"""NIfTI-1, read without ITK.

ITK's reader fills truncated files with zeros, does not look at the gzip checksum, turns NaN and Inf
into 0, transposes the rotation of an sform whose cosines are rounded, and opens ``x.nii`` where
``x.nii.gz`` was asked for. The choice between sform and qform is ITK's.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.geometry import DIRECTION_TOLERANCE
from itk_ncr.images.formats.content import (
    CHUNK,
    DISPLACEMENT_ADVICE,
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
DISPLACEMENT, VECTOR = 1006, 1007  # intents
INTENTS_IN_MM = (DISPLACEMENT, VECTOR)
FSL_INTENTS = range(2006, 2019)  # fields and coefficients of FNIRT and TOPUP
SCANNER = 1  # the code of a geometry that the scanner wrote
FIRST_OFFSET = 352  # header and extension mark of a single file
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by the low bits of xyzt_units
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Where the two geometries of a file part by more than this, they mean different things.
AGREEMENT_VOXELS = 0.1
# Between the lengths of the sform's columns and pixdim: both may be rounded.
SPACING_AGREEMENT = 0.01


def read_nifti(path: Path, vector: bool) -> Content:
    """Read a .nii, .nii.gz or .hdr/.img file; see :class:`Content`."""
    with opened(path) as (file, length):
        packed = _is_gzip(file)
        if packed != path.name.lower().endswith(".gz"):
            raise Refused(
                "is packed with gzip; rename it to .nii.gz"
                if packed
                else "is not a gzip file; if it is plain NIfTI, rename it to .nii"
            )
        order, fields = _fields(_start(file, packed))
        if vector:
            _refuse_fsl(fields)
        size, components = _size(fields, vector)
        require_components(components, len(size), vector)
        dtype = _type(fields, order)
        offset = _offset(fields)
        place, notes = _place(fields, size)
        if fields["single"]:
            raw = _voxels(file, length, packed, offset, size, components, dtype, notes)
        else:
            with opened(_image_of_pair(path)) as (data, data_length):
                packed = _is_gzip(data)
                raw = _voxels(data, data_length, packed, offset, size, components, dtype, notes)
    array = _scaled(raw, fields, notes)
    array = array.reshape(components, *size[::-1])
    if not vector:
        return Content(array[0], place, notes)
    array = np.moveaxis(array, 0, -1)
    if not np.isfinite(array).all():
        raise Refused(f"{int((~np.isfinite(array)).sum())} of its values are NaN or Inf")
    if fields["intent"] == DISPLACEMENT:  # RAS, as ITK takes it; a VECTOR is LPS
        array = array * np.array([-1, -1, 1], array.dtype)[:components]
    return Content(array, place, notes)


def read_nifti_array(path: Path) -> tuple[NDArray[Any], int]:
    """The numbers of a .nii or .nii.gz file of any size, in its own order of axes, and the intent.

    Its geometry is not looked at.
    """
    with opened(path) as (file, length):
        packed = _is_gzip(file)
        order, fields = _fields(_start(file, packed))
        _refuse_fsl(fields)
        count = fields["dim"][0]
        size = tuple(fields["dim"][1 : 1 + count])
        if not 1 <= count <= 7 or min(size) < 1:
            raise Refused(f"its header claims {count} dimensions of the size {size}")
        if not fields["single"]:
            raise Refused("is half of a pair of files; convert it to .nii.gz")
        dtype, offset = _type(fields, order), _offset(fields)
        raw = _voxels(file, length, packed, offset, size, 1, dtype, [])
    return _scaled(raw, fields, []).reshape(size[::-1]).T, int(fields["intent"])


def _refuse_fsl(fields: dict[str, Any]) -> None:
    if fields["intent"] in FSL_INTENTS:
        raise Refused(
            f"is a field of FSL (intent {fields['intent']}), in mm along FSL's own axes. Make full "
            "fields of coefficients with `fnirtfileutils --withaff`, then convert with `wb_command "
            "-convert-warpfield -from-fnirt FIELD MOVING -to-itk displacement.nii.gz`"
        )


def _is_gzip(file: IO[bytes]) -> bool:
    file.seek(0)
    return file.read(2) == b"\x1f\x8b"


def _start(file: IO[bytes], packed: bool) -> bytes:
    file.seek(0)
    if not packed:
        return file.read(348)
    try:
        return zlib.decompressobj(31).decompress(file.read(CHUNK), 348)
    except zlib.error:
        raise Refused("damaged gzip file: its first bytes cannot be unpacked") from None


def _fields(start: bytes) -> tuple[str, dict[str, Any]]:
    """Byte order and the fields used here, by name."""
    for order in "<>":
        if len(start) >= 4 and struct.unpack(order + "i", start[:4])[0] == 348:
            return order, _fields_of(start, order)
        if len(start) >= 4 and struct.unpack(order + "i", start[:4])[0] == 540:
            if start[4:8] not in (b"n+2\0", b"ni2\0"):
                raise Refused("is not a NIfTI file (its length says NIfTI-2, its magic is missing)")
            raise Refused(
                "is NIfTI-2, which ITK cannot read; convert it to .nrrd or NIfTI-1 (with nibabel: "
                "Nifti1Image.from_image(load(FILE)).to_filename(NEW))"
            )
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
        "intent": get("h", 68)[0],
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


def _size(fields: dict[str, Any], vector: bool) -> tuple[tuple[int, ...], int]:
    """Size in space and number of components."""
    dim = fields["dim"]
    count = dim[0]
    if not 1 <= count <= 7:
        raise Refused(f"its header claims {count} dimensions")
    claimed = tuple(dim[1 : 1 + count])
    lengths = list(claimed) + [1] * (7 - count)
    if min(claimed) < 1:
        raise Refused(f"its header claims the size {claimed}")
    if lengths[3] > 1:
        advice = f"{DISPLACEMENT_ADVICE}; got {claimed}" if vector else "extract one volume first"
        raise Refused(f"is 4D ({lengths[3]} volumes); {advice}")
    if max(lengths[5:]) > 1:
        advice = f"{DISPLACEMENT_ADVICE}; got {claimed}" if vector else "extract one volume first"
        raise Refused(f"has {count} dimensions; {advice}")
    if lengths[1] == 1 and lengths[2] == 1:
        raise Refused("is 1D; an image of 2 or 3 dimensions is needed")
    if lengths[4] > 1 and vector and fields["intent"] not in (DISPLACEMENT, VECTOR):
        raise Refused(
            f"has the size {claimed} but intent {fields['intent']}. {DISPLACEMENT_ADVICE}"
        )
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


def _image_of_pair(path: Path) -> Path:
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    stem = name.rsplit(".", 1)[0]
    for suffix in (".img", ".img.gz"):
        if (path.parent / (stem + suffix)).exists():
            return beside(path, stem + suffix)
    raise Refused(f"its data file {stem + '.img'!r} is missing")


def _voxels(
    file: IO[bytes],
    length: int,
    packed: bool,
    offset: int,
    size: tuple[int, ...],
    components: int,
    dtype: np.dtype[Any],
    notes: list[str],
) -> NDArray[Any]:
    """The stored numbers, flat."""
    held = packed_limit(length) if packed else None
    claimed = require_claim(size, dtype.itemsize * components, held)
    if packed:
        chunks = plain_chunks(file, 0, length)
        return inflated(chunks, claimed, offset, "file has", notes=notes).view(dtype)
    require_length(offset + claimed, length)
    note_rest(offset + claimed, length, notes)
    return read_array(file, offset, claimed).view(dtype)


def _scaled(stored: NDArray[Any], fields: dict[str, Any], notes: list[str]) -> NDArray[Any]:
    """The numbers times scl_slope plus scl_inter; a slope of 0 means that there is no scale."""
    slope, intercept = fields["slope"], fields["intercept"]
    if not np.isfinite([slope, intercept]).all():
        notes.append("its intensity scale (scl_slope, scl_inter) is NaN or Inf, and ignored")
        return stored
    if slope == 0 or (slope, intercept) == (1, 0):
        return stored
    small = stored.dtype.kind != "f" and stored.dtype.itemsize <= 2
    single = small or stored.dtype == np.dtype("f4").newbyteorder(stored.dtype.byteorder)
    scaled = np.empty(stored.shape, np.float32 if single else np.float64)
    # In double precision, a part at a time: the product may need all its digits for the sum.
    with np.errstate(over="ignore"):
        for start in range(0, len(stored), CHUNK):
            part = slice(start, start + CHUNK)
            scaled[part] = stored[part].astype(np.float64) * slope + intercept
    return scaled


def _place(fields: dict[str, Any], size: tuple[int, ...]) -> tuple[Place, list[str]]:
    """Position of the voxels, and warnings."""
    notes: list[str] = []
    spacing = np.abs(np.asarray(fields["pixdim"][1 : 1 + len(size)], np.float64))
    require_spacing(spacing)
    scale = MILLIMETRES.get(int(fields["units"]) & 7)
    if scale is None:
        notes.append("its unit of length is unknown; mm are assumed")
        scale = 1.0
    maps = _maps(fields, size, scale)
    if not maps:
        notes.append(
            "it has no orientation (qform_code = sform_code = 0); its axes are taken as they are"
        )
        return Place.of_matrix(np.diag([*(spacing * scale), 1.0])), notes
    used = _preferred(fields, maps, spacing * scale, size)
    if len(maps) == 2:
        apart = _distance(maps["sform"], maps["qform"], size)
        if apart > AGREEMENT_VOXELS * spacing.min() * scale:
            notes.append(
                f"its sform and qform disagree by up to {apart:.3g} mm; the {used} is used"
            )
    return Place.of_matrix(maps[used]), notes


def _maps(
    fields: dict[str, Any], size: tuple[int, ...], scale: float
) -> dict[str, NDArray[np.float64]]:
    """The geometries that the header holds, by name."""
    maps = {}
    if fields["sform_code"] > 0:
        sform = np.eye(4)
        sform[:3] = np.reshape(fields["sform"], (3, 4))
        if not np.isfinite(sform).all():
            raise Refused("its sform is not finite")
        axes = sform[: len(size), : len(size)]
        steps = np.linalg.norm(axes, axis=0)
        # Of directions, not of steps: those of a microscope are short.
        if not steps.all() or abs(np.linalg.det(axes / steps)) < 1e-12:
            raise Refused("its sform is singular")
        maps["sform"] = sform
    if fields["qform_code"] > 0:
        maps["qform"] = _qform(fields)
    keep = [*range(len(size)), 3]
    for name, full in maps.items():
        full = RAS_TO_LPS @ full
        full[:3] *= scale
        maps[name] = full[np.ix_(keep, keep)]
    return maps


def _preferred(
    fields: dict[str, Any],
    maps: dict[str, NDArray[np.float64]],
    spacing: NDArray[np.float64],
    size: tuple[int, ...],
) -> str:
    """The geometry to use.

    ITK takes the qform where an sform that is not the scanner's differs from it; and an sform that
    no image can have is passed over if there is a qform.
    """
    if "sform" not in maps:
        return "qform"
    axes = maps["sform"][:-1, :-1]
    steps = np.linalg.norm(axes, axis=0)
    left, _, right = np.linalg.svd(axes / steps)
    shear = np.abs(left @ right - axes / steps).max()
    sheared = shear > DIRECTION_TOLERANCE
    stretched = np.abs(steps / spacing - 1).max() > SPACING_AGREEMENT
    if sheared and "qform" not in maps:
        raise Refused(
            f"its sform is sheared (its axes are off right angles by {shear:.2g}); "
            "resample it to an unsheared grid first"
        )
    if stretched and "qform" not in maps:
        raise Refused(
            f"its header contradicts itself: the sform has a spacing of {_mm(steps)}, pixdim says "
            f"{_mm(spacing)}. Correct the one that is wrong"
        )
    if "qform" not in maps:
        return "sform"
    if stretched or sheared:
        return "qform"
    apart = _distance(maps["sform"], maps["qform"], size)
    foreign = fields["sform_code"] != SCANNER and apart > AGREEMENT_VOXELS * spacing.min()
    return "qform" if foreign else "sform"


def _distance(one: NDArray[np.float64], other: NDArray[np.float64], size: tuple[int, ...]) -> float:
    """The largest distance of a corner in two geometries, mm; one voxel counts as one step."""
    ends = [(0.0, max(1.0, n - 1.0)) for n in size]
    indices = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, len(size))
    corners = np.concatenate([indices, np.ones((len(indices), 1))], axis=1)
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())


def _mm(values: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{v:.6g}" for v in values) + ") mm"


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
