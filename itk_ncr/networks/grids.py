"""Pairs in, fields out: what every network does before and after its convolutions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from itk_ncr.errors import ShapeError
from itk_ncr.networks.layers import CHANNELS_LAST, double
from itk_ncr.ops import exponential

POOLINGS = 4
INTEGRATIONS = ("full", "half")


def require_pair(fixed: Tensor, moving: Tensor, dimension: int) -> None:
    """Raise ShapeError unless both have one shape (N, 1, *spatial) with ``dimension`` axes."""
    if fixed.shape != moving.shape or fixed.ndim != dimension + 2 or fixed.shape[1] != 1:
        raise ShapeError(
            f"fixed and moving must have one shape (N, 1, *spatial) with {dimension} "
            f"axes; got {tuple(fixed.shape)} and {tuple(moving.shape)}. "
            "Resample moving onto the grid of fixed first."
        )


def padded(x: Tensor) -> Tensor:
    """Repeat the far borders until every axis divides by 16; channels last in memory."""
    missing = [-n % 2**POOLINGS for n in x.shape[2:]]
    if any(missing):
        widths = [width for n in reversed(missing) for width in (0, n)]
        x = functional.pad(x, widths, mode="replicate")
    return x.contiguous(memory_format=CHANNELS_LAST[x.ndim - 2])


def cut_back(x: Tensor, like: Tensor, scale: int = 0) -> Tensor:
    """Undo ``padded`` on a tensor whose grid is 2**scale times coarser than that of ``like``."""
    for axis in range(2, x.ndim):
        x = x.narrow(axis, 0, -(-like.shape[axis] // 2**scale))
    return x.contiguous()


def full_precision(x: Tensor) -> Tensor:
    """Half precision serves the convolutions only."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def integrate_doubled(velocity: Tensor, integration: str) -> Tensor:
    """Displacement on a grid twice as fine, of a velocity in voxels of that finer grid.

    "full" enlarges the velocity and exponentiates it; "half" exponentiates and enlarges.
    """
    if integration == "half":
        return 2 * double(exponential((velocity / 2).contiguous()))
    return exponential(double(velocity))
