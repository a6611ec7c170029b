"""Return value of every network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """Velocities, displacements and masks by scale, finest first.

    Attributes
    ----------
    velocity : tuple of Tensor, each of shape (N, D, *spatial)
        Stationary velocities, in voxels of their scale.
    displacement : tuple of Tensor, each of shape (N, D, *spatial)
        exp(velocity), in voxels of their scale.
    noncorrespondence : tuple of Tensor, each of shape (N, 1, *spatial)
        Probability that a fixed voxel has no partner; empty where a network models none.
    """

    velocity: tuple[Tensor, ...]
    displacement: tuple[Tensor, ...]
    noncorrespondence: tuple[Tensor, ...] = ()
