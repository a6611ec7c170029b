"""Synthetic pairs: one anatomy, two random appearances, a known random deformation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itk_ncr.data.augmentation import (
    Augmentation,
    add_noise,
    change_contrast,
    draw_motions,
    uniform,
)
from itk_ncr.data.lesions import Lesions
from itk_ncr.data.manifest import Manifest
from itk_ncr.data.placement import SLICE_PLANE, Placement, SlicePlane
from itk_ncr.data.rendering import (
    Look,
    posed,
    random_curve,
    random_intensities,
    random_shapes,
    random_velocity,
    upper_quartile,
)
from itk_ncr.data.sample import Sample
from itk_ncr.data.store import Store, TrainingLayout
from itk_ncr.errors import ArgumentError
from itk_ncr.fields import resize_displacement, resize_velocity
from itk_ncr.geometry import Grid
from itk_ncr.ops import compose, exponential_pair, warp
from itk_ncr.preprocessing import normalise

# Velocities are integrated on a grid whose voxels are this many times larger, as in training.
INTEGRATION_STEP = 2


@dataclass(frozen=True)
class Synthesis:
    """Settings of synthetic pairs; ranges are sampled uniformly.

    Attributes
    ----------
    real, remapped : float
        Fraction of pairs that show the images themselves, and of those that show them through a
        random map of intensities. The others show a random intensity for every label.
    same_contrast : float
        Fraction of pairs in which both images have one contrast.
    peak_voxels : (low, high)
        Length of the longest vector of the velocity.
    scale_voxels : (low, high)
        Distance over which the velocity varies; drawn on a logarithmic scale.
    rotate_degrees, shift_voxels : float
        Where the anatomy as a whole lies in both images.
    flip : bool
        Left-right, every other time.
    blur_voxels : (low, high)
        Gaussian sigma, where labels are shown.
    texture : (low, high)
        Standard deviation within a label.
    noise : (low, high)
        Standard deviation of the noise in the whole image.
    gamma, bias : float
        As of ``Augmentation``, for each image by itself.
    fill_outside : bool
        Whether what was outside the image becomes background; otherwise its border repeats, as it
        should where images have no background (OCT).
    shapes : int
        Number of labels where random shapes stand in for label maps.
    """

    real: float = 0.4
    remapped: float = 0.3
    same_contrast: float = 0.7
    peak_voxels: tuple[float, float] = (1.0, 10.0)
    scale_voxels: tuple[float, float] = (12.0, 48.0)
    rotate_degrees: float = 10.0
    shift_voxels: float = 4.0
    flip: bool = True
    blur_voxels: tuple[float, float] = (0.3, 1.0)
    texture: tuple[float, float] = (0.0, 0.06)
    noise: tuple[float, float] = (0.0, 0.03)
    gamma: float = 0.25
    bias: float = 0.25
    fill_outside: bool = True
    shapes: int = 16

    def __post_init__(self) -> None:
        if min(self.real, self.remapped) < 0 or self.real + self.remapped > 1:
            raise ArgumentError(
                f"real and remapped must be shares of one whole; got {self.real} and "
                f"{self.remapped}. Lower one."
            )
        for name in ("peak_voxels", "scale_voxels", "blur_voxels", "texture", "noise"):
            low, high = getattr(self, name)
            if not 0 <= low <= high < math.inf:
                raise ArgumentError(f"{name} must be two rising numbers >= 0; got {low}, {high}.")
        if self.scale_voxels[0] < 2:
            raise ArgumentError(f"scale_voxels must be at least 2; got {self.scale_voxels}.")


@dataclass(frozen=True, eq=False)
class _Anatomy:
    """The anatomy shown by both images of a pair."""

    name: str
    image: Tensor | None
    labels: Tensor | None
    inside: Tensor
    placement: Placement
    ignored: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class _Deformation:
    """Truth, and where the voxels of both images come from; (1, D, *spatial) each."""

    velocity: Tensor
    displacement: Tensor
    fixed: Tensor
    moving: Tensor


@dataclass(frozen=True, eq=False)
class _Side:
    """One image of a pair."""

    image: Tensor
    labels: Tensor | None
    lesion: Tensor


class SyntheticPairs:
    """Pairs made of one image or label map each, or of random shapes, with known displacement.

    The anatomy T is deformed by a random stationary velocity v in two halves,
    ``fixed = T o exp(v/2)`` and ``moving = T o exp(-v/2)``, so that both are interpolated alike and
    ``moving o exp(v)`` is ``fixed``.

    Parameters
    ----------
    manifest : Manifest, optional
        Whose images and label maps to use; None: random shapes only.
    split : str, optional
        "train", ...; None: all subjects.
    synthesis : Synthesis
    shape : spatial shape
        Of random shapes; ignored where there is a manifest.
    layout : TrainingLayout
        Grid of training.
    lesions : Lesions, optional
        Inserted in either image, as ``lesions.where`` says, with exact truth on the fixed grid.
    length : int
        Number of pairs that count as an epoch.
    preload : bool
        Read everything now, so that faults are found now.
    plane : SlicePlane
        Where the pixels of 2D slices lie.

    References
    ----------
    Hoffmann et al., SynthMorph, 2022, doi:10.1109/TMI.2021.3116879.
    """

    def __init__(
        self,
        manifest: Manifest | None = None,
        split: str | None = "train",
        *,
        synthesis: Synthesis = Synthesis(),
        shape: Sequence[int] | None = None,
        layout: TrainingLayout = TrainingLayout(),  # noqa: B008 - frozen
        lesions: Lesions | None = None,
        length: int = 1000,
        preload: bool = True,
        plane: SlicePlane = SLICE_PLANE,
    ) -> None:
        if (manifest is None) == (shape is None):
            raise ArgumentError(
                "either manifest or shape must be given; got both or none. "
                "Random shapes need a shape, images bring their own."
            )
        if length < 1:
            raise ArgumentError(f"length must be at least 1; got {length}.")
        self.synthesis, self.lesions, self.length = synthesis, lesions, length
        self._shape = None if shape is None else tuple(shape)
        self.positions: tuple[int, ...] = ()
        if manifest is not None:
            self.manifest = manifest
            # Ignored labels are not measured, but still rendered as tissue.
            self.store = Store(manifest, layout, keep_ignored=True, plane=plane)
            self.positions = manifest.positions(split)
            if not self.positions:
                raise ArgumentError(
                    f"data must have images in the split {split!r}; got none. Choose another."
                )
            if preload:
                self.store.prepare(self.positions)

    def __len__(self) -> int:
        return self.length

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the samples (of the first, if sizes differ)."""
        if self._shape is not None:
            return self._shape
        return tuple(self.store[self.positions[0]].inside.shape)

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """Draw a pair with known displacement, velocity and lesion.

        Parameters
        ----------
        index : int
            Number of the anatomy.
        generator : torch.Generator
            Source of all randomness: the same state draws the same sample.

        Returns
        -------
        Sample
            The pair with its ground truth.
        """
        anatomy = self._anatomy(index, generator)
        deformation = self._deformation(anatomy, generator)
        looks = self._looks(anatomy, generator)
        sides = [
            self._side(role, anatomy, map_, look, generator)
            for role, map_, look in zip(
                ("fixed", "moving"), (deformation.fixed, deformation.moving), looks, strict=True
            )
        ]
        # The moving image's lesion, seen from the fixed image.
        there = warp(sides[1].lesion[None], deformation.displacement, padding="fill")[0] >= 0.5
        labels = [_kept_labels(side.labels, anatomy.ignored) for side in sides]
        return Sample(
            name=anatomy.name,
            fixed=sides[0].image,
            moving=sides[1].image,
            fixed_labels=labels[0],
            moving_labels=labels[1],
            lesion=torch.maximum(sides[0].lesion, there.float()),
            displacement=deformation.displacement[0],
            velocity=deformation.velocity[0],
        )

    def _anatomy(self, index: int, generator: torch.Generator) -> _Anatomy:
        if self._shape is not None:
            labels = random_shapes(self._shape, generator, count=self.synthesis.shapes)
            placement = Placement.of(Grid.of_array(self._shape))
            inside = torch.ones(self._shape, dtype=torch.bool)
            return _Anatomy("random shapes", None, labels, inside, placement)
        position = self.positions[index % len(self.positions)]
        prepared = self.store[position]
        return _Anatomy(
            name=self.manifest.subjects[position].image.name,
            image=prepared.image.float(),
            labels=prepared.labels,
            inside=prepared.inside,
            placement=self.store.placement(position),
            ignored=self.store.ignored(position),
        )

    def _deformation(self, anatomy: _Anatomy, generator: torch.Generator) -> _Deformation:
        synthesis, shape = self.synthesis, anatomy.inside.shape
        coarse = tuple(-(-n // INTEGRATION_STEP) for n in shape)
        velocity = random_velocity(
            coarse,
            generator,
            peak_voxels=[p / INTEGRATION_STEP for p in synthesis.peak_voxels],
            scale_voxels=[s / INTEGRATION_STEP for s in synthesis.scale_voxels],
        )
        pose = draw_motions(
            Augmentation(
                rotate_both_degrees=synthesis.rotate_degrees,
                shift_voxels=synthesis.shift_voxels,
                flip=synthesis.flip,
            ),
            generator,
            shape,
            anatomy.placement.spacing_mm,
        )[1]
        forward, backward = exponential_pair(0.5 * velocity)
        return _Deformation(
            velocity=resize_velocity(velocity, shape),
            displacement=resize_displacement(compose(forward, forward), shape),
            fixed=posed(resize_displacement(forward, shape), pose),
            moving=posed(resize_displacement(backward, shape), pose),
        )

    def _looks(self, anatomy: _Anatomy, generator: torch.Generator) -> tuple[Look, Look]:
        """Appearance of the anatomy in the fixed and in the moving image."""
        first = self._look(anatomy, generator)
        if uniform(generator, 0, 1) < self.synthesis.same_contrast:
            return first, first
        return first, self._look(anatomy, generator)

    def _look(self, anatomy: _Anatomy, generator: torch.Generator) -> Look:
        synthesis = self.synthesis
        kind = uniform(generator, 0, 1)
        if anatomy.labels is None:
            # No labels to show: their share goes to the other two.
            kind *= synthesis.real + synthesis.remapped
        if anatomy.image is not None and kind < synthesis.real:
            return Look()
        if anatomy.image is not None and (
            kind < synthesis.real + synthesis.remapped or anatomy.labels is None
        ):
            return Look(curve=random_curve(generator))
        assert anatomy.labels is not None
        most = int(anatomy.labels.max())
        return Look(
            intensities=random_intensities(most, generator, background=anatomy.image is not None),
            texture=uniform(generator, *synthesis.texture),
            blur_voxels=uniform(generator, *synthesis.blur_voxels),
        )

    def _side(
        self,
        role: str,
        anatomy: _Anatomy,
        map_: Tensor,
        look: Look,
        generator: torch.Generator,
    ) -> _Side:
        synthesis = self.synthesis
        # Random shapes fill the grid, whatever moves into it.
        fill = synthesis.fill_outside and anatomy.image is not None
        padding = "fill" if fill else "border"

        def moved(mask: Tensor) -> Tensor:
            return warp(mask[None, None], map_, mode="nearest", padding=padding)[0, 0]

        inside = moved(anatomy.inside.to(torch.uint8)) > 0
        labels = None if anatomy.labels is None else moved(anatomy.labels)
        image = look.show(anatomy.image, labels, map_, generator, padding=padding)
        lesion = None
        if self.lesions is not None:
            image, lesion = self.lesions.insert(
                image,
                role,
                generator,
                placement=anatomy.placement,
                inside=inside,
                white=upper_quartile(image[0][inside]),
            )
        contrast = Augmentation(gamma=synthesis.gamma, bias=synthesis.bias)
        image = change_contrast(image, contrast, generator)
        image = torch.from_numpy(normalise(image.numpy()).values)
        image = add_noise(image, uniform(generator, *synthesis.noise), generator)
        lesion = torch.zeros_like(inside) if lesion is None else lesion
        return _Side(image, labels, lesion[None].float())


def _kept_labels(labels: Tensor | None, ignored: Sequence[int]) -> Tensor | None:
    """A label map without the values that count as no label."""
    if labels is None or not ignored:
        return labels
    values = torch.tensor(ignored, dtype=torch.int64)
    return labels.masked_fill(torch.isin(labels.to(torch.int64), values), 0)
