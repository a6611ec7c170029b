"""Resizing of fields and images between grids of the same extent (end centres coincide)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.fields.smoothing import smooth
from itk_ncr.ops import resize
from itk_ncr.ops.checks import require_field


def resize_displacement(displacement: Tensor, shape: Sequence[int]) -> Tensor:
    r"""Carry a displacement (or velocity) to a grid of another size; the motion stays the same.

    Positions are ``p_new = p * (n_new - 1) / (n - 1)`` on every axis, and so are the values.

    Parameters
    ----------
    displacement : Tensor, shape (N, D, *spatial)
        In voxels of its own grid; channel c moves along array axis c.
    shape : D integers
        Size of the new grid.

    Returns
    -------
    Tensor, shape (N, D, *shape)
        In voxels of the new grid.

    Raises
    ------
    ShapeError
        If the field has not one channel per axis, or ``shape`` not one entry per axis.
    """
    require_field(displacement, "displacement")
    new = tuple(int(n) for n in shape)
    if len(new) != displacement.shape[1] or min(new) < 1:
        raise ShapeError(
            f"shape must be {displacement.shape[1]} positive sizes; got {new}. "
            "Give the spatial shape only, in array order."
        )
    old = tuple(displacement.shape[2:])
    if new == old:
        return displacement
    scale = _scale_like(displacement, old, new)
    # Scaled on the smaller grid: passes over a large field take half as long as interpolating it.
    if math.prod(new) < math.prod(old):
        return resize(displacement, new) * scale
    return resize(displacement * scale, new)


# A stationary velocity is a displacement per unit of time: it changes grids in the same way.
resize_velocity = resize_displacement


def reduced_shape(
    shape: Sequence[int], factor: float | Sequence[float], *, minimum: int = 1
) -> tuple[int, ...]:
    """Shape of a grid of the same extent whose voxels are ``factor`` times larger.

    Parameters
    ----------
    shape : sequence of int
        Size of the fine grid, in array order.
    factor : float or sequence of float
        Reduction, >= 1, for all axes or one per axis.
    minimum : int
        No axis falls below this size (nor rises above its own).

    Returns
    -------
    tuple of int
        Size of the coarse grid, in array order.

    Raises
    ------
    ArgumentError
        If ``factor`` is below 1 or has another number of axes.
    """
    factors = (float(factor),) * len(shape) if isinstance(factor, int | float) else tuple(factor)
    if len(factors) != len(shape) or any(not f >= 1 for f in factors):
        raise ArgumentError(
            f"factor must be >= 1, one number or one per axis of {tuple(shape)}; got {factor}. "
            "A grid is only ever reduced."
        )
    return tuple(
        max(min(minimum, n), round((n - 1) / f) + 1) for n, f in zip(shape, factors, strict=True)
    )


def downsample(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Smooth an image and sample it on a coarser grid: one level of a pyramid.

    The Gaussian has half the reduction as its sigma (in fine voxels), which leaves less than
    30 % of a wave at the coarse grid's sampling limit; an axis that is not reduced is not smoothed.

    Parameters
    ----------
    image : Tensor, shape (N, C, *spatial)
        Images or fields.
    shape : sequence of int
        Size of the coarse grid, one entry per axis.

    Returns
    -------
    Tensor, shape (N, C, *shape)
        Values on a grid of the same extent.

    Raises
    ------
    ShapeError
        If ``shape`` has another number of axes or exceeds the size of the image.
    """
    new, old = tuple(int(n) for n in shape), tuple(image.shape[2:])
    if new == old:
        return image
    if len(new) != len(old) or any(not 1 <= n <= m for n, m in zip(new, old, strict=False)):
        raise ShapeError(
            f"shape must be between 1 and {old} on every axis; got {new}. "
            "Use itk_ncr.ops.resize to enlarge."
        )
    sigma = [
        0.0 if n == m else 0.5 * (m - 1) / max(n - 1, 1) for n, m in zip(new, old, strict=True)
    ]
    return resize(smooth(image, sigma), new)


def _scale_like(field: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """(1, D, 1, ...): how many new voxels one old voxel is, 1 where an axis has no length."""
    scale = [1.0 if 1 in (n, m) else (n - 1) / (m - 1) for n, m in zip(new, old, strict=True)]
    return torch.tensor(scale, dtype=field.dtype, device=field.device).view(1, -1, *(1,) * len(old))
