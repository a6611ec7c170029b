"""DICOM folders: one complete, evenly spaced series, or an error that names what is wrong.

ITK's reader picks the first of several series, and stretches the spacing over missing slices.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.preflight.header import (
    Header,
    Refused,
    require_claim,
    require_file,
    require_length,
    require_spacing,
)

POSITION, ORIENTATION = "0020|0032", "0020|0037"
ROWS, COLUMNS, PIXEL_SPACING = "0028|0010", "0028|0011", "0028|0030"
SAMPLES, BITS, FRAMES = "0028|0002", "0028|0100", "0028|0008"
SYNTAX, SERIES, SERIES_NAME = "0002|0010", "0020|000e", "0008|103e"
# Transfer syntaxes whose pixels lie in the file as they are.
UNPACKED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
SAME_PLACE_MM = 1e-3
# Slice distances scatter by rounding; a missing slice doubles one.
UNEVEN, ROUGH = 0.1, 0.01


@dataclass(frozen=True)
class Slice:
    """One file of a series, with the tags that place it."""

    path: Path
    tags: dict[str, str]

    def numbers(self, tag: str, count: int) -> NDArray[np.float64]:
        """A tag's values."""
        try:
            values = np.array([float(word) for word in self.tags[tag].split("\\")])
        except (KeyError, ValueError):
            values = np.empty(0)
        if len(values) != count or not np.isfinite(values).all():
            raise Refused(f"slice {self.path.name!r} has no usable tag ({tag.replace('|', ',')})")
        return values


