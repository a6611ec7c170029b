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
from itk_ncr.evaluation.summary import NOTICE, figures, summary

__all__ = [
    "NOTICE",
    "JacobianStatistics",
    "SurfaceDistance",
    "average_precision",
    "detected",
    "dice",
    "figures",
    "jaccard",
    "jacobian_statistics",
    "labels_touching",
    "mean_jaccard",
    "summary",
    "surface_distance",
]
