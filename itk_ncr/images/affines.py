"""Images that carry an affine from index (x, y, z) to mm: nibabel, MONAI, TorchIO; and ANTsPy's.

They are recognised by their attributes and never imported. Their arrays are (x, y, z), and but for
ANTsPy their space is RAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import ArgumentError, GeometryError, ShapeError
from itk_ncr.geometry import Grid
from itk_ncr.images.image import Image, plain_array

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
DISPLACEMENT = 1006  # NIfTI's intent of vectors in RAS


def is_nibabel(obj: Any) -> bool:
    """Whether it looks like an image of nibabel."""
    return all(hasattr(obj, name) for name in ("affine", "dataobj", "header"))


def is_torchio(obj: Any) -> bool:
    """Whether it looks like an image of TorchIO."""
    return all(hasattr(obj, name) for name in ("affine", "data", "spatial_shape"))


def is_ants(obj: Any) -> bool:
    """Whether it looks like an image of ANTsPy."""
    names = ("numpy", "spacing", "origin", "direction", "has_components")
    return all(hasattr(obj, name) for name in names)


def of_nibabel(obj: Any, role: str, vector: bool) -> Image:
    """The image of a nibabel image, scaled by its header; trailing axes of length 1 are dropped.

    A displacement has the shape (x, y, z, 1, 3) or (x, y, 1, 1, 2).
    """
    array = np.asarray(obj.dataobj)
    affine = _affine(obj.affine, role)
    unit = obj.header.get_xyzt_units()[0] if hasattr(obj.header, "get_xyzt_units") else "mm"
    affine[:3] *= MILLIMETRES.get(unit, 1.0)
    if not vector:
        while array.ndim > 3 and array.shape[-1] == 1:
            array = array[..., 0]
        return _placed(array, affine, role, "image.slicer[..., 0]")
    if array.ndim != 5 or array.shape[3] != 1 or array.shape[4] not in (2, 3):
        raise ShapeError(
            f"{role} must have the shape (x, y, z, 1, 3), or (x, y, 1, 1, 2) in 2D; "
            f"got {array.shape}."
        )
    components = array.shape[4]
    array = array[:, :, 0, 0] if components == 2 and array.shape[2] == 1 else array[:, :, :, 0]
    if int(obj.header["intent_code"]) == DISPLACEMENT:
        array = array * np.array([-1, -1, 1], array.dtype)[:components]
    return _placed(array, affine, role, "", vectors=True)


def of_torchio(obj: Any, role: str, vector: bool) -> Image:
    """The image of a TorchIO image, (1, x, y, z)."""
    _require_scalar(vector, role, "TorchIO")
    array = np.asarray(obj.data)
    if array.ndim != 4 or array.shape[0] != 1:
        raise ShapeError(
            f"{role} must have one channel; got a TorchIO image of shape {array.shape}. "
            "Pass one channel at a time."
        )
    return _placed(array[0], _affine(obj.affine, role), role, "")


def of_ants(obj: Any, role: str, vector: bool) -> Image:  # noqa: ARG001 (one signature for all)
    """The image of an ANTsPy image, whose geometry is ITK's."""
    array = np.asarray(obj.numpy())
    dimension = len(obj.spacing)
    _require_dimension(dimension, array.shape, role, "Slice one volume first.")
    order = [*range(dimension)[::-1], *range(dimension, array.ndim)]
    grid = Grid.of_array(
        array.shape[:dimension][::-1], obj.spacing, obj.origin, np.asarray(obj.direction)
    )
    return Image(array.transpose(order), grid)