def inspect_dicom(folder: Path) -> tuple[Header, list[Path]]:
    """Check a folder; returns what its one series claims, and its files in slice order."""
    slices = _slices(folder)
    for piece in slices:
        _require_pixels(piece)
    first = slices[0]
    rows, columns = (int(first.numbers(tag, 1)[0]) for tag in (ROWS, COLUMNS))
    frames = int(first.tags.get(FRAMES, "1").strip() or 1)
    components = int(first.tags.get(SAMPLES, "1").strip() or 1)
    bits = int(first.tags.get(BITS, "16").strip() or 16)
    if len(slices) == 1:
        size = (columns, rows, frames)
        require_claim(size, components * bits // 8, None)
        return Header(size, components), [first.path]
    if frames > 1:
        raise Refused(f"has {len(slices)} files of several frames each; name one of the files")
    size = (columns, rows, len(slices))
    require_claim(size, components * bits // 8, None)
    for piece in slices[1:]:
        if tuple(int(piece.numbers(tag, 1)[0]) for tag in (ROWS, COLUMNS)) != (rows, columns):
            raise Refused(f"slices {first.path.name!r} and {piece.path.name!r} differ in size")
    ordered, full, notes = _stack(slices)
    header = Header(size, components, geometry={"slices": full}, notes=notes)
    return header, [piece.path for piece in ordered]


def is_dicom_file(path: Path) -> bool:
    """Whether a file begins as DICOM files do: 128 bytes of anything, then DICM."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _slices(folder: Path) -> list[Slice]:
    import SimpleITK as sitk

    series: dict[str, list[Slice]] = defaultdict(list)
    talkative = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # an empty folder is told below
    try:
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            for name in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid):
                path = Path(name)
                series[uid].append(Slice(path, _tags(path)))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(talkative)
    listed = {piece.path.name for pieces in series.values() for piece in pieces}
    for path in sorted(folder.iterdir()):
        # ITK leaves out what it cannot read; at the end of a stack nobody would notice.
        if path.name not in listed and path.name != "DICOMDIR" and is_dicom_file(path):
            raise Refused(f"slice {path.name!r} is truncated or damaged")
    if not series:
        raise Refused("is a folder without a DICOM series")
    if len(series) > 1:
        names = "; ".join(
            f"{_name(pieces)} ({len(pieces)} files, series {uid})"
            for uid, pieces in sorted(series.items())
        )
        raise Refused(f"holds {len(series)} DICOM series: {names}. Put one into its own folder")
    return next(iter(series.values()))


def _name(pieces: list[Slice]) -> str:
    return repr(pieces[0].tags.get(SERIES_NAME, "").strip() or "without a name")


def _tags(path: Path) -> dict[str, str]:
    import SimpleITK as sitk

    require_file(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise Refused(f"slice {path.name!r} is damaged or not an image") from None
    place = (POSITION, ORIENTATION, ROWS, COLUMNS, PIXEL_SPACING)
    wanted = (*place, SAMPLES, BITS, FRAMES, SYNTAX, SERIES, SERIES_NAME)
    return {tag: reader.GetMetaData(tag) for tag in wanted if reader.HasMetaDataKey(tag)}


def _require_pixels(piece: Slice) -> None:
    """The pixels of an unpacked file cannot be more than the file."""
    if piece.tags.get(SYNTAX, UNPACKED[0]).strip().rstrip("\0") not in UNPACKED:
        return
    values = [
        int(piece.tags.get(tag, fallback).strip() or fallback)
        for tag, fallback in ((ROWS, "0"), (COLUMNS, "0"), (SAMPLES, "1"), (FRAMES, "1"))
    ]
    needed = int(np.prod(values, dtype=np.int64)) * int(piece.tags.get(BITS, "8").strip() or 8) // 8
    try:
        require_length(needed, piece.path.stat().st_size)
    except Refused as refused:
        raise Refused(f"slice {piece.path.name!r} is {refused}") from None


def _stack(slices: list[Slice]) -> tuple[list[Slice], NDArray[np.float64], list[str]]:
    """The slices in order, the map from index to mm, and what is worth a warning."""
    first = slices[0]
    orientation = first.numbers(ORIENTATION, 6)
    spacing = first.numbers(PIXEL_SPACING, 2)  # down, across
    require_spacing(spacing)
    for piece in slices[1:]:
        if np.abs(piece.numbers(ORIENTATION, 6) - orientation).max() > 1e-3:
            raise Refused(f"slices {first.path.name!r} and {piece.path.name!r} differ in direction")
        if np.abs(piece.numbers(PIXEL_SPACING, 2) / spacing - 1).max() > 1e-3:
            raise Refused(f"slices {first.path.name!r} and {piece.path.name!r} differ in spacing")
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([piece.numbers(POSITION, 3) for piece in slices])
    order = np.argsort(positions @ normal, kind="stable")
    ordered, positions = [slices[i] for i in order], positions[order]
    steps = np.diff(positions @ normal)
    for at in np.flatnonzero(steps < SAME_PLACE_MM):
        raise Refused(
            f"slices {ordered[at].path.name!r} and {ordered[at + 1].path.name!r} lie at the same "
            f"place; {int((steps < SAME_PLACE_MM).sum())} duplicate(s) in all"
        )
    usual = float(np.median(steps))
    if len(steps) == 2 and steps.max() > 1.5 * steps.min():
        usual = float(steps.min())  # of two steps the longer one holds the gap
    notes = []
    gaps = np.flatnonzero(np.abs(steps - usual) > UNEVEN * usual)
    if len(gaps):
        at = int(gaps[np.argmax(steps[gaps])])
        missing = round(float(sum(max(0, round(steps[g] / usual) - 1) for g in gaps)))
        what = f"{missing} slice(s) missing" if missing else "slices are unevenly spaced"
        raise Refused(
            f"{what}: {steps[at]:.4g} mm between {ordered[at].path.name!r} and "
            f"{ordered[at + 1].path.name!r}, {usual:.4g} mm elsewhere"
        )
    if (np.abs(steps - usual) > ROUGH * usual).any():
        notes.append(
            f"its slice distances vary from {steps.min():.4g} to {steps.max():.4g} mm; "
            "their mean is used"
        )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    if np.linalg.norm(step - (step @ normal) * normal) > 1e-3 * np.linalg.norm(step):
        raise Refused(
            "its slices are sheared (gantry tilt); resample it to an unsheared grid first"
        )
    full = np.eye(4)
    full[:3, :3] = np.stack([orientation[:3] * spacing[1], orientation[3:] * spacing[0], step], 1)
    full[:3, 3] = positions[0]
    return ordered, full, notes
