"""Displacement fields in voxels (Learn2Reg, VoxelMorph), converted to and from mm.

A voxel field ``u`` of shape (x, y, z, 3) carries the voxel ``i`` of the fixed image to the position
``i + u(i)`` in the array of the moving image, component c along array axis c. It has no spacing
and no direction: those come from the two images.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import (
    ArgumentError,
    ImageReadError,
    ImageValueError,
    ImageWriteError,
    ShapeError,
)
from itk_ncr.geometry import Grid
from itk_ncr.images.formats import Refused, suffix_of
from itk_ncr.images.formats.content import reason_of
from itk_ncr.images.formats.nifti import INTENTS_IN_MM, read_nifti_array
from itk_ncr.images.image import Image
from itk_ncr.images.locales import numeric_locale
from itk_ncr.images.resampling import require_displacement
from itk_ncr.images.writing import atomic_write

READABLE = (".nii", ".nii.gz", ".npz")
WRITABLE = (".nii", ".nii.gz")
# What numpy and zipfile raise where a file is damaged, encrypted or holds objects.
_DAMAGE = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
ARRAYS = ("arr_0", "vol")  # in .npz: of Learn2Reg, of VoxelMorph


def to_voxel_field(displacement: Image, moving: Grid | None = None) -> NDArray[np.float32]:
    """A displacement in mm as a voxel field.

    Parameters
    ----------
    displacement : Image, vector, mm, LPS
        On the fixed grid: ``moved(x) = moving(x + d(x))``.
    moving : Grid, optional
        Of the moving image. Default: the fixed grid.

    Returns
    -------
    ndarray of float32, shape (x, y, z, 3) or (x, y, 2)
        In voxels of ``moving``, along its array axes (x, y, z).
    """
    fixed = displacement.grid
    moving = fixed if moving is None else moving
    _require_dimension(moving, fixed.dimension)
    require_displacement(displacement, fixed)
    out = np.empty((*fixed.shape, fixed.dimension), np.float32)
    rows = displacement.rows()
    for row in range(fixed.shape[0]):  # one at a time: the positions are float64
        slab = slice(row, row + 1)
        index = moving.continuous_index(fixed.points(row, row + 1) + rows(slab))
        out[slab] = index - _indices(fixed, row)
    return _turned(out, fixed.dimension)


def from_voxel_field(field: Any, fixed: Grid, moving: Grid | None = None) -> Image:
    """A voxel field as a displacement in mm on the fixed grid.

    Parameters
    ----------
    field : array_like, shape (x, y, z, 3) or (3, x, y, z); in 2D (x, y, 2) or (2, x, y)
        In voxels of ``moving``, along its array axes.
    fixed : Grid
        Grid of the field and of the result.
    moving : Grid, optional
        Grid of the voxels that the values count. Default: the fixed grid.

    Returns
    -------
    vector Image, float32
        Components (x, y, z) in mm, LPS.

    Raises
    ------
    ShapeError
        If the field does not have the size of the fixed grid.
    ImageValueError
        If it is not finite everywhere.
    """
    moving = fixed if moving is None else moving
    _require_dimension(moving, fixed.dimension)
    array = _components_last(np.asarray(field), fixed)
    if array.dtype.kind not in "iuf":
        raise ImageValueError(f"field must hold real numbers; got {array.dtype}.")
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise ImageValueError(f"field must be finite; got {bad} NaN or Inf values.")
    array = _turned(array, fixed.dimension)
    out = np.empty(array.shape, np.float32)
    for row in range(fixed.shape[0]):
        position = _indices(fixed, row) + array[row : row + 1].astype(np.float64)
        points = position @ moving.matrix.T + np.asarray(moving.origin)
        out[row : row + 1] = points - fixed.points(row, row + 1)
    return Image(out, fixed)


def read_voxel_field(
    path: str | os.PathLike[str], fixed: Grid, moving: Grid | None = None
) -> Image:
    """Read a voxel field of Learn2Reg or VoxelMorph as a displacement in mm.

    Parameters
    ----------
    path : path
        A .nii or .nii.gz file of the size (x, y, z, 3) or (3, x, y, z), or .npz with an array of
        such a shape, "arr_0" or "vol".
    fixed, moving : Grid
        As for :func:`from_voxel_field`; the geometry in the file is not used.

    Returns
    -------
    vector Image, float32
        Components (x, y, z) in mm, LPS, on the fixed grid.

    Raises
    ------
    ImageReadError
        If the file cannot be read, is a field in mm or one of FSL; the message says what to do.
    """
    try:
        return from_voxel_field(_read(Path(path)), fixed, moving)
    except (Refused, ShapeError, ImageValueError) as error:
        raise ImageReadError(f"cannot read voxel field {os.fspath(path)!r}: {error}") from None


def write_voxel_field(
    displacement: Image, path: str | os.PathLike[str], moving: Grid | None = None
) -> None:
    """Write a displacement as the voxel field that Learn2Reg and VoxelMorph read.

    Parameters
    ----------
    displacement : Image, vector, mm, LPS
    path : path
        .nii or .nii.gz; the size is (x, y, z, 3), or (x, y, 2) in 2D, the geometry that of the
        fixed image.
    moving : Grid, optional
        As for :func:`to_voxel_field`.

    Raises
    ------
    ImageWriteError
        If it cannot be written or reads back differently; nothing is left behind.
    """
    target = Path(path)
    suffix = suffix_of(target)
    if suffix not in WRITABLE:
        raise ImageWriteError(
            f"cannot write {str(target)!r}: its name must end in one of {', '.join(WRITABLE)}"
        )
    field = to_voxel_field(displacement, moving)
    with atomic_write(target, suffix) as temporary:
        import SimpleITK as sitk

        try:
            with numeric_locale():
                sitk.WriteImage(
                    _extended(field, displacement.grid), str(temporary), suffix != ".nii"
                )
            back = read_nifti_array(temporary)[0]
        except (RuntimeError, Refused) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ImageWriteError(f"cannot write {str(target)!r}: {reason}") from None
        if not np.array_equal(back, field):
            raise ImageWriteError(
                f"cannot write {str(target)!r}: it reads back differently; is the disk full?"
            )


def _read(path: Path) -> NDArray[Any]:
    try:
        if path.suffix.lower() == ".npz":
            return _of_npz(path)
        if suffix_of(path) not in READABLE:
            raise Refused(f"its name must end in one of {', '.join(READABLE)}")
        array, intent = read_nifti_array(path)
    except OSError as error:
        raise Refused(reason_of(error)) from None
    if intent in INTENTS_IN_MM:
        raise Refused(
            "it is a displacement in mm, of ITK, ANTs or greedy. Use it as it is, such as with "
            "`itk-ncr apply`"
        )
    return array


def _of_npz(path: Path) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            name = next((name for name in ARRAYS if name in file.files), None)
            if name is None:
                held = ", ".join(file.files) or "nothing"
                raise Refused(f"it must hold an array {' or '.join(ARRAYS)}; it holds {held}")
            array: NDArray[Any] = file[name]
            return array
    except MemoryError:
        raise Refused("needs more memory than there is") from None
    except _DAMAGE as error:
        raise Refused(f"not a file of numpy arrays, or damaged ({error})") from None


def _components_last(array: NDArray[Any], fixed: Grid) -> NDArray[Any]:
    size, dimension = fixed.size, fixed.dimension
    ones = (1,) * max(0, array.ndim - dimension - 1)
    if array.shape == (*size, *ones, dimension):
        return array.reshape(*size, dimension)
    if array.shape == (dimension, *size, *ones):
        return np.moveaxis(array.reshape(dimension, *size), 0, -1)
    half = tuple(n // 2 for n in size)
    advice = "Give the image that it was made for."
    if array.shape in ((*half, dimension), (dimension, *half)):
        advice = "It has half the size: double it first, such as with scipy.ndimage.zoom."
    raise ShapeError(
        f"field must have the shape {(*size, dimension)} or {(dimension, *size)}, that of the "
        f"fixed image; got {array.shape}. {advice}"
    )


def _require_dimension(moving: Grid, dimension: int) -> None:
    if moving.dimension != dimension:
        raise ArgumentError(
            f"moving must have {dimension} axes like the fixed grid; got {moving.dimension}."
        )


def _indices(grid: Grid, row: int) -> NDArray[np.float64]:
    """Index (x, y, z) of the voxels of one row of the first array axis."""
    ranges = [np.array([row]), *(np.arange(n) for n in grid.shape[1:])]
    return np.stack(np.meshgrid(*ranges, indexing="ij")[::-1], -1).astype(np.float64)


def _turned(array: NDArray[Any], dimension: int) -> NDArray[Any]:
    """Spatial axes in the other order; components stay last."""
    return np.ascontiguousarray(array.transpose(*range(dimension)[::-1], dimension))


def _extended(field: NDArray[np.float32], grid: Grid) -> Any:
    """A scalar SimpleITK image with one axis more than the grid, for the components."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(field.T), isVector=False)
    direction = np.eye(grid.dimension + 1)
    direction[:-1, :-1] = grid.direction
    image.SetSpacing((*grid.spacing, 1.0))
    image.SetOrigin((*grid.origin, 0.0))
    image.SetDirection(direction.ravel().tolist())
    return image
