"""Folder of a vote of several moving images."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.runs.outputs import OutputFolder
from itk_ncr.runs.single import ending_of
from itk_ncr.runs.study import Study, write_study
from itk_ncr.runs.writing import Note

if TYPE_CHECKING:
    from itk_ncr.evaluation import Page
    from itk_ncr.images import Image
    from itk_ncr.registration import VoteResult

_log = logging.getLogger(__name__)


def save_vote(
    result: VoteResult,
    output: Path,
    *,
    ending: str | None = None,
    report: bool = True,
    overwrite: bool = False,
    note: Note = _log.info,
) -> dict[str, Any]:
    """Write a vote to a folder.

    Parameters
    ----------
    result : VoteResult
        The vote.
    output : Path
        Folder; made if it does not exist.
    ending, report, overwrite
        As for :meth:`itk_ncr.RegistrationResult.save`.
    note : callable, optional
        Gets remarks, one line each. Default: the log.

    Returns
    -------
    dict
        Content of ``summary.json``.
    """
    given = [result.source, *(ballot.source for ballot in result.ballots)]
    sources = [source for source in given if source is not None]
    paths = [Path(entry["path"]) for entry in sources]
    suffix = ending_of(ending, paths[0] if result.source else None, result.fixed)
    folder = OutputFolder(output, overwrite, paths)
    text = write_study(_study(result), folder, suffix, sources=sources, report=report, note=note)
    read: dict[str, Any] = json.loads(text)
    return read


def _study(result: VoteResult) -> Study:
    images: dict[str, Callable[[], Image]] = {
        "mask": lambda: result.mask,
        "mask_probability": lambda: result.noncorrespondence,
        "agreement": lambda: result.agreement,
    }
    transforms = {}
    for number, ballot in enumerate(result.ballots, 1):
        images[f"mask_probability_{number}"] = partial(getattr, ballot.result, "noncorrespondence")
        transforms[f"transform_{number}"] = (
            ballot.result.affine,
            ballot.result.transform_deformation,
        )

    def page(record: Mapping[str, Any]) -> Page:
        from itk_ncr.evaluation import vote_page

        return vote_page(result, record)

    return Study("vote", images, _record(result), page, transforms)


def _record(result: VoteResult) -> dict[str, Any]:
    return {
        "settings": result.settings.as_dict(),
        "mask_threshold": result.mask_threshold,
        "masked_fraction": result.masked_fraction,
        "images": [
            {
                "name": ballot.name,
                "dice": ballot.dice,
                "covered": ballot.covered,
                "alone": ballot.alone,
                "engine": ballot.result.engine,
                "quality": ballot.result.quality.as_dict(),
                "files": [f"mask_probability_{number}", f"transform_{number}"],
            }
            for number, ballot in enumerate(result.ballots, 1)
        ],
        "left_out": [{"name": name, "why": why} for name, why in result.failures],
        "warnings": list(result.warnings),
    }