def of_metatensor(tensor: Any, array: NDArray[Any], role: str, vector: bool) -> Image:
    """The image of MONAI's tensor with ``affine`` and ``meta``, (1, x, y, z) or (x, y, z).

    ``array`` holds its values. Leading axes of length 1 are batch and channel.
    """
    _require_scalar(vector, role, "MONAI")
    affine = np.asarray(tensor.affine.detach().cpu(), np.float64)
    while affine.ndim > 2 and len(affine) == 1:  # a batch of one
        affine = affine[0]
    meta = getattr(tensor, "meta", None) or {}
    dimension = _spatial_axes(array.shape, affine, meta, role)
    extra = array.ndim - dimension
    if any(n != 1 for n in array.shape[:extra]):
        raise ShapeError(
            f"{role} must be one image; got a MetaTensor of shape {array.shape}, a batch or "
            "several channels. Pass one at a time: tensor[0]."
        )
    affine = _affine(affine, role)
    if "LPS" in str(meta.get("space", "RAS")).upper():
        affine = RAS_TO_LPS @ affine
    return _placed(array.reshape(array.shape[extra:]), affine, role, "")


def _spatial_axes(shape: tuple[int, ...], affine: NDArray[np.float64], meta: Any, role: str) -> int:
    """Number of spatial axes of a tensor."""
    if affine.shape == (3, 3):
        return 2
    if len(shape) in (0, 1, 2):
        return 2
    stored = np.size(meta.get("spatial_shape", ()))
    unclear = (len(shape) == 3 and shape[0] == 1) or (len(shape) == 4 and shape[:2] == (1, 1))
    if not unclear:
        return 3
    if stored in (2, 3):
        return int(stored)
    raise ShapeError(
        f"{role} must be (1, x, y, z), (x, y, z) or (x, y); got a MetaTensor of shape {shape}, "
        "which may be one slice of a volume or a 2D image with a channel. Pass tensor[0] for the "
        "2D image, or set tensor.meta['spatial_shape']."
    )


def _require_scalar(vector: bool, role: str, library: str) -> None:
    if vector:
        raise ArgumentError(
            f"{role} must say what its channels mean; got a {library} image. Pass a SimpleITK "
            "image of vectors in mm, LPS."
        )


def _affine(values: Any, role: str) -> NDArray[np.float64]:
    """A 4 x 4 matrix from index to mm; that of a 2D image is filled up."""
    if values is None:
        raise GeometryError(f"{role} must have an affine; got None. Give it one first.")
    given = np.array(values, np.float64)
    if given.shape == (3, 3):
        full = np.eye(4)
        full[np.ix_([0, 1, 3], [0, 1, 3])] = given
        given = full
    if given.shape != (4, 4) or not np.allclose(given[3], (0, 0, 0, 1)):
        raise GeometryError(
            f"{role} must have an affine of 4 x 4 with last row (0, 0, 0, 1); "
            f"got shape {given.shape}."
        )
    if not np.isfinite(given).all():
        raise GeometryError(f"{role} must have a finite affine; got {given[:3].tolist()}.")
    return given


def _require_dimension(dimension: int, shape: tuple[int, ...], role: str, advice: str) -> None:
    if dimension not in (2, 3):
        raise ShapeError(f"{role} must be 2D or 3D; got shape {shape}. {advice}".rstrip())
    if 0 in shape:
        raise ShapeError(f"{role} must have at least one voxel; got shape {shape}.")


def _placed(
    array: NDArray[Any],
    affine: NDArray[np.float64],
    role: str,
    advice: str,
    vectors: bool = False,
) -> Image:
    """The image of an array (x, y, z) and the affine of a RAS space."""
    dimension = array.ndim - vectors
    extract = f"Extract one volume first: {advice}." if advice else "Extract one volume first."
    _require_dimension(dimension, array.shape, role, extract)
    full = RAS_TO_LPS @ affine
    axes = full[:dimension, :dimension]
    steps = np.linalg.norm(axes, axis=0)
    if not (steps > 0).all():
        raise GeometryError(f"{role} must have a positive spacing; got {steps.tolist()}.")
    values = plain_array(array, role)
    order = [*range(dimension)[::-1], *range(dimension, array.ndim)]
    values = values.transpose(order)
    grid = Grid.of_array(values.shape[:dimension], steps, full[:dimension, 3], axes / steps)
    return Image(values, grid)
