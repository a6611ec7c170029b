"""Registration pipelines of other toolkits behind one interface, one tool per file."""

from itk_ncr.registration.classical.frame import ClassicalRegistration, Method, Solve
from itk_ncr.registration.classical.methods import CLASSICAL, classical

__all__ = ["CLASSICAL", "ClassicalRegistration", "Method", "Solve", "classical"]
