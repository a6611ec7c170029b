"""Phantom lesions: real shapes with modelled appearance."""

from itk_ncr.data.phantoms.appearance import APPEARANCES, Appearance, insert_lesion
from itk_ncr.data.phantoms.bank import (
    NO_JITTER,
    Jitter,
    LesionBank,
    LesionMask,
)
from itk_ncr.data.phantoms.blobs import random_blob, sized_blob
from itk_ncr.data.phantoms.insertion import LESION_KINDS, Phantom, make_phantom
from itk_ncr.data.phantoms.models import CONTRASTS, LESION_MODELS, LesionModel
from itk_ncr.data.phantoms.named import NAMED_LESIONS, TEST_LESIONS, NamedLesion
from itk_ncr.data.phantoms.oct import OctGrowth, OctPhantoms, surfaces
from itk_ncr.data.phantoms.realistic import RealisticLesion, random_lesion

__all__ = [
    "APPEARANCES",
    "CONTRASTS",
    "LESION_KINDS",
    "LESION_MODELS",
    "NAMED_LESIONS",
    "NO_JITTER",
    "TEST_LESIONS",
    "Appearance",
    "Jitter",
    "LesionBank",
    "LesionMask",
    "LesionModel",
    "NamedLesion",
    "OctGrowth",
    "OctPhantoms",
    "Phantom",
    "RealisticLesion",
    "insert_lesion",
    "make_phantom",
    "random_blob",
    "random_lesion",
    "sized_blob",
    "surfaces",
]
