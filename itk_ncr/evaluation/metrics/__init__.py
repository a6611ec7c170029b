"""Metrics of registrations and masks; arrays in, numbers out."""

from itk_ncr.evaluation.metrics.deformations import (
    JacobianStatistics,
    correlation,
    inverse_consistency,
    jacobian_statistics,
)
from itk_ncr.evaluation.metrics.distances import (
    SurfaceDistance,
    landmark_errors,
    line_distance,
    robustness,
    surface_distance,
)
from itk_ncr.evaluation.metrics.overlap import (
    LesionSplit,
    detected,
    dice,
    jaccard,
    labels_touching,
    mean_jaccard,
    split_by_lesion,
)
from itk_ncr.evaluation.metrics.probabilities import (
    average_precision,
    expected_calibration_error,
)

__all__ = [
    "JacobianStatistics",
    "LesionSplit",
    "SurfaceDistance",
    "average_precision",
    "correlation",
    "detected",
    "dice",
    "expected_calibration_error",
    "inverse_consistency",
    "jaccard",
    "jacobian_statistics",
    "labels_touching",
    "landmark_errors",
    "line_distance",
    "mean_jaccard",
    "robustness",
    "split_by_lesion",
    "surface_distance",
]
