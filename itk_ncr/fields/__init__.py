"""Algebra of displacements and velocities: other grids, smoother, inverted, unfolded."""

from itk_ncr.fields.inversion import invert_displacement
from itk_ncr.fields.regularity import (
    VolumeChange,
    folding_fraction,
    inverse_consistency,
    vector_length,
    volume_change_statistics,
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
    "VolumeChange",
    "downsample",
    "folding_fraction",
    "inverse_consistency",
    "invert_displacement",
    "pyramid",
    "reduced_shape",
    "resize_displacement",
    "resize_velocity",
    "smooth",
    "vector_length",
    "volume_change_statistics",
]
