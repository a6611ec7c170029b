"""Checked numbers of grids and maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import GeometryError

Matrix = tuple[tuple[float, ...], ...]


def finite_numbers(values: Any, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """An array of finite numbers of some shape, or a :class:`GeometryError`."""
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"{name} must be numbers; got {values!r}.") from error
    if numbers.shape != shape:
        wanted = " x ".join(map(str, shape))
        raise GeometryError(f"{name} must have {wanted} numbers; got shape {numbers.shape}.")
    if not np.isfinite(numbers).all():
        raise GeometryError(
            f"{name} must be finite; got {in_text(numbers)}. Correct the image's header first."
        )
    return numbers


def plain_tuple(values: NDArray[np.float64]) -> tuple[float, ...]:
    """The numbers of a vector as a tuple."""
    return tuple(float(v) for v in values)


def nested_tuples(matrix: NDArray[np.float64]) -> Matrix:
    """The rows of a matrix as tuples."""
    return tuple(plain_tuple(row) for row in matrix)


def in_text(values: NDArray[np.float64]) -> str:
    """Numbers on one line, for messages."""
    return str(np.round(values, 6).tolist())
