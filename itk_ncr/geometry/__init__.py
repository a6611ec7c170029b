"""Voxel grids in physical space and affine maps between points in millimetres.

Arrays are ``(z, y, x)``; indices, points and vectors of this module are ``(x, y, z)``, in LPS and
millimetres, as in ITK. Two dimensions work the same with ``(y, x)`` and ``(x, y)``.
"""

from itk_ncr.geometry.affine import AffineMap
from itk_ncr.geometry.grid import DIRECTION_TOLERANCE, Grid
from itk_ncr.geometry.orientation import SIDES, direction_of, nearest_axes, orientation_code

__all__ = [
    "DIRECTION_TOLERANCE",
    "SIDES",
    "AffineMap",
    "Grid",
    "direction_of",
    "nearest_axes",
    "orientation_code",
]
