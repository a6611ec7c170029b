"""Lesion filling, and registration of filled images."""

from itk_ncr.registration.filling.fill import (
    FILLS,
    Filled,
    NoOtherSide,
    fill_lesion,
    filled,
    mirror_filled,
    require_binary,
)

__all__ = [
    "FILLS",
    "Filled",
    "NoOtherSide",
    "fill_lesion",
    "filled",
    "mirror_filled",
    "require_binary",
]
