"""Locale-independent reading and writing of numbers."""

from __future__ import annotations

import locale
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_process_lock = threading.Lock()


@contextmanager
def numeric_locale() -> Iterator[None]:
    """Read and write numbers with a decimal point.

    ITK's text headers go through functions that follow LC_NUMERIC: with a decimal comma 1.75 would
    be read as 1. Nothing is touched where the point is in force already.
    """
    if locale.localeconv()["decimal_point"] == ".":
        yield
        return
    with _process_lock:
        before = locale.setlocale(locale.LC_NUMERIC)
        locale.setlocale(locale.LC_NUMERIC, "C")
        try:
            yield
        finally:
            locale.setlocale(locale.LC_NUMERIC, before)
