"""The table of a cohort: a CSV with one pair per line, read and checked as a whole."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from itk_ncr.errors import InputError
from itk_ncr.runs.inputs import PairFiles
from itk_ncr.settings import SETTINGS
from itk_ncr.tables import IMAGE_NAME, Line, read_table

ROLES = tuple(entry.name for entry in fields(PairFiles))
REQUIRED = ("fixed", "moving")
NAMES = ("name", "subject")
COLUMNS = (*NAMES, *ROLES)
NAME_BYTES = 200  # most file systems hold 255 in a name
# What a name must not hold on one of the systems that may see the folder.
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


@dataclass(frozen=True)
class CohortPair:
    """One line of a cohort's table.

    Attributes
    ----------
    name : str
        Of the pair and of its folder; unique in the cohort, whatever the case of its letters.
    files : PairFiles
    affine : str, optional
        "auto" or "none" from the line; None: as for all pairs.
    carried : mapping of str to str
        What the table says besides; it comes back in ``summary.csv``.
    missing : tuple of str
        Files of the pair that do not exist, in words; the pair will fail.
    """

    name: str
    files: PairFiles
    affine: str | None = None
    carried: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def read_pairs(path: str | os.PathLike[str], *, reserved: tuple[str, ...] = ()) -> list[CohortPair]:
    """Read a cohort's table and check it as a whole.

    Parameters
    ----------
    path : path
        CSV (comma, semicolon or tab), UTF-8, with a heading: fixed, moving and optionally name,
        subject, lesion_mask, moving_lesion_mask, roi_mask, moving_roi_mask, brain_mask,
        moving_brain_mask, labels (of moving), fixed_labels, affine (a file, auto or none),
        initial_transform. Paths are relative to the CSV. Without a column ``name``, ``subject``
        names the pair; without either, the names of its files do. Other columns are carried into
        the summary, unless they look like a misspelt one or hold files.
    reserved : tuple of str
        Columns and names that the table may not use.

    Returns
    -------
    list of CohortPair
        In the order of the table.

    Raises
    ------
    InputError
        Lists all faults of the table: columns, names that are repeated or cannot be names of
        folders. Missing files of a pair are no fault of the table, unless all pairs lack some.
    """
    table = read_table(Path(path), "pairs")
    faults = table.column_faults(COLUMNS, required=REQUIRED, reserved=reserved)
    faults += table.faults
    if not faults and not table.lines:
        faults = ["it has no pairs, only a heading"]
    table.refuse(faults)
    pairs: list[CohortPair] = []
    for line in table.lines:
        pairs.extend(_pair(line, table.path.parent, faults))
    faults += _faults_of_names([pair.name for pair in pairs], table.heading, reserved)
    # Without a pair to do, the table lies in another folder than its paths assume, as a rule.
    if faults or all(pair.missing for pair in pairs):
        faults += [text for pair in pairs for text in pair.missing]
    table.refuse(faults)
    return pairs


def _pair(line: Line, folder: Path, faults: list[str]) -> list[CohortPair]:
    """The pair of a line, or None and its faults."""
    row, before = line.cells, len(faults)
    missing = []
    files: dict[str, Path] = {}
    affine = row.get("affine") if row.get("affine") in SETTINGS["affine"].words else None
    for role in ROLES:
        cell = row.get(role, "")
        if not cell:
            if role in REQUIRED:
                faults.append(f"line {line.number} has no {role} image")
        elif not (role == "affine" and affine):
            files[role] = folder / cell
            if not os.path.exists(folder / cell):
                missing.append(f"line {line.number}: {role} '{folder / cell}' does not exist")
    if len(faults) > before:
        faults += missing
        return []
    try:
        given = PairFiles(**files)
    except InputError as error:
        faults.append(f"line {line.number}: {str(error).rstrip('.')}")
        return []
    name = next((row[column] for column in NAMES if column in row), None)
    if name is None:
        name = _name_by_files(given)
    elif reason := _not_a_name(name):
        faults.append(f"line {line.number}: name {name!r} {reason}")
        return []
    kept = {k: v for k, v in row.items() if k not in ROLES and k != "name"}
    return [CohortPair(name, given, affine, kept, tuple(missing))]


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
    stems = (IMAGE_NAME.sub("", path.name) for path in (files.moving, files.fixed))
    name = "_to_".join(re.sub(r"[^\w.-]+", "_", stem).strip("._-") or "image" for stem in stems)
    return name[: NAME_BYTES // 4]


def _faults_of_names(
    names: list[str], heading: Sequence[str], reserved: tuple[str, ...]
) -> list[str]:
    """Names that are there twice where letters have no case, and those of our own files."""
    advice = "" if "name" in heading else "; add a column name"
    counts = Counter(name.casefold() for name in names)
    first = {name.casefold(): name for name in reversed(names)}
    return [
        f"{n} pairs are called {first[name]!r}{advice}" for name, n in counts.items() if n > 1
    ] + [f"no pair can be called {name!r}" for name in names if name.casefold() in reserved]
