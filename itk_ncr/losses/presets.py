"""Published weights, converted to canonical units.

The paper prints weights for sums over voxels (2D), for means (3D), and for velocities in
coordinates from -1 to 1 (2D), so its numbers only mean something together with the size of the
image they were used at. Here they are converted by formulas, not copied by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from itk_ncr.losses.functional import Functional

PAPER = "doi:10.1007/s11548-022-02577-4"  # Andresen et al., Int J CARS 17, 2022


@dataclass(frozen=True)
class PublishedWeights:
    """Weights as printed in the paper, and their units.

    Attributes
    ----------
    alpha, beta, gamma, lambda_ : float
        Of smoothness, volume, perimeter and overlap.
    level_weights : tuple of float
        Finest first.
    similarity : str
        A row of ``SIMILARITIES``.
    reference_voxels : int
        Number of voxels beta and gamma were summed over; 1 where they weigh means.
    normalised_grid : (height, width) or None
        Grid of the velocities that alpha was used with, in coordinates from -1 to 1; None where
        they were in voxels.
    source, remark : str
    """

    alpha: float
    beta: float
    gamma: float
    lambda_: float
    level_weights: tuple[float, ...]
    similarity: str
    reference_voxels: int
    normalised_grid: tuple[int, int] | None
    source: str
    remark: str

    def alpha_per_axis(self) -> tuple[float, ...]:
        """Price of the mean squared gradient in voxels, per component in array order.

        A 2D smoother of the published code takes the mean over columns and the sum over the H rows
        of squared gradients, of a field in which one voxel is 2 / (n - 1).
        """
        if self.normalised_grid is None:
            return (self.alpha,)
        height, _ = self.normalised_grid
        return tuple(self.alpha * height * (2 / (n - 1)) ** 2 for n in self.normalised_grid)

    def canonical(self) -> Functional:
        """Convert to canonical units.

        Of the two values of alpha the geometric mean is taken: which axis is the longer one says
        nothing about the tissue.
        """
        per_axis = self.alpha_per_axis()
        return Functional(
            similarity=self.similarity,
            alpha=math.prod(per_axis) ** (1 / len(per_axis)),
            tau=self.beta * self.reference_voxels,
            kappa=self.gamma * self.reference_voxels,
            lam=self.lambda_,
            level_weights=self.level_weights,
            reference_voxels=self.reference_voxels,
        )


# The weights that the paper prints, by the name of their experiment.
PUBLISHED: dict[str, PublishedWeights] = {
    "oct": PublishedWeights(
        alpha=0.8,
        beta=2.4e-7,
        gamma=1.2e-7,
        lambda_=0.4,
        level_weights=(0.5, 0.3, 0.2),
        similarity="mse",
        reference_voxels=496 * 384,
        normalised_grid=(496, 384),
        source=PAPER,
        remark="B-scans of 496 x 384 pixels; intensities in [0, 1].",
    ),
    "mri-2d": PublishedWeights(
        alpha=2.0,
        beta=1.3e-6,
        gamma=5.1e-7,
        lambda_=1.0,
        level_weights=(0.7, 0.2, 0.1),
        similarity="ncc",
        reference_voxels=181 * 217,
        normalised_grid=(224, 192),
        source=PAPER,
        remark="Slices of 181 x 217 pixels. The network needs multiples of 16, and the paper does "
        "not say whether they were cropped (208 x 176) or padded (224 x 192): the slice itself "
        "lies between the two.",
    ),
    "mri-3d": PublishedWeights(
        alpha=4.0,
        beta=2e-2,
        gamma=6e-3,
        lambda_=1.0,
        level_weights=(0.7, 0.2, 0.1),
        similarity="ncc",
        reference_voxels=1,
        normalised_grid=None,
        source=PAPER,
        remark="Means over 96 x 96 x 112 voxels; sums would forbid every mask and every "
        "deformation. With the paper's own Sobel kernels a masked voxel costs beta + gamma.",
    ),
}

# The published weights in canonical units, by the name of their experiment.
PRESETS: dict[str, Functional] = {name: weights.canonical() for name, weights in PUBLISHED.items()}
