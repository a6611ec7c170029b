"""Thread limits of the libraries."""

from __future__ import annotations

import os

VARIABLE = "OMP_NUM_THREADS"


def usable_threads(threads: int, there: int) -> tuple[int, str | None]:
    """Number of threads, at most that of the processors, and a remark if reduced."""
    if threads <= there:
        return threads, None
    return there, f"{there} thread{'s' * (there > 1)}, for there are no more processors."


def threads_of_environment() -> int | None:
    """Threads per process that ``OMP_NUM_THREADS`` asks for; None where it asks for none."""
    # OpenMP takes a list, one number per level of nesting.
    text = os.environ.get(VARIABLE, "").split(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) > 0 else None


def limit_threads(threads: int) -> None:
    """Limit the threads of torch and SimpleITK; imports both.

    Parameters
    ----------
    threads : int
        Number of threads of each.
    """
    import SimpleITK as sitk
    import torch

    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
