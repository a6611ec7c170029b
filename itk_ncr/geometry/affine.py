"""Affine maps between points in physical space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import GeometryError, ShapeError
from itk_ncr.geometry.grid import Grid
from itk_ncr.geometry.numbers import Matrix, finite_numbers, in_text, nested_tuples, plain_tuple


@dataclass(frozen=True)
class AffineMap:
    """The map ``x -> matrix @ x + translation`` of points in mm, LPS, (x, y, z).

    A registration's affine maps fixed space to moving space, as transforms do in ITK.

    Attributes
    ----------
    matrix : tuple of tuples of float, shape (D, D)
        Any array_like is accepted.
    translation : tuple of float, shape (D,)
        In mm.

    Raises
    ------
    GeometryError
        If a number is not finite, or the matrix cannot be inverted.
    """

    matrix: Matrix
    translation: tuple[float, ...]

    def __post_init__(self) -> None:
        translation = np.asarray(self.translation, np.float64)
        if translation.shape not in ((2,), (3,)):
            raise GeometryError(
                f"translation must have 2 or 3 numbers; got shape {translation.shape}."
            )
        translation = finite_numbers(translation, translation.shape, "translation")
        matrix = finite_numbers(self.matrix, translation.shape * 2, "matrix")
        values = np.linalg.svd(matrix, compute_uv=False)
        if values[-1] <= 1e-9 * values[0]:
            raise GeometryError(f"matrix must be invertible; got {in_text(matrix)}.")
        object.__setattr__(self, "matrix", nested_tuples(matrix))
        object.__setattr__(self, "translation", plain_tuple(translation))

    @classmethod
    def identity(cls, dimension: int) -> AffineMap:
        """The map that leaves every point in place.

        Parameters
        ----------
        dimension : int
            2 or 3.

        Returns
        -------
        AffineMap
            The identity.
        """
        return cls(nested_tuples(np.eye(dimension)), (0.0,) * dimension)

    @classmethod
    def from_homogeneous(cls, matrix: ArrayLike) -> AffineMap:
        """The map of a homogeneous matrix.

        Parameters
        ----------
        matrix : array_like, shape (D + 1, D + 1)
            Points (x, y, z) in mm, LPS; the last row is (0, ..., 0, 1).

        Returns
        -------
        AffineMap
            The same map.

        Raises
        ------
        GeometryError
            If the shape or the last row is another, or the matrix cannot be inverted.
        """
        full = np.asarray(matrix, np.float64)
        if full.shape not in ((3, 3), (4, 4)) or not np.allclose(full[-1], np.eye(len(full))[-1]):
            raise GeometryError(
                f"matrix must be 3 x 3 or 4 x 4 with last row (0, ..., 0, 1); got {in_text(full)}."
            )
        return cls(nested_tuples(full[:-1, :-1]), plain_tuple(full[:-1, -1]))

    @classmethod
    def between_voxels(cls, matrix: ArrayLike, fixed: Grid, moving: Grid) -> AffineMap:
        """The map in mm of a map between array positions of two grids.

        Parameters
        ----------
        matrix : array_like, shape (D, D + 1)
            ``position in moving = matrix @ (position in fixed, 1)``, both (z, y, x) or (y, x).
        fixed, moving : Grid
            Grids of the positions.

        Returns
        -------
        AffineMap
            From fixed to moving space.
        """
        reverse = np.asarray(matrix, np.float64)[::-1]
        linear = moving.matrix @ reverse[:, -2::-1] @ np.linalg.inv(fixed.matrix)
        first = moving.matrix @ reverse[:, -1] + moving.origin
        return cls(nested_tuples(linear), plain_tuple(first - linear @ np.asarray(fixed.origin)))

    @property
    def dimension(self) -> int:
        """Number of axes, 2 or 3."""
        return len(self.translation)

    @property
    def homogeneous(self) -> NDArray[np.float64]:
        """The (D + 1, D + 1) matrix of the map."""
        full = np.eye(self.dimension + 1)
        full[:-1, :-1] = self.matrix
        full[:-1, -1] = self.translation
        return full

    def __call__(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points in mm, shape (..., D), mapped."""
        return np.asarray(points, np.float64) @ np.asarray(self.matrix).T + self.translation

    def inverse(self) -> AffineMap:
        """The map back."""
        back = np.linalg.inv(np.asarray(self.matrix))
        return AffineMap(nested_tuples(back), plain_tuple(-back @ np.asarray(self.translation)))

    def compose(self, inner: AffineMap) -> AffineMap:
        """The map ``x -> self(inner(x))``: ``inner`` is applied first.

        Parameters
        ----------
        inner : AffineMap
            Of the same dimension.

        Returns
        -------
        AffineMap
            The composition.

        Raises
        ------
        ShapeError
            If the dimensions differ.
        """
        if inner.dimension != self.dimension:
            raise ShapeError(
                f"inner must have {self.dimension} axes like the outer map; got {inner.dimension}."
            )
        return AffineMap.from_homogeneous(self.homogeneous @ inner.homogeneous)
