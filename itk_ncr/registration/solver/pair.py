"""The pair that the solver works on: two images on one grid, and coarser versions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itk_ncr.fields import downsample, reduced_shape
from itk_ncr.ops import resize
from itk_ncr.registration.solver.masking import dilate

# Share of unmasked voxels from which a coarse voxel can be made.
LEAST_CERTAINTY = 0.02


@dataclass(frozen=True)
class Pair:
    """Two images on one grid, ready to be solved.

    Attributes
    ----------
    fixed, moving : Tensor, shape (1, 1, *spatial)
        On a common scale, see ``preprocessing``; the moving one seen through the affine.
    foreground : Tensor, shape (1, 1, *spatial)
        1 where the similarity counts.
    known : Tensor, shape (1, 1, *spatial), optional
        1 where it is known that the fixed image has no partner.
    known_moving : Tensor, shape (1, 1, *spatial), optional
        1 where it is known that the moving image has no partner.
    suspected : Tensor, shape (1, 1, *spatial), optional
        1 where the fixed image has no partner as far as is known by now: kept out of the coarser
        versions of its surroundings.
    spacing : tuple of float
        Voxel sizes in array order; only their ratios matter.
    outside : Tensor, shape (1, 1, *spatial), optional
        1 where the moving image has no voxels: nothing is compared with what comes from there.
    """

    fixed: Tensor
    moving: Tensor
    foreground: Tensor
    known: Tensor | None
    known_moving: Tensor | None
    spacing: tuple[float, ...]
    suspected: Tensor | None = None
    outside: Tensor | None = None

    def compared(self) -> Tensor:
        """1 where fixed voxels are compared before anything is found, (1, 1, *spatial)."""
        return self.foreground if self.known is None else self.foreground * (1 - self.known)

    def suspecting(self, mask: Tensor) -> Pair:
        """The pair with a mask, (1, 1, *spatial), besides what is suspected already."""
        if self.suspected is not None:
            mask = torch.maximum(mask, self.suspected)
        return replace(self, suspected=mask if bool(mask.any()) else None)

    def reversed(self, foreground: Tensor) -> Pair:
        """The pair with its images swapped.

        Parameters
        ----------
        foreground : Tensor, shape (1, 1, *spatial)
            In the space of the moving image.
        """
        return Pair(
            self.moving, self.fixed, foreground, self.known_moving, self.known, self.spacing
        )

    def reduced(self, factor: float) -> Pair:
        """The pair on a coarser grid; axes with larger voxels are reduced later."""
        shape = level_shape(self.fixed.shape[2:], self.spacing, factor)
        if shape == tuple(self.fixed.shape[2:]):
            return self
        scale = [
            s * max(n - 1, 1) / max(m - 1, 1)
            for s, n, m in zip(self.spacing, self.fixed.shape[2:], shape, strict=True)
        ]
        return replace(
            self,
            fixed=_downsample_without(self.fixed, self.suspected, shape),
            moving=downsample(self.moving, shape),
            foreground=(resize(self.foreground, shape) > 0.3).to(self.fixed.dtype),
            known=_reduced_mask(self.known, shape),
            known_moving=_reduced_mask(self.known_moving, shape),
            suspected=_reduced_mask(self.suspected, shape),
            outside=_reduced_mask(self.outside, shape),
            spacing=tuple(scale),
        )


def _downsample_without(image: Tensor, masked: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """A coarser image into which the masked voxels do not blur (normalised convolution)."""
    reduced = downsample(image, shape)
    if masked is None:
        return reduced
    weight = 1 - dilate(masked, 1)
    certainty = downsample(weight, shape)
    seen = downsample(image * weight, shape) / certainty.clamp(min=1e-3)
    return torch.where(certainty > LEAST_CERTAINTY, seen, reduced)


def _reduced_mask(mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    return None if mask is None else (resize(mask, shape) >= 0.5).to(mask.dtype)


def level_shape(
    shape: tuple[int, ...] | torch.Size, spacing: tuple[float, ...], factor: float
) -> tuple[int, ...]:
    """Grid whose voxels are ``factor`` times the smallest spacing, or as large as they are."""
    target = factor * min(spacing)
    factors = [max(1.0, target / h) for h in spacing]
    return reduced_shape(shape, factors, minimum=8)
