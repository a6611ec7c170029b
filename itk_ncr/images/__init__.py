"""Images: arrays in physical space, file formats, conversion to other libraries."""

from itk_ncr.images.adapters import as_image
from itk_ncr.images.deferred import DeferredImage, map_values
from itk_ncr.images.image import Image, ImageWarning, Rows, slabs
from itk_ncr.images.libraries import to_ants, to_itk, to_nibabel, to_sitk, to_xarray
from itk_ncr.images.memory import available_memory, require_memory
from itk_ncr.images.reading import read_displacement, read_image
from itk_ncr.images.resampling import (
    inverse_physical_displacement,
    mover,
    physical_displacement,
    resample,
    transform_points,
)
from itk_ncr.images.transforms import (
    as_affine,
    read_affine,
    to_sitk_transform,
    write_transform,
)
from itk_ncr.images.voxel_fields import (
    from_voxel_field,
    read_voxel_field,
    to_voxel_field,
    write_voxel_field,
)
from itk_ncr.images.writing import atomic_write, write_image

__all__ = [
    "DeferredImage",
    "Image",
    "ImageWarning",
    "Rows",
    "as_affine",
    "as_image",
    "atomic_write",
    "available_memory",
    "from_voxel_field",
    "inverse_physical_displacement",
    "map_values",
    "mover",
    "physical_displacement",
    "read_affine",
    "read_displacement",
    "read_image",
    "read_voxel_field",
    "require_memory",
    "resample",
    "slabs",
    "to_ants",
    "to_itk",
    "to_nibabel",
    "to_sitk",
    "to_sitk_transform",
    "to_voxel_field",
    "to_xarray",
    "transform_points",
    "write_image",
    "write_transform",
    "write_voxel_field",
]
