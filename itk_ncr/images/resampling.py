"""Resampling of images through maps of space, and voxel fields as millimetres.

All of it walks the output grid in slabs: positions are computed in float64, a slab at a time, and
handed to :func:`itk_ncr.ops.warp` as displacements in voxels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ArgumentError, ImageValueError, ShapeError
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images.deferred import DeferredImage
from itk_ncr.images.image import Image, ImageWarning, Rows, brief

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["linear", "nearest"]
Padding = Literal["fill", "border"]
Points = NDArray[np.float64]


def resample(
    image: Image,
    grid: Grid,
    affine: AffineMap | None = None,
    displacement: Image | None = None,
    *,
    mode: Mode | str = "linear",
    padding: Padding | str = "fill",
    fill_value: float = 0.0,
    defer: bool = False,
) -> Image:
    """An image seen through a map of space: ``out(x) = image(affine(x + displacement(x)))``.

    Parameters
    ----------
    image : Image
        Scalar or vector; the components of a vector image are interpolated, not rotated.
    grid : Grid
        Grid of the output.
    affine : AffineMap, optional
        From the space of ``grid`` to the space of ``image``. Default: identity.
    displacement : vector Image on ``grid``, optional
        Components (x, y, z) in mm, LPS; applied before ``affine``. The displacement of a
        registration includes its affine: give that one alone.
    mode : "linear" or "nearest"
        "nearest" for labels and masks.
    padding : "fill" or "border"
        Value outside ``image``, that is, more than half a voxel beyond its outermost voxel
        centres (the rule of ITK): ``fill_value``, or that of the nearest voxel.
    fill_value : float
        Used with "fill".
    defer : bool
        Return a :class:`DeferredImage`, whose values are computed on access.

    Returns
    -------
    Image
        "linear": float32 (float64 from 32 or 64 bit integers and float64); "nearest": the type of
        ``image``, values untouched.

    Raises
    ------
    ShapeError
        If ``displacement`` does not lie on ``grid``, or dimensions differ.
    ImageValueError
        If ``displacement`` is not finite somewhere.
    """
    _require_dimension(grid.dimension, image=image, affine=affine)
    if displacement is not None:
        require_displacement(displacement, grid)
    dtype = sampled_type(image, mode)

    def open_rows() -> Rows:
        field = None if displacement is None else displacement.rows()
        sample = Sampler(image, mode, padding, fill_value)

        def rows(slab: slice) -> NDArray[Any]:
            points = grid.points(slab.start, slab.stop)
            if field is not None:
                points += field(slab)
            return sample(points if affine is None else affine(points))

        return rows

    components = image.components if image.is_vector else 0
    return _made(DeferredImage(grid, dtype, open_rows, components), defer)


def physical_displacement(
    u: Tensor | NDArray[Any],
    working_grid: Grid,
    fixed_grid: Grid,
    affine: AffineMap | None = None,
    *,
    defer: bool = False,
) -> Image:
    """A displacement in voxels of the working grid as mm on the fixed grid, affine included.

    For every voxel centre x of ``fixed_grid``: ``q = x + M u(x)`` and ``d(x) = A q + t - x``, so
    that ``moved(x) = moving(x + d(x))``. Without ``affine`` this is the deformation ``q - x``.

    Parameters
    ----------
    u : Tensor or ndarray, shape (1, D, *working_grid.shape) or (D, *working_grid.shape)
        Component c moves along array axis c, in voxels of ``working_grid``. Between voxels it is
        interpolated linearly; within half a voxel outside the outermost centres the rim's value
        holds, and beyond that ``u`` is 0. A field that is not 0 at the rim therefore jumps there:
        let the working grid cover the fixed one, or let the field fade out.
    working_grid, fixed_grid : Grid
        Where ``u`` lives, and where the result is wanted.
    affine : AffineMap, optional
        From fixed to moving space, applied after ``u``.
    defer : bool
        Return a :class:`DeferredImage`, whose values are computed on access.

    Returns
    -------
    vector Image, float32
        Components (x, y, z) in mm, LPS, on ``fixed_grid``.
    """
    _require_dimension(fixed_grid.dimension, working_grid=working_grid, affine=affine)
    move = mover(u, working_grid)

    def displace(points: Points) -> Points:
        moved = move(points)
        return (moved if affine is None else affine(moved)) - points

    return _field(fixed_grid, displace, defer)


def inverse_physical_displacement(
    u_inverse: Tensor | NDArray[Any],
    working_grid: Grid,
    moving_grid: Grid,
    affine: AffineMap | None = None,
    *,
    defer: bool = False,
) -> Image:
    """The inverse displacement, from moving to fixed space, in mm on the moving grid.

    The forward map is ``phi(x) = A (x + M u(x)) + t``. With ``u_inverse`` the inverse of ``u`` on
    the same working grid (``exponential(-velocity)``) and ``w = A^-1 (y - t)``, the inverse map is
    ``phi^-1(y) = w + M u_inverse(w)``; the result is ``phi^-1(y) - y``.

    Parameters
    ----------
    u_inverse : Tensor or ndarray, shape (1, D, *working_grid.shape) or (D, *working_grid.shape)
        As ``u`` for :func:`physical_displacement`; 0 outside the working grid.
    working_grid, moving_grid : Grid
        Grids of ``u_inverse`` and of the result.
    affine, defer : optional
        As for :func:`physical_displacement`.

    Returns
    -------
    vector Image, float32
        Components (x, y, z) in mm, LPS, on ``moving_grid``.
    """
    _require_dimension(moving_grid.dimension, working_grid=working_grid, affine=affine)
    move = mover(u_inverse, working_grid)
    back = None if affine is None else affine.inverse()

    def displace(points: Points) -> Points:
        return move(points if back is None else back(points)) - points

    return _field(moving_grid, displace, defer)


def transform_points(points: ArrayLike, displacement: Image) -> Points:
    """Points moved by a displacement field: ``x + d(x)``.

    Parameters
    ----------
    points : array_like, shape (n, D)
        Points (x, y, z) in mm, LPS.
    displacement : vector Image
        In mm, on any grid. Points outside the grid move like its nearest point, with an
        :class:`ImageWarning`: an affine in the field makes 0 a worse guess.

    Returns
    -------
    ndarray of float64, shape (n, D)
        The moved points in mm.

    Raises
    ------
    ShapeError
        If ``points`` is not (n, D).
    ArgumentError
        If a point is not finite.
    """
    points = np.asarray(points, np.float64)
    grid = displacement.grid
    if points.ndim != 2 or points.shape[1] != grid.dimension:
        raise ShapeError(f"points must have shape (n, {grid.dimension}); got {points.shape}.")
    if not np.isfinite(points).all():
        raise ArgumentError("points must be finite; got NaN or Inf. Remove those rows first.")
    field = Image(displacement_array(displacement, grid), grid)
    index = grid.continuous_index(points)
    outside = ((index < -0.5) | (index >= np.asarray(grid.size) - 0.5)).any(1)
    if outside.any():
        warnings.warn(
            f"{int(outside.sum())} of {len(points)} points lie outside the displacement's grid; "
            "they move like the nearest point of its border.",
            ImageWarning,
            stacklevel=2,
        )
    if not len(points):
        return points.copy()
    return points + Sampler(field, "linear", "border")(points)


def require_displacement(displacement: Image, grid: Grid) -> None:
    """Check that an image is a displacement on ``grid``, with finite values."""
    if displacement.components != displacement.dimension or not displacement.is_vector:
        raise ShapeError(
            f"displacement must have {displacement.dimension} components; "
            f"got {displacement.components}."
        )
    if not displacement.grid.equals(grid):
        raise ShapeError(
            f"displacement must lie on the output grid, size {grid.size}, spacing "
            f"{brief(grid.spacing)}, origin {brief(grid.origin)}; got size "
            f"{displacement.grid.size}, spacing {brief(displacement.grid.spacing)}, origin "
            f"{brief(displacement.grid.origin)}. Resample it onto that grid first."
        )
    if isinstance(displacement, DeferredImage):  # made here, of a field that was checked
        return
    # A NaN position would be clamped to some voxel without a word.
    bad = displacement.array.size - int(np.count_nonzero(np.isfinite(displacement.array)))
    if bad:
        raise ImageValueError(f"displacement must be finite; got {bad} NaN or Inf values.")


def displacement_array(displacement: Image, grid: Grid) -> NDArray[Any]:
    """The checked values of a displacement that must lie on ``grid``."""
    require_displacement(displacement, grid)
    return displacement.array


class Sampler:
    """Values of an image at points in mm: ``(..., D) -> (...)`` or ``(..., components)``."""

    def __init__(
        self, image: Image, mode: str, padding: str = "fill", fill_value: float = 0.0
    ) -> None:
        import torch

        self.dtype = sampled_type(image, mode)
        if padding not in ("fill", "border"):
            raise ArgumentError(f"padding must be 'fill' or 'border'; got {padding!r}.")
        self.grid, self.mode, self.padding, self.fill_value = image.grid, mode, padding, fill_value
        self.scalar = not image.is_vector
        source = image.array
        if mode == "linear":
            working = self.dtype
        else:
            working = _working_type(source)
            _require_holds(self.dtype, fill_value)
        channels = source[None] if self.scalar else np.moveaxis(source, -1, 0)
        channels = np.ascontiguousarray(channels, working)
        if not channels.flags.writeable:
            channels = channels.copy()  # torch refuses to promise not to write
        self.tensor = torch.from_numpy(channels)[None]
        self.position_type = torch.float64 if working == np.float64 else torch.float32

    def __call__(self, points: Points) -> NDArray[Any]:
        """Sample at points of any leading shape."""
        import torch

        from itk_ncr.ops import warp

        dimension = self.grid.dimension
        index = self.grid.continuous_index(points)[..., ::-1]  # array order
        shape = index.shape[:-1]
        # warp adds the position on an output grid; points of another shape form a single line.
        lines = (
            shape if len(shape) == dimension else (int(np.prod(shape)),) + (1,) * (dimension - 1)
        )
        index = index.reshape(*lines, dimension)
        for axis, length in enumerate(lines):
            index[..., axis] -= np.arange(length).reshape((-1,) + (1,) * (dimension - 1 - axis))
        step = torch.from_numpy(np.ascontiguousarray(np.moveaxis(index, -1, 0)))[None]
        values = warp(
            self.tensor,
            step.to(self.position_type),
            mode=self.mode,
            padding=self.padding,
            fill_value=self.fill_value,
        )[0].numpy()
        out = values[0] if self.scalar else np.moveaxis(values, 0, -1)
        out = out.reshape(shape + out.shape[dimension:])
        return out.astype(self.dtype, copy=False)


def sampled_type(image: Image, mode: str) -> np.dtype[Any]:
    """Type of the values that a :class:`Sampler` returns."""
    if mode not in ("linear", "nearest"):
        raise ArgumentError(f"mode must be 'linear' or 'nearest'; got {mode!r}.")
    if mode == "nearest":
        return image.dtype
    exact = image.dtype.kind == "f" or image.dtype.itemsize < 4
    return np.dtype(np.float32 if image.dtype.itemsize <= 4 and exact else np.float64)


def mover(
    u: Tensor | NDArray[Any], grid: Grid, padding: Padding = "fill"
) -> Callable[[Points], Points]:
    """The map ``x -> x + M u(x)`` of points in mm.

    Parameters
    ----------
    u : Tensor or ndarray, shape (1, D, *grid.shape) or (D, *grid.shape)
        Displacement in voxels of ``grid``.
    grid : Grid
        Grid of ``u``.
    padding : "fill" or "border"
        Outside the grid ``u`` is 0, or has its border value.

    Returns
    -------
    callable
        From points in mm, shape (..., D), to moved points.

    Raises
    ------
    ShapeError
        If ``u`` does not have the shape of the grid.
    ImageValueError
        If it is not finite.
    """
    array = u if isinstance(u, np.ndarray) else u.detach().cpu().numpy()
    if array.ndim == grid.dimension + 2 and array.shape[0] == 1:
        array = array[0]
    if array.shape != (grid.dimension, *grid.shape):
        raise ShapeError(
            f"u must have shape {(grid.dimension, *grid.shape)}, that of the working grid; "
            f"got {array.shape}."
        )
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise ImageValueError(f"u must be finite; got {bad} NaN or Inf values.")
    voxels = Image(np.moveaxis(array, 0, -1), grid)
    sample = Sampler(voxels, "linear", padding, 0.0)
    matrix = grid.matrix[:, ::-1].T  # components arrive in array order, (z, y, x)

    def move(points: Points) -> Points:
        return points + sample(points).astype(np.float64) @ matrix

    return move


def _field(grid: Grid, displace: Callable[[Points], Points], defer: bool) -> Image:
    def rows(slab: slice) -> NDArray[Any]:
        return displace(grid.points(slab.start, slab.stop))

    return _made(DeferredImage(grid, np.float32, lambda: rows, grid.dimension), defer)


def _made(image: DeferredImage, defer: bool) -> Image:
    return image if defer else image.kept()


def _working_type(source: NDArray[Any]) -> np.dtype[Any]:
    """A type that the nearest warp supports and that holds every value of the image."""
    kind, size = source.dtype.kind, source.dtype.itemsize
    if kind == "f" or source.dtype in (np.uint8, np.int16, np.int32):
        return source.dtype
    if size == 1:
        return np.dtype(np.int16)
    if size == 2:
        return np.dtype(np.int32)
    low, high = int(source.min()), int(source.max())
    if low >= -(2**31) and high < 2**31:
        return np.dtype(np.int32)
    if low >= -(2**53) and high <= 2**53:
        return np.dtype(np.float64)
    raise ImageValueError(
        f"image must hold values below 2^53; got {low} to {high} ({source.dtype}). "
        "Renumber the labels first."
    )


def _require_holds(dtype: np.dtype[Any], value: float) -> None:
    """A fill value that the pixel type cannot hold would wrap around."""
    if dtype.kind == "f":
        return
    limits = np.iinfo(dtype)
    if not (np.isfinite(value) and value == round(value)) or not limits.min <= value <= limits.max:
        raise ArgumentError(f"fill_value must fit the pixel type {dtype}; got {value}.")


def _require_dimension(dimension: int, **others: Any) -> None:
    for name, other in others.items():
        if other is not None and other.dimension != dimension:
            raise ShapeError(
                f"{name} must have {dimension} axes like the grid; got {other.dimension}."
            )
