"""Pairs of real images: all-to-all or given, with augmentation and inserted lesions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from itk_ncr.data.augmentation import (
    Affine,
    Augmentation,
    Side,
    add_noise,
    affine_displacement,
    change_contrast,
    draw_motions,
    move,
    uniform,
)
from itk_ncr.data.lesions import Lesions
from itk_ncr.data.manifest import Manifest, pairs_of_different_patients
from itk_ncr.data.phantoms import (
    NAMED_LESIONS,
    LesionMask,
    insert_lesion,
)
from itk_ncr.data.placement import SLICE_PLANE, SlicePlane
from itk_ncr.data.rendering import random_curve, through_curve, upper_quartile
from itk_ncr.data.sample import Sample
from itk_ncr.data.store import Store, SubjectImages, TrainingLayout
from itk_ncr.errors import ArgumentError
from itk_ncr.preprocessing import match_histogram, normalise

NO_LESION = "none"


class PairSource:
    """Pairs of a manifest by number: of :class:`AllToAll`, `GivenPairs` or `WithItself`.

    Parameters
    ----------
    manifest : Manifest
    pairs : sequence of (int, int, str)
        Fixed and moving, as positions in the manifest, and the version of the fixed image: "none"
        or a row of ``phantoms.NAMED_LESIONS``.
    layout : TrainingLayout
        Grid of training.
    labels : bool
        Whether samples carry labels.
    augmentation : Augmentation, optional
    lesions : Lesions, optional
        Inserted at random; a sample's ``lesion`` is then known (perhaps all 0).
    named_masks : folder, optional
        Where the masks of the named lesions are.
    match : bool
        Match the histogram of the moving image to the fixed one as registration does.
    preload : bool
        Read everything now, so that faults are found now.
    plane : SlicePlane
        Where the pixels of 2D slices lie.

    Raises
    ------
    ImageReadError
        Naming all files that cannot be used.
    """

    def __init__(
        self,
        manifest: Manifest,
        pairs: Sequence[tuple[int, int, str]],
        *,
        layout: TrainingLayout = TrainingLayout(),  # noqa: B008 - frozen
        labels: bool = True,
        augmentation: Augmentation | None = None,
        lesions: Lesions | None = None,
        named_masks: str | os.PathLike[str] | None = None,
        match: bool = True,
        preload: bool = True,
        plane: SlicePlane = SLICE_PLANE,
    ) -> None:
        self.manifest = manifest
        self.pairs = tuple(pairs)
        self.augmentation = augmentation
        self.lesions = lesions
        self.match = match
        self.store = Store(manifest, layout, labels=labels, plane=plane)
        self._named = _read_named(self.pairs, named_masks)
        if preload:
            self.store.prepare(self.positions)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of the images that are in a pair."""
        return tuple(sorted({i for pair in self.pairs for i in pair[:2]}))

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the samples (of the first, if sizes differ)."""
        return tuple(self.store[self.pairs[0][0]].image.shape[1:])

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """Draw the pair of an index.

        A lesion of the moving image counts where it lies on the moving grid: its place in the fixed
        image is unknown before the registration.

        Parameters
        ----------
        index, generator
            As for :meth:`Source.sample`.

        Returns
        -------
        Sample
            The pair, augmented.
        """
        i, j, version = self.pairs[index]
        subjects = self.manifest.subjects
        name = f"{subjects[i].image.name} <- {subjects[j].image.name}"
        if version != NO_LESION:
            name += f" with {version}"
        curve = self._curve(generator)
        fixed = self._side(i, "fixed", version, curve, generator)
        moving = self._side(j, "moving", NO_LESION, curve, generator)
        displacement = None
        if self.augmentation is not None:
            fixed, moving, motions = self._augmented(fixed, moving, i, generator)
            displacement = between(motions, fixed.image.shape[1:]) if i == j else None
        if self.match:
            moving = Side(_matched(moving.image, fixed.image), moving.labels, moving.lesion)
        known = [side.lesion for side in (fixed, moving) if side.lesion is not None]
        labelled = fixed.labels is not None and moving.labels is not None
        return Sample(
            name=name,
            fixed=fixed.image,
            moving=moving.image,
            fixed_labels=fixed.labels if labelled else None,
            moving_labels=moving.labels if labelled else None,
            lesion=torch.stack(known).amax(0) if known else None,
            displacement=displacement,
        )

    def _curve(self, generator: torch.Generator) -> Tensor | None:
        """The map of intensities of a pair; None: its images as they are."""
        share = 0.0 if self.augmentation is None else self.augmentation.remapped
        # Nothing is drawn for augmentations that are off.
        if share == 0 or uniform(generator, 0, 1) >= share:
            return None
        return random_curve(generator)

    def _side(
        self,
        position: int,
        role: str,
        version: str,
        curve: Tensor | None,
        generator: torch.Generator,
    ) -> Side:
        prepared = self.store[position]
        image, white = prepared.image.float(), prepared.white
        if curve is not None:
            image = _normalised(through_curve(image, curve))
            white = upper_quartile(image[0][prepared.inside])
        lesion, inserted = prepared.lesion, None
        if version != NO_LESION:
            image, inserted = self._with_named(position, image, prepared, version, white)
        elif self.lesions is not None:
            image, inserted = self.lesions.insert(
                image,
                role,
                generator,
                placement=self.store.placement(position),
                inside=prepared.inside,
                white=white,
            )
            image = image if inserted is None else _normalised(image)
        if inserted is not None:
            lesion = inserted if lesion is None else lesion | inserted
        if lesion is None and role == "fixed" and (self.lesions is not None or self._named):
            lesion = torch.zeros_like(prepared.inside)
        return Side(image, prepared.labels, None if lesion is None else lesion[None].float())

    def _with_named(
        self, position: int, image: Tensor, prepared: SubjectImages, version: str, white: float
    ) -> tuple[Tensor, Tensor]:
        """The image with a named lesion: always the same texture in the same image."""
        placement = self.store.placement(position)
        mask = self._named[version].on(placement, prepared.inside.shape) & prepared.inside
        seed = position * len(NAMED_LESIONS) + list(NAMED_LESIONS).index(version)
        ill = insert_lesion(
            image, mask, NAMED_LESIONS[version].appearance, torch.Generator().manual_seed(seed),
            white=white, spacing_mm=placement.spacing_mm,
        )  # fmt: skip
        return _normalised(ill), mask

    def _augmented(
        self, fixed: Side, moving: Side, position: int, generator: torch.Generator
    ) -> tuple[Side, Side, tuple[Affine | None, Affine | None]]:
        augmentation = self.augmentation
        assert augmentation is not None
        motions = draw_motions(
            augmentation,
            generator,
            fixed.image.shape[1:],
            self.store.placement(position).spacing_mm,
        )
        sides = []
        for side, motion in zip((fixed, moving), motions, strict=True):
            moved = move(side, motion, fill_outside=augmentation.fill_outside)
            image = moved.image
            if augmentation.gamma > 0 or augmentation.bias > 0:
                image = _normalised(change_contrast(image, augmentation, generator))
            image = add_noise(image, augmentation.noise, generator)
            sides.append(Side(image, moved.labels, moved.lesion))
        return sides[0], sides[1], motions


class AllToAll(PairSource):
    """Every image with every image of another patient in its group, in both orders.

    Parameters
    ----------
    manifest : Manifest
    split : str, optional
        "train", "val", "test"; None: all subjects.
    moving_split : str or "all", optional
        Where moving images come from; default: the same split. "all" is the published protocol of
        testing: each test patient as fixed image, all others as moving ones.
    versions : sequence of str
        Every pair once for each version of the fixed image: "none", "L1" to "L4".
    **options
        As for :class:`PairSource`.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str | None = "train",
        *,
        moving_split: str | None = None,
        versions: Sequence[str] = (NO_LESION,),
        **options: object,
    ) -> None:
        moving = None if moving_split == "all" else moving_split or split
        pairs = pairs_of_different_patients(
            manifest, manifest.positions(split), manifest.positions(moving)
        )
        named = [(i, j, version) for i, j in pairs for version in versions]
        if not named:
            raise ArgumentError(
                f"data must have images of two patients in the split {split!r}; got "
                f"{len(manifest.patients(split))}. Add images or choose another split."
            )
        super().__init__(manifest, named, **options)  # type: ignore[arg-type]


