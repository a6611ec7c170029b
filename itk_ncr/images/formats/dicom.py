"""DICOM: one complete, evenly spaced volume, or an error that names what is wrong.

pydicom reads the tags and the plain pixels, ITK only unpacks JPEG and its kin. ITK's own reader
picks the first of several series, stretches the spacing over missing slices, forgets the geometry
of multi-frame files that are not quite even, and scales all slices of a series like the first.
"""

from __future__ import annotations

import io
import struct
import tempfile
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.formats.content import (
    DEFLATE_LIMIT,
    Content,
    Place,
    Refused,
    opened,
    read_array,
    require_claim,
    require_components,
    require_length,
    require_spacing,
)
from itk_ncr.images.formats.decoder import itk_reason, watched_decoder
from itk_ncr.images.formats.stack import Stack, stacked

# Transfer syntaxes whose pixels pydicom unpacks by itself: as they are, and RLE.
PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
RUN_LENGTHS = "1.2.840.10008.1.2.5"
# Those that ITK unpacks: JPEG, lossless JPEG, JPEG-LS and JPEG 2000.
JPEGS = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))
DEFLATED = b"1.2.840.10008.1.2.1.99"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # by byte order
BITS = {1: "u1", 8: "u1", 16: "u2", 32: "u4", 64: "f8"}
# Where files without the 128 bytes and DICM begin: the first elements of group 8.
BARE_STARTS = tuple(bytes((8, 0, element, 0)) for element in (0, 1, 5, 8, 0x12, 0x14, 0x16, 0x18))


@dataclass(frozen=True)
class Frame:
    """One image of a file: where it lies and how its values are scaled.

    Attributes
    ----------
    label : str
        For messages: ``'im1.dcm'`` of a series, ``3`` of a multi-frame file.
    position, orientation, spacing : tuple of float, optional
        ImagePositionPatient, ImageOrientationPatient and PixelSpacing (down, across); None where
        the file has none.
    slope, intercept : float
        From stored to real values.
    """

    label: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slope: float
    intercept: float


@dataclass(frozen=True)
class Layout:
    """What all frames of a file share."""

    rows: int
    columns: int
    frames: int
    components: int
    bits: int
    stored_bits: int
    signed: bool
    series: str
    name: str
    thickness: float | None


