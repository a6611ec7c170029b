"""Loss terms: masked distances, smoothness, and the price of a mask."""

from itk_ncr.losses.functional import (
    Functional,
    FunctionalValue,
    multi_resolution,
)
from itk_ncr.losses.local_correlation import LocalNCC, local_ncc, local_ncc_map
from itk_ncr.losses.overlap import dice
from itk_ncr.losses.presets import PRESETS, PUBLISHED, PublishedWeights
from itk_ncr.losses.regions import perimeter, volume
from itk_ncr.losses.self_similarity import mind, mind_descriptor, mind_map
from itk_ncr.losses.similarity import (
    EVIDENCE,
    SIMILARITIES,
    Similarity,
    masked_centred_ncc,
    masked_centred_ncc_map,
    masked_mse,
    masked_mse_map,
    masked_ncc,
    masked_ncc_map,
)
from itk_ncr.losses.smoothness import smoothness
from itk_ncr.losses.weighting import total_double

__all__ = [
    "EVIDENCE",
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
    "local_ncc_map",
    "masked_centred_ncc",
    "masked_centred_ncc_map",
    "masked_mse",
    "masked_mse_map",
    "masked_ncc",
    "masked_ncc_map",
    "mind",
    "mind_descriptor",
    "mind_map",
    "multi_resolution",
    "perimeter",
    "smoothness",
    "total_double",
    "volume",
]
