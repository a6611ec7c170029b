"""Preprocessing: intensity scaling for training and use."""

from itk_ncr.preprocessing.intensity import ScaledImage, ct_window, match_histogram, normalise
from itk_ncr.preprocessing.layers import is_layered
from itk_ncr.preprocessing.tomography import Window, common_window

__all__ = [
    "ScaledImage",
    "Window",
    "common_window",
    "ct_window",
    "is_layered",
    "match_histogram",
    "normalise",
]
