"""Parametrisation of affine maps: small updates, allowed directions, plausible sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from itk_ncr.geometry import AffineMap

Array = NDArray[np.float64]

# Weight of the prior on size and shape, in units of the cost. One brain differs from another by
# some 20 % of length at most, and less in shape than in size.
SIZE_WEIGHT, SHAPE_WEIGHT = 0.02, 0.2
# Largest change of length along any direction, relative to the size that the images suggest.
LARGEST_STRETCH = 1.6


class Pose:
    """The map ``x -> matrix @ (x - centre) + image`` (mm); ``image`` is that of the centre."""

    def __init__(self, matrix: Array, centre: Array, image: Array) -> None:
        self.matrix, self.centre, self.image = matrix, centre, image

    @classmethod
    def of(cls, affine: AffineMap, centre: Array) -> Pose:
        """The pose of an affine map, about a centre in fixed space."""
        return cls(np.asarray(affine.matrix, np.float64), centre, affine(centre))

    def affine(self) -> AffineMap:
        """The same as an affine map."""
        translation = self.image - self.matrix @ self.centre
        return AffineMap(tuple(map(tuple, self.matrix)), tuple(translation))

    def moved(self, generator: Array, shift: Array) -> Pose:
        """The pose after ``y -> exp(generator) (y - image) + image + shift`` in moving space."""
        return Pose(_exponential(generator) @ self.matrix, self.centre, self.image + shift)

    def forward(self, points: Array) -> Array:
        """Fixed points (D, n) in moving space."""
        return linear(self.matrix, points - self.centre[:, None]) + self.image[:, None]

    def backward(self, points: Array) -> Array:
        """Moving points (D, n) in fixed space."""
        return linear(inverse_of(self.matrix), points - self.image[:, None]) + self.centre[:, None]


def inverse_of(matrix: Array) -> Array:
    """The inverse of a matrix, in float64."""
    return np.asarray(np.linalg.inv(matrix), np.float64)


def linear(matrix: Array, points: Array) -> Array:
    """``matrix @ points`` for points (D, n): a matrix product without threads."""
    return np.stack([sum(a * row for a, row in zip(line, points, strict=True)) for line in matrix])


def directions(kind: str, pose: Pose) -> list[Array]:
    """The generators (D, D) along which a search may go.

    Parameters
    ----------
    kind : "rigid", "similarity", "stretch" or "affine"
        "stretch" is rigid and a scale for each axis of the fixed space: no shear.
    pose : Pose
    """
    dimension = len(pose.centre)
    unit = np.eye(dimension)
    turns = []
    for i in range(dimension):
        for j in range(i):
            turn = np.zeros((dimension, dimension))
            turn[i, j], turn[j, i] = np.sqrt(0.5), -np.sqrt(0.5)
            turns.append(turn)
    if kind == "rigid":
        return turns
    if kind == "similarity":
        return [*turns, unit / np.sqrt(dimension)]
    if kind == "stretch":
        inverse = np.linalg.inv(pose.matrix)
        axes = [np.outer(pose.matrix[:, j], inverse[j]) for j in range(dimension)]
        return [*turns, *axes]
    return [np.outer(a, b) for a in unit for b in unit]


def strain(matrix: Array, size: float) -> Array:
    """Deviation of a matrix from a rotation times ``size``, weighted by the prior, (D * D,)."""
    turn, values, axes = np.linalg.svd(matrix)
    del turn
    logs = np.log(values / size)
    mean = logs.mean()
    shape = (axes.T * (logs - mean)) @ axes
    isotropic = np.sqrt(SIZE_WEIGHT * len(logs)) * mean
    return np.concatenate([[isotropic], np.sqrt(SHAPE_WEIGHT) * shape.ravel()])


def plausible(matrix: Array, size: float) -> bool:
    """Whether no direction is stretched beyond what one kind of object can differ by."""
    values = np.linalg.svd(matrix, compute_uv=False) / size
    return bool(values.max() <= LARGEST_STRETCH and values.min() >= 1 / LARGEST_STRETCH)


def _exponential(generator: Array) -> Array:
    """The matrix exponential by its series: steps are small."""
    out = term = np.eye(len(generator))
    for k in range(1, 12):
        term = term @ generator / k
        out = out + term
    return np.asarray(out)
