"""Every way to register a pair."""

from itk_ncr.registration.entry import REGISTRATIONS, register
from itk_ncr.registration.filling import FILLS, fill_lesion
from itk_ncr.registration.network import NetworkRegistration
from itk_ncr.registration.result import ModelRecord, Quality, Registration, RegistrationResult
from itk_ncr.registration.settings import ENGINES, METHODS, RegistrationSettings, affine_of
from itk_ncr.registration.solver import CONTRASTS, SOLVER_PRESETS

__all__ = [
    "CONTRASTS",
    "ENGINES",
    "FILLS",
    "METHODS",
    "REGISTRATIONS",
    "SOLVER_PRESETS",
    "ModelRecord",
    "NetworkRegistration",
    "Quality",
    "Registration",
    "RegistrationResult",
    "RegistrationSettings",
    "affine_of",
    "fill_lesion",
    "register",
]
