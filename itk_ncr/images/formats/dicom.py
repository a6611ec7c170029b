"""DICOM: one complete, evenly spaced volume, or an error that names the fault.

pydicom reads the tags and the plain pixels, ITK only unpacks JPEG and its kin. ITK's own reader
picks the first of several series, stretches the spacing over missing slices, forgets the geometry
of multi-frame files that are not quite even, and scales all slices of a series like the first.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from itk_ncr.images.formats.content import (
    Content,
    Place,
    Refused,
    require_claim,
    require_components,
    require_spacing,
)
from itk_ncr.images.formats.dicom_pixels import scaled, stored_type, stored_values
from itk_ncr.images.formats.dicom_tags import (
    Frame,
    Layout,
    dataset_of,
    frames_of,
    layout_of,
    named,
)
from itk_ncr.images.formats.stack import Stack, stacked

# Where files without the 128 bytes and DICM begin: the first elements of group 8.
BARE_STARTS = tuple(bytes((8, 0, element, 0)) for element in (0, 1, 5, 8, 0x12, 0x14, 0x16, 0x18))


def is_dicom_file(path: Path) -> bool:
    """Whether a file starts like DICOM: 128 bytes and DICM, or bare tags."""
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
    dataset = dataset_of(path)
    layout = layout_of(dataset)
    require_components(layout.components, 3, vector)
    frames = frames_of(dataset, layout, None)
    stack, notes = _stack(frames, layout, "frames")
    array = scaled(stored_values(dataset, layout), frames, layout)
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
    stored = np.empty(size[::-1], stored_type(layout))
    for at, (path, own, frame) in enumerate(ordered):
        dataset = dataset_of(path)
        # The tags that were checked are the ones that the pixels come with.
        if layout_of(dataset) != own or frames_of(dataset, own, path.name) != [frame]:
            raise Refused(f"slice {path.name!r} changed while it was read")
        pixels = stored_values(dataset, own, f"slice {path.name!r} is ")
        if pixels.dtype != stored.dtype:
            stored = stored.astype(np.result_type(pixels.dtype, stored.dtype))
        stored[at] = pixels[0]
    return Content(scaled(stored, [frame for *_, frame in ordered], layout), stack.place, notes)


def _slices(folder: Path) -> list[tuple[Path, Layout, Frame]]:
    """The files of the only series in a folder, checked up to the pixels."""
    series: dict[str, list[tuple[Path, Layout, Frame]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists():
            raise Refused(f"holds {path.name!r}, a link to a file that does not exist")
        if path.name == "DICOMDIR" or not is_dicom_file(path):
            continue
        try:
            dataset = dataset_of(path, pixels=False)
            layout = layout_of(dataset)
        except Refused as refused:
            raise Refused(f"slice {path.name!r} {_as_predicate(str(refused))}") from None
        frames = frames_of(dataset, layout, path.name)
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


def _stack(frames: list[Frame], layout: Layout, kind: str) -> tuple[Stack, list[str]]:
    """Order and position of frames, and warnings."""
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
                raise Refused(f"{one} {frame.label} has no usable {named(keyword)}")
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
        notes.append(f"it has no {named('PixelSpacing')}; 1 mm is assumed")
    else:
        require_spacing(frame.spacing)
    if frame.position is None or frame.orientation is None:
        notes.append(
            f"it has no {named('ImagePositionPatient')} or {named('ImageOrientationPatient')}; "
            "its axes are taken as they are"
        )
    down, across = frame.spacing or (1.0, 1.0)
    axes = np.reshape(frame.orientation or (1, 0, 0, 0, 1, 0), (2, 3)).astype(np.float64)
    direction = np.stack([*axes, np.cross(*axes)], axis=1)
    spacing = np.array([across, down, layout.thickness or 1.0])
    origin = np.array(frame.position or (0.0, 0.0, 0.0))
    return Stack((0,), Place(spacing, origin, direction)), notes
