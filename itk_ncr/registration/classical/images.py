"""Images and fields as SimpleITK and ITK hold them, on a grid without origin and direction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.geometry import Grid
from itk_ncr.images import Image, to_itk, to_sitk
from itk_ncr.registration.classical.task import scalar, to_millimetres

Array = NDArray[np.generic]


def frame(spacing: tuple[float, ...], shape: tuple[int, ...]) -> Grid:
    """The grid that tools see; ``spacing`` in array order."""
    return Grid.of_array(shape, spacing=spacing[::-1])


def sitk_image(image: Tensor, spacing: tuple[float, ...]) -> Any:
    """An image, (1, 1, *spatial), for SimpleITK; float32."""
    array = scalar(image)
    return to_sitk(Image(array, frame(spacing, array.shape)))


def itk_image(image: Tensor, spacing: tuple[float, ...]) -> Any:
    """An image, (1, 1, *spatial), for ITK; float32."""
    array = scalar(image)
    return to_itk(Image(array, frame(spacing, array.shape)))


def sitk_mask(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> Any:
    """A mask for SimpleITK; uint8."""
    return to_sitk(Image(mask.astype(np.uint8), frame(spacing, mask.shape)))


def itk_mask(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> Any:
    """A mask for ITK; uint8."""
    return to_itk(Image(mask.astype(np.uint8), frame(spacing, mask.shape)))


def sitk_field(displacement: Tensor, spacing: tuple[float, ...]) -> Any:
    """A displacement in voxels as a field of SimpleITK; mm, float64."""
    vectors = to_millimetres(displacement, spacing)
    return to_sitk(Image(vectors, frame(spacing, vectors.shape[:-1])))
