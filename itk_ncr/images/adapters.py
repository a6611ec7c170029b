"""Conversion of arrays, paths and images of other libraries to :class:`Image`.

Other libraries are recognised by their attributes and never imported for the asking. The way back
is :mod:`itk_ncr.images.libraries`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import (
    ArgumentError,
    GeometryError,
    ImageValueError,
    ShapeError,
    require_package,
)
from itk_ncr.geometry import Grid
from itk_ncr.images.affines import (
    is_ants,
    is_nibabel,
    is_torchio,
    of_ants,
    of_metatensor,
    of_nibabel,
    of_torchio,
)
from itk_ncr.images.colours import grey_of
from itk_ncr.images.image import Image, plain_array
from itk_ncr.images.libraries import AXES, COMPONENT_AXIS
from itk_ncr.images.reading import read_displacement, read_image


def as_image(
    obj: Any,
    spacing: ArrayLike | None = None,
    origin: ArrayLike | None = None,
    direction: ArrayLike | None = None,
    *,
    role: str = "image",
    vector: bool = False,
) -> Image:
    """Convert an array, a path or an image of another library.

    Parameters
    ----------
    obj : image or path
        An Image, itk.Image, SimpleITK.Image, xarray.DataArray, numpy.ndarray, torch.Tensor, MONAI
        MetaTensor, nibabel, TorchIO or ANTsPy image, or the path of a file (``str`` or ``Path``),
        which is read as by :func:`read_image`.

        Arrays are (z, y, x) or (y, x), with a last axis of components if ``vector``. A torch tensor
        may also be in network layout: leading axes of length 1 are dropped where it is clear which
        they are, (1, 1, z, y, x), (1, z, y, x) and (1, 1, y, x). A three-axis tensor
        (1, y, x) is either a volume of one slice or a 2D image with a channel: ``spacing`` with
        three or two values tells which. Non-finite voxels are kept as they are.
    spacing, origin, direction : array_like, optional
        Geometry along (x, y, z) in mm, LPS, for arrays; 1, 0 and identity if left out. Objects
        that carry their own geometry refuse another.
    role : str
        What the image is to the caller ("fixed image"), for messages.
    vector : bool
        Whether a vector image of D components (a displacement in mm) is wanted, not a scalar one.

    Returns
    -------
    Image
        Shares memory with ``obj`` where its layout allows.

    Raises
    ------
    ShapeError, ImageValueError, GeometryError, ArgumentError
        If ``obj`` is not one 2D or 3D image of real numbers; the message says what to do.
    ImageReadError
        If a file cannot be read.
    """
    given = {"spacing": spacing, "origin": origin, "direction": direction}
    given = {name: value for name, value in given.items() if value is not None}
    if _is_tensor(obj) and getattr(obj, "affine", None) is not None:
        _require_no_other(given, obj, role)
        image = of_metatensor(obj, _values_of_tensor(obj, role), role, vector)
        return _checked(image, role, vector)
    if _is_tensor(obj):
        dimensions = {n for n in map(_dimension_of, given.items()) if n}
        obj = _array_of_tensor(obj, role, dimensions, vector)
        return _of_array(obj, given, role, vector)
    if isinstance(obj, np.ma.MaskedArray) and np.ma.is_masked(obj):
        raise ImageValueError(
            f"{role} must not hide voxels; got a masked array. Fill it first: "
            "image.filled(numpy.nan), or pass its mask as a mask."
        )
    if isinstance(obj, np.ndarray):
        return _of_array(obj, given, role, vector)
    if _is_xarray(obj):
        return _of_xarray(obj, given, role, vector)
    _require_no_other(given, obj, role)
    if isinstance(obj, (str, os.PathLike)):
        return read_displacement(obj, role) if vector else read_image(obj, role)
    if isinstance(obj, Image):
        return _checked(obj, role, vector)
    if hasattr(obj, "GetNumberOfComponentsPerPixel") and hasattr(obj, "GetPixelIDTypeAsString"):
        return _of_sitk(obj, role, vector)
    if hasattr(obj, "GetLargestPossibleRegion") and hasattr(obj, "GetBufferedRegion"):
        return _of_itk(obj, role, vector)
    for is_theirs, convert in (
        (is_nibabel, of_nibabel),
        (is_torchio, of_torchio),
        (is_ants, of_ants),
    ):
        if is_theirs(obj):
            return _checked(convert(obj, role, vector), role, vector)
    raise ArgumentError(
        f"{role} must be an image of itk_ncr, ITK, SimpleITK, numpy, torch, xarray, MONAI, "
        "TorchIO, nibabel or ANTsPy, or the path of one; "
        f"got {type(obj).__module__}.{type(obj).__name__}. "
        "Write it to a file that these know, or pass its voxels with spacing, origin and direction."
    )


def _require_no_other(given: dict[str, Any], obj: Any, role: str) -> None:
    """Refuse a geometry for what has its own."""
    if given:
        raise ArgumentError(
            f"{role} must not be given {' and '.join(given)}: a {type(obj).__name__} carries its "
            "own geometry. Change it there, or pass the bare array."
        )


def _of_array(array: NDArray[Any], given: dict[str, Any], role: str, vector: bool) -> Image:
    array = plain_array(array, role)
    dimension = array.ndim - vector
    if dimension not in (2, 3):
        wanted = "(z, y, x, 3) or (y, x, 2)" if vector else "(z, y, x) or (y, x)"
        advice = "Pass one volume: array[0], or array[..., 0]." if array.ndim > 3 else ""
        raise ShapeError(f"{role} must be {wanted}; got shape {array.shape}. {advice}".rstrip())
    if 0 in array.shape:
        raise ShapeError(f"{role} must have at least one voxel; got shape {array.shape}.")
    return _checked(Image(array, Grid.of_array(array.shape[:dimension], **given)), role, vector)


def _checked(image: Image, role: str, vector: bool) -> Image:
    if vector and image.components != image.dimension:
        raise ShapeError(
            f"{role} must have {image.dimension} components in every voxel, (x, y, z) in mm; "
            f"got {image.components}."
        )
    if not vector and image.is_vector:
        grey = grey_of(image.array)
        if grey is not None:
            return Image(grey, image.grid)
        raise ShapeError(
            f"{role} must be scalar; got {image.components} components in every voxel. "
            "Pick one, or convert colour to grey."
        )
    return image


def _is_tensor(obj: Any) -> bool:
    # Looked up by name, so that torch is not imported; subclasses (MONAI's) count too.
    return any(c.__name__ == "Tensor" and c.__module__ == "torch" for c in type(obj).__mro__)


def _is_xarray(obj: Any) -> bool:
    return hasattr(obj, "dims") and hasattr(obj, "coords") and hasattr(obj, "attrs")


def _dimension_of(item: tuple[str, Any]) -> int:
    """Number of axes of a given spacing, origin or direction; 0 if ambiguous."""
    name, value = item
    if np.ndim(value) == 0:
        return 0
    return len(value) if name != "direction" or np.ndim(value) == 2 else int(len(value) ** 0.5)


def _values_of_tensor(tensor: Any, role: str) -> NDArray[Any]:
    """The values on the CPU."""
    try:
        if type(tensor).__name__ != "Tensor":  # MONAI's own methods would keep its metadata
            import torch

            tensor = tensor.detach().as_subclass(torch.Tensor)
        tensor = tensor.detach().resolve_conj().resolve_neg().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
        array: NDArray[Any] = tensor.numpy()
    except (TypeError, NotImplementedError) as error:  # sparse, meta, quantized
        raise ImageValueError(
            f"{role} must be a dense tensor with values; got one of layout {tensor.layout} and "
            f"dtype {tensor.dtype} on {tensor.device}. Convert it with to_dense or dequantize."
        ) from error
    return array


def _array_of_tensor(tensor: Any, role: str, dimensions: set[int], vector: bool) -> NDArray[Any]:
    """The values on the CPU, without the leading axes of a network's layout."""
    array = _values_of_tensor(tensor, role)
    if vector:
        return array
    shape = array.shape
    dimension = dimensions.pop() if len(dimensions) == 1 else None
    if dimension is None:
        if array.ndim == 3 and shape[0] == 1:
            raise ShapeError(
                f"{role} must be (z, y, x) or (y, x); got a tensor of shape {shape}, which may be "
                "one slice of a volume or a 2D image with a channel. Pass tensor[0] for the 2D "
                "image, or a spacing of three values for the volume."
            )
        # (N, C, y, x) and (N, C, z, y, x) are torch's layouts; (1, z, y, x) is a volume either way.
        dimension = 2 if array.ndim == 4 and shape[:2] == (1, 1) else min(array.ndim, 3)
    extra = array.ndim - dimension
    if extra > 0 and any(n != 1 for n in shape[:extra]):
        raise ShapeError(
            f"{role} must be one image; got a tensor of shape {shape}, a batch or several "
            "channels. Pass one at a time: tensor[0, 0]."
        )
    return array.reshape(shape[max(extra, 0) :])


