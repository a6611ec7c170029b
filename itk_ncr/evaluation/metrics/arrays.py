"""Validation of two arrays of one shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ShapeError


def alike(first: ArrayLike, second: ArrayLike) -> tuple[NDArray, NDArray]:
    """Convert two arrays of one shape.

    Raises
    ------
    ShapeError
        If they differ in shape.
    """
    one, two = np.asarray(first), np.asarray(second)
    if one.shape != two.shape:
        raise ShapeError(
            f"both arrays must have one shape; got {one.shape} and {two.shape}. "
            "Resample one onto the grid of the other first."
        )
    return one, two
