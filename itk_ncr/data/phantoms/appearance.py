"""Appearance models of lesions and their insertion into an image.

No T1 images of the strokes whose masks exist could be had, so appearances are modelled after what
is known of them: acute ones are a little darker than the tissue, chronic ones are filled with
fluid and have a soft rim of scarred tissue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itk_ncr.data.augmentation import uniform
from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.fields import smooth

Range = tuple[float, float]


@dataclass(frozen=True)
class Appearance:
    """Intensities inside a lesion relative to the image; every range is drawn from uniformly.

    Attributes
    ----------
    level : (low, high), optional
        Intensity as a share of white matter's; what was there before is gone.
    gain : (low, high), optional
        Factor on the tissue that was there, which stays visible. One of the two is given.
    texture : float
        Relative standard deviation of a smooth random pattern inside.
    texture_mm : float
        Gaussian sigma of the pattern.
    rim_mm : (low, high)
        Gaussian sigma of the edge: from 10 to 90 % takes 2.6 of it.
    """

    level: Range | None = None
    gain: Range | None = None
    texture: float = 0.0
    texture_mm: float = 1.75
    rim_mm: Range = (0.5, 0.8)

    def __post_init__(self) -> None:
        if (self.level is None) == (self.gain is None):
            raise ArgumentError(
                f"appearance must have either a level or a gain; got level {self.level} and gain "
                f"{self.gain}. Give one of them."
            )


# How a lesion of an even look appears, by its kind.
APPEARANCES: dict[str, Appearance] = {
    "acute": Appearance(gain=(0.7, 0.9), texture=0.03),
    "chronic": Appearance(level=(0.25, 0.4), texture=0.1, rim_mm=(0.8, 1.2)),
    "grey": Appearance(level=(0.5, 0.75), texture=0.15, texture_mm=2.5),
    "bright": Appearance(gain=(1.15, 1.4), texture=0.05),
}


def insert_lesion(
    image: Tensor,
    mask: Tensor,
    appearance: Appearance,
    generator: torch.Generator,
    *,
    white: float,
    spacing_mm: Sequence[float],
) -> Tensor:
    """The image with a lesion in the mask; background stays background.

    Parameters
    ----------
    image : Tensor, shape (1, *spatial), float32
        On the scale of ``preprocessing.normalise``.
    mask : Tensor, shape (*spatial), bool
    appearance : Appearance
    generator : torch.Generator
    white : float
        Intensity of white matter in this image.
    spacing_mm : one float per array axis

    Returns
    -------
    Tensor, shape (1, *spatial)
        A new tensor. Voxels further than four sigmas of the rim from the mask are as they were.
    """
    if mask.shape != image.shape[1:]:
        raise ShapeError(
            f"mask must have the shape of image, {tuple(image.shape[1:])}; got "
            f"{tuple(mask.shape)}. Resample it first."
        )
    share = uniform(generator, *(appearance.level or appearance.gain or (1.0, 1.0)))
    rim_mm = uniform(generator, *appearance.rim_mm)
    if not mask.any():
        return image.clone()
    sigma = [rim_mm / s for s in spacing_mm]
    box = bounding_box(mask, [math.ceil(4 * s) + 1 for s in sigma])
    patch = image[(slice(None), *box)]
    coverage = smooth(mask[box].float()[None, None], sigma)[0]
    pattern = 1.0 + appearance.texture * _texture(
        patch.shape[1:], [appearance.texture_mm / s for s in spacing_mm], generator
    )
    ill = share * pattern * (patch if appearance.level is None else white)
    mixed = torch.where(patch > 0, (patch + coverage * (ill - patch)).clamp(min=0), patch)
    result = image.clone()
    result[(slice(None), *box)] = mixed
    return result


def bounding_box(mask: Tensor, margin: Sequence[int]) -> tuple[slice, ...]:
    """The smallest box around the voxels of a mask, widened by a margin inside the grid."""
    slices = []
    for axis, width in enumerate(margin):
        others = [a for a in range(mask.ndim) if a != axis]
        hit = torch.nonzero(_any(mask, others))
        low, high = int(hit[0]), int(hit[-1]) + 1
        slices.append(slice(max(0, low - width), min(mask.shape[axis], high + width)))
    return tuple(slices)


def _any(mask: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in sorted(axes, reverse=True):
        mask = mask.any(axis)
    return mask


def _texture(shape: Sequence[int], sigma: Sequence[float], generator: torch.Generator) -> Tensor:
    """Smooth noise of mean 0 and deviation 1; (1, *shape)."""
    noise = smooth(torch.randn(1, 1, *shape, generator=generator), sigma)[0]
    noise = noise - noise.mean()
    return noise / noise.square().mean().sqrt().clamp_min(1e-6)
