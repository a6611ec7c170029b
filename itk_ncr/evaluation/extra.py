"""Optional import of SciPy."""

from __future__ import annotations

import importlib
from types import ModuleType

from itk_ncr.errors import MissingDependencyError


def scipy_part(name: str) -> ModuleType:
    """A sub-package of SciPy, such as "stats".

    Raises
    ------
    MissingDependencyError
        If SciPy is not installed.
    """
    try:
        return importlib.import_module(f"scipy.{name}")
    except ImportError as error:
        raise MissingDependencyError(
            "statistics need SciPy, which is not installed. "
            'Install it with: pip install "itk_ncr[evaluation]"'
        ) from error
