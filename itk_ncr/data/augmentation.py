"""Random augmentation of training pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.errors import ArgumentError
from itk_ncr.ops import resize, warp

Affine = NDArray[np.float64]
# Knots of the bias field along every axis: it varies over about a third of the image.
BIAS_KNOTS = 4


@dataclass(frozen=True)
class Augmentation:
    r"""Ranges of the augmentation; every number is the bound of a uniform distribution.

    Attributes
    ----------
    rotate_one_degrees, rotate_both_degrees : float
        One image is rotated by up to the first, or both by the same angle of up to the second;
        which of the two, is drawn. In 3D the axis is drawn, too.
    shift_voxels : float
        Shift of the moving image along every axis.
    shift_height : float
        Further shift of the moving image along its rows (the last axis but one), as a share of
        their number.
    flip : bool
        Flip both images left-right (along the last axis) every other time. Left and right labels
        keep their values, in both images alike.
    noise : float
        Standard deviation of Gaussian noise where the image is not background.
    gamma : float
        Each image becomes ``image ** exp(g)`` with \|g\| up to this.
    bias : float
        Each image is multiplied by ``exp(b)``, b smooth and up to this.
    remapped : float
        Fraction of pairs whose images are both shown through one random map of intensities: another
        contrast, which is why a lesion is inserted after it.
    fill_outside : bool
        Whether what was outside the image becomes background; otherwise its border repeats.
    """

    rotate_one_degrees: float = 0.0
    rotate_both_degrees: float = 0.0
    shift_voxels: float = 0.0
    shift_height: float = 0.0
    flip: bool = False
    noise: float = 0.0
    gamma: float = 0.0
    bias: float = 0.0
    remapped: float = 0.0
    fill_outside: bool = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ArgumentError(f"{name} must be finite and >= 0; got {value}. 0 turns it off.")
        if self.remapped > 1:
            raise ArgumentError(f"remapped must be in [0, 1]; got {self.remapped}. 1: every pair.")


# NCR-Net's training, doi:10.1007/s11548-022-02577-4; its noise is not given: 2 % of white matter is
# what T1 images at 1.5 to 3 T have.
AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "mri": Augmentation(
        rotate_one_degrees=3.0, rotate_both_degrees=8.0, shift_voxels=4.0, flip=True, noise=0.02
    ),
    "oct": Augmentation(rotate_both_degrees=7.0, shift_height=0.25, flip=True, fill_outside=False),
    # What a rigid transformer has to undo: the differences between two images of one person.
    "rigid": Augmentation(
        rotate_one_degrees=7.0,
        shift_voxels=4.0,
        shift_height=0.25,
        flip=True,
        noise=0.02,
        gamma=0.2,
        bias=0.2,
    ),
}


@dataclass(frozen=True, eq=False)
class Side:
    """One image of a pair with its labels and lesion."""

    image: Tensor
    labels: Tensor | None = None
    lesion: Tensor | None = None


def draw_motions(
    augmentation: Augmentation,
    generator: torch.Generator,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
) -> tuple[Affine | None, Affine | None]:
    """Draw where the voxels of the fixed and of the moving image come from.

    Parameters
    ----------
    augmentation : Augmentation
    generator : torch.Generator
    shape : spatial shape
    spacing_mm : one float per array axis
        So that a rotation is one in space.

    Returns
    -------
    two ndarrays, shape (D, D + 1), or None
        ``image_new(p) = image(affine @ (p, 1))``, array order, voxels; None: nothing moves.
    """
    dimension = len(shape)
    one, both = augmentation.rotate_one_degrees, augmentation.rotate_both_degrees
    angles = [0.0, 0.0]
    axis = _unit(torch.randn(3, generator=generator))
    # A kind of rotation that is turned off is not drawn.
    together = both > 0 and (one == 0 or uniform(generator, 0, 1) < 0.5)
    if together:
        angles = [uniform(generator, -both, both)] * 2
    elif one > 0:
        angles[int(uniform(generator, 0, 2))] = uniform(generator, -one, one)
    shift = np.array([uniform(generator, -1, 1) for _ in shape]) * augmentation.shift_voxels
    height = augmentation.shift_height * shape[-2]
    shift[-2] += uniform(generator, -height, height) if height else 0.0
    flipped = augmentation.flip and uniform(generator, 0, 1) < 0.5
    motions = []
    for angle, offset in zip(angles, (np.zeros(dimension), shift), strict=True):
        linear = rotation(angle, dimension, spacing_mm, axis)
        if flipped:
            linear = linear @ np.diag([1.0] * (dimension - 1) + [-1.0])
        centre = (np.asarray(shape) - 1) / 2
        affine = np.column_stack([linear, centre - linear @ centre - offset])
        still = angle == 0 and not flipped and not offset.any()
        motions.append(None if still else affine)
    return motions[0], motions[1]


def rotation(
    degrees: float, dimension: int, spacing_mm: Sequence[float], axis: Sequence[float]
) -> Affine:
    """Linear map of voxel offsets from an image rotated by ``degrees`` to the image before.

    In 2D what lies on the first axis (down) turns towards the second (right): counter-clockwise as
    images are shown. In 3D it turns about ``axis``, a unit vector in array order, by the rule of
    Rodrigues.
    """
    angle = math.radians(degrees)
    if dimension == 2:
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    else:
        a, b, c = axis
        cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
        turn = np.eye(3) - math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    spacing = np.asarray(spacing_mm, np.float64)
    return turn * spacing / spacing[:, None]


def move(side: Side, affine: Affine | None, *, fill_outside: bool = True) -> Side:
    """Resample an image, its labels and its lesion, all by the same displacement and once."""
    if affine is None:
        return side
    displacement = affine_displacement(affine, side.image.shape[1:])
    padding = "fill" if fill_outside else "border"
    channels = [side.image]
    if side.lesion is not None:
        channels.append(side.lesion.float())
    moved = warp(torch.cat(channels)[None], displacement, padding=padding)[0]
    labels = side.labels
    if labels is not None:
        labels = warp(labels[None, None], displacement, mode="nearest", padding=padding)[0, 0]
    lesion = None if side.lesion is None else (moved[1:] > 0.5).float()
    return Side(moved[:1], labels, lesion)


def affine_displacement(affine: Affine, shape: Sequence[int]) -> Tensor:
    """(1, D, *shape): displacement ``affine @ (p, 1) - p`` in voxels."""
    dimension = len(shape)
    field = torch.empty(1, dimension, *shape)
    for channel in range(dimension):
        total = torch.tensor(affine[channel, -1], dtype=torch.float32)
        for axis, n in enumerate(shape):
            slope = float(affine[channel, axis]) - (channel == axis)
            line = slope * torch.arange(n, dtype=torch.float32)
            total = total + line.view(-1, *(1,) * (dimension - 1 - axis))
        field[0, channel] = total
    return field


def change_contrast(
    image: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    """The image with another gamma and bias field; (1, *spatial) to the same."""
    if augmentation.gamma > 0:
        image = image.pow(math.exp(uniform(generator, -augmentation.gamma, augmentation.gamma)))
    if augmentation.bias > 0:
        knots = torch.rand(1, 1, *(BIAS_KNOTS,) * (image.ndim - 1), generator=generator)
        field = resize((2 * knots - 1) * augmentation.bias, image.shape[1:])[0]
        image = image * field.exp()
    return image


def add_noise(image: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """The image with Gaussian noise where it is not background; stays >= 0."""
    if deviation == 0:
        return image
    noise = torch.randn(image.shape, generator=generator)
    return torch.where(image > 0, (image + deviation * noise).clamp_(min=0), image)


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number between low and high."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def _unit(vector: Tensor) -> list[float]:
    return (vector / vector.norm()).tolist()
