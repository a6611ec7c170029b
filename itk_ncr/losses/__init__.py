"""Loss terms: masked distances, smoothness, and the price of a mask."""

from itk_ncr.losses.functional import (
    Functional,
    FunctionalValue,
    multi_resolution,
)
from itk_ncr.losses.local_correlation import LocalNCC, local_ncc
from itk_ncr.losses.overlap import dice
from itk_ncr.losses.presets import PRESETS, PUBLISHED, PublishedWeights
from itk_ncr.losses.regions import perimeter, volume
from itk_ncr.losses.self_similarity import mind, mind_descriptor
from itk_ncr.losses.similarity import (
    SIMILARITIES,
    Similarity,
    masked_mse,
    masked_ncc,
)
from itk_ncr.losses.smoothness import smoothness
from itk_ncr.losses.weighting import total_double

__all__ = [
    "PRESETS",
    "PUBLISHED",
    "SIMILARITIES",
    "Functional",
    "FunctionalValue",
    "LocalNCC",
    "PublishedWeights",
    "Similarity",
    "dice",
    "local_ncc",
    "masked_mse",
    "masked_ncc",
    "mind",
    "mind_descriptor",
    "multi_resolution",
    "perimeter",
    "smoothness",
    "total_double",
    "volume",
]
