"""Training recipes by name: the paper's, and those of the shipped models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from itk_ncr.data import (
    AUGMENTATIONS,
    AllToAll,
    Augmentation,
    GivenPairs,
    LesionBank,
    Lesions,
    Manifest,
    PairSource,
    Synthesis,
    SyntheticPairs,
    TrainingLayout,
)
from itk_ncr.errors import require_choice
from itk_ncr.losses import PRESETS, Functional
from itk_ncr.settings import BUDGETS
from itk_ncr.training.settings import TrainingSettings


@dataclass(frozen=True)
class Sampling:
    """Settings by which pairs are drawn from images.

    Attributes
    ----------
    reduce : int
        Voxels become this many times larger.
    augmentation : Augmentation
    lesions : float
        Probability that a lesion is inserted into the fixed image; needs 2D slices or volumes that
        lie in one space.
    blobs : float
        Fraction of random blobs among them; the others have real shapes if a folder of masks is
        given.
    match : bool
        Match histograms as a registration does.
    ignore_labels : tuple of int
        Label values that count as no label, besides those that the images name themselves.
    synthesis : Synthesis, optional
        Make pairs of known deformation out of one image or label map each, of random contrast,
        instead of pairing images; ``augmentation`` and ``match`` then say nothing.
    """

    reduce: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)
    lesions: float = 0.0
    blobs: float = 0.2
    match: bool = True
    ignore_labels: tuple[int, ...] = ()
    synthesis: Synthesis | None = None

    def source(
        self,
        manifest: Manifest,
        split: str | None = "train",
        *,
        lesion_masks: str | os.PathLike[str] | None = None,
        preload: bool = True,
    ) -> PairSource | SyntheticPairs:
        """Make the pairs of a split.

        Parameters
        ----------
        manifest : Manifest
            With a split.
        split : str or None
            "train", "val" or "test"; None for all subjects.
        lesion_masks : path, optional
            Folder of masks whose shapes inserted lesions take.
        preload : bool
            Hold all images in memory.

        Returns
        -------
        PairSource or SyntheticPairs
            The pairs that the manifest names, or all of different patients.
        """
        bank = None if lesion_masks is None else LesionBank.from_folder(lesion_masks)
        where = "fixed" if self.synthesis is None else "both"
        options: dict[str, Any] = {
            "layout": TrainingLayout(reduce=self.reduce, ignore_labels=self.ignore_labels),
            "preload": preload,
        }
        if self.lesions > 0:
            options["lesions"] = Lesions(
                bank, probability=self.lesions, blobs=self.blobs, where=where
            )
        if self.synthesis is not None:
            return SyntheticPairs(manifest, split, synthesis=self.synthesis, **options)
        options |= {"augmentation": self.augmentation, "match": self.match}
        if manifest.pairs:
            return GivenPairs(manifest, split, both_orders=True, **options)
        return AllToAll(manifest, split, **options)

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        values = asdict(self) | {"ignore_labels": list(self.ignore_labels)}
        if self.synthesis is None:
            del values["synthesis"]
        else:
            values["synthesis"] = {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in values["synthesis"].items()
            }
        return values


@dataclass(frozen=True)
class Recipe:
    """Settings of a training except its images.

    Attributes
    ----------
    settings : TrainingSettings
        Of the full budget.
    sampling : Sampling
    preset : str
        Row of ``SOLVER_PRESETS`` for the refinement.
    small : dict
        Changes of the settings for the small budget, which two CPU cores finish in a quarter of an
        hour.
    small_reduce : int
        Factor on the voxels' size for the small budget.
    """

    settings: TrainingSettings
    sampling: Sampling
    preset: str
    small: Mapping[str, Any] = field(default_factory=dict)
    small_reduce: int = 1

    def with_budget(self, budget: str) -> Recipe:
        """The same recipe with the steps and the resolution of a budget.

        Parameters
        ----------
        budget : str
            "full" or "small".

        Returns
        -------
        Recipe
            A copy.

        Raises
        ------
        ArgumentError
            If there is no such budget.
        """
        require_choice("budget", budget, BUDGETS)
        if budget == "full":
            return self
        augmentation = self.sampling.augmentation
        return replace(
            self,
            settings=replace(self.settings, **self.small),
            sampling=replace(
                self.sampling,
                reduce=self.sampling.reduce * self.small_reduce,
                augmentation=replace(
                    augmentation, shift_voxels=augmentation.shift_voxels / self.small_reduce
                ),
            ),
        )

    def with_variant(self, variant: str) -> Recipe:
        """The same recipe for another variant; VoxelMorph has filters instead of a width.

        Parameters
        ----------
        variant : str
            One of ``VARIANTS``.

        Returns
        -------
        Recipe
            A copy.
        """
        settings, architecture = dict(self.settings.network_settings), self.settings.architecture
        if variant == "voxelmorph":
            settings.pop("width", None)
            settings["filters"], architecture = "tmi", "ncr-net"
        changed = replace(
            self.settings, variant=variant, architecture=architecture, network_settings=settings
        )
        return replace(self, settings=changed)


# 40 heads, five folds: 32 x 31 pairs in 5 versions per epoch; 500 epochs, batches of 10.
_PAPER_MRI_STEPS = 500 * 32 * 31 * 5 // 10
# 193 pairs of 25 B-scans, four fifths of them for training; 500 epochs, batches of 10.
_PAPER_OCT_STEPS = 500 * (193 * 25 * 4 // 5) // 10
_MRI = AUGMENTATIONS["mri"]
# A small budget pays for fewer steps with longer ones.
_SMALL: dict[str, Any] = {"steps": 1500, "batch": 8, "learning_rate": 1e-3}

# What the shipped brain models minimise over the velocity: local correlation, which a bias field or
# another scanner does not mislead, and the overlap of the labels of the training images.
_LOCAL = Functional(
    similarity="lncc",
    similarity_settings={"radius": 3, "noise": 0.03},
    alpha=0.15,
    lam=1.0,
    overlap_per_class=True,
    level_weights=(0.7, 0.2, 0.1),
)

# 3D: the brain fills a third of the grid, and with the price of 2D nothing moved for long.
_LOCAL_3D = replace(_LOCAL, alpha=0.03, similarity_settings={"radius": 2, "noise": 0.03})
# In synthetic pairs tissue of one kind may be bright in one image and dark in the other.
_MASK_OF_ANY = replace(PRESETS["mri-2d"], similarity="mind", tau=0.14)
_LEARNT: dict[str, Any] = {
    "variant": "ncr-b",
    "network_settings": {"width": 8, "integration": "half"},
    "labels": "all",
    "most_labels": 32,
    "mask_supervision": 0.4,
    "learning_rate": 1e-3,
}
_LEARNT_2D = _LEARNT | {"functional": _LOCAL, "batch": 4}
_LEARNT_3D = _LEARNT | {"functional": _LOCAL_3D, "batch": 1, "precision": "bfloat16"}

# The presets of ``itk-ncr train``, by name.
RECIPES: dict[str, Recipe] = {
    "mri-2d": Recipe(
        TrainingSettings(2, functional=PRESETS["mri-2d"], steps=_PAPER_MRI_STEPS, batch=10),
        Sampling(augmentation=_MRI, lesions=0.8),
        preset="mri-2d",
        small=_SMALL,
        small_reduce=2,
    ),
    "mri-3d": Recipe(
        TrainingSettings(
            3,
            functional=PRESETS["mri-3d"],
            network_settings={"width": 4, "integration": "half"},
            steps=_PAPER_MRI_STEPS,
            batch=5,
        ),
        Sampling(augmentation=_MRI, lesions=0.8),
        preset="mri-3d",
        small=_SMALL | {"batch": 1, "precision": "bfloat16"},
        small_reduce=2,
    ),
    "oct": Recipe(
        TrainingSettings(2, functional=PRESETS["oct"], steps=_PAPER_OCT_STEPS, batch=10),
        Sampling(augmentation=AUGMENTATIONS["oct"], match=False),
        preset="oct",
        small=_SMALL | {"batch": 4},
        small_reduce=2,
    ),
    "brain-t1-2d": Recipe(
        TrainingSettings(
            2,
            architecture="ncr-pyramid",
            mask_functional=PRESETS["mri-2d"],
            steps=4500,
            schedule="cosine",
            averaging=0.999,
            **_LEARNT_2D,
        ),
        Sampling(
            augmentation=replace(_MRI, shift_voxels=2.0, gamma=0.2, bias=0.15),
            lesions=0.7,
        ),
        preset="mri-2d",
        small={"steps": 1500},
    ),
    "brain-t1-3d": Recipe(
        TrainingSettings(3, mask_functional=PRESETS["mri-2d"], steps=2600, **_LEARNT_3D),
        Sampling(
            reduce=2,
            augmentation=replace(_MRI, shift_voxels=1.0, gamma=0.2, bias=0.15),
            lesions=0.7,
        ),
        preset="mri-3d",
        small={"steps": 1500},
    ),
    "synthetic-2d": Recipe(
        # The square of a local correlation does not mind which of two tissues is the brighter.
        TrainingSettings(
            2,
            mask_functional=_MASK_OF_ANY,
            displacement_supervision=0.02,
            steps=20_000,
            **_LEARNT_2D,
        ),
        Sampling(lesions=0.7, synthesis=Synthesis()),
        preset="multimodal",
        small={"steps": 1500},
        small_reduce=2,
    ),
    "synthetic-3d": Recipe(
        TrainingSettings(
            3,
            mask_functional=_MASK_OF_ANY,
            displacement_supervision=0.02,
            steps=20_000,
            **_LEARNT_3D,
        ),
        # At twice the voxel size the same deformations are half as many voxels long.
        Sampling(
            reduce=2,
            lesions=0.7,
            synthesis=Synthesis(peak_voxels=(0.5, 5.0), scale_voxels=(8.0, 24.0), shift_voxels=2.0),
        ),
        preset="multimodal",
        small={"steps": 1500},
    ),
    "oct-2d": Recipe(
        TrainingSettings(
            2,
            variant="ncr-s",
            functional=PRESETS["oct"],
            network_settings={"width": 8, "integration": "half"},
            labels="none",
            steps=2000,
            batch=4,
            learning_rate=1e-3,
            head_warm_up=100,
        ),
        # Pairs are aligned by an affine before the network sees them: the rest is small.
        Sampling(
            reduce=2,
            augmentation=replace(AUGMENTATIONS["oct"], shift_height=0.03, noise=0.02),
            match=False,
        ),
        preset="oct",
        small={"steps": 1000},
    ),
}


def recipe(name: str, budget: str = "full") -> Recipe:
    """A recipe by name, with the steps and resolution of a budget.

    Parameters
    ----------
    name : str
        A row of ``RECIPES``.
    budget : str
        "full" or "small".

    Returns
    -------
    Recipe
        The recipe.

    Raises
    ------
    ArgumentError
        If there is none of that name, or no such budget.
    """
    require_choice("preset", name, RECIPES)
    return RECIPES[name].with_budget(budget)
