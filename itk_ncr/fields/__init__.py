"""Algebra of displacements and velocities: other grids, smoother, inverted, unfolded."""

from itk_ncr.fields.regularity import (
    JacobianStatistics,
    folding_fraction,
    inverse_consistency,
    jacobian_statistics,
    vector_length,
)
from itk_ncr.fields.resizing import (
    downsample,
    pyramid,
    reduced_shape,
    resize_displacement,
    resize_velocity,
)
from itk_ncr.fields.smoothing import smooth

__all__ = [
    "JacobianStatistics",
    "downsample",
    "folding_fraction",
    "inverse_consistency",
    "jacobian_statistics",
    "pyramid",
    "reduced_shape",
    "resize_displacement",
    "resize_velocity",
    "smooth",
    "vector_length",
]
