"""ITK pipeline filter for registration; imports itk on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from itk_ncr.errors import missing_package

if TYPE_CHECKING:
    from itk_ncr.filters.registration_filter import NCRRegistrationFilter, ncr_registration_filter

__all__ = ["NCRRegistrationFilter", "ncr_registration_filter"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module("itk_ncr.filters.registration_filter")
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] != "itk":
            raise
        raise missing_package("itk", "the ITK filter", "itk") from error
    return getattr(module, name)
