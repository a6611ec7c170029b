"""Descent of the velocity on one level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from itk_ncr.fields import smooth
from itk_ncr.losses import total_double

Energy = Callable[[Tensor], Tensor]

# Root mean square of the gradient, per voxel and in distance per voxel of motion, below which steps
# get shorter: pairs that differ start at 0.3, an image and itself at 0.0002.
WEAK_GRADIENT = 0.05


class Steps(Protocol):
    """A descent under way."""

    velocity: Tensor
    """Where it is, (1, D, *spatial)."""

    def step(self, energy: Energy) -> float:
        """Take one step; returns the energy before it."""
        ...


class Descent(Protocol):
    """A way to minimise an energy; one line of a settings record."""

    def begin(self, velocity: Tensor, iterations: int) -> Steps:
        """Begin at a velocity, for at most this many steps."""
        ...

    def stiffer(self, factor: float) -> Descent:
        """The same for an energy whose roughness costs this many times as much."""
        ...


@dataclass(frozen=True)
class MomentumDescent:
    """Gradient descent with momentum; every voxel's step is measured by its usual gradient.

    A step has the same length wherever the gradient is as strong as it usually is there, after
    Adam, but for a direction that keeps its angle: one scale for all components of a voxel.

    Attributes
    ----------
    step : float
        Length of an update of the velocity at the start of a level, in voxels: root mean square
        over the places where the gradient has its usual strength.
    final_step : float
        Share of the step that is left at the end of a level.
    momentum, memory : float
        Share of the last direction, and of the last mean squared gradient, that is kept.
    gradient_floor : float
        A gradient that is weaker than this share of its root mean square over the image makes
        shorter steps.
    gradient_smoothing : float
        Sigma of the Gaussian through which the gradient passes, in voxels of the velocity.

    References
    ----------
    Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980; for
    registration: Jena et al., "FireANTs", 2024, arXiv:2404.01249.
    """

    step: float = 0.3
    final_step: float = 0.2
    momentum: float = 0.9
    memory: float = 0.9
    gradient_floor: float = 0.1
    gradient_smoothing: float = 1.0

    def begin(self, velocity: Tensor, iterations: int) -> Steps:
        """Begin at a velocity, for at most this many steps."""
        return _MomentumSteps(velocity, self, iterations)

    def stiffer(self, factor: float) -> MomentumDescent:
        """Stiffer fields overshoot with steps of the same length: shorter and smoother ones."""
        return replace(
            self,
            step=self.step * min(1.0, factor**-0.5),
            gradient_smoothing=self.gradient_smoothing * factor**0.5,
        )


class _MomentumSteps:
    def __init__(self, velocity: Tensor, settings: MomentumDescent, iterations: int) -> None:
        self.velocity = velocity.clone()
        self.settings, self.iterations = settings, iterations
        self.direction = torch.zeros_like(velocity)
        self.squares = velocity.new_zeros(1, 1, *velocity.shape[2:])
        self.count = 0

    def step(self, energy: Energy) -> float:
        settings = self.settings
        velocity = self.velocity.requires_grad_(True)
        value = energy(velocity)
        (gradient,) = torch.autograd.grad(value, velocity)
        gradient = smooth(gradient, settings.gradient_smoothing)
        squares = gradient.square().sum(1, keepdim=True)
        forget = 1.0 if self.count == 0 else 1 - settings.memory
        self.squares.mul_(1 - forget).add_(squares, alpha=forget)
        self.direction.mul_(settings.momentum).add_(gradient, alpha=1 - settings.momentum)
        voxels = squares.numel()
        usual = math.sqrt(float(total_double(self.squares).sum()) / voxels)
        floor = max(settings.gradient_floor * usual, WEAK_GRADIENT / voxels - usual)
        share = 1 - (1 - settings.final_step) * self.count / max(self.iterations, 1)
        update = self.direction / self.squares.sqrt().add_(floor)
        self.velocity = velocity.detach().sub_(update, alpha=settings.step * share)
        self.count += 1
        return float(value.detach())
