"""Available memory of the process."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

from itk_ncr.errors import MemoryLimitError


def available_memory() -> int | None:
    """Memory that can be allocated without swapping.

    Returns
    -------
    int or None
        Bytes: the smaller of what the machine and the container (cgroup v2) have free. None where
        the system does not report it.
    """
    amounts = [amount for amount in (_machine(), container_memory()) if amount is not None]
    return min(amounts, default=None)


def require_memory(needed: int, what: str, advice: str) -> None:
    """Raise an error if the work needs more memory than available.

    Parameters
    ----------
    needed : int
        Bytes.
    what, advice : str
        Subject and last sentence of the error.

    Raises
    ------
    MemoryLimitError
        If ``needed`` exceeds :func:`available_memory`.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryLimitError(
            f"{what} needs {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB available. {advice}"
        )


def return_memory() -> None:
    """Return freed memory to the system (glibc).

    After a registration of 1.5 million voxels it had kept 230 MB.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def container_memory(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Free memory of a container (cgroup v2) in bytes; None without a limit."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((folder / "memory.current").read_text())
        # Cached files count as used but make room when asked.
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
        return max(0, int(limit) - used)
    except (OSError, ValueError):
        return None
