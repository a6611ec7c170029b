"""Conversion of filter inputs to float images."""

from __future__ import annotations

import functools
from typing import Any

import itk

from itk_ncr.errors import ArgumentError, ImageValueError, ShapeError
from itk_ncr.images import as_image, to_itk


def as_input(obj: Any, role: str, dimension: int) -> Any:
    """The ITK image of an image, of a filter's output, or of anything ``as_image`` takes.

    Raises
    ------
    ShapeError
        If its number of dimensions is not the filter's.
    ImageValueError
        If its pixel type cannot be cast to float in a pipeline.
    """
    image = _itk_image(obj, role)
    if image.GetImageDimension() != dimension:
        raise ShapeError(
            f"{role} must have {dimension} dimensions; got {image.GetImageDimension()}. "
            f"Use another filter for it, NCRRegistrationFilter[...], or extract a part."
        )
    known = float_casts(dimension)
    if type(image) not in known:
        names = ", ".join(sorted(kind.__name__.removeprefix("itkImage") for kind in known))
        raise ImageValueError(
            f"{role} must have real scalar pixels; got {type(image).__name__.removeprefix('itk')}. "
            f"Convert it to one of {names} first."
        )
    return image


def dimension_of(obj: Any, role: str) -> int:
    """The number of dimensions of what :func:`as_input` would take."""
    return int(_itk_image(obj, role).GetImageDimension())


def float_cast(image: Any) -> tuple[Any, Any]:
    """A filter that casts the image to float, None if it is; and the float image."""
    cast_type = float_casts(image.GetImageDimension())[type(image)]
    if cast_type is None:
        return None, image
    cast = cast_type.New()
    cast.SetInput(image)
    cast.ReleaseDataFlagOn()  # the registration copies what it needs
    return cast, cast.GetOutput()


@functools.cache
def float_casts(dimension: int) -> dict[Any, Any]:
    """Image type -> filter to float images; None for float images themselves."""
    target = itk.Image[itk.F, dimension]
    casts = {
        source: itk.CastImageFilter[source, target]
        for source, result in itk.CastImageFilter.keys()  # noqa: SIM118 (a template, not a dict)
        if result is target and source.__name__.startswith("itkImage")
    }
    return {**casts, target: None}


def _itk_image(obj: Any, role: str) -> Any:
    if isinstance(obj, itk.ProcessObject):
        obj = itk.output(obj)
    if isinstance(obj, itk.DataObject):
        if not hasattr(obj, "GetImageDimension"):
            raise ArgumentError(f"{role} must be an image; got {type(obj).__name__}.")
        return obj
    return to_itk(as_image(obj, role=role))
