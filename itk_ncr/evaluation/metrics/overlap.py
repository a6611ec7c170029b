"""Overlap of label maps and masks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from itk_ncr.evaluation.metrics.arrays import alike


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
    one, two = alike(first, second)
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
    """Mean of :func:`jaccard` over the labels.

    Parameters
    ----------
    first, second, ignore, minimum_voxels
        As for :func:`jaccard`.

    Returns
    -------
    float
        In [0, 1]; NaN without labels.

    Raises
    ------
    ShapeError
        If the maps differ in shape.
    """
    values = jaccard(first, second, ignore, minimum_voxels).values()
    return float(np.mean(list(values))) if values else float("nan")


def labels_touching(labels: ArrayLike, lesion: ArrayLike) -> set[int]:
    """Labels with a voxel in the lesion.

    Parameters
    ----------
    labels : array of int
        Label map.
    lesion : array, the shape of ``labels``
        Above 0 is lesion.

    Returns
    -------
    set of int
        The labels, 0 among them if it touches.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    one, two = alike(labels, lesion)
    return {int(label) for label in np.unique(one[two > 0])}


class LesionSplit(NamedTuple):
    """Mean of a figure over two kinds of labels; NaN without labels of a kind."""

    inside: float
    """Over the labels that overlap with the lesion."""
    outside: float
    """Over the others."""


def split_by_lesion(
    values: Mapping[int, float], labels: ArrayLike, lesion: ArrayLike
) -> LesionSplit:
    """Mean of a figure over labels that overlap with the lesion, and over those that do not.

    Parameters
    ----------
    values : dict of int to float
        Figure of every label, for example from :func:`jaccard`.
    labels : array of int
        The fixed label map.
    lesion : array, the shape of ``labels``
        Above 0 is lesion.

    Returns
    -------
    LesionSplit
        NaN where there is no label.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    touched = labels_touching(labels, lesion)
    inside = [value for label, value in values.items() if label in touched]
    outside = [value for label, value in values.items() if label not in touched]
    return LesionSplit(*(float(np.mean(v)) if v else float("nan") for v in (inside, outside)))


def dice(mask: ArrayLike, truth: ArrayLike) -> float:
    """Twice the intersection over the sum of sizes of two masks.

    Parameters
    ----------
    mask, truth : array, of one shape
        Above 0 is inside.

    Returns
    -------
    float
        In [0, 1]; 1 when both are empty.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    one, two = (a > 0 for a in alike(mask, truth))
    total = int(one.sum()) + int(two.sum())
    return 2.0 * int((one & two).sum()) / total if total else 1.0


def detected(mask: ArrayLike, lesion: ArrayLike) -> bool:
    """Whether the mask has at least one voxel in the lesion.

    Parameters
    ----------
    mask, lesion : array, of one shape
        Above 0 is inside.

    Returns
    -------
    bool
        False for an empty lesion.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    one, two = alike(mask, lesion)
    return bool(((one > 0) & (two > 0)).any())
