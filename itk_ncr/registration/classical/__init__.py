"""The pipelines of other toolkits behind our interface: one tool per file, one frame for all."""

from itk_ncr.registration.classical.frame import ClassicalRegistration, Method, Solve
from itk_ncr.registration.classical.methods import CLASSICAL, classical

__all__ = ["CLASSICAL", "ClassicalRegistration", "Method", "Solve", "classical"]
