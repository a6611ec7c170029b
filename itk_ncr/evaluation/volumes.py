"""Sizes of regions in common units."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from itk_ncr.geometry import Grid


def volume_unit(dimension: int) -> tuple[str, float]:
    """Name of the unit and how many mm (cubic or square) it has: ml in 3D, mm² in 2D."""
    return ("ml", 1000.0) if dimension == 3 else ("mm²", 1.0)


def volume_of(mask: NDArray[np.bool_], grid: Grid) -> float:
    """Volume of a mask in ml, or its area in mm² in 2D."""
    return float(mask.sum()) * math.prod(grid.spacing) / volume_unit(grid.dimension)[1]


def volume_text(mask: NDArray[np.bool_], grid: Grid) -> str:
    """The same with its unit."""
    return f"{number_text(volume_of(mask, grid))} {volume_unit(grid.dimension)[0]}"


def number_text(value: float) -> str:
    """Three digits, without an exponent: 0.0123, 1.53, 1530."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