class GivenPairs(PairSource):
    """The pairs that the manifest names, such as two visits of a patient.

    Parameters
    ----------
    manifest : Manifest
    split : str, optional
        Of the fixed image; None: all pairs.
    both_orders : bool
        Add every pair with fixed and moving exchanged.
    **options
        As for :class:`PairSource`.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str | None = "train",
        *,
        both_orders: bool = False,
        **options: object,
    ) -> None:
        chosen = set(manifest.positions(split))
        pairs = [(i, j, NO_LESION) for i, j in manifest.pairs if i in chosen]
        if both_orders:
            pairs += [(j, i, NO_LESION) for i, j, _ in pairs]
        if not pairs:
            raise ArgumentError(
                f"data must name pairs in the split {split!r}; got none. Give a CSV with the "
                "columns subject, fixed, moving, or use all-to-all."
            )
        super().__init__(manifest, pairs, **options)  # type: ignore[arg-type]


class WithItself(PairSource):
    """Every image with itself, moved by the augmentation: what lies between them is known.

    Parameters
    ----------
    manifest : Manifest
    split : str, optional
        "train", "val", "test"; None: all subjects.
    **options
        As for :class:`PairSource`; the augmentation must not be left out.
    """

    def __init__(self, manifest: Manifest, split: str | None = "train", **options: object) -> None:
        pairs = [(i, i, NO_LESION) for i in manifest.positions(split)]
        if not pairs or options.get("augmentation") is None:
            raise ArgumentError(
                f"data must have images in the split {split!r}, and an augmentation must be given; "
                f"got {len(pairs)} images and {options.get('augmentation')}."
            )
        super().__init__(manifest, pairs, **options)  # type: ignore[arg-type]


def between(motions: tuple[Affine | None, Affine | None], shape: Sequence[int]) -> Tensor:
    """Displacement from the fixed to the moving image, both moved from one; (D, *shape), voxels."""
    last = np.eye(len(shape) + 1)[-1:]
    fixed, moving = (
        np.eye(len(shape) + 1) if motion is None else np.vstack([motion, last])
        for motion in motions
    )
    affine = np.asarray(np.linalg.solve(moving, fixed)[:-1], np.float64)
    return affine_displacement(affine, shape)[0]


def _read_named(
    pairs: Sequence[tuple[int, int, str]], folder: str | os.PathLike[str] | None
) -> dict[str, LesionMask]:
    used = sorted({version for *_, version in pairs} - {NO_LESION})
    unknown = [version for version in used if version not in NAMED_LESIONS]
    if unknown or (used and folder is None):
        raise ArgumentError(
            f"versions must be {NO_LESION!r} or one of {', '.join(NAMED_LESIONS)}, and named_masks "
            f"the folder of their masks; got {', '.join(used)} and {folder}."
        )
    return {
        version: LesionMask.read(
            Path(os.fspath(folder or "")) / f"{NAMED_LESIONS[version].mask}.nii.gz"
        )
        for version in used
    }


def _normalised(image: Tensor) -> Tensor:
    """On the scale that registration would put the image on."""
    return torch.from_numpy(normalise(image.numpy()).values)


def _matched(moving: Tensor, fixed: Tensor) -> Tensor:
    """The moving image with the fixed one's histogram, where registration would match it."""
    values, accepted = match_histogram(
        moving.numpy(), fixed.numpy(), moving.numpy() > 0, fixed.numpy() > 0
    )
    return torch.from_numpy(values) if accepted else moving
