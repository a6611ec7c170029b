"""The pixels of DICOM files: unpacked by pydicom, JPEG and its kin by ITK, and scaled."""

from __future__ import annotations

import struct
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.formats.content import DEFLATE_LIMIT, Refused, require_claim
from itk_ncr.images.formats.decoder import itk_reason, watched_decoder
from itk_ncr.images.formats.dicom_tags import (
    BITS,
    PIXELS,
    PLAIN,
    Frame,
    Layout,
    brief,
    require_pixels,
    syntax_of,
)

RUN_LENGTHS = "1.2.840.10008.1.2.5"
# Those that ITK unpacks: JPEG, lossless JPEG, JPEG-LS and JPEG 2000.
JPEGS = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def stored_values(dataset: Any, layout: Layout, subject: str = "") -> NDArray[Any]:
    """The stored values of a file, shape (frames, rows, columns)."""
    keyword = next(keyword for keyword in PIXELS if keyword in dataset)
    size = (layout.columns, layout.rows, layout.frames)
    syntax = syntax_of(dataset)
    length = len(dataset.get(keyword) or b"")
    held = None if syntax in PLAIN else DEFLATE_LIMIT * length
    require_claim(size, max(1, layout.components * layout.bits // 8), held)
    try:
        if syntax in PLAIN:
            require_pixels(dataset, layout, keyword)
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
        raise Refused(f"damaged: its pixels cannot be unpacked ({brief(error)})") from None
    return array


def _require_same_size(dataset: Any, layout: Layout) -> None:
    """Refuse packed frames whose own size is not that of the tags: a decoder believes them."""
    from pydicom.encaps import generate_frames

    try:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=layout.frames))
    except Exception as error:  # pydicom raises whatever its parsers meet
        raise Refused(f"damaged: its pixels cannot be unpacked ({brief(error)})") from None
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
    plain.file_meta.TransferSyntaxUID = syntax_of(dataset)
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
            raise Refused(f"damaged: its pixels cannot be unpacked ({brief(error)})") from None
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise Refused("holds colours; convert it to grey")
    array: NDArray[Any] = sitk.GetArrayFromImage(image)
    return array


def stored_type(layout: Layout) -> np.dtype[Any]:
    """The type of the stored values."""
    code = BITS[layout.bits]
    return np.dtype(code.replace("u", "i") if layout.signed else code)


def scaled(stored: NDArray[Any], frames: list[Frame], layout: Layout) -> NDArray[Any]:
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
