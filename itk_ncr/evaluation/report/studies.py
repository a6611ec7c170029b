"""Pages of all kinds of studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from itk_ncr.evaluation.report.follow import follow_page
from itk_ncr.evaluation.report.page import Page
from itk_ncr.evaluation.report.template import template_page
from itk_ncr.evaluation.report.vote import vote_page

if TYPE_CHECKING:
    from itk_ncr.registration.studies import StudyResult

# Each by the command of its result.
PAGES: dict[str, Callable[..., Page]] = {
    "vote": vote_page,
    "follow": follow_page,
    "template": template_page,
}


def study_page(result: StudyResult, record: Mapping[str, Any] | None = None) -> Page:
    """The page of a study.

    Parameters
    ----------
    result : StudyResult
        A vote, a follow-up or a template.
    record : mapping, optional
        Description of the run, as in ``summary.json``.

    Returns
    -------
    Page
        The document.
    """
    return PAGES[result.command](result, record)
