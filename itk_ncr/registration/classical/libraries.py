"""Optional libraries of the tools: availability, threads, console output."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from itk_ncr.errors import missing_package, require_package


def require_itk(name: str, method: str, extra: str) -> Any:
    """The module ``itk``, if it has the class ``name``, which comes with an optional wheel."""
    purpose = f"method {method!r}"
    itk = require_package("itk", purpose, extra)
    if not hasattr(itk, name):
        raise missing_package(f"itk.{name}", purpose, extra)
    return itk


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
