"""Preprocessing: intensity scaling for training and use."""

from itk_ncr.preprocessing.intensity import Normalised, match_histogram, normalise
from itk_ncr.preprocessing.layers import is_layered

__all__ = ["Normalised", "is_layered", "match_histogram", "normalise"]
