"""Splits into training, validation and test patients, and their audit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from itk_ncr.data.manifest import Manifest, pairs_of_different_patients
from itk_ncr.errors import ArgumentError


@dataclass(frozen=True)
class Fold:
    """Patients of one round of cross-validation.

    Attributes
    ----------
    train, test : tuple of str
        Disjoint.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]


def divide(manifest: Manifest, *, val: float = 0.1, test: float = 0.2, seed: int = 0) -> Manifest:
    """Assign the patients of a manifest to train, val and test at random.

    Parameters
    ----------
    manifest : Manifest
        Without splits.
    val, test : float
        Fractions of the patients, in [0, 1).
    seed : int
        Seed of the random order.

    Returns
    -------
    Manifest
        The same with splits.

    Raises
    ------
    ArgumentError
        If a fraction is not in [0, 1), fewer than two patients are left for training, or the
        manifest has splits.
    """
    patients = manifest.patients()
    if any(subject.split is not None for subject in manifest.subjects):
        raise ArgumentError("data must not be divided yet; got a split. Use the one it has.")
    if not (0 <= val < 1 and 0 <= test < 1):
        raise ArgumentError(f"val and test must be in [0, 1); got {val} and {test}.")
    counts = [round(share * len(patients)) for share in (test, val)]
    if sum(counts) > len(patients) - 2:
        raise ArgumentError(
            f"val and test must leave two patients to train on; got {counts[1]} and {counts[0]} of "
            f"{len(patients)}. Lower the shares or add images."
        )
    order = np.random.default_rng(seed).permutation(len(patients))
    names = ["test"] * counts[0] + ["val"] * counts[1]
    names += ["train"] * (len(patients) - len(names))
    return manifest.assigned({patients[i]: s for i, s in zip(order, names, strict=True)})


def folds(patients: Sequence[str], k: int = 5, seed: int = 0) -> tuple[Fold, ...]:
    """Divide patients into k folds; each is tested on once and trained on k - 1 times.

    Parameters
    ----------
    patients : sequence of str
        Repeated names count once.
    k : int
        From 2 to the number of patients; sizes of folds differ by one patient at most.
    seed : int
        Seed of the random order.

    Returns
    -------
    tuple of Fold
        One per round; patients keep their order.

    Raises
    ------
    ArgumentError
        If ``k`` is out of range.
    """
    unique = tuple(dict.fromkeys(patients))
    if not 2 <= k <= len(unique):
        raise ArgumentError(
            f"k must be between 2 and the number of patients, {len(unique)}; got {k}. "
            "Choose fewer folds."
        )
    order = np.random.default_rng(seed).permutation(len(unique))
    parts = [{unique[i] for i in part} for part in np.array_split(order, k)]
    return tuple(
        Fold(
            train=tuple(p for p in unique if p not in part),
            test=tuple(p for p in unique if p in part),
        )
        for part in parts
    )


def in_fold(manifest: Manifest, fold: Fold) -> Manifest:
    """The manifest with the split of a fold.

    Parameters
    ----------
    manifest : Manifest
        All patients of the cross-validation.
    fold : Fold
        One round of it.

    Returns
    -------
    Manifest
        The same subjects, each in "train" or "test".
    """
    train, test = dict.fromkeys(fold.train, "train"), dict.fromkeys(fold.test, "test")
    return manifest.assigned(train | test)


@dataclass(frozen=True)
class FoldCount:
    """Patients and pairs of a fold."""

    train_patients: int
    test_patients: int
    train_pairs: int
    test_pairs: int
    strict_test_pairs: int


def count_pairs(manifest: Manifest, fold: Fold, *, versions: int = 1) -> FoldCount:
    """Count a fold's pairs: each version of a training image as fixed image with all others.

    Tested is every test image with all other images as moving ones, those of training included;
    strictly, with those of the test only. Both are per version.
    """
    divided = in_fold(manifest, fold)
    train, test = divided.positions("train"), divided.positions("test")

    def pairs(fixed: Sequence[int], moving: Sequence[int]) -> int:
        return sum(1 for _ in pairs_of_different_patients(divided, fixed, moving))

    return FoldCount(
        train_patients=len(fold.train),
        test_patients=len(fold.test),
        train_pairs=versions * pairs(train, train),
        test_pairs=pairs(test, divided.positions(None)),
        strict_test_pairs=pairs(test, test),
    )


def fold_audit(manifest: Manifest, rounds: Sequence[Fold], *, versions: int = 5) -> str:
    """Describe the patients and pairs of each fold, and check that no patient is on both sides.

    Parameters
    ----------
    manifest : Manifest
        All patients of the cross-validation.
    rounds : sequence of Fold
        Every round of it.
    versions : int
        Versions of each fixed image in training: without and with several lesions.

    Returns
    -------
    str
        One line per fold, after a heading.

    Raises
    ------
    ArgumentError
        If a patient is in train and test of a fold, or not tested exactly once.
    """
    patients = manifest.patients()
    tested = [patient for fold in rounds for patient in fold.test]
    both = sorted({p for fold in rounds for p in set(fold.train) & set(fold.test)})
    wrong = sorted(p for p in patients if tested.count(p) != 1)
    if both or wrong:
        raise ArgumentError(
            f"folds must test every patient once and train on none of them; got {both or 'none'} "
            f"on both sides and {wrong or 'none'} not tested once. Use itk_ncr.data.folds."
        )
    counts = [count_pairs(manifest, fold, versions=versions) for fold in rounds]
    lines = [f"{len(patients)} patients, {len(rounds)} folds"]
    lines += [
        f"fold {number}: {c.train_patients} train / {c.test_patients} test patients, none in both; "
        f"{c.train_pairs} train pairs ({versions} versions of the fixed image), "
        f"{c.test_pairs} test pairs per lesion type ({c.strict_test_pairs} strict)"
        for number, c in enumerate(counts, start=1)
    ]
    lines.append(
        f"all folds: every patient tested once; {sum(c.test_pairs for c in counts)} test pairs per "
        f"lesion type ({sum(c.strict_test_pairs for c in counts)} strict)"
    )
    return "\n".join(lines)


def data_hash(manifest: Manifest) -> str:
    """Hash what a manifest describes: its rows and the contents of all its files.

    Files are taken in the order of their paths within their common folder, so that the hash stays
    the same when that folder moves.

    Parameters
    ----------
    manifest : Manifest
        Its files must exist.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    files = sorted({f.resolve() for subject in manifest.subjects for f in subject.files})
    root = os.path.commonpath([f.parent for f in files]) if files else ""
    total = hashlib.sha256()
    for file in files:
        name = os.path.relpath(file, root).replace(os.sep, "/")
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{name} {content}\n".encode())
    for s in manifest.subjects:
        names = [os.path.relpath(f.resolve(), root).replace(os.sep, "/") for f in s.files]
        ignored = f"|{list(s.ignore_labels)}" if s.ignore_labels else ""
        total.update(f"{s.patient}|{s.split}|{s.group}|{s.slice_mm}|{names}{ignored}\n".encode())
    total.update(f"{manifest.pairs}".encode())
    return total.hexdigest()
