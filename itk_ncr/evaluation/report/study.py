"""Pages of studies (votes, follow-ups, templates): sentence, tiles, pictures, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itk_ncr.evaluation.report.page import Page, make_page
from itk_ncr.evaluation.report.pair_report import provenance
from itk_ncr.evaluation.report.pictures import Picture
from itk_ncr.evaluation.volumes import number_text

# Size of a curve's drawing, and where its axes are, in units of the drawing.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 220, 60, 20, 14, 30


@dataclass(frozen=True)
class PageTable:
    """A table of a page; the first column names the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class CurveLine:
    """One line of a curve: its name and one value per place."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """Values over places, in the order given.

    Attributes
    ----------
    title, unit : str
    places : tuple of str
        Names along the horizontal axis.
    lines : tuple of CurveLine
    """

    title: str
    unit: str
    places: tuple[str, ...]
    lines: tuple[CurveLine, ...]

    @property
    def words(self) -> str:
        """The same for those who do not see it."""
        return "; ".join(
            f"{line.name}: "
            + ", ".join(
                f"{place} {number_text(value)} {self.unit}"
                for place, value in zip(self.places, line.values, strict=True)
            )
            for line in self.lines
        )

    def drawn(self) -> dict[str, Any]:
        """Coordinates for the template."""
        top = max((value for line in self.lines for value in line.values), default=0.0) or 1.0

        def x(index: int) -> float:
            inner = WIDTH - LEFT - RIGHT
            return round(LEFT + inner * (index / max(len(self.places) - 1, 1)), 1)

        def y(value: float) -> float:
            return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top, 1)

        return {
            "title": self.title,
            "unit": self.unit,
            "words": self.words,
            "size": (WIDTH, HEIGHT),
            "places": [
                (x(i), place, _anchor(i, len(self.places))) for i, place in enumerate(self.places)
            ],
            "levels": [(y(share * top), number_text(share * top)) for share in (0.0, 0.5, 1.0)],
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "lines": [
                {
                    "name": line.name,
                    "points": [(x(i), y(v), number_text(v)) for i, v in enumerate(line.values)],
                }
                for line in self.lines
            ],
        }


def _anchor(index: int, count: int) -> str:
    return "start" if index == 0 else "end" if index == count - 1 else "middle"


def _without_lists(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without its tables: the page shows them as such."""

    def is_table(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and any(isinstance(v, Mapping) for v in value)

    return {key: value for key, value in record.items() if not is_table(value)}


def study_page(
    kind: str,
    title: str,
    sentence: str,
    tiles: Sequence[tuple[str, str]],
    *,
    pictures: Sequence[Picture],
    tables: Sequence[PageTable] = (),
    curves: Sequence[Curve] = (),
    warnings: Sequence[str] = (),
    record: Mapping[str, Any] | None = None,
) -> Page:
    """A page about several images.

    Parameters
    ----------
    kind : str
        Kind of page, for its head.
    title, sentence : str
        What it is about, and the main finding.
    tiles : sequence of (str, str)
        Main figures by name.
    pictures : sequence of Picture
    tables : sequence of PageTable
    curves : sequence of Curve
    warnings : sequence of str
    record : mapping, optional
        Description of the run, as in ``summary.json``.
    """
    return make_page(
        "study.html",
        (),
        kind=kind,
        title=title,
        sentence=sentence,
        tiles=tiles,
        pictures=pictures,
        tables=tables,
        curves=[curve.drawn() for curve in curves],
        warnings=warnings,
        provenance=provenance(_without_lists(record or {})),
    )
