"""Plan of a training from a folder or table of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from itk_ncr.checkpoints import find_model
from itk_ncr.data import (
    Augmentation,
    Manifest,
    PairSource,
    SyntheticPairs,
    data_hash,
    divide,
    fold_audit,
    folds,
    in_fold,
    read_manifest,
)
from itk_ncr.data.manifest import raise_faults
from itk_ncr.errors import ArgumentError
from itk_ncr.images import read_image
from itk_ncr.training.plan import Plan
from itk_ncr.training.recipes import Recipe


def make_plan(
    images: str | os.PathLike[str],
    recipe: Recipe,
    *,
    val: float = 0.1,
    test: float = 0.1,
    fold: tuple[int, int] | None = None,
    lesion_masks: str | os.PathLike[str] | None = None,
    start: str | os.PathLike[str] | None = None,
) -> Plan:
    """Read and check all images, divide the patients, and make pairs.

    Parameters
    ----------
    images : path
        A folder or a CSV, see :func:`itk_ncr.data.read_manifest`.
    recipe : Recipe
        Settings of the training.
    val, test : float
        Fractions of the patients that are held out, where the images come without a split.
    fold : (int, int), optional
        The i-th of k folds, from 1, instead: its patients are held out for testing.
    lesion_masks : path, optional
        Folder of masks whose shapes inserted lesions take.
    start : str or path, optional
        Name or folder of the model whose weights to start from. Default: random weights.

    Returns
    -------
    Plan
        Nothing is written yet.

    Raises
    ------
    ImageReadError
        Lists all images that cannot be used.
    ArgumentError
        If the images do not fit the recipe or cannot be divided.
    """
    manifest = read_manifest(images)
    seed, dimension = recipe.settings.seed, recipe.settings.dimension
    grid = read_image(manifest.subjects[0].image).grid
    if grid.dimension != dimension:
        raise ArgumentError(
            f"images must be {dimension}D for this preset; got {grid.dimension}D in "
            f"'{manifest.subjects[0].image}'. Choose another preset."
        )
    divided = any(s.split is not None for s in manifest.subjects)
    notes = []
    if divided and fold is not None:
        raise ArgumentError(
            "fold must not be given for images that are divided already; got a split in "
            f"'{images}'. Leave out one of them."
        )
    if fold is not None:
        number, k = fold
        rounds = folds(manifest.patients(), k, seed)
        if not 1 <= number <= k:
            raise ArgumentError(f"fold must be one of 1/{k} to {k}/{k}; got {number}/{k}.")
        notes += fold_audit(manifest, rounds, versions=1).splitlines()
        manifest = in_fold(manifest, rounds[number - 1])
    elif not divided:
        manifest = divide(manifest, val=val, test=test, seed=seed)
        notes.append(f"patients divided at random (seed {seed})")
    masks = None if lesion_masks is None else Path(lesion_masks)
    begun = None if start is None else find_model(start)
    if begun is not None:
        notes.append(f"begins with the weights of {begun.description.name}")
    source = recipe.sampling.source(manifest, "train", lesion_masks=masks, preload=False)
    validation = _validation(manifest, recipe)
    _read_everything(source, validation)
    _require_labels(source, images)
    return Plan(
        manifest=manifest,
        recipe=recipe,
        source=source,
        validation=validation,
        hash=data_hash(manifest),
        lesion_masks=masks,
        notes=(*manifest.notes, *notes, *_left_out(manifest, source, validation)),
        start=begun,
    )


def _read_everything(
    source: PairSource | SyntheticPairs, validation: PairSource | SyntheticPairs | None
) -> None:
    """Read every image of the manifest; those that are in no pair are not kept.

    Raises
    ------
    ImageReadError
        Naming all images that cannot be used, of whatever split.
    """
    used = {*source.positions, *(validation.positions if validation is not None else ())}
    others = [i for i in source.manifest.positions(None) if i not in used]
    faults = source.store.faults(source.positions)
    if validation is not None:
        faults += validation.store.faults(validation.positions)
    raise_faults([*faults, *source.store.faults(others, keep=False)])


def _require_labels(source: PairSource | SyntheticPairs, images: str | os.PathLike[str]) -> None:
    """Refuse label maps in which nothing counts as a label.

    Raises
    ------
    ArgumentError
        If there are some in training, and no value of theirs is left.
    """
    store, subjects = source.store, source.manifest.subjects
    labelled = [i for i in source.positions if subjects[i].labels is not None]
    if not labelled or any(store.label_values(i) for i in labelled):
        return
    ignored = sorted({value for i in labelled for value in store.ignored(i)})
    raise ArgumentError(
        "labels must have values besides 0 and those that are ignored "
        f"({', '.join(map(str, ignored)) or 'none'}); got none in the {len(labelled)} label maps "
        f"for training in '{images}'. Change what is ignored, or leave the label maps out."
    )


def _left_out(
    manifest: Manifest,
    source: PairSource | SyntheticPairs,
    validation: PairSource | SyntheticPairs | None,
) -> list[str]:
    """Remarks on images and label maps that nothing is learnt from or validated with."""
    subjects, notes = manifest.subjects, []
    paired = set(source.positions)
    alone = [subjects[i].image.name for i in manifest.positions("train") if i not in paired]
    if alone:
        notes.append(f"images for training that are in no pair: {_some(alone)}")
    empty = [
        subjects[i].labels.name  # type: ignore[union-attr]
        for i in source.positions
        if subjects[i].labels is not None and not source.store.label_values(i)
    ]
    if empty:
        notes.append(f"label maps in which nothing counts as a label: {_some(empty)}")
    if validation is None and manifest.positions("val"):
        notes.append("the images for validation make no pair, so nothing is validated")
    return notes


def _some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _validation(manifest: Manifest, recipe: Recipe) -> PairSource | SyntheticPairs | None:
    """Validation pairs, without augmentation; not read yet."""
    held_out = manifest.positions("val")
    patients = manifest.patients("val")
    paired = [pair for pair in manifest.pairs if pair[0] in held_out]
    if not paired if manifest.pairs else len(patients) < 2:
        return None
    plain = replace(recipe.sampling, augmentation=Augmentation(), lesions=0.0)
    return plain.source(manifest, "val", preload=False)
