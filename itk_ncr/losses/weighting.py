"""Shared helpers of the losses: weights, sums and means.

Sums run line by line: one thread adds up one line, then the lines are added in float64. So the
result does not depend on the number of threads, and hardly on the number of voxels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itk_ncr.errors import ShapeError


def require_weight(name: str, weight: Tensor | None, image: Tensor) -> None:
    """Raise a :class:`ShapeError` unless ``weight`` is None or one channel on the image's grid."""
    shape = (image.shape[0], 1, *image.shape[2:])
    if weight is not None and tuple(weight.shape) != shape:
        raise ShapeError(
            f"{name} must have shape {shape}, one channel on the grid of the image; "
            f"got {tuple(weight.shape)}. Resample it onto that grid first."
        )


def product(*weights: Tensor | None) -> Tensor | None:
    """Multiply the weights that are given; None stands for 1 everywhere."""
    given = [weight for weight in weights if weight is not None]
    if not given:
        return None
    total = given[0]
    for weight in given[1:]:
        total = total * weight
    return total


def weighted(values: Tensor, weight: Tensor | None) -> Tensor:
    """Multiply by a weight, None standing for 1."""
    return values if weight is None else values * weight


def total_double(values: Tensor) -> Tensor:
    """Sum over all axes but the batch, in float64 from the second axis on.

    Parameters
    ----------
    values : Tensor, shape (N, C, *spatial)
        Terms of the sums.

    Returns
    -------
    Tensor of float64, shape (N,)
        One sum per sample; the same for any number of threads.
    """
    lines = values.sum(-1).double()
    while lines.ndim > 1:
        lines = lines.sum(-1)
    return lines


def total(values: Tensor) -> Tensor:
    """Sum everything but the batch, (N, C, *spatial) -> (N,)."""
    return total_double(values).to(values.dtype)


def extent(image: Tensor, foreground: Tensor | None) -> Tensor:
    """Give what a mean is divided by, (N,): all voxels, or the foreground's; never the unmasked."""
    if foreground is None:
        voxels = math.prod(image.shape[2:])
        return torch.full((image.shape[0],), voxels, dtype=image.dtype, device=image.device)
    # An empty foreground: all sums are 0, and so is the mean, 0 / 1.
    size = total(foreground)
    return torch.where(size > 0, size, torch.ones_like(size))


def mean_over(values: Tensor, foreground: Tensor | None = None) -> Tensor:
    """Mean over all voxels, or over the foreground; (N, 1, *spatial) -> (N,)."""
    return total(weighted(values, foreground)) / extent(values, foreground)
