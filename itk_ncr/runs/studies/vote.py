"""Folder of a vote of several moving images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.runs.studies.study import Study

if TYPE_CHECKING:
    from itk_ncr.images import Image
    from itk_ncr.registration import VoteResult


def vote_study(result: VoteResult) -> Study:
    """Files of a vote."""
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

    given = [result.source, *(ballot.source for ballot in result.ballots)]
    return Study(
        images=images,
        record=_record(result),
        transforms=transforms,
        sources=[source for source in given if source is not None],
        first_image=result.fixed,
        first_file=Path(result.source["path"]) if result.source else None,
    )


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
