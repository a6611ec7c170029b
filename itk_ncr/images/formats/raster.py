"""PNG, JPEG and TIFF, decoded by ITK from bytes that were checked before.

Their decoders fill in missing parts, and follow cyclic directories.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np

from itk_ncr.images.colours import grey_of
from itk_ncr.images.formats.content import (
    DEFLATE_LIMIT,
    Content,
    Place,
    Refused,
    inflated,
    opened,
    read_array,
    require_claim,
    require_components,
    require_length,
)
from itk_ncr.images.formats.decoder import itk_reason, watched_decoder
from itk_ncr.images.locales import numeric_locale

PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette is a colour
# The passes of an interlaced PNG: first column and row, and steps.
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
# More scans than any encoder writes; a decoder works through the whole image for each.
JPEG_SCANS = 100
# The unsigned numbers of TIFF: size in bytes and letter of the struct module, by the type's code.
TIFF_BYTES = {1: 1, 3: 2, 4: 4}
TIFF_LETTERS = {1: "B", 3: "H", 4: "I"}
# Bytes of all its types, by code.
TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
WIDTH, HEIGHT, BITS, PACKING, COLOUR = 256, 257, 258, 259, 262
STRIPS, CHANNELS, ROWS, COUNTS, PLANES = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_COUNTS = 322, 323, 324, 325
# What the decoder needs of a directory: those, and fill order, orientation, resolution, predictor,
# sample format and JPEG tables. All else is taken out, so that nothing unchecked is followed.
TIFF_TAGS = {
    WIDTH, HEIGHT, BITS, PACKING, COLOUR, STRIPS, CHANNELS, ROWS, COUNTS, PLANES, TILE_WIDTH,
    TILE_HEIGHT, TILES, TILE_COUNTS, 266, 274, 282, 283, 296, 317, 339, 347,
}  # fmt: skip
# LZW, the tightest of its codes, packs at most 3.8 kB into 12 bits.
TIFF_LIMIT = 2560


def read_png(path: Path, vector: bool) -> Content:
    """Read a PNG after checking its chunks, each by its checksum."""
    content = _whole(path)
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise Refused("is not a PNG file (its magic is missing)")
    at, head, packed = 8, b"", []
    while True:
        if at + 12 > len(content):
            raise Refused(f"truncated (it ends after {len(content)} bytes without its end mark)")
        (length,) = struct.unpack_from(">I", content, at)
        require_length(at + 12 + length, len(content))
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        if zlib.crc32(kind + body) != struct.unpack_from(">I", content, at + 8 + length)[0]:
            raise Refused("damaged: the checksum of one of its chunks does not match")
        if kind == b"IHDR":
            head = body
        elif kind == b"IDAT":
            packed.append(body)
        elif kind == b"IEND":
            break
        at += 12 + length
    if len(head) != 13:
        raise Refused("is not a PNG file (its header is missing)")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    channels = PNG_CHANNELS.get(colour, 0)
    bits = depth * (1 if colour == 3 else channels)
    held = DEFLATE_LIMIT * len(content) * 8 // max(1, bits)
    require_claim((width, height), max(1, depth // 8) * max(1, channels), held * max(1, bits // 8))
    _require_channels(channels, vector)
    inflated(iter(packed), _png_length(width, height, bits, bool(interlaced)), notes=[])
    return _decoded(content, ".png", (width, height))


def _png_length(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of all rows, one more for the filter of each."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * ((columns * bits + 7) // 8 + 1)
    return total


def read_jpeg(path: Path, vector: bool) -> Content:
    """Read a JPEG that has a size and an end mark; decoders fill a truncated part with grey."""
    content = _whole(path)
    if not content.startswith(b"\xff\xd8"):
        raise Refused("is not a JPEG file (its magic is missing)")
    if b"\xff\xd9" not in content[-64:]:
        raise Refused(f"truncated (it ends after {len(content)} bytes without its end mark)")
    if content.count(b"\xff\xda") > JPEG_SCANS:
        raise Refused(f"has more than {JPEG_SCANS} scans; save it as .png")
    at = 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], struct.unpack_from(">H", content, at + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            precision, height, width, channels = struct.unpack_from(">BHHB", content, at + 4)
            if precision != 8:
                raise Refused(f"has {precision} bits in a sample; 8 can be read. Save it as .png")
            require_claim((width, height), channels, DEFLATE_LIMIT * len(content))
            _require_channels(channels, vector)
            return _decoded(content, ".jpg", (width, height))
        at += 2 + length
    raise Refused("is not a JPEG file (its size is missing)")


def read_tiff(path: Path, vector: bool) -> Content:
    """Read a TIFF of one page whose strips or tiles lie inside the file."""
    content = _whole(path)
    order = {b"II": "<", b"MM": ">"}.get(bytes(content[:2]))
    if order is None or len(content) < 8:
        raise Refused("is not a TIFF file (its magic is missing)")
    version, at = struct.unpack_from(order + "HI", content, 2)
    if version != 42:
        raise Refused("is a BigTIFF file, which is not supported; save it as .nrrd or .mha")
    tags, entries = _directory(content, order, at)
    size = _tiff_size(tags, len(content))
    channels = tags.get(CHANNELS, [1])[0]
    _require_channels(channels, vector)
    if tags.get(COLOUR, [1])[0] not in ((0, 1, 2) if channels > 2 else (0, 1)):
        raise Refused("holds colours by a palette or by differences; convert it to grey")
    _require_tiff_data(tags, size, channels, len(content))
    # One directory of known entries, and none behind it.
    known = b"".join(entries) + bytes(4)
    whole = bytearray(content)
    whole[at : at + 2] = struct.pack(order + "H", len(entries))
    whole[at + 2 : at + 2 + len(known)] = known
    return _decoded(bytes(whole), ".tif", size)


def _directory(content: bytes, order: str, at: int) -> tuple[dict[int, list[int]], list[bytes]]:
    """Numbers of the only directory by their tag, and its entries that are needed."""
    require_length(at + 2, len(content))
    (count,) = struct.unpack_from(order + "H", content, at)
    require_length(at + 6 + 12 * count, len(content))
    if struct.unpack_from(order + "I", content, at + 2 + 12 * count)[0]:
        raise Refused("holds more than one page; save the one to use as a file of its own")
    tags: dict[int, list[int]] = {}
    entries = []
    for start in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", content, start)
        if tag not in TIFF_TAGS or kind not in TIFF_SIZES:
            continue
        if tag in tags:
            raise Refused(f"its directory has two entries of tag {tag}")
        where, total = start + 8, TIFF_SIZES[kind] * number
        if total > 4:
            (where,) = struct.unpack_from(order + "I", content, start + 8)
            require_length(where + total, len(content))
        tags[tag] = []
        if kind in TIFF_BYTES:
            form = f"{order}{number}{TIFF_LETTERS[kind]}"
            tags[tag] = list(struct.unpack_from(form, content, where))
        entries.append(bytes(content[start : start + 12]))
    return {tag: values for tag, values in tags.items() if values}, entries


def _tiff_size(tags: dict[int, list[int]], length: int) -> tuple[int, int]:
    if WIDTH not in tags or HEIGHT not in tags:
        raise Refused("is not a TIFF file (its size is missing)")
    size = (tags[WIDTH][0], tags[HEIGHT][0])
    bits = tags.get(BITS, [1])[0]
    if bits not in (8, 16, 32):
        raise Refused(f"has {bits} bits in a sample; 8, 16 or 32 can be read")
    plain = tags.get(PACKING, [1])[0] == 1
    claim = tags.get(CHANNELS, [1])[0] * bits // 8
    require_claim(size, claim, length if plain else TIFF_LIMIT * length)
    return size


def _require_tiff_data(
    tags: dict[int, list[int]], size: tuple[int, int], channels: int, length: int
) -> None:
    """Refuse voxels that are not all there."""
    tiled = TILES in tags
    offsets = tags.get(TILES if tiled else STRIPS)
    counts = tags.get(TILE_COUNTS if tiled else COUNTS)
    if not offsets or not counts or len(offsets) != len(counts):
        raise Refused("is not a TIFF file (the places of its pixels are missing)")
    require_length(max(o + n for o, n in zip(offsets, counts, strict=True)), length)
    width, height = size
    if tiled:
        width, height = (tags.get(tag, [0])[0] for tag in (TILE_WIDTH, TILE_HEIGHT))
        if not (0 < width <= 2 * size[0] + 256 and 0 < height <= 2 * size[1] + 256):
            raise Refused(f"has tiles of {width} x {height} pixels in an image of {size}")
        pieces = -(-size[0] // width) * -(-size[1] // height)
    else:
        rows = min(height, tags.get(ROWS, [height])[0] or height)
        pieces = -(-height // rows)
        height = rows
    if tags.get(PLANES, [1])[0] == 2:
        pieces *= channels
        channels = 1
    if len(offsets) != pieces:
        raise Refused(f"its pixels need {pieces} strips or tiles, its header has {len(offsets)}")
    if tags.get(PACKING, [1])[0] != 1:
        return
    row = width * channels * tags[BITS][0] // 8
    for at, count in enumerate(counts):
        last = not tiled and at == pieces - 1
        require_length(row * (size[1] - at * height if last else height), count)


def _require_channels(channels: int, vector: bool) -> None:
    """Refuse what can be neither grey nor grey stored as colours, which only its values tell."""
    if vector or channels not in (3, 4):  # ITK misreads grey with alpha
        require_components(channels, 2, vector)


def _whole(path: Path) -> bytes:
    with opened(path) as (file, length):
        return read_array(file, 0, length).tobytes()


def _decoded(content: bytes, suffix: str, size: tuple[int, int]) -> Content:
    """The picture that ITK makes of checked bytes."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(prefix="itk_ncr-") as folder, numeric_locale():
        copy = Path(folder) / f"image{suffix}"
        copy.write_bytes(content)
        try:
            with watched_decoder():
                image = sitk.ReadImage(str(copy))
        except (RuntimeError, MemoryError) as error:
            raise Refused(itk_reason(error)) from None
    found = tuple(image.GetSize())
    if found != size:
        raise Refused(f"its header says size {size}, ITK reads {found}")
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() != 1:
        grey = grey_of(array)
        if grey is None:
            raise Refused(
                f"has {array.shape[-1]} values in every voxel: colours, or transparency that "
                "varies; convert it to grey, such as with PIL: Image.open(name).convert('L')"
            )
        array = grey
    place = Place(
        np.array(image.GetSpacing()),
        np.array(image.GetOrigin()),
        np.reshape(image.GetDirection(), (2, 2)),
    )
    return Content(array, place)
