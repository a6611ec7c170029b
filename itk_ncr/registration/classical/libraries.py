"""Optional libraries of the tools: availability, threads, console output."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from itk_ncr.errors import MissingDependencyError


def require_package(module: str, method: str, extra: str) -> Any:
    """Import an optional package.

    Raises
    ------
    MissingDependencyError
        Naming the method and the extra, if it is not there.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, method, extra) from error


def require_itk(name: str, method: str, extra: str) -> Any:
    """The module ``itk``, if it has the class ``name``, which comes with an optional wheel."""
    itk = require_package("itk", method, extra)
    if not hasattr(itk, name):
        raise _missing(f"itk.{name}", method, extra)
    return itk


def _missing(module: str, method: str, extra: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{module} must be installed for method {method!r}; run: pip install 'itk_ncr[{extra}]'"
    )


@contextmanager
def sitk_threads(number: int) -> Iterator[None]:
    """SimpleITK's number of threads for the length of a block."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@contextmanager
def itk_threads(number: int) -> Iterator[None]:
    """ITK's number of threads for the length of a block."""
    import itk

    threader = itk.MultiThreaderBase
    before = threader.GetGlobalDefaultNumberOfThreads()
    threader.SetGlobalDefaultNumberOfThreads(number)
    try:
        yield
    finally:
        threader.SetGlobalDefaultNumberOfThreads(before)


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """An environment variable for the length of a block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing that compiled code prints reaches standard output during the block.

    For tools that write to the file descriptor itself: it is that of the whole process.
    """
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output: nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
