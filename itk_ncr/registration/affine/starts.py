"""Starting points of the affine search."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from itk_ncr.registration.affine.geometry import Array, Pose
from itk_ncr.registration.affine.points import PointPair

# Rotations of the further starts; a basin reaches some 25 degrees to either side.
START_ANGLES_DEGREES = (-40.0, 40.0)
# Foregrounds whose sizes differ by more than this factor suggest that a header is wrong.
STRANGE_SIZE = 2.0


def starts(scene: PointPair) -> Iterator[tuple[Pose, float]]:
    """Initial poses, and the size of the moving object relative to the fixed one in each.

    The header first; then the centres of mass on each other, with the moving image as it is and
    turned about each axis; then, where one object is far larger, those scaled.
    """
    fixed, moving = scene.fixed.points.mean(1), scene.moving.points.mean(1)
    unit = np.eye(len(fixed))
    yield Pose(unit, fixed, fixed), 1.0
    turns = [unit, *_turns(len(fixed))]
    size = spread(scene.moving.points) / max(spread(scene.fixed.points), 1e-6)
    for factor in (1.0,) if 1 / STRANGE_SIZE < size < STRANGE_SIZE else (1.0, size):
        for turn in turns:
            yield Pose(factor * turn, fixed, moving), factor


def spread(points: Array) -> float:
    """Root mean square distance of points (D, n) from their centre."""
    centred = points - points.mean(1, keepdims=True)
    return float(np.sqrt((centred * centred).sum(0).mean()))


def _turns(dimension: int) -> Iterator[Array]:
    for i, j in itertools.combinations(range(dimension), 2):
        for angle in START_ANGLES_DEGREES:
            turn = np.eye(dimension)
            cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
            turn[[i, j], [i, j]], turn[i, j], turn[j, i] = cos, -sin, sin
            yield turn
