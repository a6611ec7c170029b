"""The table of a cohort: a CSV with one pair per line, read and checked as a whole."""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from itk_ncr.errors import InputError
from itk_ncr.runs.inputs import PairFiles

ROLES = tuple(entry.name for entry in fields(PairFiles))
REQUIRED = ("fixed", "moving")
NAMES = ("name", "subject")
COLUMNS = (*NAMES, *ROLES)
AFFINE_WORDS = ("auto", "none")
# Faults that are told one by one; the others are counted.
TOLD = 20
# As `lesion_msk` and `lesion_mask` are (0.95), and `moving_id` and `moving` are not (0.80).
ALIKE = 0.85
NAME_BYTES = 200  # most file systems hold 255 in a name
# What a name must not hold on one of the systems that may see the folder.
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_IMAGE = re.compile(r"(?i)\.(nii|nii\.gz|nrrd|nhdr|mha|mhd|hdr|img|dcm|ima|png|tiff?|jpe?g)$")


@dataclass(frozen=True)
class Pair:
    """One line of a cohort's table.

    Attributes
    ----------
    name : str
        Of the pair and of its folder; unique in the cohort, whatever the case of its letters.
    files : PairFiles
    affine : str, optional
        "auto" or "none", where the line says so; None: as for all pairs.
    carried : mapping of str to str
        What the table says besides; it comes back in ``summary.csv``.
    """

    name: str
    files: PairFiles
    affine: str | None = None
    carried: Mapping[str, str] = field(default_factory=dict)


def read_pairs(path: str | os.PathLike[str], *, reserved: tuple[str, ...] = ()) -> list[Pair]:
    """Read a cohort's table and check it as a whole.

    Parameters
    ----------
    path : path
        CSV (comma, semicolon or tab), UTF-8, with a heading: fixed, moving and optionally name,
        subject, lesion_mask, moving_lesion_mask, roi_mask, labels (of moving), fixed_labels,
        affine (a file, auto or none), initial_transform. Paths are relative to the CSV. Without a
        column ``name``, ``subject`` names the pair; without either, the names of its files do.
        Other columns are carried into the summary, unless they look like a misspelt one or hold
        files.
    reserved : tuple of str
        Columns and names that the table may not use.

    Raises
    ------
    InputError
        Naming everything that is wrong with the table: columns, missing files, names that are
        there twice or cannot be those of folders.
    """
    path = Path(path)
    heading, rows = _read(path)
    faults = _faults_of_heading(heading, rows, path.parent, reserved)
    if not faults and not rows:
        faults = ["it has no pairs, only a heading"]
    pairs: list[Pair] = []
    if not faults:
        for line, row in rows:
            if len(row) > len(heading):
                faults.append(f"line {line} has {len(row)} cells for {len(heading)} columns")
            pairs.extend(_pair(line, dict(zip(heading, row, strict=False)), path.parent, faults))
        faults += _faults_of_names([pair.name for pair in pairs], heading, reserved)
    if faults:
        more = f"; and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
        raise InputError(
            f"pairs '{path}' cannot be used, nothing was done: {'; '.join(faults[:TOLD])}{more}. "
            "Correct the table."
        )
    return pairs


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The heading, and the lines that are not empty with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read pairs '{path}': {error.strerror}") from error
    except UnicodeDecodeError:
        raise InputError(f"cannot read pairs '{path}': it is no text (UTF-8)") from None
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise InputError(f"cannot read pairs '{path}': line {reader.line_num}: {error}") from None
    lines = [(number, row) for number, row in lines if any(row)]
    return (lines[0][1], lines[1:]) if lines else ([], [])


def _faults_of_heading(
    heading: list[str],
    rows: list[tuple[int, list[str]]],
    folder: Path,
    reserved: tuple[str, ...],
) -> list[str]:
    missing = [name for name in REQUIRED if name not in heading]
    if missing:
        shown = ", ".join(heading) or "nothing"
        return [f"it has no column {' and no column '.join(missing)} (its first line has {shown})"]
    faults = [f"column {name!r} is there twice" for name, n in Counter(heading).items() if n > 1]
    for number, name in enumerate(heading):
        if name in COLUMNS:
            continue
        cells = [row[number] for _, row in rows if len(row) > number and row[number]]
        alike = difflib.get_close_matches(name.lower(), COLUMNS, n=1, cutoff=ALIKE)
        if not name:
            faults.append(f"column {number + 1} has no name")
        elif alike:
            faults.append(f"column {name!r} is none; {alike[0]!r} is")
        elif name in reserved:
            faults.append(f"column {name!r} is one of the summary's own")
        elif any(_IMAGE.search(cell) or (folder / cell).is_file() for cell in cells[:TOLD]):
            faults.append(f"column {name!r} holds files, and is none of {', '.join(COLUMNS)}")
    return faults


def _pair(line: int, row: dict[str, str], folder: Path, faults: list[str]) -> list[Pair]:
    """The pair of a line, or none and what is wrong with it."""
    before = len(faults)
    files: dict[str, Path] = {}
    affine = row.get("affine") if row.get("affine") in AFFINE_WORDS else None
    for role in ROLES:
        cell = row.get(role, "")
        if not cell:
            if role in REQUIRED:
                faults.append(f"line {line} has no {role} image")
        elif not (role == "affine" and affine):
            files[role] = folder / cell
            if "\0" in cell or not os.path.exists(folder / cell):
                faults.append(f"line {line}: {role} '{folder / cell}' does not exist")
    if len(faults) > before:
        return []
    try:
        given = PairFiles(**files)
    except InputError as error:
        faults.append(f"line {line}: {str(error).rstrip('.')}")
        return []
    name = next((row[column] for column in NAMES if column in row), None)
    if name is None:
        name = _name_by_files(given)
    elif reason := _not_a_name(name):
        faults.append(f"line {line}: name {name!r} {reason}")
        return []
    kept = {k: v for k, v in row.items() if k not in ROLES and k != "name"}
    return [Pair(name, given, affine, kept)]


def _not_a_name(name: str) -> str | None:
    """Why a folder cannot have this name in the output folder; None if it can."""
    if not name:
        return "is empty"
    if _NOT_IN_NAMES.search(name):
        return "holds characters that a folder's name cannot"
    if not (name[0].isalnum() or name[0] == "_") or name[-1] in ". ":
        return "must begin with a letter or digit and not end in a dot"
    if len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES:
        return f"is longer than {NAME_BYTES} bytes"
    return None


def _name_by_files(files: PairFiles) -> str:
    """The names of both images without what a folder's name cannot have."""
    stems = (_IMAGE.sub("", path.name) for path in (files.moving, files.fixed))
    name = "_to_".join(re.sub(r"[^\w.-]+", "_", stem).strip("._-") or "image" for stem in stems)
    return name[: NAME_BYTES // 4]


def _faults_of_names(names: list[str], heading: list[str], reserved: tuple[str, ...]) -> list[str]:
    """Names that are there twice where letters have no case, and those of our own files."""
    advice = "" if "name" in heading else "; add a column name"
    counts = Counter(name.casefold() for name in names)
    first = {name.casefold(): name for name in reversed(names)}
    return [
        f"{n} pairs are called {first[name]!r}{advice}" for name, n in counts.items() if n > 1
    ] + [f"no pair can be called {name!r}" for name in names if name.casefold() in reserved]
