"""PNG, JPEG and TIFF: pictures whose decoders fill up what is missing."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from itk_ncr.images.preflight.header import (
    Header,
    Refused,
    require_claim,
    require_deflated,
    require_file,
    require_length,
)

PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette is a colour
# The unsigned numbers of TIFF: size in bytes and letter of the struct module, by the type's code.
TIFF_BYTES = {1: 1, 3: 2, 4: 4}
TIFF_LETTERS = {1: "B", 3: "H", 4: "I"}
TIFF_TAGS = (256, 257, 258, 273, 277, 279, 324, 325)


def inspect_png(path: Path) -> Header:
    """Check the chunks of a PNG, each by its checksum."""
    require_file(path)
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise Refused("is not a PNG file (its magic is missing)")
    at, head, packed = 8, b"", []
    while True:
        if at + 12 > len(content):
            raise Refused(f"truncated (it ends after {len(content)} bytes without its end mark)")
        (length,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        require_length(at + 12 + length, len(content))
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
    samples = 1 if colour == 3 else channels
    require_claim((width, height), max(1, depth // 8) * max(1, channels), None)
    line = (width * depth * samples + 7) // 8
    require_deflated(iter(packed), 0 if interlaced else height * (line + 1))
    return Header((width, height), channels)


def inspect_jpeg(path: Path) -> Header:
    """Find a JPEG's size and its end mark; decoders paint grey over what is cut off."""
    require_file(path)
    content = path.read_bytes()
    if not content.startswith(b"\xff\xd8"):
        raise Refused("is not a JPEG file (its magic is missing)")
    if b"\xff\xd9" not in content[-64:]:
        raise Refused(f"truncated (it ends after {len(content)} bytes without its end mark)")
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], struct.unpack_from(">H", content, at + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            _, height, width, channels = struct.unpack_from(">BHHB", content, at + 4)
            require_claim((width, height), channels, None)
            return Header((width, height), channels)
        at += 2 + length
    raise Refused("is not a JPEG file (its size is missing)")


def inspect_tiff(path: Path) -> Header:
    """Check that the strips or tiles of a TIFF's first page lie inside the file."""
    length = require_file(path)
    with path.open("rb") as file:
        start = file.read(8)
        order = {b"II": "<", b"MM": ">"}.get(start[:2])
        if order is None or len(start) < 8:
            raise Refused("is not a TIFF file (its magic is missing)")
        version, at = struct.unpack(order + "HI", start[2:])
        if version != 42:
            raise Refused("is a BigTIFF file, which is not supported; save it as .nrrd or .mha")
        tags: dict[int, list[int]] = {}
        file.seek(at)
        require_length(at + 2, length)
        (count,) = struct.unpack(order + "H", file.read(2))
        require_length(at + 6 + 12 * count, length)
        entries = file.read(12 * count)
        for entry in range(count):
            tag, kind, number = struct.unpack_from(order + "HHI", entries, 12 * entry)
            if tag not in TIFF_TAGS or kind not in TIFF_BYTES:
                continue
            total = TIFF_BYTES[kind] * number
            if total <= 4:
                raw = entries[12 * entry + 8 : 12 * entry + 8 + total]
            else:
                (where,) = struct.unpack_from(order + "I", entries, 12 * entry + 8)
                require_length(where + total, length)
                file.seek(where)
                raw = file.read(total)
            tags[tag] = list(struct.unpack(f"{order}{number}{TIFF_LETTERS[kind]}", raw))
    if 256 not in tags or 257 not in tags:
        raise Refused("is not a TIFF file (its size is missing)")
    size = (tags[256][0], tags[257][0])
    channels = tags.get(277, [1])[0]
    require_claim(size, channels * max(1, tags.get(258, [8])[0] // 8), None)
    offsets, counts = tags.get(273, tags.get(324)), tags.get(279, tags.get(325))
    if not offsets or not counts or len(offsets) != len(counts):
        raise Refused("is not a TIFF file (the places of its pixels are missing)")
    require_length(max(o + n for o, n in zip(offsets, counts, strict=True)), length)
    return Header(size, channels)
