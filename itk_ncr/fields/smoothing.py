"""Separable Gaussian smoothing.

Every tap is one multiply-add of whole arrays. A matrix product per axis would be as fast, but its
last bit depends on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError

# Taps further away than this many sigmas weigh less than 1e-4 of the middle one.
TRUNCATE = 4.0
# Gaussians wider than this many axes leave the mean of both borders, up to a percent.
FLAT = 100.0


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
        Smoothed values, with the dtype and device of ``tensor``.

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
            tensor = _Smooth.apply(tensor, s, axis)
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


class _Smooth(torch.autograd.Function):
    """Smoothing along one axis, and its transpose."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sigma: float, axis: int) -> Tensor:
        ctx.sigma, ctx.axis = sigma, axis
        size = tensor.shape[axis]
        weights = gaussian_weights(sigma, size)
        reach = len(weights) - 1
        ends = (tensor.narrow(axis, 0, 1), tensor.narrow(axis, size - 1, 1))
        before, after = (end.expand(*_sized(tensor, axis, reach)) for end in ends)
        return _correlate(torch.cat([before, tensor, after], axis), weights, axis)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        axis, size = ctx.axis, grad.shape[ctx.axis]
        weights = gaussian_weights(ctx.sigma, size)
        reach = len(weights) - 1
        zeros = grad.new_zeros(_sized(grad, axis, 2 * reach))
        spread = _correlate(torch.cat([zeros, grad, zeros], axis), weights, axis)
        # What fell on the repeated border values belongs to the border.
        inside = spread.narrow(axis, reach, size).clone()
        inside.narrow(axis, 0, 1).add_(spread.narrow(axis, 0, reach).sum(axis, keepdim=True))
        last = spread.narrow(axis, reach + size, reach).sum(axis, keepdim=True)
        inside.narrow(axis, size - 1, 1).add_(last)
        return inside, None, None


def _correlate(padded: Tensor, weights: Sequence[float], axis: int) -> Tensor:
    """Symmetric correlation where it fits; ``weights`` from the middle outwards."""
    reach = len(weights) - 1
    size = padded.shape[axis] - 2 * reach
    result = padded.narrow(axis, reach, size) * weights[0]
    for step, weight in enumerate(weights[1:], start=1):
        result.add_(padded.narrow(axis, reach - step, size), alpha=weight)
        result.add_(padded.narrow(axis, reach + step, size), alpha=weight)
    return result


def _sized(tensor: Tensor, axis: int, size: int) -> list[int]:
    return [*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]]


def gaussian_weights(sigma: float, size: int) -> list[float]:
    """Weights of taps 0, 1, 2, ... to one side; all taps of both sides together weigh 1.

    From tap ``size`` on every tap meets the border, wherever it stands: these are one tap.
    """
    sigma = min(sigma, FLAT * size)
    reach = math.ceil(TRUNCATE * sigma)
    weights = [math.exp(-0.5 * (tap / sigma) ** 2) for tap in range(reach + 1)]
    total = weights[0] + 2 * math.fsum(weights[1:])
    weights = [*weights[:size], math.fsum(weights[size:])] if reach > size else weights
    return [weight / total for weight in weights]
