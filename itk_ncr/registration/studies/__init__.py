"""Registrations of several images: votes, follow-ups and templates."""

from itk_ncr.registration.studies.common_space import CommonSpace
from itk_ncr.registration.studies.follow import FollowResult, Interval, follow
from itk_ncr.registration.studies.result import StudyResult
from itk_ncr.registration.studies.template import Round, TemplateResult, template
from itk_ncr.registration.studies.vote import Ballot, VoteResult, vote

__all__ = [
    "Ballot",
    "CommonSpace",
    "FollowResult",
    "Interval",
    "Round",
    "StudyResult",
    "TemplateResult",
    "VoteResult",
    "follow",
    "template",
    "vote",
]
