"""Images whose values are computed on access and not kept.

The fields of a registration of 512 x 512 x 120 voxels take 1.8 GB together, and are all made from a
few MB on the grid the pair was solved on. One that is needed alone should not cost all of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from itk_ncr.geometry import Grid
from itk_ncr.images.image import Image, Rows, slabs


class DeferredImage(Image):
    """An image whose array is computed on access and lives as long as the caller keeps it.

    Parameters
    ----------
    grid : Grid
    dtype : dtype
        Of the values.
    open_rows : callable
        ``open_rows()`` prepares, and returns a function from a slice of the first array axis to
        the values there, shape ``(rows, *grid.shape[1:])`` with the components behind.
    components : int
        Values in one voxel; 0 for a scalar image without an axis of components.
    """

    def __init__(
        self, grid: Grid, dtype: DTypeLike, open_rows: Callable[[], Rows], components: int = 0
    ) -> None:
        object.__setattr__(self, "grid", grid)
        object.__setattr__(self, "_dtype", np.dtype(dtype))
        object.__setattr__(self, "_open_rows", open_rows)
        object.__setattr__(self, "_components", components)
        object.__setattr__(self, "_alive", None)

    _dtype: np.dtype[Any]
    _open_rows: Callable[[], Rows]
    _components: int
    _alive: weakref.ref[NDArray[Any]] | None

    @property
    def array(self) -> NDArray[Any]:
        """The values; computed anew unless those of the last time are still in use."""
        array = None if self._alive is None else self._alive()
        if array is None:
            components = (self._components,) if self._components else ()
            array = np.empty(self.grid.shape + components, self._dtype)
            rows = self._open_rows()
            for slab in slabs(self.grid):
                array[slab] = rows(slab)
            object.__setattr__(self, "_alive", weakref.ref(array))
        return array

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self._dtype

    @property
    def is_vector(self) -> bool:
        """Whether a voxel holds several components, or an axis for them."""
        return self._components > 0

    @property
    def components(self) -> int:
        """Number of values in one voxel; 1 for a scalar image."""
        return self._components or 1

    def rows(self) -> Rows:
        """A function from a slice of the first array axis to the values there."""
        array = None if self._alive is None else self._alive()
        return self._open_rows() if array is None else array.__getitem__

    def kept(self) -> Image:
        """The same image with its values in memory."""
        return Image(self.array, self.grid)


def map_values(
    image: Image, function: Callable[[NDArray[Any]], NDArray[Any]], dtype: DTypeLike
) -> Image:
    """Apply a function to every value of an image; the result of a deferred image is deferred.

    Parameters
    ----------
    image : Image
        Scalar or vector.
    function : callable
        From an array of values to one of the same shape.
    dtype : dtype
        Type of the new values, to which those of ``function`` are cast.

    Returns
    -------
    Image
        On the same grid.
    """

    def apply(values: NDArray[Any]) -> NDArray[Any]:
        return function(values).astype(dtype, copy=False)

    if not isinstance(image, DeferredImage):
        return Image(apply(image.array), image.grid)

    def open_rows() -> Rows:
        rows = image.rows()
        return lambda slab: apply(rows(slab))

    components = image.components if image.is_vector else 0
    return DeferredImage(image.grid, dtype, open_rows, components)
