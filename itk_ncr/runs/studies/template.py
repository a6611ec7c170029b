"""Templates: the images of a folder, and the folder of a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.errors import InputError
from itk_ncr.runs.studies.study import Study

if TYPE_CHECKING:
    from itk_ncr.images import Image
    from itk_ncr.registration import TemplateResult


def images_of(folder: Path) -> list[Path]:
    """The image files of a folder, by name.

    Parameters
    ----------
    folder : Path
        Its subfolders are not searched.

    Returns
    -------
    list of Path
        At least one.

    Raises
    ------
    InputError
        If it is none, or holds no image.
    """
    from itk_ncr.data.folders import IMAGE_SUFFIXES

    if not folder.is_dir():
        raise InputError(f"folder '{folder}' must be a folder of images. Correct the path.")
    files = sorted(
        file
        for file in folder.iterdir()
        if file.name.lower().endswith(IMAGE_SUFFIXES) and not file.name.startswith(".")
    )
    if not files:
        raise InputError(
            f"folder '{folder}' must hold images ({', '.join(IMAGE_SUFFIXES)}); got none. "
            "Give another folder."
        )
    return files


def masks_for(images: Sequence[Path], folder: Path) -> list[Path | None]:
    """The masks of a folder that have the names of images.

    Parameters
    ----------
    images : sequence of Path
        The images that the masks belong to.
    folder : Path
        Of the masks.

    Returns
    -------
    list of Path or None
        One entry per image; None where it has no mask.

    Raises
    ------
    InputError
        If a file there has the name of no image.
    """
    by_name = {file.name: file for file in images_of(folder)}
    stray = sorted(by_name.keys() - {image.name for image in images})
    if stray:
        raise InputError(
            f"mask '{folder / stray[0]}' must have the name of an image; got none of that name. "
            "Rename it, or move it away."
        )
    return [by_name.get(image.name) for image in images]


def template_study(result: TemplateResult) -> Study:
    """Files of a template."""
    images: dict[str, Callable[[], Image]] = {
        name: partial(getattr, result, name) for name in ("template", "support", "spread")
    }
    transforms = {}
    for number, one in enumerate(result.results, 1):
        images[f"mask_{number}"] = partial(getattr, one, "mask_moving")
        transforms[f"transform_{number}"] = (None, result.space.displacements[number - 1])

    return Study(
        images=images,
        record=_record(result),
        transforms=transforms,
        sources=result.sources,
        first_image=result.template,
        first_file=Path(result.sources[0]["path"]) if result.sources else None,
    )


def _record(result: TemplateResult) -> dict[str, Any]:
    return {
        "settings": result.settings.as_dict(),
        "rounds": [{"shift_mm": one.shift_mm, "sharpness": one.sharpness} for one in result.rounds],
        "images": [
            {
                "name": name,
                "quality": one.quality.as_dict(),
                "files": [f"mask_{number}", f"transform_{number}"],
            }
            for number, (name, one) in enumerate(zip(result.names, result.results, strict=True), 1)
        ],
        "warnings": list(result.warnings),
    }