def _of_xarray(obj: Any, given: dict[str, Any], role: str, vector: bool) -> Image:
    dims = tuple(obj.dims)
    named = [axis for axis in AXES if axis in dims]
    if "t" in dims or len(dims) - vector not in (2, 3):
        raise ShapeError(
            f"{role} must have the dimensions (z, y, x) or (y, x)"
            f"{' and c' if vector else ''}; got {dims}. Select one image with .isel(...) first."
        )
    if COMPONENT_AXIS in dims and not vector:
        raise ShapeError(
            f"{role} must be scalar; got dimensions {dims}. Select one with .isel(c=0) first."
        )
    if set(named) | {COMPONENT_AXIS} >= set(dims):  # known by name: in any order
        order = (*named, COMPONENT_AXIS) if vector else tuple(named)
        if set(order) != set(dims):
            raise ShapeError(f"{role} must have the dimension {COMPONENT_AXIS!r}; got {dims}.")
        obj = obj.transpose(*order)
        dims = order
    if 0 in obj.shape:
        raise ShapeError(f"{role} must have at least one voxel; got shape {obj.shape}.")
    spatial = dims[: len(dims) - vector]
    attributes = obj.attrs
    steps = [_step(obj, dim, role) for dim in spatial][::-1]
    starts = [_coordinates(obj, dim, role)[0] for dim in spatial][::-1]
    direction = attributes.get("direction")
    # ITK stores the direction reversed along both axes, to match the order (z, y, x).
    direction = np.eye(len(spatial)) if direction is None else np.flip(np.asarray(direction))
    if direction.shape != (len(spatial),) * 2:
        raise GeometryError(
            f"{role} must have a {len(spatial)} x {len(spatial)} direction; "
            f"got shape {direction.shape}."
        )
    # Coordinates that fall are an axis that runs the other way.
    geometry = {
        "spacing": np.abs(steps),
        "origin": starts,
        "direction": direction * np.sign(steps),
        **given,
    }
    return _of_array(np.asarray(obj.values), geometry, role, vector)


