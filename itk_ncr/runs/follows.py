"""Folder of a patient's visits."""

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
    from itk_ncr.registration import FollowResult

_log = logging.getLogger(__name__)


def save_follow(
    result: FollowResult,
    output: Path,
    *,
    ending: str | None = None,
    report: bool = True,
    overwrite: bool = False,
    note: Note = _log.info,
) -> dict[str, Any]:
    """Write a follow-up to a folder.

    Parameters
    ----------
    result : FollowResult
        The follow-up.
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
    paths = [Path(source["path"]) for source in result.sources]
    suffix = ending_of(ending, paths[0] if paths else None, result.visits[0])
    folder = OutputFolder(output, overwrite, paths)
    text = write_study(
        _study(result), folder, suffix, sources=result.sources, report=report, note=note
    )
    read: dict[str, Any] = json.loads(text)
    return read


def _study(result: FollowResult) -> Study:
    images: dict[str, Callable[[], Image]] = {}
    transforms = {}
    for number, visit in enumerate(result.visits, 1):
        images[f"visit_{number}"] = partial(_itself, visit)
        transforms[f"transform_{number}"] = (None, result.space.displacements[number - 1])
    for number, interval in enumerate(result.intervals, 1):
        for name in ("appeared", "vanished", "moved"):
            images[f"{name}_{number}"] = partial(getattr, interval, name)

    def page(record: Mapping[str, Any]) -> Page:
        from itk_ncr.evaluation import follow_page

        return follow_page(result, record)

    return Study("follow", images, _record(result), page, transforms)


def _itself(image: Image) -> Image:
    return image


def _record(result: FollowResult) -> dict[str, Any]:
    return {
        "settings": result.settings.as_dict(),
        "moved_mm": result.moved_mm,
        "unit": result.unit,
        "visits": [
            {"name": name, "changed_volume": volume, "files": [f"visit_{n}", f"transform_{n}"]}
            for n, (name, volume) in enumerate(zip(result.names, result.volumes, strict=True), 1)
        ],
        "intervals": [
            {
                "from": interval.names[0],
                "to": interval.names[1],
                "appeared_volume": interval.appeared_volume,
                "vanished_volume": interval.vanished_volume,
                "moved_volume": interval.moved_volume,
                "growth_volume": interval.growth_volume,
                "quality": [one.quality.as_dict() for one in interval.results],
                "files": [f"{name}_{n}" for name in ("appeared", "vanished", "moved")],
            }
            for n, interval in enumerate(result.intervals, 1)
        ],
        "warnings": list(result.warnings),
    }
