"""Images: arrays with a place in space, their files, their faces in other libraries."""

from itk_ncr.images.adapters import as_image, to_itk, to_sitk, to_xarray
from itk_ncr.images.image import Image, ImageWarning
from itk_ncr.images.resampling import (
    inverse_physical_displacement,
    physical_displacement,
    resample,
    transform_points,
)

__all__ = [
    "Image",
    "ImageWarning",
    "as_image",
    "inverse_physical_displacement",
    "physical_displacement",
    "resample",
    "to_itk",
    "to_sitk",
    "to_xarray",
    "transform_points",
]
