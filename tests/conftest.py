"""What every test leaves as it found it."""

from __future__ import annotations

import locale
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _text_encoding_kept() -> Iterator[None]:
    """Writing DICOM with SimpleITK sets LC_CTYPE to "C": Python would read text as ASCII then."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, before)
