"""What the per-pair solver minimises: the distance of two images, and what masking would save."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from itk_ncr.fields import resize_displacement
from itk_ncr.losses import (
    EVIDENCE,
    SIMILARITIES,
    LocalNCC,
    Similarity,
    mind_descriptor,
    total_double,
)
from itk_ncr.ops import exponential, warp
from itk_ncr.registration.solver_settings import InstanceSettings

# Rows of EVIDENCE that compare intensities as they are.
ONE_CONTRAST = ("mse", "ncc")
# Weight of leaving the tone as it is, relative to the data.
TONE_RIDGE = 1e-3


def moved_by(velocity: Tensor, moving: Tensor) -> Tensor:
    """The moving image warped by exp(velocity), which lives on a grid of its own."""
    displacement = exponential(velocity)
    return warp(moving, resize_displacement(displacement, moving.shape[2:]))


def features(settings: InstanceSettings, image: Tensor) -> Tensor:
    """What is compared: the image itself, or its self-similarity, which knows no contrast.

    Described once and then warped, channel by channel: describing every warped image anew would
    cost a hundred times as much.
    """
    return mind_descriptor(image) if settings.similarity == "mind" else image


def distance_to(
    settings: InstanceSettings, fixed: Tensor, correspondence: Tensor | None, foreground: Tensor
) -> Callable[[Tensor], Tensor]:
    """The distance of a moved image to the fixed one, with what never changes computed once."""
    if settings.similarity == "lncc":
        return LocalNCC(
            fixed,
            correspondence,
            foreground=foreground,
            radius=settings.radius,
            noise=settings.noise,
        )
    similarity = SIMILARITIES[_of_features(settings.similarity)]
    return lambda moved: similarity(moved, fixed, correspondence, foreground=foreground)


@torch.no_grad()
def evidence_map(
    settings: InstanceSettings,
    moved: Tensor,
    fixed: Tensor,
    foreground: Tensor,
    correspondence: Tensor,
) -> Tensor:
    """What masking a voxel would save, in the unit of the price; 0 outside the foreground."""
    evidence: Similarity = EVIDENCE[_of_features(settings.evidence)]
    if settings.evidence in ONE_CONTRAST:
        moved = toned(moved, fixed, foreground * correspondence)
    return evidence(moved, fixed, correspondence, foreground=foreground) * foreground


def _of_features(row: str) -> str:
    """Self-similarities are compared by their squared difference."""
    return "mse" if row == "mind" else row


def toned(moved: Tensor, fixed: Tensor, weight: Tensor) -> Tensor:
    """The moved image after the cubic tone curve through 0 that brings it closest to the fixed one.

    Two scans of one contrast differ in their curve of intensities; that is no missing tissue.

    Parameters
    ----------
    moved, fixed, weight : Tensor, shape (1, 1, *spatial)
    """
    powers = [moved, moved.square(), moved**3]
    weighted = [power * weight for power in powers]
    gram = torch.stack([torch.cat([total_double(a * b) for b in powers]) for a in weighted])
    target = torch.cat([total_double(a * fixed) for a in weighted])
    if not gram[0, 0] > 0:  # nothing corresponds, so there is nothing to go by
        return moved
    ridge = TONE_RIDGE * gram.diagonal().mean() * torch.eye(len(powers), dtype=gram.dtype)
    unchanged = torch.zeros_like(target)
    unchanged[0] = 1
    curve = torch.linalg.solve(gram + ridge, target + ridge @ unchanged)
    return sum(c * power for c, power in zip(curve.to(moved.dtype), powers, strict=True))
