"""Damped Gauss-Newton steps for weighted squared differences with a curvature regulariser.

The energy of a field v, of which the displacement u is the exponential, is

    sum over x of w(x) (M(x + u) - F)^2 + alpha |Laplace v|^2.

A step solves the normal equations of the linearised difference by conjugate gradients,
preconditioned in the cosine basis, in which the regulariser is diagonal. The derivative of the
exponential is left out of the step, not of the energy: a step that does not lower the energy is not
taken, and the next one is damped more.

References
----------
Levenberg, "A method for the solution of certain non-linear problems in least squares", Quart Appl
Math 2, 1944, doi:10.1090/qam/10666.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itk_ncr.ops import exponential, warp
from itk_ncr.registration.classical.task import ignored
from itk_ncr.registration.solver import Pair
from itk_ncr.registration.variational.forces import gradient
from itk_ncr.registration.variational.regularisers import curvature, laplacian

# Conjugate-gradient steps per Gauss-Newton step; more change the Jaccard by less than .001.
INNER_STEPS = 6
# Damping, in units of the mean squared gradient: at first, its least, and its changes.
DAMPING, LEAST_DAMPING, EASED, STIFFENED = 0.1, 0.01, 0.5, 8.0
# Rejected steps in a row after which a field is left as it is.
REJECTIONS = 3
# A step that lowers the energy by a smaller share than this is the last one.
LEAST_PROGRESS = 1e-4


@dataclass(frozen=True)
class LeastSquares:
    """Weighted squared difference of a pair, and the price of roughness.

    Attributes
    ----------
    pair : Pair
        On the grid of one level.
    alpha : float
        Price of a squared Laplacian of one voxel.
    """

    pair: Pair
    alpha: float

    def moved(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """The moving image under a field, and 1 where it is compared: (1, 1, *spatial) both."""
        displacement = exponential(field)
        masked = ignored(self.pair, displacement)
        moved = warp(self.pair.moving, displacement)
        return moved, torch.ones_like(moved) if masked is None else 1 - masked

    def squares(self, field: Tensor) -> Tensor:
        """Squared difference of each voxel, (1, 1, *spatial); 0 where nothing is compared."""
        moved, compared = self.moved(field)
        return (moved - self.pair.fixed).square() * compared

    def roughness(self, field: Tensor) -> float:
        """The regulariser's part of the energy."""
        return self.alpha * float(laplacian(field).double().square().sum())

    def energy(self, field: Tensor, weight: Tensor) -> float:
        """The energy of a field under weights of the voxels, (1, 1, *spatial)."""
        return float((weight * self.squares(field)).double().sum()) + self.roughness(field)

    def step(self, field: Tensor, weight: Tensor, damping: float) -> Tensor:
        """The damped Gauss-Newton update of a field."""
        moved, compared = self.moved(field)
        direction = gradient(moved)
        weight = weight * compared
        scale = float((weight * direction.square()).sum() / weight.sum().clamp(min=1))
        scale = max(scale / direction.shape[1], 1e-9)
        shift = damping * scale
        descent = weight * (self.pair.fixed - moved) * direction
        descent = descent - self.alpha * laplacian(laplacian(field))

        def normal(update: Tensor) -> Tensor:
            along = (direction * update).sum(1, keepdim=True)
            stiff = self.alpha * laplacian(laplacian(update))
            return weight * along * direction + stiff + shift * update

        middle = scale + shift
        smooth = curvature(self.alpha / middle)
        return _solve(normal, lambda residual: smooth(residual) / middle, descent)


def _solve(
    matrix: Callable[[Tensor], Tensor], precondition: Callable[[Tensor], Tensor], right: Tensor
) -> Tensor:
    """Preconditioned conjugate gradients, ``INNER_STEPS`` of them."""
    found, residual = torch.zeros_like(right), right
    ready = precondition(residual)
    direction, slope = ready, (residual * ready).sum()
    for _ in range(INNER_STEPS):
        image = matrix(direction)
        length = slope / (direction * image).sum().clamp(min=1e-30)
        found = found + length * direction
        residual = residual - length * image
        ready = precondition(residual)
        slope, before = (residual * ready).sum(), slope
        direction = ready + slope / before.clamp(min=1e-30) * direction
    return found


def descend(
    problem: LeastSquares,
    field: Tensor,
    weight: Tensor,
    iterations: int,
    told: Callable[[], None],
    pulling: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Lower the energy of a field, and count the steps; it never rises.

    Parameters
    ----------
    problem : LeastSquares
    field : Tensor, shape (1, D, *spatial)
    weight : Tensor, shape (1, 1, *spatial)
    iterations : int
        Steps, at most.
    told : callable
        Called once per step; may raise to stop.
    pulling : Tensor, shape (1, 1, *spatial), optional
        Weights of the forces, where they are others than those of the energy.
    """
    pulling = weight if pulling is None else pulling
    energy, damping, rejected = problem.energy(field, weight), DAMPING, 0
    for number in range(iterations):
        told()
        trial = field + problem.step(field, pulling, damping)
        reached = problem.energy(trial, weight)
        if not reached < energy:
            damping, rejected = damping * STIFFENED, rejected + 1
            if rejected == REJECTIONS:
                return field, number + 1
            continue
        progress = (energy - reached) / energy
        field, energy, rejected = trial, reached, 0
        damping = max(damping * EASED, LEAST_DAMPING)
        if progress < LEAST_PROGRESS:
            return field, number + 1
    return field, iterations
