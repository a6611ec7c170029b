"""The tags of DICOM files, as pydicom reads them: size, scale and place of every frame."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from itk_ncr.images.formats.content import Refused, opened, read_array, require_length

# Transfer syntaxes whose pixels lie in the file as they are.
PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
DEFLATED = b"1.2.840.10008.1.2.1.99"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # by byte order
BITS = {1: "u1", 8: "u1", 16: "u2", 32: "u4", 64: "f8"}


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
    """Tags shared by all frames of a file."""

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


def dataset_of(path: Path, pixels: bool = True) -> Any:
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
        raise Refused(f"damaged: its DICOM tags cannot be read ({brief(error)})") from None
    if not any(keyword in dataset for keyword in PIXELS):
        if any(tag in content for tag in PIXEL_TAGS):  # pydicom drops what has no end
            raise Refused("truncated or damaged (its PixelData has no end)")
        raise Refused("holds no image (it has no PixelData)")
    if not pixels:
        for keyword in PIXELS:
            if keyword in dataset and syntax_of(dataset) in PLAIN:
                require_pixels(dataset, layout_of(dataset), keyword)
    return dataset


def brief(error: Exception) -> str:
    """The beginning of an error on one line."""
    return " ".join(str(error).split())[:80] or type(error).__name__


def value_of(item: Any, keyword: str, default: Any = None) -> Any:
    """The value of a tag; the default where it is missing or empty."""
    if item is None:
        return default
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = item.get(keyword)
    except Exception:  # the tag is there and is not what its type says
        raise Refused(f"has no usable {named(keyword)}") from None
    return default if value is None or value == "" or value == [] else value


def named(keyword: str) -> str:
    """A tag by its word and its number, for messages."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"{keyword} ({tag >> 16:04x},{tag & 0xFFFF:04x})"


def numbers_of(item: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """The numbers of a tag; None where it is missing."""
    value = value_of(item, keyword)
    if value is None:
        return None
    try:
        numbers = tuple(float(v) for v in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise Refused(f"has no usable {named(keyword)}")
    return numbers


def integer_of(item: Any, keyword: str, default: int | None = None) -> int:
    """The whole number of a tag; refused where it is missing and has no default."""
    numbers = numbers_of(item, keyword, 1)
    if numbers is None and default is not None:
        return default
    if numbers is None or numbers[0] != int(numbers[0]):
        raise Refused(f"has no usable {named(keyword)}")
    return int(numbers[0])


def layout_of(dataset: Any) -> Layout:
    """The tags shared by all frames, checked one by one."""
    rows, columns = integer_of(dataset, "Rows"), integer_of(dataset, "Columns")
    frames = integer_of(dataset, "NumberOfFrames", 1)
    if min(rows, columns, frames) < 1:
        raise Refused(f"its header claims the size {(columns, rows, frames)}")
    bits = integer_of(dataset, "BitsAllocated")
    if bits not in BITS:
        raise Refused(f"has {bits} bits in a pixel (BitsAllocated)")
    photometric = str(value_of(dataset, "PhotometricInterpretation", "MONOCHROME2"))
    components = integer_of(dataset, "SamplesPerPixel", 1)
    thickness = numbers_of(dataset, "SpacingBetweenSlices", 1) or numbers_of(
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
        stored_bits=integer_of(dataset, "BitsStored", bits),
        signed=integer_of(dataset, "PixelRepresentation", 0) == 1,
        series=str(value_of(dataset, "SeriesInstanceUID", "")),
        name=str(value_of(dataset, "SeriesDescription", "without a name")).strip(),
        thickness=thickness[0] if thickness and thickness[0] > 0 else None,
    )


def frames_of(dataset: Any, layout: Layout, file: str | None) -> list[Frame]:
    """All frames of a file in its order; ``file`` names the slice of a series."""
    groups = value_of(dataset, "PerFrameFunctionalGroupsSequence")
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
                numbers = numbers_of(_item(holder, macro), keyword, count)
                if numbers is not None:
                    return numbers
            return numbers_of(dataset, keyword, count)

        try:
            position = of("PlanePositionSequence", "ImagePositionPatient", 3)
            orientation = of("PlaneOrientationSequence", "ImageOrientationPatient", 6)
            spacing = of("PixelMeasuresSequence", "PixelSpacing", 2)
            slope = of("PixelValueTransformationSequence", "RescaleSlope", 1)
            intercept = of("PixelValueTransformationSequence", "RescaleIntercept", 1)
            if slope == (0.0,):
                raise Refused(f"has no usable {named('RescaleSlope')}")
        except Refused as refused:
            kind = "slice" if file is not None else "frame"
            raise Refused(f"{kind} {label} {refused}") from None
        if positions is not None:
            position = positions[at]
        if orientation is None:
            orientation = numbers_of(detector, "ImageOrientationPatient", 6)
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
    sequence = value_of(holder, keyword)
    try:
        return sequence[0] if sequence is not None and len(sequence) else None
    except TypeError:
        raise Refused(f"has no usable {named(keyword)}") from None


def _positions(dataset: Any, detector: Any, layout: Layout) -> list[tuple[float, ...]] | None:
    """Positions of frames that are given by their distance from the first: dose and nuclear."""
    if layout.frames == 1 or "PerFrameFunctionalGroupsSequence" in dataset:
        return None
    holder = dataset if "ImagePositionPatient" in dataset else detector
    first = numbers_of(holder, "ImagePositionPatient", 3)
    orientation = numbers_of(holder, "ImageOrientationPatient", 6)
    offsets = numbers_of(dataset, "GridFrameOffsetVector", layout.frames)
    step = numbers_of(dataset, "SpacingBetweenSlices", 1)
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


def syntax_of(dataset: Any) -> str:
    """The transfer syntax; files without one are plain."""
    meta = getattr(dataset, "file_meta", None)
    return str(value_of(meta, "TransferSyntaxUID", PLAIN[0])).strip().rstrip("\0")


def require_pixels(dataset: Any, layout: Layout, keyword: str) -> None:
    """Plain pixels cannot be more than the file."""
    size = (layout.columns, layout.rows, layout.frames)
    numbers = int(np.prod([*size, layout.components], dtype=np.int64))
    require_length((numbers * layout.bits + 7) // 8, len(dataset.get(keyword) or b""))
