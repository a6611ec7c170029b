"""A result as ITK transforms, which map points of the fixed space to the moving space."""

from __future__ import annotations

from typing import Any

import itk
import numpy as np

from itk_ncr.geometry import AffineMap
from itk_ncr.images import Image


def displacement_transform(displacement: Image) -> Any:
    """An ``itk.DisplacementFieldTransform[itk.D, D]`` of a vector image in mm."""
    dimension = displacement.dimension
    field = itk.Image[itk.Vector[itk.D, dimension], dimension].New()
    field.SetRegions(list(displacement.grid.size))
    field.SetSpacing(list(displacement.grid.spacing))
    field.SetOrigin(list(displacement.grid.origin))
    field.SetDirection(itk.matrix_from_array(np.asarray(displacement.grid.direction)))
    field.Allocate()
    itk.array_view_from_image(field)[...] = displacement.array
    transform = itk.DisplacementFieldTransform[itk.D, dimension].New()
    transform.SetDisplacementField(field)
    return transform


def affine_transform(affine: AffineMap) -> Any:
    """An ``itk.AffineTransform[itk.D, D]``."""
    transform = itk.AffineTransform[itk.D, affine.dimension].New()
    transform.SetMatrix(itk.matrix_from_array(np.asarray(affine.matrix)))
    transform.SetTranslation(list(affine.translation))
    return transform


def composite_transform(deformation: Image, affine: AffineMap) -> Any:
    """An ``itk.CompositeTransform[itk.D, D]``: first the deformation, then the affine."""
    composite = itk.CompositeTransform[itk.D, affine.dimension].New()
    composite.AddTransform(affine_transform(affine))  # ITK applies the last one added first
    composite.AddTransform(displacement_transform(deformation))
    return composite
