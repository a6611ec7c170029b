"""Loading of the compiled kernels, with one warning where they are missing."""

from __future__ import annotations

import functools
import warnings
from types import ModuleType
from typing import Any

import torch

try:
    # After torch, whose OpenMP runtime the module then shares: one pool of threads, not two.
    from itk_ncr import _kernels as _module
except ImportError as _error:
    _module = None
    _reason = str(_error)


_warned = False


def kernels() -> ModuleType | None:
    """The compiled module, or None after one warning."""
    global _warned
    if _module is None and not _warned:
        _warned = True
        warnings.warn(
            f"itk_ncr runs without its compiled kernels, some ten times slower ({_reason}). "
            f"Install the package with a C++ compiler at hand: pip install .",
            RuntimeWarning,
            stacklevel=3,
        )
    return _module


def run_on_device(index: int) -> bool:
    """Whether CUDA device ``index`` can run the compiled kernels; warns once if it cannot."""
    return _run_on_device(index)


# What the decorator torch.compiler.assume_constant_result does, which would import torch's compiler
# for it: half of the time that a command needs to start.
run_on_device._dynamo_marked_constant = True  # type: ignore[attr-defined]


# Two functions, because graphs ignore the cache and would trace the first one behind it.
@functools.cache
def _run_on_device(index: int) -> bool:
    module = kernels()
    if module is None or not module.build_info()["cuda"] or torch.version.cuda is None:
        return False
    if module.cuda.usable(index):
        return True
    warnings.warn(
        f"itk_ncr runs without its compiled kernels on CUDA device {index}, as plain torch: they "
        f"are built for compute capability 7.5 and later and want a driver of their CUDA version "
        f"or later. Update the driver, or build itk_ncr with the CUDA of this machine.",
        RuntimeWarning,
        stacklevel=4,
    )
    return False


def build_info() -> dict[str, Any]:
    """Describe the compiled kernels and the variant that runs on this machine.

    Returns
    -------
    dict
        ``compiled`` (bool), ``version`` (str or None), ``simd`` (str), ``openmp`` and ``cuda``
        (bool), ``threads`` (int).
    """
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


def release_memory() -> None:
    """Free the memory that the kernels keep for their next calls: 1 GiB at most, 3 s at least."""
    if _module is not None:
        _module.release_memory()
