"""Folders of results of several images: votes, follow-ups, templates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.errors import ImageWriteError, MissingDependencyError
from itk_ncr.runs.machine import environment
from itk_ncr.runs.memory import peak_memory
from itk_ncr.runs.outputs import RECORD, OutputFolder, write_text
from itk_ncr.runs.record import as_json
from itk_ncr.runs.writing import PAGE, Note

if TYPE_CHECKING:
    from itk_ncr.geometry import AffineMap
    from itk_ncr.images import Image
    from itk_ncr.registration.studies import StudyResult


@dataclass(frozen=True)
class Study:
    """Files that a study writes to its folder.

    Attributes
    ----------
    images : mapping of str to callable
        By name; each is made when it is written, for together they may not fit into memory.
    transforms : mapping of str to (AffineMap or None, Image)
        The maps ``x -> affine(x + deformation(x))`` by name.
    record : mapping
        Figures for ``summary.json``.
    sources : sequence of mapping
        Path and hash of the inputs that are files.
    first_image : Image
        Decides the ending of the images, with ``first_file`` if it was read from one.
    first_file : Path, optional
    """

    images: Mapping[str, Callable[[], Image]]
    record: Mapping[str, Any]
    transforms: Mapping[str, tuple[AffineMap | None, Image]]
    sources: Sequence[Mapping[str, Any]]
    first_image: Image
    first_file: Path | None

    def names(self, suffix: str) -> list[str]:
        """Every file that may be written."""
        images = [f"{name}{suffix}" for name in self.images]
        return [*images, *(f"{name}.h5" for name in self.transforms), PAGE, RECORD]


def write_study(
    study: Study,
    result: StudyResult,
    folder: OutputFolder,
    suffix: str,
    *,
    report: bool = True,
    note: Note = lambda _: None,
) -> str:
    """Write a study to its folder; the files appear together, or not at all.

    Parameters
    ----------
    study : Study
    result : StudyResult
        Shown by the page.
    folder : OutputFolder
    suffix : str
        Ending of the images.
    report : bool
        Draw ``report.html`` as well; one that fails costs a note, no more.
    note : callable
        Called with remarks, one line each.

    Returns
    -------
    str
        The text of ``summary.json``.
    """
    from itk_ncr.evaluation import NOTICE
    from itk_ncr.images import write_image, write_transform

    folder.require_free(study.names(suffix))
    found = environment()
    with folder.staged() as stage:
        outputs: dict[str, str] = {}
        try:
            for name, make in study.images.items():
                outputs[name] = f"{name}{suffix}"
                write_image(make(), stage / outputs[name])
            for name, (affine, deformation) in study.transforms.items():
                outputs[name] = f"{name}.h5"
                write_transform(stage / outputs[name], affine, deformation)
        except ImageWriteError as error:  # the hidden folder is not what the person asked for
            raise ImageWriteError(str(error).replace(str(stage), str(folder.folder))) from error
        record = {
            "tool": f"itk-ncr {result.command}",
            **study.record,
            "notice": NOTICE,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "inputs": {str(number): dict(entry) for number, entry in enumerate(study.sources, 1)},
            "peak_memory_megabytes": peak_memory(),
            "versions": found["versions"],
            "kernels": found["kernels"],
            "platform": found["platform"],
        }
        if report:
            outputs |= _draw(stage, result, record, note)
        record["outputs"] = {**outputs, "summary": RECORD}
        text = as_json(record)
        write_text(stage / RECORD, text)
    return text


def _draw(
    stage: Path, result: StudyResult, record: Mapping[str, Any], note: Note
) -> dict[str, str]:
    """Draw the page; a failure does not lose the results."""
    from itk_ncr.evaluation import study_page

    try:
        study_page(result, record).save(stage / PAGE)
    except Exception as error:
        known = isinstance(error, MissingDependencyError)
        why = str(error) if known else f"{type(error).__name__}: {error}"
        note(f"{PAGE} could not be drawn ({why})")
        with contextlib.suppress(OSError):
            (stage / PAGE).unlink()
        return {}
    return {"report": PAGE}
