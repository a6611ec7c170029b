"""Pages of all kinds of studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from itk_ncr.evaluation.report.follow import follow_figures, follow_page
from itk_ncr.evaluation.report.page import Page
from itk_ncr.evaluation.report.template import template_figures, template_page
from itk_ncr.evaluation.report.vote import vote_figures, vote_page

if TYPE_CHECKING:
    from itk_ncr.registration.studies import StudyResult

# Page and main figures, by the command of the result.
STUDIES: dict[str, tuple[Callable[..., Page], Callable[[Any], list[tuple[str, str]]]]] = {
    "vote": (vote_page, vote_figures),
    "follow": (follow_page, follow_figures),
    "template": (template_page, template_figures),
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
    page, _ = STUDIES[result.command]
    return page(result, record)


def study_figures(result: StudyResult) -> list[tuple[str, str]]:
    """The main figures of a study as text.

    Parameters
    ----------
    result : StudyResult
        A vote, a follow-up or a template.

    Returns
    -------
    list of (str, str)
        Name and value, in the order to show.
    """
    _, figures = STUDIES[result.command]
    return figures(result)
