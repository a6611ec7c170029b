"""Conversion of :class:`Image` to other libraries.

Each library is imported when its function is called; only SimpleITK is always there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import ImageValueError, MissingDependencyError, require_package

if TYPE_CHECKING:
    from itk_ncr.geometry import Grid
    from itk_ncr.images.image import Image

AXES = ("z", "y", "x")  # how ITK names the dimensions of an xarray
COMPONENT_AXIS = "c"
SCANNER = 1  # NIfTI's code of a geometry in the space of the scanner
FLOAT32_WHOLE = 2**24  # up to here float32 holds every whole number


def to_sitk(image: Image) -> Any:
    """Convert to a SimpleITK image (a copy).

    Parameters
    ----------
    image : Image
        Scalar or vector.

    Returns
    -------
    SimpleITK.Image
        Of the same pixel type; vector images keep their components.
    """
    import SimpleITK as sitk

    out = sitk.GetImageFromArray(image.array, isVector=image.is_vector)
    out.SetSpacing(image.grid.spacing)
    out.SetOrigin(image.grid.origin)
    out.SetDirection(np.ravel(image.grid.direction).tolist())
    return out


def to_itk(image: Image) -> Any:
    """Convert to an ``itk.Image`` (a copy).

    Parameters
    ----------
    image : Image
        Scalar or vector. Pixel types that the wheels of ITK do not wrap (32 and 64 bit integers,
        for most filters) must be cast by the caller.

    Returns
    -------
    itk.Image
        A vector image with D components becomes ``itk.Image[itk.Vector[itk.F, D], D]``, as the
        warp filters require.

    Raises
    ------
    ImageValueError
        If ITK's Python wrapping has no image of this pixel type or number of components.
    MissingDependencyError
        If itk is not installed.
    """
    itk = require_package("itk", "ITK images", "itk")
    dimension = image.dimension
    array = image.array
    try:
        if image.is_vector:
            kind = itk.Image[itk.Vector[itk.F, image.components], dimension]
        else:
            kind = type(itk.image_from_array(np.zeros((1,) * dimension, array.dtype)))
        out = kind.New()
        out.SetRegions(list(image.grid.size))
        out.Allocate()
        # Not image_from_array: it cannot make Vector pixels, and it takes an array like (7, 1),
        # contiguous both ways, for a transposed one.
        itk.array_view_from_image(out)[...] = array
    except (KeyError, TypeError, RuntimeError, AttributeError, itk.TemplateTypeError) as error:
        raise ImageValueError(
            f"image must have a pixel type that ITK wraps for Python; got {array.dtype} with "
            f"{image.components} component(s). Convert it to float32 first."
        ) from error
    out.SetSpacing(list(image.grid.spacing))
    out.SetOrigin(list(image.grid.origin))
    out.SetDirection(itk.matrix_from_array(np.asarray(image.grid.direction)))
    return out


def to_xarray(image: Image) -> Any:
    """Convert to an xarray.DataArray in ITK's notation: coordinates and ``direction``.

    Parameters
    ----------
    image : Image
        Scalar or vector.

    Returns
    -------
    xarray.DataArray
        Dimensions (z, y, x) or (y, x), then the components; it shares the values.

    Raises
    ------
    MissingDependencyError
        If xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise MissingDependencyError(
            "xarray must be installed for this; run: pip install xarray"
        ) from error
    dims = AXES[-image.dimension :]
    geometry = zip(dims, image.grid.origin[::-1], image.grid.spacing[::-1], strict=True)
    coords: dict[str, Any] = {
        dim: start + step * np.arange(image.grid.shape[axis])
        for axis, (dim, start, step) in enumerate(geometry)
    }
    if image.is_vector:
        dims = (*dims, COMPONENT_AXIS)
        coords[COMPONENT_AXIS] = np.arange(image.components, dtype=np.uint32)
    attributes = {"direction": np.flip(np.asarray(image.grid.direction))}
    return xarray.DataArray(image.array, dims=dims, coords=coords, attrs=attributes)


def to_nibabel(image: Image) -> Any:
    """Convert to a ``nibabel.Nifti1Image`` (a copy): axes (x, y, z), affine to RAS in mm.

    Parameters
    ----------
    image : Image
        Scalar or vector.

    Returns
    -------
    nibabel.Nifti1Image
        A displacement gets the shape (x, y, z, 1, 3), or (x, y, 1, 1, 2) in 2D, and intent 1007
        with components in LPS, as ITK and ANTs write it.

    Raises
    ------
    MissingDependencyError
        If nibabel is not installed.
    """
    nibabel = require_package("nibabel", "to_nibabel", "nibabel")
    array = _indexed(image)
    if image.is_vector:
        spatial = (*image.grid.size, 1)[:3]
        array = array.reshape(*spatial, 1, image.components)
    made = nibabel.Nifti1Image(array, ras_affine(image.grid), dtype=array.dtype)
    made.set_qform(made.affine, SCANNER)
    made.set_sform(made.affine, SCANNER)
    made.header.set_xyzt_units("mm")
    if image.is_vector:
        made.header.set_intent("vector")
    return made


def to_ants(image: Image) -> Any:
    """Convert to an ``ants.ANTsImage`` (a copy).

    Parameters
    ----------
    image : Image
        Scalar or vector.

    Returns
    -------
    ants.ANTsImage
        Of type uint8, uint32 or float32: other whole numbers become float32 where they fit exactly,
        else uint32; float64 becomes float32.

    Raises
    ------
    ImageValueError
        If the values fit none of these types.
    MissingDependencyError
        If ANTsPy is not installed.
    """
    ants = require_package("ants", "to_ants", "ants")
    return ants.from_numpy(
        _indexed(image).astype(_ants_type(image.array), copy=False),
        origin=image.grid.origin,
        spacing=image.grid.spacing,
        direction=np.asarray(image.grid.direction),
        has_components=image.is_vector,
    )


def ras_affine(grid: Grid) -> NDArray[np.float64]:
    """The 4 x 4 matrix from an index (x, y, z) to mm in RAS; a 2D grid lies in the plane z = 0."""
    full = np.eye(4)
    full[: grid.dimension, : grid.dimension] = grid.matrix
    full[: grid.dimension, 3] = grid.origin
    full[:2] *= -1
    return full


def _indexed(image: Image) -> NDArray[Any]:
    """A copy of the values with axes (x, y, z) and components last."""
    order = [*range(image.dimension)[::-1], *range(image.dimension, image.array.ndim)]
    return np.array(image.array.transpose(order), order="F")


def _ants_type(array: NDArray[Any]) -> Any:
    if array.dtype.kind == "f" or array.dtype == np.uint8:
        return np.float32 if array.dtype.kind == "f" else np.uint8
    low, high = int(array.min()), int(array.max())
    if low >= -FLOAT32_WHOLE and high <= FLOAT32_WHOLE:
        return np.float32
    if low >= 0 and high < 2**32:
        return np.uint32
    raise ImageValueError(
        f"image must hold values that ANTsPy has a type for; got {array.dtype} from {low} to "
        f"{high}. Renumber the labels first."
    )
