"""Lesion filling, and registration of filled images."""

from itk_ncr.registration.filling.fill import (
    FILLS,
    Filling,
    NoOtherSide,
    fill_lesion,
    filled,
    mirror_filled,
    require_binary,
)

__all__ = [
    "FILLS",
    "Filling",
    "NoOtherSide",
    "fill_lesion",
    "filled",
    "mirror_filled",
    "require_binary",
]
