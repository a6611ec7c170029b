"""Distances between surfaces, lines and landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.evaluation.metrics.arrays import alike
from itk_ncr.images import Image, transform_points
from itk_ncr.registration import RegistrationResult


@dataclass(frozen=True)
class SurfaceDistance:
    """Distances of two surfaces, in the unit of the spacing."""

    average: float
    """Average symmetric surface distance."""
    hausdorff: float
    """Largest distance from a surface voxel to the other surface."""
    percentile_95: float
    """95th percentile of those distances, both directions pooled."""


def surface_distance(
    mask: ArrayLike, truth: ArrayLike, spacing: Sequence[float] | None = None
) -> SurfaceDistance:
    """Distances between the surfaces of two masks.

    The surface is the mask's voxels that have a neighbour (across a face) outside the mask; the
    border of the image counts as outside. Distances are exact between voxel centres.

    Parameters
    ----------
    mask, truth : array, shape (z, y, x) or (y, x)
        Not zero is inside.
    spacing : sequence of float, optional
        Voxel size in array order (z, y, x). Default: 1.

    Returns
    -------
    SurfaceDistance
        Infinite when one mask is empty, 0 when both are.
    """
    import SimpleITK as sitk

    one, two = (a > 0 for a in alike(mask, truth))
    if one.ndim not in (2, 3):
        raise ShapeError(f"masks must be (z, y, x) or (y, x); got shape {one.shape}.")
    if spacing is not None and np.shape(spacing) != (one.ndim,):
        raise ShapeError(
            f"spacing must have {one.ndim} numbers; got {spacing!r}. Give it in array order."
        )
    if not (one.any() and two.any()):
        value = 0.0 if one.any() == two.any() else float("inf")
        return SurfaceDistance(value, value, value)

    def distance_map(surface: NDArray) -> NDArray:
        image = sitk.GetImageFromArray(surface.astype(np.uint8))
        if spacing is not None:
            image.SetSpacing([float(s) for s in reversed(spacing)])
        distances = sitk.SignedMaurerDistanceMap(
            image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
        )
        return np.maximum(sitk.GetArrayFromImage(distances), 0)

    edge_one, edge_two = _surface(one), _surface(two)
    distances = np.concatenate([distance_map(edge_two)[edge_one], distance_map(edge_one)[edge_two]])
    return SurfaceDistance(
        float(distances.mean()), float(distances.max()), float(np.percentile(distances, 95))
    )


def line_distance(
    first: ArrayLike, second: ArrayLike, spacing: Sequence[float] = (1.0, 1.0)
) -> SurfaceDistance:
    """Distances between two lines that cross an image from left to right, as retinal layers do.

    A line joins its points in neighbouring columns; its ``percentile_95`` and its average are over
    the points of both lines, of each to the nearest place on the other line.

    Parameters
    ----------
    first, second : array, shape (columns,)
        Row of the line in every column, such as ``data.surfaces`` gives; NaN where there is none.
    spacing : (row, column)
        Size of a pixel. Default: 1.

    Returns
    -------
    SurfaceDistance
        Infinite when one line has no point, 0 when neither has.
    """
    one, two = (np.asarray(line, np.float64) for line in alike(first, second))
    if one.ndim != 1 or len(spacing) != 2:
        raise ShapeError(
            f"lines must have shape (columns,) and spacing two numbers; got {one.shape} and "
            f"{len(spacing)} numbers. Give the row of every column, and (row, column) sizes."
        )
    here, there = (_points(line, spacing) for line in (one, two))
    if not (len(here) and len(there)):
        value = 0.0 if len(here) == len(there) else float("inf")
        return SurfaceDistance(value, value, value)
    distances = np.concatenate([_to_line(here, two, spacing), _to_line(there, one, spacing)])
    return SurfaceDistance(
        float(distances.mean()), float(distances.max()), float(np.percentile(distances, 95))
    )


def landmark_errors(
    fixed_points: ArrayLike,
    moving_points: ArrayLike,
    registration: RegistrationResult | Image | None = None,
) -> NDArray[np.float64]:
    """Distance of every moving landmark from its mapped fixed one, in mm.

    Parameters
    ----------
    fixed_points, moving_points : array, shape (n, D)
        Corresponding points in mm, (x, y, z), LPS.
    registration : RegistrationResult or vector Image, optional
        The result, or its displacement on the fixed grid, in mm. None: as the images lie.

    Returns
    -------
    ndarray, shape (n,)
        Target registration errors; their median is what BraTS-Reg ranks by
        (Baheti et al., 2021, arXiv:2112.06979).
    """
    fixed, moving = (
        np.asarray(points, np.float64) for points in alike(fixed_points, moving_points)
    )
    if fixed.ndim != 2 or fixed.shape[1] not in (2, 3):
        raise ShapeError(f"points must have shape (n, 2) or (n, 3); got {fixed.shape}.")
    if registration is None:
        carried = fixed
    elif isinstance(registration, Image):
        carried = transform_points(fixed, registration)
    else:
        carried = registration.transform_points(fixed)
    return np.linalg.norm(carried - moving, axis=1)


def robustness(before: ArrayLike, after: ArrayLike) -> float:
    """Fraction of landmarks that are closer after the registration than before (BraTS-Reg).

    Parameters
    ----------
    before, after : array, shape (n,)
        Results of :func:`landmark_errors`.

    Returns
    -------
    float
        Fraction in [0, 1].

    Raises
    ------
    ShapeError
        If the numbers of landmarks differ.
    ArgumentError
        If there is no landmark.

    References
    ----------
    Baheti et al., The brain tumor sequence registration challenge, 2021, arXiv:2112.06979.
    """
    one, two = alike(before, after)
    if not one.size:
        raise ArgumentError("before must hold at least one landmark; got none.")
    return float(np.mean(two < one))


def _points(line: NDArray[np.float64], spacing: Sequence[float]) -> NDArray[np.float64]:
    """(n, 2): the places of a line, (down, along)."""
    columns = np.flatnonzero(np.isfinite(line))
    return np.stack([line[columns], columns], 1) * np.asarray(spacing, np.float64)


def _to_line(
    points: NDArray[np.float64], line: NDArray[np.float64], spacing: Sequence[float]
) -> NDArray[np.float64]:
    """(n,): distance of every point from the nearest place on a line with gaps."""
    starts = _points(line, spacing)
    columns = np.flatnonzero(np.isfinite(line))
    # A point without a right-hand neighbour is a piece of length 0.
    joined = np.append(np.diff(columns) == 1, False)
    steps = np.where(joined[:, None], np.roll(starts, -1, 0) - starts, 0.0)
    squared = np.maximum((steps**2).sum(1), np.finfo(np.float64).tiny)
    offset = points[:, None] - starts
    share = np.clip((offset * steps).sum(2) / squared, 0, 1)
    return np.linalg.norm(offset - share[..., None] * steps, axis=2).min(1)


def _surface(inside: NDArray) -> NDArray:
    """Voxels of the mask with a face neighbour outside it; an axis of length 1 does not count."""
    padded = np.pad(inside, [(1, 1) if n > 1 else (0, 0) for n in inside.shape])
    core = padded.copy()
    for axis, n in enumerate(inside.shape):
        if n > 1:
            core &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    window = tuple(slice(1, -1) if n > 1 else slice(None) for n in inside.shape)
    return (padded & ~core)[window]
