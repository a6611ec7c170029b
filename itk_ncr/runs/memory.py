"""Peak memory of this process."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_PROCESS = Path("/proc/self")


def peak_memory() -> float | None:
    """Peak resident memory in 10^6 bytes; None where the system does not report it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def forget_peak_memory() -> None:
    """Reset the peak memory to the present one (Linux)."""
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")
