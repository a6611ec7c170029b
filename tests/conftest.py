"""What every test leaves as it found it."""

from __future__ import annotations

import locale
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _text_encoding_kept() -> Iterator[None]:
    """Writing DICOM with SimpleITK sets LC_CTYPE to "C": Python would read text as ASCII then."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, before)


@pytest.fixture(name="tree")
def _tree() -> Callable[[Path], dict[str, tuple[int, int]]]:
    return tree


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every name under a folder, hidden ones too, with size and time."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir()
    } | {str(path.relative_to(folder)): (0, 0) for path in folder.rglob("*") if path.is_dir()}
