"""The image class: an array in physical space."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import ImageValueError, ShapeError
from itk_ncr.geometry import Grid

Rows = Callable[[slice], NDArray[Any]]
"""Gets a slice of the first array axis, and returns the values there."""

# 2^17 points are 3 MB of float64 coordinates in 3D; some five such arrays live at a time. Larger
# slabs were not faster (160x192x160: .41 CPU-s with 2^17, .50 with 2^19).
SLAB_VOXELS = 2**17


class ImageWarning(UserWarning):
    """An image can be used, but something about it should be checked."""


@dataclass(frozen=True, eq=False)
class Image:
    """A scalar or vector image: voxel values and their grid.

    Parameters
    ----------
    array : ndarray, shape ``grid.shape`` or ``(*grid.shape, components)``
        Values; C-contiguous, native byte order, bool becomes uint8. The components of a
        displacement are mm along (x, y, z), LPS. Not copied when it is in this form already.
    grid : Grid
        Size, spacing, origin and direction.

    Raises
    ------
    ShapeError
        If the array does not lie on the grid.
    ImageValueError
        If the values are not real numbers.
    """

    array: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        array = plain_array(self.array)
        dimension = self.grid.dimension
        if array.ndim not in (dimension, dimension + 1) or array.shape[:dimension] != (
            self.grid.shape
        ):
            raise ShapeError(
                f"array must have the shape of the grid, {self.grid.shape}, with at most one axis "
                f"of components behind; got {array.shape}."
            )
        object.__setattr__(self, "array", array)

    def __repr__(self) -> str:
        """Size, type and place; the voxels are in ``array``."""
        kind = f"{self.dtype}" + (f" x {self.components}" if self.is_vector else "")
        size, spacing, origin = self.grid.size, self.grid.spacing, self.grid.origin
        return f"<Image {size} {kind}, spacing {brief(spacing)}, origin {brief(origin)}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The voxels without their place: ``numpy.asarray(image)`` is ``image.array``."""
        if copy is False and dtype not in (None, self.array.dtype):
            raise ValueError(f"an array of {dtype} must be a copy of one of {self.array.dtype}.")
        return np.array(self.array, dtype) if copy else np.asarray(self.array, dtype)

    @property
    def dimension(self) -> int:
        """Number of axes in space, 2 or 3."""
        return self.grid.dimension

    @property
    def is_vector(self) -> bool:
        """Whether a voxel holds several components, or an axis for them."""
        return self.array.ndim > self.grid.dimension

    @property
    def components(self) -> int:
        """Number of values in one voxel; 1 for a scalar image."""
        return int(self.array.shape[-1]) if self.is_vector else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.array.dtype

    def to_sitk(self) -> Any:
        """A ``SimpleITK.Image`` copy, see :func:`itk_ncr.images.to_sitk`."""
        from itk_ncr.images.libraries import to_sitk

        return to_sitk(self)

    def to_itk(self) -> Any:
        """An ``itk.Image`` copy, see :func:`itk_ncr.images.to_itk`."""
        from itk_ncr.images.libraries import to_itk

        return to_itk(self)

    def to_nibabel(self) -> Any:
        """A ``nibabel.Nifti1Image`` copy, see :func:`itk_ncr.images.to_nibabel`."""
        from itk_ncr.images.libraries import to_nibabel

        return to_nibabel(self)

    def to_ants(self) -> Any:
        """An ``ants.ANTsImage`` copy, see :func:`itk_ncr.images.to_ants`."""
        from itk_ncr.images.libraries import to_ants

        return to_ants(self)

    def _repr_html_(self) -> str:
        """One slice with type and place, for notebooks."""
        from itk_ncr.images.preview import image_html

        return image_html(self)

    def rows(self) -> Rows:
        """A function from a slice of the first array axis to the values there.

        Cheaper than ``array`` for those who go through an image slab by slab, see :func:`slabs`:
        a deferred image is never whole in memory then.
        """
        return self.array.__getitem__


def slabs(grid: Grid) -> Iterator[slice]:
    """Split a grid into slabs of a few rows along the first array axis.

    Parameters
    ----------
    grid : Grid
        The grid to go through.

    Yields
    ------
    slice
        Rows of the first array axis, in order.
    """
    rows = max(1, SLAB_VOXELS * grid.shape[0] // grid.voxels)
    for start in range(0, grid.shape[0], rows):
        yield slice(start, min(start + rows, grid.shape[0]))


def brief(values: tuple[float, ...]) -> str:
    """Coordinates on one line, for messages."""
    return "(" + ", ".join(f"{v:.6g}" for v in values) + ")"


def plain_array(array: NDArray[Any], name: str = "image") -> NDArray[Any]:
    """The same values C-contiguous, in native byte order and in a type the kernels know.

    bool becomes uint8, float16 float32, and long double float64.
    """
    array = np.asarray(array)
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "c":
        raise ImageValueError(
            f"{name} must hold real numbers; got complex ones ({array.dtype}). "
            "Pass its magnitude or its real part."
        )
    if kind not in "biuf":
        raise ImageValueError(f"{name} must hold numbers; got {array.dtype}.")
    dtype: np.dtype[Any]
    if kind == "b":
        dtype = np.dtype(np.uint8)
    elif kind == "f" and size not in (4, 8):
        dtype = np.dtype(np.float32 if size < 4 else np.float64)
    else:
        dtype = array.dtype.newbyteorder("=")
    # Flexible strides (reversed, Fortran order, broadcast) become a plain C array here.
    return np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
