"""Transforms in files, with the meaning that ITK gives them: from fixed to moving points."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from itk_ncr.errors import (
    ArgumentError,
    GeometryError,
    ImageReadError,
    ImageWriteError,
    ShapeError,
)
from itk_ncr.geometry import AffineMap
from itk_ncr.images.formats import Refused
from itk_ncr.images.image import Image
from itk_ncr.images.libraries import to_sitk
from itk_ncr.images.locales import numeric_locale
from itk_ncr.images.resampling import displacement_array
from itk_ncr.images.transform_files import READABLE, read_linear
from itk_ncr.images.writing import atomic_write

WRITABLE = (".h5", ".hdf5", ".tfm", ".txt", ".mat")
# Only these hold a displacement field with its geometry and full precision.
DEFORMATION_WRITABLE = (".h5", ".hdf5", ".tfm", ".txt")


def write_transform(
    path: str | os.PathLike[str],
    affine: AffineMap | None = None,
    deformation: Image | None = None,
    *,
    affine_first: bool = False,
) -> None:
    """Write ``x -> affine(x + deformation(x))`` for ITK, SimpleITK, ANTs and Slicer.

    With a deformation the file holds a composite transform, affine first, deformation second: ITK
    applies the last one first. Outside the deformation's grid it is 0, as in ITK.

    Parameters
    ----------
    path : path
        Ends in .h5 (use this one for fields), .tfm or .txt; .mat for an affine alone.
    affine : AffineMap, optional
        From fixed to moving space.
    deformation : vector Image, optional
        Components (x, y, z) in mm, LPS: the part of the map without the affine.
    affine_first : bool
        Write ``x -> y + deformation(y)`` with ``y = affine(x)`` instead: the inverse map.

    Raises
    ------
    ImageWriteError
        If it cannot be written or reads back differently; nothing is left behind.
    """
    target = Path(path)
    if affine is None and deformation is None:
        raise ImageWriteError(f"cannot write {str(target)!r}: neither affine nor deformation given")
    suffix = target.suffix.lower()
    writable = WRITABLE if deformation is None else DEFORMATION_WRITABLE
    if suffix not in writable:
        raise ImageWriteError(
            f"cannot write {str(target)!r}: its name must end in one of {', '.join(writable)}"
        )
    transform = to_sitk_transform(affine, deformation, affine_first=affine_first)
    probes = _probes(affine, deformation, affine_first)
    expected = [transform.TransformPoint(point) for point in probes]
    with atomic_write(target, suffix) as temporary:
        import SimpleITK as sitk

        _require_room(temporary.parent, deformation)
        try:
            with numeric_locale():
                sitk.WriteTransform(transform, str(temporary))
                back = sitk.ReadTransform(str(temporary))
            found = [back.TransformPoint(point) for point in probes]
        except RuntimeError as error:
            last = " ".join(str(error).split()[-20:])
            raise ImageWriteError(
                f"cannot write {str(target)!r}: ITK cannot write it or read it back ({last})"
            ) from None
        if not np.allclose(expected, found, rtol=1e-6, atol=1e-4):
            raise ImageWriteError(f"cannot write {str(target)!r}: it reads back differently")


def to_sitk_transform(
    affine: AffineMap | None, deformation: Image | None, *, affine_first: bool = False
) -> Any:
    """The map ``x -> affine(x + deformation(x))`` as a SimpleITK transform.

    Parameters
    ----------
    affine : AffineMap or None
        From fixed to moving space.
    deformation : vector Image or None
        Components (x, y, z) in mm, LPS: the part of the map without the affine.
    affine_first : bool
        The map is ``x -> y + deformation(y)`` with ``y = affine(x)`` instead.

    Returns
    -------
    SimpleITK.Transform
        An affine, a displacement field or a composite transform.
    """
    import SimpleITK as sitk

    parts = []
    if affine is not None:
        linear = sitk.AffineTransform(affine.dimension)
        linear.SetMatrix(np.ravel(affine.matrix).tolist())
        linear.SetTranslation(affine.translation)
        parts.append(linear)
    if deformation is not None:
        if affine is not None and affine.dimension != deformation.dimension:
            raise ShapeError(
                f"affine must have {deformation.dimension} axes like the deformation; "
                f"got {affine.dimension}."
            )
        values = displacement_array(deformation, deformation.grid).astype(np.float64)
        field = to_sitk(Image(values, deformation.grid))
        parts.append(sitk.DisplacementFieldTransform(field))  # takes the image's memory over
    if len(parts) == 1 and deformation is None:
        return parts[0]
    return sitk.CompositeTransform(parts[::-1] if affine_first else parts)


def as_affine(value: Any, name: str = "affine") -> AffineMap:
    """The map of an AffineMap, of a linear transform of ITK or SimpleITK, of a matrix or a file.

    Parameters
    ----------
    value : AffineMap, itk.Transform, SimpleITK.Transform, array_like or path
        An array is the homogeneous matrix, (D + 1, D + 1) with the last row (0, ..., 0, 1). A path
        is read as by :func:`read_affine`.
    name : str
        What it is to the caller, for messages.

    Returns
    -------
    AffineMap
        From fixed to moving points, mm, LPS.

    Raises
    ------
    ArgumentError
        If it is none of these, or a transform that is not linear.
    GeometryError
        If it cannot be inverted, or an array is not a homogeneous matrix.
    ImageReadError
        If a file cannot be read.
    """
    if isinstance(value, AffineMap):
        return value
    if isinstance(value, os.PathLike) or (
        isinstance(value, str) and value.lower().endswith(READABLE)
    ):
        return read_affine(value, role=name)
    if isinstance(value, (np.ndarray, list, tuple)):
        return AffineMap.from_homogeneous(value)
    dimension = _transform_dimension(value)
    if dimension is None:
        raise ArgumentError(
            f"{name} must be an AffineMap, a linear transform, a homogeneous matrix or the path of "
            f"a transform file ({', '.join(READABLE)}); "
            f"got {value if isinstance(value, str) else type(value).__name__!r}."
        )
    if not value.IsLinear():
        raise ArgumentError(
            f"{name} must be linear; got a {type(value).__name__.removeprefix('itk')}. "
            "Resample the moving image through it first, or pass its affine part."
        )
    # Where the transform carries the origin and the unit vectors is all there is to know of it.
    corners = [[0.0] * dimension, *np.eye(dimension).tolist()]
    points = np.array([list(value.TransformPoint(corner)) for corner in corners])
    homogeneous = np.eye(dimension + 1)
    homogeneous[:-1, :-1], homogeneous[:-1, -1] = (points[1:] - points[0]).T, points[0]
    return AffineMap.from_homogeneous(homogeneous)


def _transform_dimension(value: Any) -> int | None:
    if not hasattr(value, "TransformPoint") or not hasattr(value, "IsLinear"):
        return None
    if hasattr(value, "GetInputSpaceDimension"):  # ITK
        return int(value.GetInputSpaceDimension())
    return int(value.GetDimension()) if hasattr(value, "GetDimension") else None


def read_affine(
    path: str | os.PathLike[str], dimension: int | None = None, role: str = "affine"
) -> AffineMap:
    """Read an affine (or rigid, similarity, translation) transform of ITK, ANTs or Slicer.

    Parameters
    ----------
    path : path
        .tfm, .txt, .mat (ANTs), .h5, .xfm (MINC). A composite transform of affine parts is
        multiplied out.
    dimension : int, optional
        2 or 3, if only that will do.
    role : str
        For messages.

    Returns
    -------
    AffineMap
        From fixed to moving points, mm, LPS.

    Raises
    ------
    ImageReadError
        If the file cannot be read or its transform is not affine.
    """

    def refuse(reason: str) -> ImageReadError:
        return ImageReadError(f"cannot read {role} {os.fspath(path)!r}: {reason}")

    try:
        found = read_linear(Path(path))
    except (Refused, GeometryError) as error:
        raise refuse(str(error)) from None
    if dimension is not None and found.dimension != dimension:
        raise refuse(f"it is for {found.dimension}D images, these are {dimension}D")
    return found


def _require_room(folder: Path, deformation: Image | None) -> None:
    """Check disk space first: HDF5 crashes at exit when the disk fills up."""
    needed = 0 if deformation is None else 8 * deformation.array.size
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _probes(
    affine: AffineMap | None, deformation: Image | None, affine_first: bool
) -> list[tuple[float, ...]]:
    """Points at which a transform is compared with what was read back."""
    if deformation is None:
        assert affine is not None  # one of both is there: checked by the caller
        points = np.concatenate([np.zeros((1, affine.dimension)), 100 * np.eye(affine.dimension)])
    else:
        grid = deformation.grid
        points = np.concatenate([grid.corners(), grid.centre[None]])
        # Corners lie on the rim of the field, where rounding decides between inside and outside.
        points = grid.centre + 0.9 * (points - grid.centre)
        if affine is not None and affine_first:
            points = affine.inverse()(points)
    return [tuple(float(v) for v in point) for point in points]
