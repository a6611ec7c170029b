"""Folder of a patient's visits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.runs.studies.study import Study

if TYPE_CHECKING:
    from itk_ncr.images import Image
    from itk_ncr.registration import FollowResult


def follow_study(result: FollowResult) -> Study:
    """Files of a follow-up."""
    images: dict[str, Callable[[], Image]] = {}
    transforms = {}
    for number, visit in enumerate(result.visits, 1):
        images[f"visit_{number}"] = partial(_itself, visit)
        transforms[f"transform_{number}"] = (None, result.space.displacements[number - 1])
    for number, interval in enumerate(result.intervals, 1):
        for name in ("appeared", "vanished", "moved"):
            images[f"{name}_{number}"] = partial(getattr, interval, name)

    return Study(
        images=images,
        record=_record(result),
        transforms=transforms,
        sources=result.sources,
        first_image=result.visits[0],
        first_file=Path(result.sources[0]["path"]) if result.sources else None,
    )


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
