"""Every way to register a pair."""

from itk_ncr.registration.entry import REGISTRATIONS, register
from itk_ncr.registration.filling import FILLS, fill_lesion
from itk_ncr.registration.inputs import affine_of
from itk_ncr.registration.network import NetworkRegistration
from itk_ncr.registration.quality import Quality
from itk_ncr.registration.request import GivenMasks, Request
from itk_ncr.registration.result import ModelRecord, Registration, RegistrationResult
from itk_ncr.registration.solver import CONTRASTS, SOLVER_PRESETS
from itk_ncr.registration.studies import (
    Ballot,
    CommonSpace,
    FollowResult,
    Interval,
    Round,
    StudyResult,
    TemplateResult,
    VoteResult,
    follow,
    template,
    vote,
)
from itk_ncr.settings import ENGINES, METHODS, RegistrationSettings

__all__ = [
    "CONTRASTS",
    "ENGINES",
    "FILLS",
    "METHODS",
    "REGISTRATIONS",
    "SOLVER_PRESETS",
    "Ballot",
    "CommonSpace",
    "FollowResult",
    "GivenMasks",
    "Interval",
    "ModelRecord",
    "NetworkRegistration",
    "Quality",
    "Registration",
    "RegistrationResult",
    "RegistrationSettings",
    "Request",
    "Round",
    "StudyResult",
    "TemplateResult",
    "VoteResult",
    "affine_of",
    "fill_lesion",
    "follow",
    "register",
    "template",
    "vote",
]
