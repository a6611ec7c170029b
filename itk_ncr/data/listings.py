"""Training tables: columns and the meaning of their rows."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from itk_ncr.tables import Line, Table

SPLITS = ("train", "val", "test")
OPTIONAL = ("split", "group", "slice_mm", "ignore_labels")
IMAGE_COLUMNS = ("subject", "image", "labels", "lesion", *OPTIONAL)
PAIR_COLUMNS = (
    "subject", "fixed", "moving", "fixed_labels", "moving_labels", "lesion", *OPTIONAL,
)  # fmt: skip
# `spilt` and `split` are as similar as this; `session` and `lesion` are less (0.77).
ALIKE = 0.8
# What others call our columns.
MISTAKEN = (
    dict.fromkeys(("fold", "set", "subset", "partition", "phase"), "split")
    | dict.fromkeys(("patient", "patient_id", "participant", "participant_id"), "subject")
    | dict.fromkeys(("seg", "segmentation", "label_map", "labelmap"), "labels")
    | dict.fromkeys(("mask", "lesion_mask", "roi"), "lesion")
)


@dataclass(frozen=True)
class Entry:
    """One image of a line of the table.

    Attributes
    ----------
    line : int
    patient : str
    image : Path
    labels, lesion : Path, optional
    split : str, optional
    group : str
    slice_mm : float, optional
    ignore_labels : tuple of int
    """

    line: int
    patient: str
    image: Path
    labels: Path | None
    lesion: Path | None
    split: str | None
    group: str
    slice_mm: float | None
    ignore_labels: tuple[int, ...]


def is_of_pairs(table: Table) -> bool:
    """Whether rows name pairs rather than single images."""
    return "fixed" in table.heading or "moving" in table.heading


def column_faults(table: Table) -> list[str]:
    """Faults of the columns of a training table."""
    columns: tuple[str, ...] = IMAGE_COLUMNS
    required: tuple[str, ...] = ("subject", "image")
    if is_of_pairs(table):
        columns, required = PAIR_COLUMNS, ("subject", "fixed", "moving")
    mistaken = {name: meant for name, meant in MISTAKEN.items() if meant in columns}
    if is_of_pairs(table):
        mistaken |= {name: "fixed_labels" for name, meant in MISTAKEN.items() if meant == "labels"}
    return table.column_faults(columns, required=required, mistaken=mistaken, alike=ALIKE)


def further_columns(table: Table) -> list[str]:
    """Columns that a training does not use."""
    return table.further(PAIR_COLUMNS if is_of_pairs(table) else IMAGE_COLUMNS)


def entries(table: Table, faults: list[str]) -> Iterator[tuple[Entry, ...]]:
    """The images of every line, one or a fixed and a moving one; faults are added to a list."""
    parts = [("image", "labels", "lesion")]
    if is_of_pairs(table):
        parts = [("fixed", "fixed_labels", "lesion"), ("moving", "moving_labels", "")]
    seen: dict[tuple[str, ...], int] = {}
    for line in table.lines:
        cells = line.cells
        before = len(faults)
        for column in ("subject", *(part[0] for part in parts)):
            if not cells[column]:
                faults.append(f"line {line.number} has no {column}")
        split = cells.get("split", "")
        if split not in ("", *SPLITS):
            faults.append(
                f"line {line.number}: split must be one of {', '.join(SPLITS)}; got {split!r}"
            )
        slice_mm = _height(line, faults)
        ignored = _label_values(line, faults)
        if len(faults) > before:
            continue
        same = tuple(cells[c] for c in ("subject", *(part[0] for part in parts)))
        if (first := seen.setdefault(same, line.number)) != line.number:
            faults.append(f"line {line.number} repeats line {first}")
            continue
        yield tuple(
            Entry(
                line=line.number,
                patient=cells["subject"],
                image=table.path.parent / cells[image],
                labels=_file(table, line, labels),
                lesion=_file(table, line, lesion),
                split=split or None,
                group=cells.get("group", ""),
                slice_mm=slice_mm,
                ignore_labels=ignored,
            )
            for image, labels, lesion in parts
        )


def _file(table: Table, line: Line, column: str) -> Path | None:
    cell = line.cells.get(column, "")
    return table.path.parent / cell if cell else None


def _height(line: Line, faults: list[str]) -> float | None:
    cell = line.cells.get("slice_mm", "")
    try:
        height = float(cell) if cell else None
    except ValueError:
        height = math.nan
    if height is not None and not math.isfinite(height):
        faults.append(f"line {line.number}: slice_mm must be a number; got {cell!r}")
        return None
    return height


def _label_values(line: Line, faults: list[str]) -> tuple[int, ...]:
    cell = line.cells.get("ignore_labels", "")
    try:
        return label_values(cell)
    except ValueError:
        faults.append(
            f"line {line.number}: ignore_labels must be whole numbers, blanks between; got {cell!r}"
        )
        return ()


def label_values(text: str) -> tuple[int, ...]:
    """Label values in rising order, from a text with commas, semicolons or blanks between.

    Raises
    ------
    ValueError
        If one is not a whole number >= 0.
    """
    words = [word for word in re.split(r"[\s,;]+", text) if word]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise ValueError(text)
    return tuple(sorted({int(word) for word in words}))


def patient_key(name: str) -> str:
    """Key of a patient's name that ignores blanks, case and Unicode forms."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
