"""Saving of any study."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.runs.outputs import OutputFolder
from itk_ncr.runs.single import ending_of
from itk_ncr.runs.studies.follow import follow_study
from itk_ncr.runs.studies.study import Study, write_study
from itk_ncr.runs.studies.template import template_study
from itk_ncr.runs.studies.vote import vote_study
from itk_ncr.runs.writing import Note

if TYPE_CHECKING:
    from itk_ncr.registration.studies import StudyResult

_log = logging.getLogger(__name__)
# Each by the command of its result.
STUDIES: dict[str, Callable[[Any], Study]] = {
    "vote": vote_study,
    "follow": follow_study,
    "template": template_study,
}


def save_study(
    result: StudyResult,
    output: Path,
    *,
    ending: str | None = None,
    report: bool = True,
    overwrite: bool = False,
    note: Note = _log.info,
) -> dict[str, Any]:
    """Write a study to a folder.

    Parameters
    ----------
    result : StudyResult
        A vote, a follow-up or a template.
    output : Path
        Folder; made if it does not exist.
    ending, report, overwrite
        As for :meth:`itk_ncr.RegistrationResult.save`.
    note : callable, optional
        Called with remarks, one line each. Default: the log.

    Returns
    -------
    dict
        Content of ``summary.json``.
    """
    study = STUDIES[result.command](result)
    suffix = ending_of(ending, study.first_file, study.first_image)
    folder = OutputFolder(output, overwrite, [Path(entry["path"]) for entry in study.sources])
    read: dict[str, Any] = json.loads(
        write_study(study, result, folder, suffix, report=report, note=note)
    )
    return read
