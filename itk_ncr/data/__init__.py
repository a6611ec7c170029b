"""Pairs to learn from: manifests, augmentation, phantom lesions, synthetic truth."""

from itk_ncr.data.augmentation import AUGMENTATIONS, Augmentation
from itk_ncr.data.lesions import Lesions
from itk_ncr.data.manifest import Manifest, Subject, read_manifest
from itk_ncr.data.phantoms import (
    APPEARANCES,
    LESION_KINDS,
    NAMED_LESIONS,
    NO_JITTER,
    TEST_LESIONS,
    Appearance,
    Jitter,
    LesionBank,
    LesionMask,
    NamedLesion,
    OctGrowth,
    OctPhantoms,
    Phantom,
    insert_lesion,
    make_phantom,
    random_blob,
    sized_blob,
    surfaces,
)
from itk_ncr.data.placement import SLICE_PLANE, Placement, SlicePlane
from itk_ncr.data.sample import Batch, Sample, Source, collate
from itk_ncr.data.sources import AllToAll, GivenPairs, WithItself
from itk_ncr.data.splits import Fold, data_hash, divide, fold_audit, folds, in_fold
from itk_ncr.data.store import Layout
from itk_ncr.data.synthetic import Synthesis, SyntheticPairs

__all__ = [
    "APPEARANCES",
    "AUGMENTATIONS",
    "LESION_KINDS",
    "NAMED_LESIONS",
    "NO_JITTER",
    "SLICE_PLANE",
    "TEST_LESIONS",
    "AllToAll",
    "Appearance",
    "Augmentation",
    "Batch",
    "Fold",
    "GivenPairs",
    "Jitter",
    "Layout",
    "LesionBank",
    "LesionMask",
    "Lesions",
    "Manifest",
    "NamedLesion",
    "OctGrowth",
    "OctPhantoms",
    "Phantom",
    "Placement",
    "Sample",
    "SlicePlane",
    "Source",
    "Subject",
    "Synthesis",
    "SyntheticPairs",
    "WithItself",
    "collate",
    "data_hash",
    "divide",
    "fold_audit",
    "folds",
    "in_fold",
    "insert_lesion",
    "make_phantom",
    "random_blob",
    "read_manifest",
    "sized_blob",
    "surfaces",
]
