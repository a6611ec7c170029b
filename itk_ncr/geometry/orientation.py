"""Sides of the body towards which the indices of a grid grow."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike

from itk_ncr.errors import GeometryError
from itk_ncr.geometry.grid import Grid
from itk_ncr.geometry.numbers import Matrix, nested_tuples

# Negative and positive end of the axes of LPS space.
SIDES = (("R", "L"), ("A", "P"), ("I", "S"))


def orientation_code(grid: Grid) -> str:
    """The side of the body towards which each index (i, j, k) grows: "LPS" for an identity.

    Some tools name the side an index comes *from*: "RAI" there is "LPS" here.

    Parameters
    ----------
    grid : Grid
        Its direction may be oblique; the nearest axes count.

    Returns
    -------
    str
        One letter per index: R or L, A or P, I or S; in 2D of the first two, as in a slice.
    """
    code = []
    for column, axis in enumerate(nearest_axes(np.asarray(grid.direction))):
        negative, positive = SIDES[axis]
        code.append(positive if grid.direction[axis][column] > 0 else negative)
    return "".join(code)


def direction_of(code: str) -> Matrix:
    """The direction matrix of an orientation code, without any obliqueness.

    Parameters
    ----------
    code : str
        As returned by :func:`orientation_code`.

    Returns
    -------
    tuple of tuples of float, shape (D, D)
        Direction matrix as in ITK, columns are index axes.

    Raises
    ------
    GeometryError
        If the letters do not name one side of every axis.
    """
    dimension = len(code)
    direction = np.zeros((dimension, dimension))
    for column, letter in enumerate(code):
        for axis, sides in enumerate(SIDES[:dimension]):
            if letter in sides:
                direction[axis, column] = 1.0 if letter == sides[1] else -1.0
    if dimension not in (2, 3) or not np.array_equal(np.abs(direction).sum(0), np.ones(dimension)):
        raise GeometryError(f"orientation must be letters such as 'LPS' or 'RAS'; got {code!r}.")
    if not np.array_equal(np.abs(direction).sum(1), np.ones(dimension)):
        raise GeometryError(f"orientation must name every axis once; got {code!r}.")
    return nested_tuples(direction)


def nearest_axes(matrix: ArrayLike) -> tuple[int, ...]:
    """For every column of a rotation the row that it points along most, each row once.

    Parameters
    ----------
    matrix : array_like, shape (D, D)
        Rotation, with or without reflections.

    Returns
    -------
    tuple of int
        Row of every column.
    """
    size = np.abs(np.asarray(matrix, np.float64))
    columns = range(size.shape[1])
    return max(permutations(columns), key=lambda rows: sum(size[r, c] for c, r in enumerate(rows)))
