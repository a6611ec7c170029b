"""Padding, cropping and integration shared by the networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from itk_ncr.errors import ShapeError
from itk_ncr.networks.layers import CHANNELS_LAST, double
from itk_ncr.ops import exponential
from itk_ncr.prediction import Prediction

POOLINGS = 4
INTEGRATIONS = ("full", "half")


def require_pairs(fixed: Tensor, moving: Tensor, dimension: int) -> None:
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


def integrate_doubled(velocity: Tensor, integration: str) -> tuple[Tensor, Tensor]:
    """Velocity and displacement on a grid twice as fine, of a velocity in voxels of that grid.

    "full" enlarges the velocity and exponentiates it; "half" exponentiates and enlarges.
    """
    enlarged = double(velocity)
    if integration == "half":
        return enlarged, 2 * double(exponential((velocity / 2).contiguous()))
    return enlarged, exponential(enlarged)


def predict(
    velocities: Sequence[Tensor], masks: Sequence[Tensor], fixed: Tensor, integration: str
) -> Prediction:
    """Prediction for ``fixed`` from the outputs of the heads, finest first on the padded grids.

    Parameters
    ----------
    velocities : sequence of Tensor
        At half the resolution of their scales, in voxels of these.
    masks : sequence of Tensor
        Noncorrespondences at the resolution of their scales, or none.
    fixed : Tensor, shape (N, 1, *spatial)
    integration : "full" or "half"
        See :func:`integrate_doubled`.
    """
    return cropped_prediction([integrate_doubled(v, integration) for v in velocities], masks, fixed)


def cropped_prediction(
    fields: Sequence[tuple[Tensor, Tensor]], masks: Sequence[Tensor], fixed: Tensor
) -> Prediction:
    """Prediction of velocities, displacements and masks, cropped to the scales of ``fixed``."""
    return Prediction(
        tuple(cut_back(v, fixed, s) for s, (v, _) in enumerate(fields)),
        tuple(cut_back(u, fixed, s) for s, (_, u) in enumerate(fields)),
        tuple(cut_back(m, fixed, s) for s, m in enumerate(masks)),
    )
