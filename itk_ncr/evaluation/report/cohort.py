"""HTML report of a cohort."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from itk_ncr.evaluation.report.charts import histogram
from itk_ncr.evaluation.report.checks import (
    FOLDING,
    GRADES,
    INVERSE,
    MASKED,
    Check,
    Grade,
    finite,
)
from itk_ncr.evaluation.report.page import make_page
from itk_ncr.evaluation.report.verdict import Verdict, grade_of, judge

PAGE = "report.html"
# What a batch says of a pair.
_DONE, _WAITING = "done", "waiting"
# Column of the summary, heading, format, unit, limit of the verdict.
_COLUMNS = (
    ("distance_before", "distance, affine", ".3g", "", None),
    ("distance_outside", "distance, after", ".3g", "", None),
    ("masked_fraction", "no partner", ".1%", "", MASKED.review),
    ("minimum_jacobian", "min. Jacobian", ".2f", "", None),
    ("folding_fraction", "folding", ".2%", "", FOLDING.review),
    ("inverse_error_mean_voxel", "inverse error", ".3f", "", INVERSE.review),
    ("label_jaccard", "labels, Jaccard", ".3f", "", None),
    ("seconds", "time", ".1f", " s", None),
)


@dataclass(frozen=True)
class _Pair:
    """A row of the table."""

    name: str
    verdict: Verdict
    link: str | None
    values: tuple[float | None, ...]
    why: str
    """What to know first; empty where all is well."""

    @property
    def empty(self) -> bool:
        """Whether there is no figure."""
        return all(value is None for value in self.values)

    @property
    def badness(self) -> tuple[int, int, float]:
        """Sort key, larger is worse: verdict, number of remarks, remaining distance."""
        left = self.values[1]
        return (
            GRADES.index(self.verdict.grade),
            len(self.verdict.remarks),
            math.inf if left is None else left,
        )


def write_cohort_report(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], *, title: str
) -> None:
    """Write the page of a cohort: one HTML file that needs no network.

    Parameters
    ----------
    path : path
        HTML file to write.
    rows : sequence of mapping
        One per pair: the columns of the batch's ``summary.csv``, as numbers or as text. ``name``
        names the pair; ``status`` other than "done" is a failure (``error`` says why) or a pair
        that still waits; figures have the names of :class:`itk_ncr.registration.Quality`;
        ``report`` is the address of the pair's page, by default ``<folder>/report.html`` beside
        this page, if that exists.
    title : str
        Heading.

    Raises
    ------
    ImageWriteError
        If the page cannot be written; nothing is left behind.
    """
    folder = Path(path).parent
    pairs = [
        _pair(number, row, folder)
        for number, row in enumerate(rows)
        if row.get("status") != _WAITING
    ]
    pairs.sort(key=lambda pair: pair.badness, reverse=True)
    shown = [
        index
        for index in range(len(_COLUMNS))
        if any(pair.values[index] is not None for pair in pairs)
    ]
    counts: dict[Grade, int] = {
        grade: sum(pair.verdict.grade == grade for pair in pairs) for grade in reversed(GRADES)
    }
    charts = [
        histogram(
            heading,
            [math.nan if (v := pair.values[index]) is None else v for pair in pairs],
            form,
            unit,
            limit,
        )
        for index, (_, heading, form, unit, limit) in enumerate(_COLUMNS)
    ]
    page = make_page(
        "cohort.html",
        ("cohort.js",),
        title=title,
        pairs=pairs,
        counts=counts,
        waiting=len(rows) - len(pairs),
        columns=[(index, *_COLUMNS[index]) for index in shown],
        charts=[chart for chart in charts if chart is not None],
    )
    page.save(path)


def _pair(number: int, row: Mapping[str, Any], folder: Path) -> _Pair:
    name = str(row.get("name") or row.get("pair") or row.get("subject") or f"pair {number + 1}")
    status = str(row.get("status") or "")
    figures = {key: row[key] for key in _figures() if row.get(key) not in (None, "")}
    if status not in ("", _DONE):
        reason = str(row.get("error") or status)
        check = Check("Run", status, "failed", reason, "Mend the input and run the batch again.")
        verdict = Verdict("failed", (check,))
    else:
        verdict = _stored(row) or judge(
            figures, _warnings(row.get("warnings")), overlaps=_overlaps(row)
        )
    return _Pair(
        name,
        verdict,
        _link(row, name, folder),
        tuple(finite(row.get(column[0])) for column in _COLUMNS),
        "  ".join(check.reason for check in verdict.remarks),
    )


def _stored(row: Mapping[str, Any]) -> Verdict | None:
    """The stored verdict of the run; None in tables of earlier versions."""
    grade = grade_of(row.get("verdict"))
    if grade is None:
        return None
    why = str(row.get("verdict_why") or "")
    return Verdict(grade, (Check("Verdict", grade, grade, why[:1].upper() + why[1:] + "."),))


def _figures() -> tuple[str, ...]:
    judged = ("overlap_fraction",)  # not in the table, yet judged
    return (*judged, *(column[0] for column in _COLUMNS))


def _overlaps(row: Mapping[str, Any]) -> tuple[float, float] | None:
    before, after = finite(row.get("label_jaccard_before")), finite(row.get("label_jaccard"))
    return None if before is None or after is None else (before, after)


def _warnings(value: Any) -> list[str]:
    """Warnings as a list: a table holds their number, or their text."""
    if isinstance(value, (list, tuple)):
        return [str(text) for text in value]
    number = finite(value)
    if number is not None:
        return ["a warning"] * int(number)
    return [str(value)] if value else []


def _link(row: Mapping[str, Any], name: str, folder: Path) -> str | None:
    """Address of the pair's page relative to this one; only ever a file."""
    given = row.get("report")
    place = str(given) if given else f"{row.get('folder') or row.get('output') or name}/{PAGE}"
    try:
        if not (folder / place).is_file():
            return None
        place = os.path.relpath(folder / place, folder)
    except (OSError, ValueError):
        return None
    return quote(place.replace(os.sep, "/"), errors="surrogateescape")