def _coordinates(obj: Any, dim: str, role: str) -> NDArray[np.float64]:
    if dim not in obj.coords:
        return np.arange(obj.sizes[dim], dtype=np.float64)
    values = np.asarray(obj.coords[dim].values)
    if values.dtype.kind not in "iuf":
        raise GeometryError(
            f"{role} must have coordinates in mm; got {values.dtype} along {dim!r}. "
            "Assign numbers, or drop them with .drop_vars(...) for a spacing of 1."
        )
    return values.astype(np.float64)


def _step(obj: Any, dim: str, role: str) -> float:
    if obj.sizes[dim] < 2:
        return 1.0
    values = _coordinates(obj, dim, role)
    steps = np.diff(values)
    mean = (values[-1] - values[0]) / (len(values) - 1)
    # 1e-3 voxel: coordinates written as float32 or with few digits are still regular.
    if not np.isfinite(values).all() or mean == 0 or np.abs(steps / mean - 1).max() > 1e-3:
        raise GeometryError(
            f"{role} must have evenly spaced coordinates; got uneven ones along {dim!r}. "
            "Interpolate it to a regular grid first."
        )
    return float(mean)


def _of_sitk(obj: Any, role: str, vector: bool) -> Image:
    import SimpleITK as sitk

    dimension = obj.GetDimension()
    if dimension not in (2, 3):
        raise ShapeError(
            f"{role} must be 2D or 3D; got a SimpleITK image of size {obj.GetSize()}. "
            "Extract one volume first: image[..., 0]."
        )
    if 0 in obj.GetSize():
        raise ShapeError(f"{role} must have at least one voxel; got size {obj.GetSize()}.")
    kind = obj.GetPixelIDTypeAsString()
    if "complex" in kind or "label" in kind:  # SimpleITK aborts on an array of the latter
        raise ImageValueError(f"{role} must hold real numbers; got {kind}. Convert it first.")
    grid = Grid.of_array(obj.GetSize()[::-1], obj.GetSpacing(), obj.GetOrigin(), obj.GetDirection())
    array = sitk.GetArrayFromImage(obj)
    if obj.GetNumberOfComponentsPerPixel() == 1:
        array = array.reshape(grid.shape)  # a vector of one component is a scalar
    return _checked(Image(array, grid), role, vector)


def _of_itk(obj: Any, role: str, vector: bool) -> Image:
    itk = require_package("itk", "ITK images", "itk")
    dimension = obj.GetImageDimension()
    if dimension not in (2, 3):
        raise ShapeError(
            f"{role} must be 2D or 3D; got an ITK image of {dimension} dimensions. "
            "Extract one volume first."
        )
    obj.UpdateOutputInformation()
    region = obj.GetLargestPossibleRegion()
    if obj.GetBufferedRegion() != region:
        obj.SetRequestedRegionToLargestPossibleRegion()
        obj.Update()
    size = tuple(int(n) for n in region.GetSize())
    if 0 in size:
        raise ShapeError(f"{role} must have at least one voxel; got size {size}.")
    try:
        array = itk.array_from_image(obj)
    except Exception as error:
        raise ImageValueError(
            f"{role} must have a pixel type that ITK hands to numpy; got {_pixel_name(obj)}. "
            "Cast it to float first."
        ) from error
    # The origin is the point of index 0, and a region cut out of an image starts elsewhere.
    first = obj.TransformIndexToPhysicalPoint(region.GetIndex())
    grid = Grid.of_array(
        size[::-1],
        [float(s) for s in obj.GetSpacing()],
        [float(first[axis]) for axis in range(dimension)],
        np.asarray(itk.array_from_matrix(obj.GetDirection()), np.float64),
    )
    if obj.GetNumberOfComponentsPerPixel() == 1:
        array = array.reshape(grid.shape)
    return _checked(Image(array, grid), role, vector)


def _pixel_name(obj: Any) -> str:
    return type(obj).__name__.removeprefix("itk")
