"""Images made ready: one scale of intensities for both, in training and in use."""

from itk_ncr.preprocessing.intensity import Normalised, match_histogram, normalise

__all__ = ["Normalised", "match_histogram", "normalise"]
