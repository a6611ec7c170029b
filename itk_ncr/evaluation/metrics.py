"""How good a registration or a mask is, in figures; plain arrays in, plain numbers out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ArgumentError, ShapeError


def jaccard(
    first: ArrayLike, second: ArrayLike, ignore: Collection[int] = (0,), minimum_voxels: int = 1
) -> dict[int, float]:
    """Intersection over union of every label of two label maps.

    Parameters
    ----------
    first, second : array of int, of one shape
        Label maps; ``first`` says which labels there are.
    ignore : collection of int
        Labels to leave out.
    minimum_voxels : int
        Labels with fewer voxels than this in ``first`` are left out.

    Returns
    -------
    dict of int to float
        In [0, 1] for every label, in rising order.

    Raises
    ------
    ShapeError
        If the maps differ in shape.
    """
    one, two = _pair(first, second)
    labels, codes = np.unique(np.stack([one, two]), return_inverse=True)
    codes = codes.reshape(2, -1)
    in_one, in_two, in_both = (
        np.bincount(c, minlength=len(labels))
        for c in (codes[0], codes[1], codes[0][codes[0] == codes[1]])
    )
    return {
        int(label): float(both / (a + b - both))
        for label, a, b, both in zip(labels, in_one, in_two, in_both, strict=True)
        if a >= max(minimum_voxels, 1) and int(label) not in ignore
    }


def mean_jaccard(
    first: ArrayLike, second: ArrayLike, ignore: Collection[int] = (0,), minimum_voxels: int = 1
) -> float:
    """Mean of :func:`jaccard` over the labels; not a number when there are none."""
    values = jaccard(first, second, ignore, minimum_voxels).values()
    return float(np.mean(list(values))) if values else float("nan")


def labels_touching(labels: ArrayLike, lesion: ArrayLike) -> set[int]:
    """Labels with a voxel in the lesion: it splits figures into inside and outside."""
    one, two = _pair(labels, lesion)
    return {int(label) for label in np.unique(one[two > 0])}


def dice(mask: ArrayLike, truth: ArrayLike) -> float:
    """Twice the intersection over the sum of sizes of two masks; 1 when both are empty."""
    one, two = (a > 0 for a in _pair(mask, truth))
    total = int(one.sum()) + int(two.sum())
    return 2.0 * int((one & two).sum()) / total if total else 1.0


def detected(mask: ArrayLike, lesion: ArrayLike) -> bool:
    """Whether the mask has at least one voxel in the lesion."""
    one, two = _pair(mask, lesion)
    return bool(((one > 0) & (two > 0)).any())


def average_precision(
    probability: ArrayLike, truth: ArrayLike, within: ArrayLike | None = None
) -> float:
    """Area under the precision-recall curve, as a step function (no interpolation).

    Parameters
    ----------
    probability : array
        Larger means more likely; ties count as one step.
    truth : array, the shape of ``probability``
        Not zero is true.
    within : array, the shape of ``probability``, optional
        Only voxels that are not zero here count.

    Returns
    -------
    float
        In [0, 1]; chance reaches the share of true voxels. Not a number without true voxels.

    Raises
    ------
    ShapeError
        If the arrays differ in shape.
    ArgumentError
        If a probability is not a number.
    """
    score, true = _pair(probability, truth)
    if within is not None:
        chosen = _pair(probability, within)[1] > 0
        score, true = score[chosen], true[chosen]
    score, true = score.ravel().astype(np.float64), true.ravel() > 0
    if np.isnan(score).any():
        raise ArgumentError(
            f"probability must be a number everywhere; got {int(np.isnan(score).sum())} NaN. "
            "Leave these voxels out with `within`."
        )
    if not true.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(true[order])
    last_of_ties = np.append(np.diff(score[order]) != 0, True)
    found = hits[last_of_ties]
    precision = found / (1 + np.flatnonzero(last_of_ties))
    return float((precision * np.diff(found, prepend=0)).sum() / hits[-1])


@dataclass(frozen=True)
class SurfaceDistance:
    """How far two surfaces lie apart, in the unit of the spacing."""

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

    one, two = (a > 0 for a in _pair(mask, truth))
    if spacing is not None and len(spacing) != one.ndim:
        raise ShapeError(
            f"spacing must have {one.ndim} numbers; got {len(spacing)}. Give it in array order."
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


@dataclass(frozen=True)
class JacobianStatistics:
    """How a deformation stretches and whether it folds."""

    minimum: float
    """Smallest determinant."""
    maximum: float
    """Largest determinant."""
    folding_fraction: float
    """Share of voxels whose determinant is not positive."""
    deviation_of_logarithm: float
    """Standard deviation of ln(determinant) over the voxels that do not fold."""


def jacobian_statistics(
    determinant: ArrayLike, within: ArrayLike | None = None
) -> JacobianStatistics:
    """Statistics of a map of Jacobian determinants, over the voxels ``within`` if given."""
    values = np.asarray(determinant, dtype=np.float64)
    values = values.ravel() if within is None else values[_pair(values, within)[1] > 0]
    if not values.size:
        raise ArgumentError("within must hold at least one voxel; got none. Check the mask.")
    positive = values[values > 0]
    return JacobianStatistics(
        float(values.min()),
        float(values.max()),
        float(np.mean(~(values > 0))),
        float(np.log(positive).std()) if positive.size else float("nan"),
    )


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[NDArray, NDArray]:
    one, two = np.asarray(first), np.asarray(second)
    if one.shape != two.shape:
        raise ShapeError(
            f"both arrays must have one shape; got {one.shape} and {two.shape}. "
            "Resample one onto the grid of the other first."
        )
    return one, two


def _surface(inside: NDArray) -> NDArray:
    """Voxels of the mask with a face neighbour outside it; an axis of length 1 is no axis."""
    padded = np.pad(inside, [(1, 1) if n > 1 else (0, 0) for n in inside.shape])
    core = padded.copy()
    for axis, n in enumerate(inside.shape):
        if n > 1:
            core &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    window = tuple(slice(1, -1) if n > 1 else slice(None) for n in inside.shape)
    return (padded & ~core)[window]
