"""How many threads the libraries may use."""

from __future__ import annotations


def limit_threads(threads: int) -> None:
    """Let torch and SimpleITK use so many threads; both are imported for it."""
    import SimpleITK as sitk
    import torch

    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
