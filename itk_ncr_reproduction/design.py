"""Design of a reproduction: everything it depends on except the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from itk_ncr.errors import ArgumentError
from itk_ncr.losses import PRESETS
from itk_ncr.training import Sampling, TrainingSettings, recipe
from itk_ncr_reproduction.sources import IGNORED_LABELS

TABLES = (1, 2, 3, 4)
FIGURES = (2, 3, 4, 5, 6)
VERSIONS = ("none", "L1", "L2", "L3", "L4")
LESIONS = VERSIONS[1:]
FEWEST_VOXELS = {2: 20, 3: 51}

# Where in the paper each kind of images appears.
SHOWN_IN: dict[str, set[tuple[str, int]]] = {
    "mri-2d": {("table", 2), ("table", 3), ("figure", 2), ("figure", 3), ("figure", 5)},
    "oct": {("table", 1), ("figure", 2), ("figure", 4)},
    "mri-3d": {("table", 3), ("table", 4), ("figure", 6)},
}


@dataclass(frozen=True)
class Experiment:
    """One kind of images, with its trainings and measurements.

    Attributes
    ----------
    name : "mri-2d", "mri-3d" or "oct"
    settings : TrainingSettings
        Of every network; the variant is replaced.
    sampling : Sampling
        Resolution and augmentation of the training.
    variants : tuple of str
        Networks to train.
    rows : tuple of str
        Keys of ``METHODS`` to measure.
    pairs : int or None
        Test pairs per fold, "published" protocol (moving images of all others); None: all.
    strict_pairs : int or None
        Test pairs per fold of the stricter protocol (moving images of the test patients only).
    strict_rows : tuple of str
        Keys of ``METHODS`` to measure on the stricter ones.
    """

    name: str
    settings: TrainingSettings
    sampling: Sampling
    variants: tuple[str, ...]
    rows: tuple[str, ...]
    pairs: int | None
    strict_pairs: int | None = 0
    strict_rows: tuple[str, ...] = ()

    @property
    def dimension(self) -> int:
        """Number of axes."""
        return self.settings.dimension


@dataclass(frozen=True)
class Dealing:
    """Assignment of patients to folds.

    Attributes
    ----------
    patients, folds : int
        As published, 40 in 5 folds.
    seed : int
    """

    patients: int
    folds: int
    seed: int


@dataclass(frozen=True)
class Design:
    """A whole reproduction.

    Attributes
    ----------
    budget : "small" or "full"
    dealing : Dealing
        Its seed is that of pairs, weights and augmentation, too.
    used_folds : tuple of int
        Folds that are trained and tested, from 1.
    experiments : tuple of Experiment
    """

    budget: str
    dealing: Dealing
    used_folds: tuple[int, ...]
    experiments: tuple[Experiment, ...]

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.dealing.seed

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name."""
        return next(e for e in self.experiments if e.name == name)

    def needed(self, tables: Sequence[int], figures: Sequence[int]) -> tuple[Experiment, ...]:
        """The experiments that tables and figures of the paper are made of."""
        asked = {("table", n) for n in tables} | {("figure", n) for n in figures}
        return tuple(e for e in self.experiments if asked & SHOWN_IN[e.name])

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "budget": self.budget,
            **asdict(self.dealing),
            "used_folds": list(self.used_folds),
            "experiments": [
                {
                    "name": e.name,
                    "settings": e.settings.as_dict(),
                    "sampling": e.sampling.as_dict(),
                    "variants": list(e.variants),
                    "rows": list(e.rows),
                    "pairs": e.pairs,
                    "strict_pairs": e.strict_pairs,
                    "strict_rows": list(e.strict_rows),
                }
                for e in self.experiments
            ],
        }


NETWORKS = ("regnet", "ncr-b", "ncr-u", "ncr-s")
OURS = ("refined", "instance")
CLASSICAL = ("demons", "bspline", "syn", "ants-syn", "elastix", "greedy")
# After methods that the paper compares with or builds on.
RIVALS = ("varreg", "chen", "em")


def design(budget: str = "small", seed: int = 0) -> Design:
    """The reproduction of a budget.

    Raises
    ------
    ArgumentError
        If there is no such budget.
    """
    if budget not in ("small", "full"):
        raise ArgumentError(f"budget must be 'small' or 'full'; got {budget!r}.")
    small = budget == "small"
    experiments = (
        _brains_2d(small, seed),
        _retinas(small, seed),
        _brains_3d(small, seed),
    )
    used = (1,) if small else (1, 2, 3, 4, 5)
    return Design(budget, Dealing(40, 5, seed), used, experiments)


def _brains_2d(small: bool, seed: int) -> Experiment:
    chosen = recipe("mri-2d", "small" if small else "full")
    return Experiment(
        "mri-2d",
        replace(chosen.settings, seed=seed),
        # As published the lesions of the training are those of the test, L1 to L4, not random ones.
        replace(chosen.sampling, lesions=0.0, ignore_labels=IGNORED_LABELS),
        variants=(*NETWORKS, "voxelmorph"),
        rows=("without", "affine", *NETWORKS, "voxelmorph", *CLASSICAL, *RIVALS, *OURS),
        pairs=16 if small else None,
        strict_pairs=10 if small else None,
        strict_rows=("without", *NETWORKS, "voxelmorph", *OURS),
    )


def _retinas(small: bool, seed: int) -> Experiment:
    chosen = recipe("oct", "small" if small else "full")
    steps: dict[str, Any] = {"steps": 700} if small else {}
    return Experiment(
        "oct",
        replace(chosen.settings, seed=seed, **steps),
        # Virtual patients come with circumstances of their own: place, deformation, speckle.
        Sampling(reduce=2 if small else 1, match=False),
        variants=NETWORKS,
        rows=("without", *NETWORKS, *OURS),
        pairs=32 if small else 9650 // 5,
    )


def _brains_3d(small: bool, seed: int) -> Experiment:
    chosen = recipe("mri-3d", "small" if small else "full")
    settings = replace(chosen.settings, seed=seed)
    if small:
        # With the published price of smoothness nothing moves within so few steps.
        settings = replace(settings, steps=1200, functional=replace(PRESETS["mri-3d"], alpha=0.1))
    return Experiment(
        "mri-3d",
        settings,
        replace(chosen.sampling, lesions=0.0, ignore_labels=IGNORED_LABELS),
        variants=("ncr-s", "voxelmorph"),
        rows=("without", "voxelmorph", "ncr-s", "demons", "greedy", *OURS),
        pairs=3 if small else None,
    )
