"""Metrics of deformations and of image similarity."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ArgumentError
from itk_ncr.evaluation.metrics.arrays import alike
from itk_ncr.images import Image, ImageWarning, transform_points


@dataclass(frozen=True)
class JacobianStatistics:
    """Statistics of volume change and folding."""

    minimum: float
    """Smallest determinant."""
    maximum: float
    """Largest determinant."""
    folding_fraction: float
    """Fraction of voxels whose determinant is not positive."""
    deviation_of_logarithm: float
    """Standard deviation of ln(determinant) over the voxels that do not fold."""


def jacobian_statistics(
    determinant: ArrayLike, within: ArrayLike | None = None
) -> JacobianStatistics:
    """Statistics of a map of Jacobian determinants.

    Parameters
    ----------
    determinant : array, any shape
        Determinants.
    within : array of the same shape, optional
        Voxels that count, above 0. Default: all.

    Returns
    -------
    JacobianStatistics
        NaN for the deviation where no determinant is positive.

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If no voxel counts.
    """
    values = np.asarray(determinant, dtype=np.float64)
    values = values.ravel() if within is None else values[alike(values, within)[1] > 0]
    if not values.size:
        raise ArgumentError("within must hold at least one voxel; got none. Check the mask.")
    positive = values[values > 0]
    return JacobianStatistics(
        float(values.min()),
        float(values.max()),
        float(np.mean(~(values > 0))),
        float(np.log(positive).std()) if positive.size else float("nan"),
    )


def inverse_consistency(displacement: Image, inverse: Image) -> NDArray[np.float64]:
    """Inverse-consistency error of every fixed voxel, in mm, on the fixed grid.

    Parameters
    ----------
    displacement : vector Image, mm, on the fixed grid
    inverse : vector Image, mm, on the moving grid

    Returns
    -------
    ndarray, shape of the fixed grid
        NaN where the map leaves the grid of ``inverse``, which says nothing there.
    """
    grid = displacement.grid
    points = grid.points().reshape(-1, grid.dimension)
    there = points + displacement.array.reshape(points.shape)
    index = inverse.grid.continuous_index(there)
    inside = ((index >= -0.5) & (index < np.asarray(inverse.grid.size) - 0.5)).all(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        back = transform_points(there, inverse)
    error = np.linalg.norm(back - points, axis=1)
    return np.where(inside, error, np.nan).reshape(grid.shape)


def correlation(first: ArrayLike, second: ArrayLike, within: ArrayLike | None = None) -> float:
    """Normalised cross-correlation of two images (Pearson's), before or after a registration.

    Parameters
    ----------
    first, second : array, of one shape
    within : array, the shape of ``first``, optional
        Only voxels that are not zero here count.

    Returns
    -------
    float
        In [-1, 1]; not a number where an image is constant.
    """
    one, two = alike(first, second)
    if within is not None:
        chosen = alike(one, within)[1] > 0
        one, two = one[chosen], two[chosen]
    if not one.size:
        raise ArgumentError("within must hold at least one voxel; got none. Check the mask.")
    a, b = (values.ravel().astype(np.float64) for values in (one, two))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")