def is_dicom_file(path: Path) -> bool:
    """Whether a file begins as DICOM files do: 128 bytes of anything, then DICM, or bare tags."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or start.startswith(BARE_STARTS)


def read_dicom_file(path: Path, vector: bool) -> Content:
    """Read one file of one or more frames."""
    dataset = _dataset(path)
    layout = _layout(dataset)
    require_components(layout.components, 3, vector)
    frames = _frames(dataset, layout, None)
    stack, notes = _stack(frames, layout, "frames")
    array = _scaled(_stored(dataset, layout), frames, layout)
    return Content(array[list(stack.order)], stack.place, notes)


def read_dicom_folder(folder: Path, vector: bool) -> Content:
    """Read a folder that holds the slices of one series."""
    slices = _slices(folder)
    layout, first = slices[0][1], slices[0][0]
    require_components(layout.components, 3, vector)
    if len(slices) == 1:
        return read_dicom_file(first, vector)
    for path, other, _ in slices:
        if other.frames > 1:
            raise Refused(f"has {len(slices)} files of several frames each; name one of the files")
        if (other.rows, other.columns) != (layout.rows, layout.columns):
            raise Refused(f"slices {first.name!r} and {path.name!r} differ in size")
        if (other.bits, other.signed) != (layout.bits, layout.signed):
            raise Refused(f"slices {first.name!r} and {path.name!r} differ in pixel type")
    size = (layout.columns, layout.rows, len(slices))
    require_claim(size, max(1, layout.bits // 8), None)
    stack, notes = _stack([frame for *_, frame in slices], layout, "slices")
    ordered = [slices[at] for at in stack.order]
    stored = np.empty(size[::-1], _stored_type(layout))
    for at, (path, own, frame) in enumerate(ordered):
        dataset = _dataset(path)
        # The tags that were checked are the ones that the pixels come with.
        if _layout(dataset) != own or _frames(dataset, own, path.name) != [frame]:
            raise Refused(f"slice {path.name!r} changed while it was read")
        pixels = _stored(dataset, own, f"slice {path.name!r} is ")
        if pixels.dtype != stored.dtype:
            stored = stored.astype(np.result_type(pixels.dtype, stored.dtype))
        stored[at] = pixels[0]
    return Content(_scaled(stored, [frame for *_, frame in ordered], layout), stack.place, notes)


def _slices(folder: Path) -> list[tuple[Path, Layout, Frame]]:
    """The files of the only series in a folder, checked up to the pixels."""
    series: dict[str, list[tuple[Path, Layout, Frame]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists():
            raise Refused(f"holds {path.name!r}, a link to a file that does not exist")
        if path.name == "DICOMDIR" or not is_dicom_file(path):
            continue
        try:
            dataset = _dataset(path, pixels=False)
            layout = _layout(dataset)
        except Refused as refused:
            raise Refused(f"slice {path.name!r} {_as_predicate(str(refused))}") from None
        frames = _frames(dataset, layout, path.name)
        series[layout.series].append((path, layout, frames[0]))
    if not series:
        raise Refused("is a folder without a DICOM series")
    if len(series) > 1:
        names = "; ".join(
            f"{pieces[0][1].name!r} ({len(pieces)} files, series {uid})"
            for uid, pieces in sorted(series.items())
        )
        raise Refused(f"holds {len(series)} DICOM series: {names}. Put one into its own folder")
    return next(iter(series.values()))


def _as_predicate(reason: str) -> str:
    return reason if reason.startswith(("is ", "has ", "holds ")) else f"is {reason}"


def _dataset(path: Path, pixels: bool = True) -> Any:
    """The tags of a file, parsed by pydicom; its many kinds of complaints become one."""
    import pydicom

    with opened(path) as (file, length):
        content = read_array(file, 0, length).tobytes()
    if DEFLATED in content[: 2**16]:
        raise Refused("holds a deflated data set, which is not supported; convert it first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(content), force=content[128:132] != b"DICM")
            # pydicom passes over an element that the file's end cuts.
            for element in dataset.values():
                claimed, value = getattr(element, "length", None), element.value
                if claimed not in (None, 0xFFFFFFFF) and len(value or b"") < claimed:
                    raise EOFError
    except EOFError:
        raise Refused("truncated or damaged (an element goes beyond the end of the file)") from None
    except Exception as error:  # pydicom raises whatever its parsers meet
        raise Refused(f"damaged: its DICOM tags cannot be read ({_brief(error)})") from None
    if not any(keyword in dataset for keyword in PIXELS):
        if any(tag in content for tag in PIXEL_TAGS):  # pydicom drops what has no end
            raise Refused("truncated or damaged (its PixelData has no end)")
        raise Refused("holds no image (it has no PixelData)")
    if not pixels:
        for keyword in PIXELS:
            if keyword in dataset and _syntax(dataset) in PLAIN:
                _require_pixels(dataset, _layout(dataset), keyword)
    return dataset


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__


def _value(item: Any, keyword: str, default: Any = None) -> Any:
    """The value of a tag; the default where it is missing or empty."""
    if item is None:
        return default
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = item.get(keyword)
    except Exception:  # the tag is there and is not what its type says
        raise Refused(f"has no usable {_named(keyword)}") from None
    return default if value is None or value == "" or value == [] else value


def _named(keyword: str) -> str:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"{keyword} ({tag >> 16:04x},{tag & 0xFFFF:04x})"


def _numbers(item: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """The numbers of a tag; None where it is missing."""
    value = _value(item, keyword)
    if value is None:
        return None
    try:
        numbers = tuple(float(v) for v in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise Refused(f"has no usable {_named(keyword)}")
    return numbers


def _integer(item: Any, keyword: str, default: int | None = None) -> int:
    numbers = _numbers(item, keyword, 1)
    if numbers is None and default is not None:
        return default
    if numbers is None or numbers[0] != int(numbers[0]):
        raise Refused(f"has no usable {_named(keyword)}")
    return int(numbers[0])


def _layout(dataset: Any) -> Layout:
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    frames = _integer(dataset, "NumberOfFrames", 1)
    if min(rows, columns, frames) < 1:
        raise Refused(f"its header claims the size {(columns, rows, frames)}")
    bits = _integer(dataset, "BitsAllocated")
    if bits not in BITS:
        raise Refused(f"has {bits} bits in a pixel (BitsAllocated)")
    photometric = str(_value(dataset, "PhotometricInterpretation", "MONOCHROME2"))
    components = _integer(dataset, "SamplesPerPixel", 1)
    thickness = _numbers(dataset, "SpacingBetweenSlices", 1) or _numbers(
        dataset, "SliceThickness", 1
    )
    if not photometric.startswith("MONOCHROME"):
        components = max(components, 3)  # a palette is a colour
    return Layout(
        rows=rows,
        columns=columns,
        frames=frames,
        components=components,
        bits=bits,
        stored_bits=_integer(dataset, "BitsStored", bits),
        signed=_integer(dataset, "PixelRepresentation", 0) == 1,
        series=str(_value(dataset, "SeriesInstanceUID", "")),
        name=str(_value(dataset, "SeriesDescription", "without a name")).strip(),
        thickness=thickness[0] if thickness and thickness[0] > 0 else None,
    )


def _frames(dataset: Any, layout: Layout, file: str | None) -> list[Frame]:
    """All frames of a file in its order; ``file`` names the slice of a series."""
    groups = _value(dataset, "PerFrameFunctionalGroupsSequence")
    shared = _item(dataset, "SharedFunctionalGroupsSequence")
    if groups is not None and len(groups) != layout.frames:
        raise Refused(
            f"its header describes {len(groups)} frames (PerFrameFunctionalGroupsSequence), "
            f"NumberOfFrames says {layout.frames}"
        )
    detector = _item(dataset, "DetectorInformationSequence")
    positions = _positions(dataset, detector, layout)
    frames = []
    for at in range(layout.frames):
        label = repr(file) if file is not None else str(at + 1)
        own = None if groups is None else groups[at]

        def of(macro: str, keyword: str, count: int, own: Any = own) -> tuple[float, ...] | None:
            for holder in (own, shared):
                numbers = _numbers(_item(holder, macro), keyword, count)
                if numbers is not None:
                    return numbers
            return _numbers(dataset, keyword, count)

        try:
            position = of("PlanePositionSequence", "ImagePositionPatient", 3)
            orientation = of("PlaneOrientationSequence", "ImageOrientationPatient", 6)
            spacing = of("PixelMeasuresSequence", "PixelSpacing", 2)
            slope = of("PixelValueTransformationSequence", "RescaleSlope", 1)
            intercept = of("PixelValueTransformationSequence", "RescaleIntercept", 1)
            if slope == (0.0,):
                raise Refused(f"has no usable {_named('RescaleSlope')}")
        except Refused as refused:
            kind = "slice" if file is not None else "frame"
            raise Refused(f"{kind} {label} {refused}") from None
        if positions is not None:
            position = positions[at]
        if orientation is None:
            orientation = _numbers(detector, "ImageOrientationPatient", 6)
        frames.append(
            Frame(
                label=label,
                position=position,
                orientation=orientation,
                spacing=spacing,
                slope=1.0 if slope is None else slope[0],
                intercept=0.0 if intercept is None else intercept[0],
            )
        )
    return frames


def _item(holder: Any, keyword: str) -> Any:
    """The first item of a sequence, if there is one."""
    sequence = _value(holder, keyword)
    try:
        return sequence[0] if sequence is not None and len(sequence) else None
    except TypeError:
        raise Refused(f"has no usable {_named(keyword)}") from None


def _positions(dataset: Any, detector: Any, layout: Layout) -> list[tuple[float, ...]] | None:
    """Positions of frames that are given by their distance from the first: dose and nuclear."""
    if layout.frames == 1 or "PerFrameFunctionalGroupsSequence" in dataset:
        return None
    holder = dataset if "ImagePositionPatient" in dataset else detector
    first = _numbers(holder, "ImagePositionPatient", 3)
    orientation = _numbers(holder, "ImageOrientationPatient", 6)
    offsets = _numbers(dataset, "GridFrameOffsetVector", layout.frames)
    step = _numbers(dataset, "SpacingBetweenSlices", 1)
    if offsets is None and step is not None and detector is not None:
        offsets = tuple(step[0] * at for at in range(layout.frames))
    if first is None or orientation is None or offsets is None:
        raise Refused(
            f"holds {layout.frames} frames without a position of each "
            "(ImagePositionPatient (0020,0032)); extract the frame to use"
        )
    normal = np.cross(orientation[:3], orientation[3:])
    start = offsets[0] if abs(offsets[0]) < abs(offsets[-1]) else 0.0
    return [tuple(np.asarray(first) + (offset - start) * normal) for offset in offsets]


def _stack(frames: list[Frame], layout: Layout, kind: str) -> tuple[Stack, list[str]]:
    """The order and the place of frames, and what is worth a warning."""
    if len(frames) == 1:
        return _single(frames[0], layout)
    one = kind.removesuffix("s")
    for frame in frames:
        for keyword, value in (
            ("ImagePositionPatient", frame.position),
            ("ImageOrientationPatient", frame.orientation),
            ("PixelSpacing", frame.spacing),
        ):
            if value is None:
                raise Refused(f"{one} {frame.label} has no usable {_named(keyword)}")
    first = frames[0]
    orientation, spacing = np.array(first.orientation), np.array(first.spacing)
    require_spacing(spacing)
    for frame in frames[1:]:
        pair = f"{kind} {first.label} and {frame.label}"
        if np.abs(np.array(frame.orientation) - orientation).max() > 1e-3:
            raise Refused(f"{pair} differ in direction")
        if np.abs(np.array(frame.spacing) / spacing - 1).max() > 1e-3:
            raise Refused(f"{pair} differ in spacing")
    return stacked(
        np.array([frame.position for frame in frames]),
        orientation,
        spacing,
        [frame.label for frame in frames],
        kind,
    )


def _single(frame: Frame, layout: Layout) -> tuple[Stack, list[str]]:
    """One frame is a volume of one slice."""
    notes = []
    if frame.spacing is None:
        notes.append(f"it has no {_named('PixelSpacing')}; 1 mm is assumed")
    else:
        require_spacing(frame.spacing)
    if frame.position is None or frame.orientation is None:
        notes.append(
            f"it has no {_named('ImagePositionPatient')} or {_named('ImageOrientationPatient')}; "
            "its axes are taken as they are"
        )
    down, across = frame.spacing or (1.0, 1.0)
    axes = np.reshape(frame.orientation or (1, 0, 0, 0, 1, 0), (2, 3)).astype(np.float64)
    direction = np.stack([*axes, np.cross(*axes)], axis=1)
    spacing = np.array([across, down, layout.thickness or 1.0])
    origin = np.array(frame.position or (0.0, 0.0, 0.0))
    return Stack((0,), Place(spacing, origin, direction)), notes


def _syntax(dataset: Any) -> str:
    meta = getattr(dataset, "file_meta", None)
    return str(_value(meta, "TransferSyntaxUID", PLAIN[0])).strip().rstrip("\0")


def _require_pixels(dataset: Any, layout: Layout, keyword: str) -> None:
    """Plain pixels cannot be more than the file."""
    size = (layout.columns, layout.rows, layout.frames)
    numbers = int(np.prod([*size, layout.components], dtype=np.int64))
    require_length((numbers * layout.bits + 7) // 8, len(dataset.get(keyword) or b""))


def _stored(dataset: Any, layout: Layout, subject: str = "") -> NDArray[Any]:
    """The stored values of a file, shape (frames, rows, columns)."""
    keyword = next(keyword for keyword in PIXELS if keyword in dataset)
    size = (layout.columns, layout.rows, layout.frames)
    syntax = _syntax(dataset)
    length = len(dataset.get(keyword) or b"")
    held = None if syntax in PLAIN else DEFLATE_LIMIT * length
    require_claim(size, max(1, layout.components * layout.bits // 8), held)
    try:
        if syntax in PLAIN:
            _require_pixels(dataset, layout, keyword)
        if syntax in PLAIN or syntax == RUN_LENGTHS:
            array = _unpacked(dataset)
        elif syntax in JPEGS:
            _require_same_size(dataset, layout)
            array = _unpacked_by_itk(dataset, layout)
        else:
            raise Refused(f"is packed in a way that is not supported (transfer syntax {syntax})")
    except Refused as refused:
        raise Refused(f"{subject}{refused}") from None
    shape = size[::-1]
    if array.size != np.prod(shape, dtype=np.int64):
        raise Refused(f"{subject}damaged: {array.size} pixels unpacked, header claims {shape}")
    return array.reshape(shape)


def _unpacked(dataset: Any) -> NDArray[Any]:
    from pydicom.pixels import pixel_array

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array: NDArray[Any] = pixel_array(dataset, raw=True)
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises whatever its decoders meet
        raise Refused(f"damaged: its pixels cannot be unpacked ({_brief(error)})") from None
    return array


def _require_same_size(dataset: Any, layout: Layout) -> None:
    """Refuse packed frames whose own size is not that of the tags: a decoder believes them."""
    from pydicom.encaps import generate_frames

    try:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=layout.frames))
    except Exception as error:  # pydicom raises whatever its parsers meet
        raise Refused(f"damaged: its pixels cannot be unpacked ({_brief(error)})") from None
    wanted = (layout.columns, layout.rows, 1)
    for frame in frames:
        *found, precision = _packed_size(frame) or (0,)
        if tuple(found) != wanted:
            raise Refused(f"damaged: a packed frame has the size {found}, the tags say {wanted}")
        # More bits than the tags make room for overrun the decoder's memory.
        if (
            not layout.bits // 2 < precision <= layout.bits
            and not 1 < precision <= layout.bits == 8
        ):
            raise Refused(
                f"damaged: a packed frame has {precision} bits, the tags say {layout.bits}"
            )


def _packed_size(frame: bytes) -> tuple[int, int, int, int] | None:
    """Width, height, components and bits of a JPEG or JPEG 2000 stream, by its own header."""
    at = 2
    if frame.startswith(b"\xff\x4f\xff\x51") and len(frame) >= 43:
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        components, depth = struct.unpack_from(">HB", frame, 40)
        return right - left, bottom - top, components, (depth & 127) + 1
    while frame.startswith(b"\xff\xd8") and at + 10 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], struct.unpack_from(">H", frame, at + 2)[0]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, height, width, components = struct.unpack_from(">BHHB", frame, at + 4)
            return width, height, components, precision
        at += 2 + length
    return None


def _unpacked_by_itk(dataset: Any, layout: Layout) -> NDArray[Any]:
    """JPEG and its kin, by way of a file that holds the pixels and nothing else."""
    import pydicom
    import SimpleITK as sitk

    plain = pydicom.Dataset()
    plain.file_meta = pydicom.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = _syntax(dataset)
    plain.SOPClassUID = plain.file_meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    plain.SOPInstanceUID = plain.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    plain.Rows, plain.Columns, plain.SamplesPerPixel = layout.rows, layout.columns, 1
    plain.PhotometricInterpretation = "MONOCHROME2"
    plain.BitsAllocated, plain.BitsStored = layout.bits, layout.stored_bits
    plain.HighBit, plain.PixelRepresentation = layout.stored_bits - 1, int(layout.signed)
    if layout.frames > 1:
        plain.NumberOfFrames = layout.frames
    with tempfile.TemporaryDirectory(prefix="itk_ncr-") as folder:
        copy = Path(folder) / "image.dcm"
        try:
            plain.add_new("PixelData", "OB", dataset.PixelData)
            plain["PixelData"].is_undefined_length = True
            plain.save_as(copy, enforce_file_format=True)
            with watched_decoder():
                image = sitk.ReadImage(str(copy))
        except Refused:
            raise
        except (RuntimeError, MemoryError) as error:
            raise Refused(itk_reason(error)) from None
        except Exception as error:  # what pydicom cannot write down
            raise Refused(f"damaged: its pixels cannot be unpacked ({_brief(error)})") from None
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise Refused("holds colours; convert it to grey")
    array: NDArray[Any] = sitk.GetArrayFromImage(image)
    return array


def _stored_type(layout: Layout) -> np.dtype[Any]:
    code = BITS[layout.bits]
    return np.dtype(code.replace("u", "i") if layout.signed else code)


def _scaled(stored: NDArray[Any], frames: list[Frame], layout: Layout) -> NDArray[Any]:
    """Real values: each frame by its own slope; whole numbers stay whole."""
    scales = np.array([(frame.slope, frame.intercept) for frame in frames])
    if (scales == (1.0, 0.0)).all():
        return stored
    kind: np.dtype[Any] = np.dtype(np.float64)
    if stored.dtype.kind in "iu" and (scales == scales.round()).all():
        ends = np.array([np.iinfo(stored.dtype).min, np.iinfo(stored.dtype).max], np.float64)
        if layout.stored_bits < layout.bits:
            half = 2.0 ** (layout.stored_bits - 1)
            ends = np.array([-half, half - 1] if layout.signed else [0, 2 * half - 1])
        reach = scales[:, :1] * ends + scales[:, 1:]
        fitting = [
            np.dtype(code)
            for code in ("i2", "u2", "i4")
            if np.iinfo(code).min <= reach.min() and reach.max() <= np.iinfo(code).max
        ]
        kind = fitting[0] if fitting else kind
    out = np.empty(stored.shape, kind)
    for at, (slope, intercept) in enumerate(scales):
        out[at] = stored[at].astype(np.float64) * slope + intercept
    return out
