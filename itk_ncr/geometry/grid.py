"""Regular grids of voxels in physical space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ArgumentError, GeometryError, ShapeError
from itk_ncr.geometry.numbers import Matrix, finite_numbers, in_text, nested_tuples, plain_tuple

# Headers hold direction cosines with as few as three digits; a true shear is larger than that.
DIRECTION_TOLERANCE = 1e-3
# Below this the matrix is taken as it is, so that what ITK read is what ITK gets back, bit for bit.
DIRECTION_ROUNDING = 1e-6
# In mm; beyond it, and below its inverse, products of lengths leave the range of float32.
LONGEST = 1e12


@dataclass(frozen=True)
class Grid:
    """A regular grid of voxels in space: ``point = direction @ (spacing * index) + origin``.

    Parameters
    ----------
    size : sequence of int
        Number of voxels along x, y(, z): the reverse of an array's shape. 2 or 3 axes.
    spacing : sequence of float
        Distance of neighbouring voxel centres in mm, along x, y(, z); positive.
    origin : sequence of float
        Centre of the voxel with index 0 in mm, LPS.
    direction : array_like, shape (D, D)
        Column ``a`` is the unit vector in space along which index ``a`` grows. Orthonormal;
        left-handed is allowed, and a deviation of up to 1e-3 (rounded headers) is repaired.

    Raises
    ------
    GeometryError
        If a number is not finite or absurdly large, the spacing not positive, or the direction
        singular or sheared.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: Matrix

    def __post_init__(self) -> None:
        size = _integers(self.size, "size")
        if len(size) not in (2, 3):
            raise GeometryError(f"size must have 2 or 3 axes; got {size}.")
        if min(size) < 1:
            raise GeometryError(f"size must be at least 1 along every axis; got {size}.")
        spacing = finite_numbers(self.spacing, (len(size),), "spacing")
        if not (spacing > 0).all():
            raise GeometryError(
                f"spacing must be positive and finite; got {in_text(spacing)}. "
                "Correct the image's header first."
            )
        origin = finite_numbers(self.origin, (len(size),), "origin")
        if (spacing < 1 / LONGEST).any() or (spacing > LONGEST).any():
            raise GeometryError(
                f"spacing must be between {1 / LONGEST:g} and {LONGEST:g} mm; got "
                f"{in_text(spacing)}. Correct the image's header first."
            )
        if (np.abs(origin) > LONGEST).any():
            raise GeometryError(
                f"origin must lie within {LONGEST:g} mm of 0; got {in_text(origin)}. "
                "Correct the image's header first."
            )
        direction = _orthonormal(finite_numbers(self.direction, (len(size),) * 2, "direction"))
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "spacing", plain_tuple(spacing))
        object.__setattr__(self, "origin", plain_tuple(origin))
        object.__setattr__(self, "direction", nested_tuples(direction))

    @classmethod
    def of_array(
        cls,
        shape: Sequence[int],
        spacing: ArrayLike | None = None,
        origin: ArrayLike | None = None,
        direction: ArrayLike | None = None,
    ) -> Grid:
        """The grid of an array.

        Parameters
        ----------
        shape : sequence of int
            Size of the array, (z, y, x) or (y, x).
        spacing : float or array_like, shape (D,), optional
            Voxel size along x, y, z, in mm. Default: 1.
        origin : array_like, shape (D,), optional
            Centre of the first voxel (x, y, z), in mm, LPS. Default: 0.
        direction : array_like, shape (D, D) or (D * D,), optional
            Direction matrix as in ITK, columns are index axes. Default: identity.

        Returns
        -------
        Grid
            The grid, checked.

        Raises
        ------
        GeometryError
            If spacing, origin or direction cannot be used.
        """
        dimension = len(shape)
        if spacing is not None and np.ndim(spacing) == 0:
            spacing = np.full(dimension, spacing)
        if direction is not None and np.size(direction) == dimension**2:
            direction = np.reshape(np.asarray(direction), (dimension, dimension))  # ITK writes flat
        return cls(
            size=tuple(shape)[::-1],
            spacing=np.ones(dimension) if spacing is None else spacing,  # type: ignore[arg-type]
            origin=np.zeros(dimension) if origin is None else origin,  # type: ignore[arg-type]
            direction=np.eye(dimension) if direction is None else direction,  # type: ignore[arg-type]
        )

    @property
    def dimension(self) -> int:
        """Number of axes, 2 or 3."""
        return len(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array on this grid: (z, y, x) or (y, x)."""
        return self.size[::-1]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """``direction @ diag(spacing)``, shape (D, D): from a step of the index to mm."""
        return np.asarray(self.direction) * np.asarray(self.spacing)

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.size, dtype=np.int64))

    @property
    def centre(self) -> NDArray[np.float64]:
        """Middle of the grid in mm, shape (D,)."""
        return self.matrix @ ((np.asarray(self.size) - 1) / 2) + np.asarray(self.origin)

    def points(self, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Centres of the voxels of a slab along the first array axis.

        A slab, so that a large grid need not be held as a whole.

        Parameters
        ----------
        start, stop : int, optional
            First and one past the last row of the first array axis. Default: all rows.

        Returns
        -------
        ndarray of float64, shape (rows, *shape[1:], D)
            Points (x, y, z) in mm, LPS.
        """
        ranges = [np.arange(n, dtype=np.float64) for n in self.shape]
        ranges[0] = ranges[0][slice(start, stop)]
        points = np.empty((*(len(r) for r in ranges), self.dimension))
        points[...] = self.origin
        for axis, indices in enumerate(ranges):
            column = self.matrix[:, self.dimension - 1 - axis]
            indices = indices.reshape((-1,) + (1,) * (self.dimension - 1 - axis))
            points += indices[..., None] * column
        return points

    def continuous_index(self, points: ArrayLike) -> NDArray[np.float64]:
        """Index of points; whole numbers are voxel centres.

        Parameters
        ----------
        points : array_like, shape (..., D)
            Points (x, y, z) in mm, LPS.

        Returns
        -------
        ndarray of float64, shape (..., D)
            Index (x, y, z), also outside the grid.
        """
        return (np.asarray(points, np.float64) - self.origin) @ np.linalg.inv(self.matrix).T

    def corners(self) -> NDArray[np.float64]:
        """Centres of the 2^D corner voxels in mm, shape (2^D, D)."""
        ends = [(0.0, n - 1.0) for n in self.size]
        indices = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, self.dimension)
        return indices @ self.matrix.T + self.origin

    def resized(self, shape: Sequence[int]) -> Grid:
        """The grid of another shape whose first and last voxel centres are the same.

        An axis of length 1, before or after, keeps its first centre and its spacing.

        Parameters
        ----------
        shape : sequence of int
            New size, (z, y, x) or (y, x).

        Returns
        -------
        Grid
            Same origin and direction.

        Raises
        ------
        ShapeError
            If ``shape`` has another number of axes.
        """
        size = _integers(tuple(shape)[::-1], "shape")
        if len(size) != self.dimension:
            raise ShapeError(f"shape must have {self.dimension} axes; got {tuple(shape)}.")
        spacing = [
            s * (n - 1) / (m - 1) if n > 1 and m > 1 else s
            for s, n, m in zip(self.spacing, self.size, size, strict=True)
        ]
        return Grid(size, tuple(spacing), self.origin, self.direction)

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> Grid:
        """The grid of ``array[start : start + shape]``.

        Parameters
        ----------
        start, shape : sequence of int
            First voxel and size, (z, y, x) or (y, x). A negative start or a larger shape pads.

        Returns
        -------
        Grid
            Same spacing and direction.
        """
        first = np.asarray(tuple(start)[::-1], np.float64)
        origin = self.matrix @ first + np.asarray(self.origin)
        return Grid(tuple(shape)[::-1], self.spacing, plain_tuple(origin), self.direction)

    def equals(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same size and no corner differs by more than ``tolerance``.

        Parameters
        ----------
        other : Grid
            Grid to compare with.
        tolerance : float
            Largest distance, in voxels of the smallest spacing.

        Returns
        -------
        bool
            False for different sizes.
        """
        if self.size != other.size:
            return False
        distance = np.linalg.norm(self.corners() - other.corners(), axis=1).max()
        # One-voxel axes have no extent: their direction and spacing are compared as they are.
        step = np.linalg.norm(self.matrix - other.matrix, axis=0).max()
        return bool(max(distance, step) <= tolerance * min(self.spacing))


def _orthonormal(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nearest orthonormal matrix, within a tolerance."""
    left, values, right = np.linalg.svd(direction)
    if values[-1] < 1e-6:
        raise GeometryError(
            f"direction must be invertible; got {in_text(direction)}. "
            "Correct the image's header first."
        )
    nearest: NDArray[np.float64] = left @ right
    deviation = np.abs(direction - nearest).max()
    if deviation > DIRECTION_TOLERANCE:
        raise GeometryError(
            f"direction must be orthonormal; got one that is sheared or scaled, "
            f"{in_text(direction)}, off by {deviation:.2g}. Resample the image onto an unsheared "
            "grid first."
        )
    return direction if deviation <= DIRECTION_ROUNDING else nearest


def _integers(values: Sequence[int], name: str) -> tuple[int, ...]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be whole numbers; got {values!r}.") from error
    if numbers.ndim != 1 or not np.isfinite(numbers).all() or (numbers != numbers.round()).any():
        raise ArgumentError(f"{name} must be whole numbers; got {values!r}.")
    return tuple(int(n) for n in numbers)
