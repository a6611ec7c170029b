"""Every way to register a pair."""

from itk_ncr.registration.entry import REGISTRATIONS, register
from itk_ncr.registration.presets import SOLVER_PRESETS
from itk_ncr.registration.result import Quality, Registration, RegistrationResult
from itk_ncr.registration.settings import RegistrationSettings

__all__ = [
    "REGISTRATIONS",
    "SOLVER_PRESETS",
    "Quality",
    "Registration",
    "RegistrationResult",
    "RegistrationSettings",
    "register",
]
