"""Quality figures of a registration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from itk_ncr.images import Image, slabs


@dataclass(frozen=True)
class Quality:
    """Figures of one registration; lengths in voxels are those of the fixed grid."""

    distance_before: float
    """Mean distance of the images over the fixed foreground, after the affine only."""
    distance_outside: float
    """The same distance after registration, over the corresponding voxels only."""
    masked_fraction: float
    """Share of the fixed foreground whose noncorrespondence is above the threshold."""
    masked_fraction_moving: float
    """The same for the moving foreground."""
    minimum_jacobian: float
    """Smallest determinant of the Jacobian of the deformation (without the affine) in the fixed
    foreground."""
    folding_fraction: float
    """Share of the fixed foreground whose determinant is not positive."""
    inverse_error_mean_voxel: float
    """Mean length of ``phi^-1(phi(x)) - x`` over the fixed foreground, in voxels of the fixed
    grid."""
    inverse_error_max_voxel: float
    """Largest length of ``phi^-1(phi(x)) - x`` there, in voxels of the fixed grid."""
    overlap_fraction: float
    """Share of the fixed foreground that the affine carries into the moving image."""
    iterations: int
    """Iterations over all levels."""
    seconds: float
    """Wall time without reading files."""
    affine_determinant: float = 1.0
    """Volume of the moving object over that of the fixed one, as the affine has it."""

    def as_dict(self) -> dict[str, float | int]:
        """The figures by name."""
        return dataclasses.asdict(self)


def masked_share(probability: Image, foreground: Image, threshold: float) -> float:
    """Share of the foreground whose probability is above the threshold; 0 without foreground."""
    rows, shown = probability.rows(), foreground.rows()
    masked = count = 0
    for slab in slabs(probability.grid):
        among = shown(slab) > 0
        masked += int(np.count_nonzero((rows(slab) > threshold) & among))
        count += int(np.count_nonzero(among))
    return masked / count if count else 0.0
