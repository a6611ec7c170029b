"""The gradient flow that all variational methods share: force, step, regularise; coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itk_ncr.errors import RegistrationError
from itk_ncr.fields import resize_displacement
from itk_ncr.ops import exponential, warp
from itk_ncr.registration.classical.task import ignored
from itk_ncr.registration.solver import Pair
from itk_ncr.registration.variational.forces import Force, gradient
from itk_ncr.registration.variational.regularisers import Regulariser
from itk_ncr.registration.variational.schedule import RISES, MetricHistory

SPACES = ("standard", "diffeomorphic", "symmetric")
# No voxel moves further in one step, in voxels of the level: a few windows of nearly even intensity
# exert forces that are far above all others.
LONGEST_STEP = 1.0
# A metric that is higher than at first by this factor has diverged.
DIVERGED = 1.2


@dataclass(frozen=True)
class Flow:
    """Force and smoother of a flow.

    Attributes
    ----------
    force : callable
    regularise : callable
    tau : float
        Length of a step.
    space : str
        "standard" moves a displacement; "diffeomorphic" a velocity, of which it is the exponential;
        "symmetric" a velocity, by the forces of both images.
    method : str
        For messages.
    """

    force: Force
    regularise: Regulariser
    tau: float
    space: str
    method: str

    def displacement(self, field: Tensor) -> Tensor:
        """The displacement of a field."""
        return field if self.space == "standard" else exponential(field)


def descend_level(
    flow: Flow,
    pair: Pair,
    field: Tensor,
    iterations: int,
    finest: bool,
    told: Callable[[], None],
) -> tuple[Tensor, int]:
    """The field of the lowest metric on one level, and the number of iterations.

    Parameters
    ----------
    flow : Flow
    pair : Pair
        Of the level.
    field : Tensor, shape (1, D, *spatial)
    iterations : int
        Maximum number of iterations.
    finest : bool
        Whether this is the last level.
    told : callable
        Called once per iteration; may raise to stop.

    Raises
    ------
    RegistrationError
        If the metric is no number, or rises from the first iterations on.
    """
    track = MetricHistory(finest)
    best, lowest = field, float("inf")
    for number in range(iterations):
        told()
        direction, metric = _force(flow, pair, field)
        if metric != metric:
            raise _diverged(flow, "an energy that is no number")
        if metric < lowest:
            best, lowest = field, metric
        if track.done(metric):
            return best, number + 1
        if number == RISES and lowest == track.values[0] and metric > DIVERGED * lowest + 1e-6:
            raise _diverged(flow, f"an energy that rose {RISES} times, to {metric:.3g}")
        field = flow.regularise(field + _step(flow.tau * direction))
    return best, iterations


def _step(update: Tensor) -> Tensor:
    """An update, shorter where it would carry a voxel further than ``LONGEST_STEP``."""
    furthest = update.square().sum(1).amax().sqrt()
    return update * (LONGEST_STEP / furthest.clamp(min=LONGEST_STEP))


def _diverged(flow: Flow, what: str) -> RegistrationError:
    return RegistrationError(
        f"method {flow.method!r} must come closer with every step; got {what}. "
        "Use a smaller tau or a larger alpha (method_options)."
    )


def _force(flow: Flow, pair: Pair, field: Tensor) -> tuple[Tensor, float]:
    """The direction in which the field should go, and the mean metric of what is compared."""
    displacement = flow.displacement(field)
    masked = ignored(pair, displacement)
    forward, metric = _one_way(flow, pair.moving, pair.fixed, displacement, masked)
    if flow.space != "symmetric":
        return forward, metric
    inverse = flow.displacement(-field)
    behind = None if masked is None else (warp(masked, inverse) >= 0.5).to(masked.dtype)
    backward, other = _one_way(flow, pair.fixed, pair.moving, inverse, behind)
    return (forward - backward) / 2, (metric + other) / 2


def _one_way(
    flow: Flow, moving: Tensor, fixed: Tensor, displacement: Tensor, masked: Tensor | None
) -> tuple[Tensor, float]:
    moved = warp(moving, displacement)
    if masked is not None:
        # No difference in the mask, so that windows across its edge are not misled.
        fixed = torch.where(masked > 0.5, moved, fixed)
    force, metric = flow.force(moved, fixed, gradient(moved))
    if masked is None:
        return force, float(metric.mean())
    used = masked < 0.5
    if not bool(used.any()):
        return torch.zeros_like(force), 0.0
    return torch.where(used, force, 0.0), float(metric[used].mean())


def on_grid(field: Tensor, pair: Pair) -> Tensor:
    """A field on the grid of a level."""
    return resize_displacement(field, pair.fixed.shape[2:])
