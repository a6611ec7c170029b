"""Environment of the program: versions, processors, kernels."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from itk_ncr import __version__

_PACKAGES = ("torch", "itk-core", "SimpleITK", "numpy", "click", "antspyx", "matplotlib")


def versions() -> dict[str, str | None]:
    """Versions of this package, Python and the packages it works with; None: not installed."""
    found: dict[str, str | None] = {"itk_ncr": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def kernels() -> dict[str, Any]:
    """Build of the compiled kernels and the variant this machine runs."""
    try:
        from itk_ncr import _kernels
    except ImportError as error:
        return {"compiled": False, "reason": str(error)}
    return {"compiled": True, **_kernels.build_info()}


def cpus() -> int:
    """Processors this process may use.

    Returns
    -------
    int
        At least 1; affinity and the quota of a container count.
    """
    try:
        there = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        there = os.cpu_count() or 1
    share = _container_share()
    return there if share is None else max(1, min(there, round(share)))


def _container_share(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Processors that the limit of a container (cgroup v2, then v1) amounts to, if there is one."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            if int(quota) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
    return None


def cuda_driver() -> str | None:
    """Version of the NVIDIA driver, or None where there is none."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return None
    numbers = [word for word in words if word[0].isdigit() and "." in word]
    return numbers[0] if numbers else "present"


def environment() -> dict[str, Any]:
    """Content of ``itk-ncr info``.

    Returns
    -------
    dict
        Versions, platform, kernels, processors and models, as JSON values.
    """
    from itk_ncr.checkpoints import installed_names, shipped_models

    return {
        "versions": versions(),
        "platform": platform.platform(),
        "kernels": kernels(),
        "processors": cpus(),
        "threads_set": os.environ.get("OMP_NUM_THREADS"),
        "cuda_driver": cuda_driver(),
        "models": [*shipped_models(), *installed_names()],
    }
