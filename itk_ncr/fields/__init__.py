"""Operations on displacements and velocities: resizing, smoothing, inversion, regularity."""

from itk_ncr.fields.inversion import invert_displacement
from itk_ncr.fields.regularity import (
    folding_fraction,
    inverse_consistency,
    vector_length,
)
from itk_ncr.fields.resizing import (
    downsample,
    reduced_shape,
    resize_displacement,
    resize_velocity,
)
from itk_ncr.fields.smoothing import smooth
from itk_ncr.fields.spread import RunningSpread

__all__ = [
    "RunningSpread",
    "downsample",
    "folding_fraction",
    "inverse_consistency",
    "invert_displacement",
    "reduced_shape",
    "resize_displacement",
    "resize_velocity",
    "smooth",
    "vector_length",
]
