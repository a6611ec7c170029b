"""Files that are complete, or as they were before: never a part of one under its own name."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path, suffix: str = "") -> Iterator[Path]:
    """A hidden temporary name beside ``target`` that takes its place if all goes well.

    What was written is on the disk before it is seen. The temporary file exists, empty, from the
    start: Python says what is wrong with a folder or a disk; other writers often do not.

    Parameters
    ----------
    target : Path
        Replaced if it exists; its folder must exist.
    suffix : str
        Ending of the temporary name, by which some writers choose a format.

    Raises
    ------
    OSError
        If the system refuses; ``target`` is as before, and nothing is left beside it.
    """
    temporary = target.with_name(f".{secrets.token_hex(8)}.partial{suffix}")
    try:
        with temporary.open("xb"):
            pass
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk too."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
