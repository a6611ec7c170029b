"""Templates: the images of a folder, and the folder of a result."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.errors import InputError
from itk_ncr.runs.outputs import OutputFolder
from itk_ncr.runs.single import ending_of
from itk_ncr.runs.study import Study, write_study
from itk_ncr.runs.writing import Note

if TYPE_CHECKING:
    from itk_ncr.evaluation import Page
    from itk_ncr.images import Image
    from itk_ncr.registration import TemplateResult

_log = logging.getLogger(__name__)


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


def save_template(
    result: TemplateResult,
    output: Path,
    *,
    ending: str | None = None,
    report: bool = True,
    overwrite: bool = False,
    note: Note = _log.info,
) -> dict[str, Any]:
    """Write a template to a folder.

    Parameters
    ----------
    result : TemplateResult
        The template.
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
    suffix = ending_of(ending, paths[0] if paths else None, result.template)
    folder = OutputFolder(output, overwrite, paths)
    text = write_study(
        _study(result), folder, suffix, sources=result.sources, report=report, note=note
    )
    read: dict[str, Any] = json.loads(text)
    return read


def _study(result: TemplateResult) -> Study:
    images: dict[str, Callable[[], Image]] = {
        name: partial(getattr, result, name) for name in ("template", "support", "spread")
    }
    transforms = {}
    for number, one in enumerate(result.results, 1):
        images[f"mask_{number}"] = partial(getattr, one, "mask_moving")
        transforms[f"transform_{number}"] = (None, result.space.displacements[number - 1])

    def page(record: Mapping[str, Any]) -> Page:
        from itk_ncr.evaluation import template_page

        return template_page(result, record)

    return Study("template", images, _record(result), page, transforms)


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
