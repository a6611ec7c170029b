"""The distance that drives the per-pair solver."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from itk_ncr.fields import resize_displacement
from itk_ncr.losses import SIMILARITIES, LocalNCC, mind_descriptor
from itk_ncr.ops import exponential, warp
from itk_ncr.registration.solver_settings import InstanceSettings


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
    # Self-similarities are compared by their squared difference.
    row = "mse" if settings.similarity == "mind" else settings.similarity
    similarity = SIMILARITIES[row]
    return lambda moved: similarity(moved, fixed, correspondence, foreground=foreground)
