"""Test pairs with their ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from itk_ncr.data import (
    AllToAll,
    Fold,
    Manifest,
    OctPhantoms,
    Sample,
    TrainingLayout,
    folds,
    in_fold,
)
from itk_ncr.geometry import Grid
from itk_ncr.images import Image, read_image
from itk_ncr_reproduction.design import (
    FEWEST_VOXELS,
    VERSIONS,
    Dealing,
    Design,
    Experiment,
)
from itk_ncr_reproduction.sources import IGNORED_LABELS, brains, lesion_masks

OCT_SHAPE = (192, 384)
OCT_TRAINING_EYES = 400


@dataclass(frozen=True)
class CaseKey:
    """Identifies a test pair and its version.

    Attributes
    ----------
    experiment : str
    fold : int
        From 1.
    pair : int
        Number of the pair among those of the fold.
    version : str
        "none" or "L1" to "L4"; of retinas always "none".
    strict : bool
        Whether the moving image, too, is of a test patient.
    """

    experiment: str
    fold: int
    pair: int
    version: str
    strict: bool

    @property
    def name(self) -> str:
        """For files."""
        return f"{self.experiment}-{self.fold}-{self.pair:05d}-{self.version}"


@dataclass(frozen=True, eq=False)
class Case:
    """A test pair with its ground truth.

    Attributes
    ----------
    key : CaseKey
    fixed, moving : Image
    fixed_labels : array
    moving_labels : Image
    lesion : array of bool
        Where the fixed image has no partner.
    counted : tuple of int
        Labels that overlaps are the mean of.
    """

    key: CaseKey
    fixed: Image
    moving: Image
    fixed_labels: NDArray
    moving_labels: Image
    lesion: NDArray
    counted: tuple[int, ...]


@dataclass(frozen=True)
class Brains:
    """The patients of an experiment with brains, and their folds."""

    data: Path
    manifest: Manifest
    rounds: tuple[Fold, ...]

    @classmethod
    def of(cls, data: Path, dimension: int, dealing: Dealing) -> Brains:
        """The first patients of the data's training split, dealt to folds.

        What is trained here is tested on patients of other folds; the data's test split, on which
        the shipped models are measured, stays out of it.
        """
        manifest = brains(data, dimension, split="train", count=dealing.patients)
        return cls(data, manifest, folds(manifest.patients(), dealing.folds, dealing.seed))

    def training_pairs(self, experiment: Experiment, fold: int) -> AllToAll:
        """As published: every training image, without and with each lesion, and all others."""
        sampling = experiment.sampling
        return AllToAll(
            in_fold(self.manifest, self.rounds[fold - 1]),
            "train",
            versions=VERSIONS,
            named_masks=lesion_masks(self.data),
            layout=TrainingLayout(reduce=sampling.reduce, ignore_labels=sampling.ignore_labels),
            augmentation=sampling.augmentation,
            match=sampling.match,
        )

    def test_pairs(self, fold: int) -> AllToAll:
        """As published: every test image, without and with each lesion, and all others."""
        return AllToAll(
            in_fold(self.manifest, self.rounds[fold - 1]),
            "test",
            moving_split="all",
            versions=VERSIONS,
            named_masks=lesion_masks(self.data),
            layout=TrainingLayout(ignore_labels=IGNORED_LABELS),
            match=False,
            preload=False,
        )


@lru_cache(maxsize=4)
def brains_of(data: Path, dimension: int, dealing: Dealing) -> Brains:
    """Read once per process."""
    return Brains.of(data, dimension, dealing)


@lru_cache(maxsize=4)
def _test_pairs(data: Path, dimension: int, dealing: Dealing, fold: int) -> AllToAll:
    return brains_of(data, dimension, dealing).test_pairs(fold)


@lru_cache(maxsize=4)
def _grid(path: Path) -> Grid:
    return read_image(path).grid


@lru_cache(maxsize=4)
def common_labels(data: Path, dimension: int, dealing: Dealing) -> tuple[int, ...]:
    """Labels that every patient has enough voxels of, as the paper counts those of its slices."""
    found: set[int] | None = None
    for subject in brains_of(data, dimension, dealing).manifest.subjects:
        assert subject.labels is not None
        values, counts = np.unique(read_image(subject.labels).array, return_counts=True)
        enough = counts >= FEWEST_VOXELS[dimension]
        here = {int(v) for v in values[enough]} - {0, *IGNORED_LABELS}
        found = here if found is None else found & here
    return tuple(sorted(found or ()))


def case_keys(data: Path, design: Design, experiment: Experiment, fold: int) -> list[CaseKey]:
    """The pairs of a fold that the design wants measured, drawn at random by its seed."""
    draw = np.random.default_rng([design.seed, fold, experiment.dimension])
    if experiment.name == "oct":
        count = experiment.pairs or 0
        return [CaseKey("oct", fold, number, "none", True) for number in range(count)]
    source = _test_pairs(data, experiment.dimension, design.dealing, fold)
    total = len(source) // len(VERSIONS)
    subjects = source.manifest.subjects
    strict = [subjects[source.pairs[p * len(VERSIONS)][1]].split == "test" for p in range(total)]
    published = _drawn(draw, range(total), experiment.pairs)
    among = [p for p in range(total) if strict[p]]
    wanted = experiment.strict_pairs
    already = [p for p in published if strict[p]]
    more = None if wanted is None else max(0, wanted - len(already))
    added = _drawn(draw, [p for p in among if p not in set(already)], more) if wanted != 0 else []
    # What was drawn for the published protocol comes first: tables of it count these only.
    return [
        CaseKey(experiment.name, fold, pair, version, strict[pair])
        for pair in (*published, *added)
        for version in VERSIONS
    ]


def published_pairs(experiment: Experiment, keys: Sequence[CaseKey]) -> set[int]:
    """Which pairs of a fold were drawn for the published protocol."""
    ordered = list(dict.fromkeys(key.pair for key in keys))
    return set(ordered if experiment.pairs is None else ordered[: experiment.pairs])


def load_case(data: Path, design: Design, key: CaseKey) -> Case:
    """The images of a case and its truth."""
    if key.experiment == "oct":
        return _retina(design, key)
    experiment = design.experiment(key.experiment)
    source = _test_pairs(data, experiment.dimension, design.dealing, key.fold)
    index = key.pair * len(VERSIONS) + VERSIONS.index(key.version)
    sample = source.sample(index, torch.Generator().manual_seed(0))
    # All brains of the data lie on one grid.
    grid = _grid(source.manifest.subjects[source.pairs[index][0]].image)
    return _case(key, sample, grid, common_labels(data, experiment.dimension, design.dealing))


def training_retinas(design: Design, experiment: Experiment, fold: int) -> OctPhantoms:
    """Virtual patients to learn from, at the resolution of the training."""
    sampling = experiment.sampling
    assert isinstance(sampling.reduce, int)
    shape = tuple(n // sampling.reduce for n in OCT_SHAPE)
    seed = _seed(design, fold)
    return OctPhantoms(OCT_TRAINING_EYES, shape=shape, seed=seed, flip=True)


def _retina(design: Design, key: CaseKey) -> Case:
    count = design.experiment("oct").pairs or 0
    seed = _seed(design, key.fold)
    # Patients whom no training of this fold saw.
    source = OctPhantoms(count, shape=OCT_SHAPE, seed=seed, first=OCT_TRAINING_EYES)
    sample = source.sample(key.pair, torch.Generator().manual_seed(0))
    grid = Grid(OCT_SHAPE[::-1], (1.0, 1.0), (0.0, 0.0), np.eye(2).tolist())
    return _case(key, sample, grid, (1, 2))


def _case(key: CaseKey, sample: Sample, grid: Grid, counted: tuple[int, ...]) -> Case:
    assert sample.fixed_labels is not None
    assert sample.moving_labels is not None
    lesion = np.zeros(sample.fixed.shape[1:], bool)
    if sample.lesion is not None:
        lesion = sample.lesion[0].numpy() > 0
    return Case(
        key,
        Image(sample.fixed[0].numpy(), grid),
        Image(sample.moving[0].numpy(), grid),
        sample.fixed_labels.numpy(),
        Image(sample.moving_labels.numpy(), grid),
        lesion,
        counted,
    )


def _seed(design: Design, fold: int) -> int:
    """Of the virtual patients of a fold."""
    return design.seed * design.dealing.folds + fold - 1


def _drawn(draw: np.random.Generator, among: Sequence[int], count: int | None) -> list[int]:
    """So many at random, in random order; None: all, in order."""
    if count is None:
        return list(among)
    return [int(among[i]) for i in draw.permutation(len(among))[:count]]
