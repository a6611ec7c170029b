"""Lesions replaced by plausible tissue, and the registration that begins so."""

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
