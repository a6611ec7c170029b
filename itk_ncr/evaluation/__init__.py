"""Figures and pictures that say how good a registration is."""

from itk_ncr.evaluation.metrics import (
    JacobianStatistics,
    SurfaceDistance,
    average_precision,
    detected,
    dice,
    jaccard,
    jacobian_statistics,
    labels_touching,
    mean_jaccard,
    surface_distance,
)

__all__ = [
    "JacobianStatistics",
    "SurfaceDistance",
    "average_precision",
    "detected",
    "dice",
    "jaccard",
    "jacobian_statistics",
    "labels_touching",
    "mean_jaccard",
    "surface_distance",
]
