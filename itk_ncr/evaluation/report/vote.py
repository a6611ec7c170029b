"""HTML report of a vote of several moving images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from itk_ncr.evaluation.report.page import Page
from itk_ncr.evaluation.report.pictures import Canvas, Outline
from itk_ncr.evaluation.report.study import PageTable, study_page
from itk_ncr.evaluation.volumes import volume_text

if TYPE_CHECKING:
    from itk_ncr.registration import VoteResult

MASK, OTHER = (255, 176, 0), (92, 180, 255)
# Masks of single images that are drawn.
DRAWN = 12


def vote_page(result: VoteResult, record: Mapping[str, Any] | None = None) -> Page:
    """The page of a vote: the voted mask, where the images agree, and each image's own mask.

    Parameters
    ----------
    result : VoteResult
        The vote.
    record : mapping, optional
        Description of the run, as in ``summary.json``.

    Returns
    -------
    Page
        The document.
    """
    voted = result.mask.array > 0
    shown = result.ballots[0].result.foreground.array > 0
    canvas = Canvas(result.fixed.grid, shown, voted)
    outline = Outline(voted, MASK)
    pictures = [
        canvas.picture(
            "Fixed image", result.fixed.array, outlines=[outline], caption="with the voted mask"
        ),
        canvas.picture(
            "Agreement",
            result.agreement.array,
            heat=True,
            caption="share of the images whose own mask is there; black none, white all",
        ),
        canvas.picture("Probability of the vote", result.noncorrespondence.array, heat=True),
    ]
    for ballot in result.ballots[:DRAWN]:
        own = Outline(ballot.result.mask.array > 0, OTHER)
        warped = ballot.result.warped.array
        caption = "warped; blue: its own mask, yellow: the vote"
        picture = canvas.picture(ballot.name, warped, outlines=[outline, own], caption=caption)
        pictures.append(picture)
    count = len(result.ballots)
    return study_page(
        "vote report",
        f"{count} image{'s' * (count > 1)} against one",
        _sentence(result),
        vote_figures(result),
        pictures=pictures,
        tables=[_ballots(result)],
        warnings=result.warnings,
        record=record,
    )


def _sentence(result: VoteResult) -> str:
    """The main finding."""
    volume = volume_text(result.mask.array > 0, result.fixed.grid)
    if not (result.mask.array > 0).any():
        return f"No region of the fixed image is missing from all {len(result.ballots)} images."
    return (
        f"{volume} of the fixed image ({result.masked_fraction:.2%} of the object) have no partner "
        f"by the vote of {len(result.ballots)} images."
    )


def vote_figures(result: VoteResult) -> list[tuple[str, str]]:
    """The main figures of a vote as text."""
    voted = result.mask.array > 0
    agreed = f"{result.agreement.array[voted].mean():.0%}" if voted.any() else "nothing masked"
    alone = float(np.mean([b.result.quality.masked_fraction for b in result.ballots]))
    return [
        ("images", str(len(result.ballots))),
        ("left out", str(len(result.failures))),
        ("masked by the vote", f"{result.masked_fraction:.2%}"),
        ("masked by one image, mean", f"{alone:.2%}"),
        ("agreement in the mask", agreed),
        ("time", f"{sum(b.result.quality.seconds for b in result.ballots):.1f} s"),
    ]


def _ballots(result: VoteResult) -> PageTable:
    return PageTable(
        "Images",
        ("image", "its own mask", "Dice with the vote", "of the vote it covers", "it alone masks"),
        tuple(
            (
                ballot.name,
                f"{ballot.result.quality.masked_fraction:.2%}",
                f"{ballot.dice:.2f}",
                f"{ballot.covered:.0%}",
                f"{ballot.alone:.2%}",
            )
            for ballot in result.ballots
        ),
        "Shares are of the fixed object. What only one image masks is a difference of that person "
        "as a rule.",
    )
