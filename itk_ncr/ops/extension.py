"""Finds the compiled kernels; says once, and only when they are wanted, that they are missing."""

from __future__ import annotations

import functools
import os
import warnings
from types import ModuleType
from typing import Any

import torch

_reason = ""


def _load() -> ModuleType | None:
    """Import the module; its OpenMP runtime, a second one beside torch's, is told not to spin.

    Threads that wait in a loop for the next kernel would take the processors from torch's own.
    The runtime reads the variable once, when it is loaded.
    """
    global _reason
    before = os.environ.get("OMP_WAIT_POLICY")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from itk_ncr import _kernels
    except ImportError as error:
        _reason = str(error)
        return None
    finally:
        if before is None:
            del os.environ["OMP_WAIT_POLICY"]
    return _kernels


_module = _load()


@functools.cache
def kernels() -> ModuleType | None:
    """The compiled module, or None after one warning."""
    if _module is None:
        warnings.warn(
            f"itk_ncr runs without its compiled kernels, some ten times slower ({_reason}). "
            f"Install the package with a C++ compiler at hand: pip install .",
            RuntimeWarning,
            stacklevel=3,
        )
    return _module


def build_info() -> dict[str, Any]:
    """What the kernels were built with and which variant runs here."""
    info: dict[str, Any] = {
        "compiled": _module is not None,
        "version": None,
        "simd": "none",
        "openmp": False,
        "cuda": False,
        "threads": torch.get_num_threads(),
    }
    if _module is not None:
        info.update(_module.build_info())
    return info
