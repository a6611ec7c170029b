"""CSV tables: checked reading, and cells that spreadsheets do not execute."""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from itk_ncr.errors import InputError

# Faults that are listed one by one; the others are counted.
TOLD = 20
# As `lesion_msk` and `lesion_mask` are (0.95), and `moving_id` and `moving` are not (0.80).
ALIKE = 0.85
DELIMITERS = ",;\t"
IMAGE_NAME = re.compile(r"(?i)\.(nii|nii\.gz|nrrd|nhdr|mha|mhd|hdr|img|dcm|ima|png|tiff?|jpe?g)$")
# What spreadsheets take for the beginning of a formula: full-width signs too, in East Asia.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes
    ----------
    number : int
        In the file, from 1.
    cells : mapping of str to str
        By column, without blanks around them; empty where the line is shorter than the heading.
    """

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file in memory.

    Attributes
    ----------
    path : Path
    name : str
        What it is to the reader, for messages: "pairs", "data".
    heading : tuple of str
        Names of the columns; columns without name and content are left out.
    lines : tuple of Line
        Without empty ones.
    faults : tuple of str
        Faults of its shape: unnamed columns with content, too many cells.
    """

    path: Path
    name: str
    heading: tuple[str, ...]
    lines: tuple[Line, ...]
    faults: tuple[str, ...] = ()

    def column_faults(
        self,
        known: Sequence[str],
        *,
        required: Sequence[str] = (),
        reserved: Sequence[str] = (),
        mistaken: Mapping[str, str] | None = None,
        alike: float = ALIKE,
    ) -> list[str]:
        """Faults of the heading.

        Parameters
        ----------
        known : sequence of str
            Columns that mean something.
        required : sequence of str
            Columns that must be there.
        reserved : sequence of str
            Names that no further column may have.
        mistaken : mapping of str to str
            Lower-case names that are not columns, and the column that is meant as a rule.
        alike : float
            Similarity from which on a further column counts as a misspelt one, in [0, 1].
        """
        missing = [name for name in required if name not in self.heading]
        if missing:
            shown = ", ".join(self.heading) or "nothing"
            columns = " and no column ".join(missing)
            return [f"it has no column {columns} (its first line has {shown})"]
        twice = [name for name, n in Counter(self.heading).items() if n > 1]
        faults = [f"column {name!r} is there twice" for name in twice]
        for name in self.further(known):
            meant = difflib.get_close_matches(name.lower(), known, n=1, cutoff=alike)
            meant = [(mistaken or {})[name.lower()]] if name.lower() in (mistaken or {}) else meant
            if meant:
                faults.append(f"column {name!r} is none; {meant[0]!r} is")
            elif name in reserved:
                faults.append(f"column {name!r} is one of the summary's own")
            elif self._holds_files(name):
                faults.append(f"column {name!r} holds files, and is none of {', '.join(known)}")
        return faults

    def further(self, known: Iterable[str]) -> list[str]:
        """Unknown columns, in their order."""
        return [name for name in dict.fromkeys(self.heading) if name not in set(known)]

    def refuse(self, faults: Iterable[str]) -> None:
        """Raise one error that lists all faults, if any.

        Raises
        ------
        InputError
            With the first faults in words, and how many more there are.
        """
        faults = list(dict.fromkeys(faults))
        if faults:
            more = f"; and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
            raise InputError(
                f"{self.name} '{self.path}' cannot be used, nothing was done: "
                f"{'; '.join(faults[:TOLD])}{more}. Correct the table."
            )

    def _holds_files(self, name: str) -> bool:
        cells = [line.cells[name] for line in self.lines if line.cells[name]]
        return any(
            IMAGE_NAME.search(cell) or os.path.isfile(self.path.parent / cell)
            for cell in cells[:TOLD]
        )


def read_table(path: Path, name: str) -> Table:
    """Read a CSV file: comma, semicolon or tab; UTF-8 with or without byte order mark.

    Blanks around cells, empty lines, and empty cells after the last column are read over.

    Parameters
    ----------
    path : Path
    name : str
        What the table is, for messages.

    Raises
    ------
    InputError
        If the file cannot be read or is not a CSV.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:  # UTF-16, as a rule; no path has one
            raise ValueError("NUL")
    except OSError as error:
        raise InputError(f"cannot read {name} '{path}': {error.strerror}") from error
    except ValueError:  # among them UnicodeDecodeError
        raise InputError(
            f"cannot read {name} '{path}': it is not text (UTF-8). Give a CSV."
        ) from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise InputError(f"cannot read {name} '{path}': line {reader.line_num}: {error}") from None
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        return Table(path, name, (), ())
    heading, faults = rows[0][1], []
    used = [place for place, column in enumerate(heading) if column]
    for number, row in rows[1:]:
        if any(row[len(heading) :]):
            faults.append(f"line {number} has {len(row)} cells for {len(heading)} columns")
    for place in sorted({*range(len(heading))} - {*used}):
        if any(len(row) > place and row[place] for _, row in rows[1:]):
            faults.append(f"column {place + 1} has no name")
    lines = [
        Line(number, {heading[i]: row[i] if i < len(row) else "" for i in used})
        for number, row in rows[1:]
    ]
    return Table(path, name, tuple(heading[i] for i in used), tuple(lines), tuple(faults))


def cell(value: object) -> object:
    """A value as a CSV cell that no spreadsheet executes.

    Text that would be read as a formula gets an apostrophe in front, which spreadsheets take as
    the mark of text; numbers stay numbers.
    """
    if not isinstance(value, str) or not value.lstrip(" ").startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value
