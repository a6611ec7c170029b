"""HTML report of a patient's visits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from itk_ncr.evaluation.contrast import grey_window
from itk_ncr.evaluation.report.page import Page
from itk_ncr.evaluation.report.pictures import Canvas, Outline
from itk_ncr.evaluation.report.study import Curve, CurveLine, PageTable, study_page
from itk_ncr.evaluation.volumes import number_text

if TYPE_CHECKING:
    from itk_ncr.registration import FollowResult

APPEARED, VANISHED, MOVED = (255, 90, 77), (92, 180, 255), (140, 230, 140)


def follow_page(result: FollowResult, record: Mapping[str, Any] | None = None) -> Page:
    """The page of a follow-up: visits in the middle, what changed, volumes over the visits.

    Parameters
    ----------
    result : FollowResult
        The follow-up.
    record : mapping, optional
        Description of the run, as in ``summary.json``.

    Returns
    -------
    Page
        The document.
    """
    changes = [
        (interval.appeared.array > 0, interval.vanished.array > 0, interval.moved.array > 0)
        for interval in result.intervals
    ]
    changed = np.any([appeared | vanished for appeared, vanished, _ in changes], axis=0)
    shown = np.any([_bright(visit.array) for visit in result.visits], axis=0)
    canvas = Canvas(result.grid, shown, changed)
    pictures = []
    for number, (name, visit) in enumerate(zip(result.names, result.visits, strict=True)):
        outlines = []
        if number:
            outlines.append(Outline(changes[number - 1][0], APPEARED))
        if number < len(changes):
            outlines.append(Outline(changes[number][1], VANISHED))
        caption = "in the middle of all; red: new since the last visit, blue: gone at the next"
        pictures.append(canvas.picture(name, visit.array, outlines=outlines, caption=caption))
    for interval, (appeared, vanished, moved) in zip(result.intervals, changes, strict=True):
        pictures.append(
            canvas.picture(
                f"{interval.names[0]} to {interval.names[1]}",
                result.visits[result.names.index(interval.names[1])].array,
                outlines=[
                    Outline(moved, MOVED),
                    Outline(vanished, VANISHED),
                    Outline(appeared, APPEARED),
                ],
                caption=f"green: moved by more than {result.moved_mm:g} mm; red: appeared; "
                "blue: vanished",
            )
        )
    return study_page(
        "follow-up report",
        f"{len(result.names)} visits",
        _sentence(result),
        follow_figures(result),
        pictures=pictures,
        curves=[
            Curve(
                "Changed tissue at each visit",
                result.unit,
                result.names,
                (
                    CurveLine("there at the visit", result.volumes),
                    CurveLine(
                        "appeared since the visit before",
                        (0.0, *(interval.appeared_volume for interval in result.intervals)),
                    ),
                    CurveLine(
                        "vanished since the visit before",
                        (0.0, *(interval.vanished_volume for interval in result.intervals)),
                    ),
                ),
            )
        ],
        tables=[_intervals(result)],
        warnings=result.warnings,
        record=record,
    )


def follow_figures(result: FollowResult) -> list[tuple[str, str]]:
    """The main figures of a follow-up as text."""
    return [
        (f"{title}, {name}", f"{number_text(value)} {result.unit}")
        for title, names, values in (
            ("changed tissue", result.names, result.volumes),
            (
                "appeared",
                [interval.names[1] for interval in result.intervals],
                [interval.appeared_volume for interval in result.intervals],
            ),
            (
                "vanished",
                [interval.names[1] for interval in result.intervals],
                [interval.vanished_volume for interval in result.intervals],
            ),
        )
        for name, value in zip(names, values, strict=True)
    ]


def _sentence(result: FollowResult) -> str:
    appeared = sum(interval.appeared_volume for interval in result.intervals)
    vanished = sum(interval.vanished_volume for interval in result.intervals)
    if not appeared and not vanished:
        return "No tissue appeared or vanished between the visits."
    return (
        f"{number_text(appeared)} {result.unit} of tissue appeared and {number_text(vanished)} "
        f"{result.unit} vanished from the first to the last of {len(result.names)} visits."
    )


def _intervals(result: FollowResult) -> PageTable:
    unit = result.unit
    head = ("interval", "appeared", "vanished", "moved", "of it growth", "folding")
    return PageTable(
        "Intervals",
        head,
        tuple(
            (
                f"{interval.names[0]} to {interval.names[1]}",
                f"{number_text(interval.appeared_volume)} {unit}",
                f"{number_text(interval.vanished_volume)} {unit}",
                f"{number_text(interval.moved_volume)} {unit}",
                f"{number_text(interval.growth_volume)} {unit}",
                f"{max(one.quality.folding_fraction for one in interval.results):.3%}",
            )
            for interval in result.intervals
        ),
        "Growth: by how much tissue that moved is larger at the later visit; negative where it "
        "shrank. A deformation explains what it can: a lesion that grew by its rim may count here "
        "and not as appeared.",
    )


def _bright(array: Any) -> Any:
    low, high = grey_window(np.nan_to_num(array))
    return array > low + 0.1 * (high - low)
