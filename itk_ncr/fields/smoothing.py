"""Gaussian smoothing, one small matrix per axis: exact at the border, and fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError

# Taps further away than this many sigmas weigh less than 1e-4 of the middle one.
TRUNCATE = 4.0


def smooth(
    tensor: Tensor, sigma: float | Sequence[float], *, spacing: Sequence[float] | None = None
) -> Tensor:
    r"""Convolve every channel with a sampled Gaussian; border values repeat.

    A constant stays constant up to the border, whatever ``sigma`` is.

    Parameters
    ----------
    tensor : Tensor, shape (N, C, *spatial)
        Images or fields.
    sigma : float or one per spatial axis, in array order
        Standard deviation, in voxels, or in the unit of ``spacing`` if that is given. 0 leaves an
        axis alone.
    spacing : one float per spatial axis, in array order, optional
        Size of a voxel. Default: 1, so that ``sigma`` is in voxels.

    Returns
    -------
    Tensor, shape (N, C, *spatial)

    Raises
    ------
    ShapeError
        If ``tensor`` has no spatial axis, or ``sigma`` or ``spacing`` not one entry for each.
    ArgumentError
        If ``sigma`` is negative or not finite, or ``spacing`` not positive.
    """
    sigmas = per_axis("sigma", sigma, tensor)
    if any(not 0 <= s < math.inf for s in sigmas):
        raise ArgumentError(f"sigma must be finite and not negative; got {sigma}. Use 0 for none.")
    if spacing is not None:
        steps = per_axis("spacing", spacing, tensor)
        if any(not 0 < h < math.inf for h in steps):
            raise ArgumentError(
                f"spacing must be positive; got {tuple(spacing)}. Give voxel sizes."
            )
        sigmas = tuple(s / h for s, h in zip(sigmas, steps, strict=True))
    for axis, s in enumerate(sigmas, start=2):
        if s > 0 and tensor.shape[axis] > 1:
            tensor = apply_along(tensor, _gaussian_like(tensor, axis, s), axis)
    return tensor


def per_axis(name: str, value: float | Sequence[float], tensor: Tensor) -> tuple[float, ...]:
    """Give one float per spatial axis of ``tensor``, from one number or from one for each."""
    axes = tensor.ndim - 2
    if axes < 1:
        raise ShapeError(
            f"tensor must have shape (N, C, *spatial); got {tuple(tensor.shape)}. "
            "Add a batch and a channel axis."
        )
    values = (float(value),) * axes if isinstance(value, int | float) else tuple(map(float, value))
    if len(values) != axes:
        raise ShapeError(
            f"{name} must be one number or {axes}, one per spatial axis; got {len(values)}. "
            "Give them in array order, slowest axis first."
        )
    return values


def apply_along(tensor: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Multiply the lines of ``tensor`` along ``axis`` by ``matrix`` (rows: outputs)."""
    shape = (*tensor.shape[:axis], matrix.shape[0], *tensor.shape[axis + 1 :])
    if axis == tensor.ndim - 1:
        return (tensor.reshape(-1, tensor.shape[axis]) @ matrix.T).reshape(shape)
    lines = tensor.reshape(math.prod(tensor.shape[:axis]), tensor.shape[axis], -1)
    # One product per slab in the memory order of the tensor: a single large product would have
    # to transpose it first, which costs more than the arithmetic.
    return torch.bmm(matrix.expand(lines.shape[0], *matrix.shape), lines).reshape(shape)


def _gaussian_like(tensor: Tensor, axis: int, sigma: float) -> Tensor:
    return _gaussian_matrix(tensor.shape[axis], sigma, tensor.dtype, tensor.device)


@lru_cache(maxsize=128)
def _gaussian_matrix(size: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Convolution with a Gaussian as a matrix; weights beyond the border fall on the border."""
    # Remembered between calls, so it must not be born inside somebody's inference mode.
    with torch.inference_mode(False):
        return _gaussian_weights(size, sigma).to(device=device, dtype=dtype)


def _gaussian_weights(size: int, sigma: float) -> Tensor:
    reach = min(math.ceil(TRUNCATE * sigma), 64 * size)
    taps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (taps / sigma).square())
    weights /= weights.sum()
    rows = torch.arange(size).unsqueeze(1)
    columns = (rows + torch.arange(-reach, reach + 1)).clamp(0, size - 1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, columns, weights.expand(size, -1))
