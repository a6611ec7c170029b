"""Phantom lesions: shapes that are real, appearances that are modelled."""

from itk_ncr.data.phantoms.appearance import APPEARANCES, Appearance, insert_lesion
from itk_ncr.data.phantoms.bank import (
    NO_JITTER,
    Jitter,
    LesionBank,
    LesionMask,
)
from itk_ncr.data.phantoms.blobs import random_blob, sized_blob
from itk_ncr.data.phantoms.insertion import LESION_KINDS, Phantom, make_phantom
from itk_ncr.data.phantoms.named import NAMED_LESIONS, TEST_LESIONS, NamedLesion
from itk_ncr.data.phantoms.oct import OctGrowth, OctPhantoms, surfaces

__all__ = [
    "APPEARANCES",
    "LESION_KINDS",
    "NAMED_LESIONS",
    "NO_JITTER",
    "TEST_LESIONS",
    "Appearance",
    "Jitter",
    "LesionBank",
    "LesionMask",
    "NamedLesion",
    "OctGrowth",
    "OctPhantoms",
    "Phantom",
    "insert_lesion",
    "make_phantom",
    "random_blob",
    "sized_blob",
    "surfaces",
]
