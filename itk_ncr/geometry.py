"""Voxel grids in physical space and affine maps between points in millimetres.

Arrays are ``(z, y, x)``; indices, points and vectors of this module are ``(x, y, z)``, in LPS and
millimetres, as in ITK. Two dimensions work the same with ``(y, x)`` and ``(x, y)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ArgumentError, GeometryError, ShapeError

Matrix = tuple[tuple[float, ...], ...]

# Negative and positive end of the axes of LPS space.
SIDES = (("R", "L"), ("A", "P"), ("I", "S"))

# Headers hold direction cosines with as few as three digits; a true shear is larger than that.
DIRECTION_TOLERANCE = 1e-3
# Below this the matrix is taken as it is, so that what ITK read is what ITK gets back, bit for bit.
DIRECTION_ROUNDING = 1e-6


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
        If a number is not finite, the spacing not positive, or the direction singular or sheared.
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
        spacing = _numbers(self.spacing, (len(size),), "spacing")
        if not (spacing > 0).all():
            raise GeometryError(
                f"spacing must be positive and finite; got {_text(spacing)}. "
                "Correct the image's header first."
            )
        origin = _numbers(self.origin, (len(size),), "origin")
        direction = _orthonormal(_numbers(self.direction, (len(size),) * 2, "direction"))
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "spacing", _tuple(spacing))
        object.__setattr__(self, "origin", _tuple(origin))
        object.__setattr__(self, "direction", _nested(direction))

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
        return Grid(tuple(shape)[::-1], self.spacing, _tuple(origin), self.direction)

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
        translation = _numbers(translation, translation.shape, "translation")
        matrix = _numbers(self.matrix, translation.shape * 2, "matrix")
        values = np.linalg.svd(matrix, compute_uv=False)
        if values[-1] <= 1e-9 * values[0]:
            raise GeometryError(f"matrix must be invertible; got {_text(matrix)}.")
        object.__setattr__(self, "matrix", _nested(matrix))
        object.__setattr__(self, "translation", _tuple(translation))

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
        return cls(_nested(np.eye(dimension)), (0.0,) * dimension)

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
                f"matrix must be 3 x 3 or 4 x 4 with last row (0, ..., 0, 1); got {_text(full)}."
            )
        return cls(_nested(full[:-1, :-1]), _tuple(full[:-1, -1]))

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
        return cls(_nested(linear), _tuple(first - linear @ np.asarray(fixed.origin)))

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
        return AffineMap(_nested(back), _tuple(-back @ np.asarray(self.translation)))

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
    return _nested(direction)


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


def _orthonormal(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nearest orthonormal matrix, within a tolerance."""
    left, values, right = np.linalg.svd(direction)
    if values[-1] < 1e-6:
        raise GeometryError(
            f"direction must be invertible; got {_text(direction)}. "
            "Correct the image's header first."
        )
    nearest: NDArray[np.float64] = left @ right
    deviation = np.abs(direction - nearest).max()
    if deviation > DIRECTION_TOLERANCE:
        raise GeometryError(
            f"direction must be orthonormal; got one that is sheared or scaled, "
            f"{_text(direction)}, off by {deviation:.2g}. Resample the image onto an unsheared "
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


def _numbers(values: Any, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"{name} must be numbers; got {values!r}.") from error
    if numbers.shape != shape:
        wanted = " x ".join(map(str, shape))
        raise GeometryError(f"{name} must have {wanted} numbers; got shape {numbers.shape}.")
    if not np.isfinite(numbers).all():
        raise GeometryError(
            f"{name} must be finite; got {_text(numbers)}. Correct the image's header first."
        )
    return numbers


def _tuple(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _nested(matrix: NDArray[np.float64]) -> Matrix:
    return tuple(_tuple(row) for row in matrix)


def _text(values: NDArray[np.float64]) -> str:
    """Numbers on one line, for messages."""
    return str(np.round(values, 6).tolist())
