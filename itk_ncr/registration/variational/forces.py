"""Image forces of variational registration.

Every force is the negative derivative of its pointwise metric with respect to the displacement, up
to the omissions that are named. They leave out what neighbours' windows contribute, as the original
does.

References
----------
Werner et al., "Estimation of lung motion fields in 4D CT data by variational non-linear
intensity-based registration", Phys Med Biol 59, 2014, doi:10.1088/0031-9155/59/15/4247.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from itk_ncr.ops import box_sum

# Differences below this exert no force, on a scale on which bright tissue is 1: .001 of 8 bits.
LEAST_DIFFERENCE = 1e-3 / 255
LEAST_DENOMINATOR = 1e-9
# Product of the variances of two windows below which they count as flat, bright tissue being 1.
# The original's 1e-5 is for other scales.
LEAST_VARIANCES = 1e-7

Force = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From moved and fixed image, (1, 1, *spatial), and the gradient to follow, (1, D, *spatial), to
the force, (1, D, *spatial), and the pointwise metric, (1, 1, *spatial)."""


def gradient(image: Tensor) -> Tensor:
    """Central differences, one-sided at the border: (1, D, *spatial) of (1, 1, *spatial)."""
    return torch.cat([_difference(image, axis) for axis in range(2, image.ndim)], 1)


def _difference(image: Tensor, axis: int) -> Tensor:
    if image.shape[axis] < 2:
        return torch.zeros_like(image)
    return torch.gradient(image, dim=axis)[0]


def ssd_force(moved: Tensor, fixed: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Of half the squared difference."""
    difference = fixed - moved
    metric = difference.square()
    acts = difference.abs() >= LEAST_DIFFERENCE
    return torch.where(acts, difference, 0.0) * direction, metric


def demons_force(moved: Tensor, fixed: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """The same, normalised as Thirion's demons are: no voxel moves by more than half a voxel."""
    difference = fixed - moved
    metric = difference.square()
    denominator = direction.square().sum(1, keepdim=True) + metric
    acts = (difference.abs() >= LEAST_DIFFERENCE) & (denominator >= LEAST_DENOMINATOR)
    share = torch.where(acts, difference / denominator.clamp(min=LEAST_DENOMINATOR), 0.0)
    return share * direction, metric


def correlation_force(radius: int) -> Force:
    """Of one minus the squared local correlation, in windows of ``2 * radius + 1`` voxels.

    The derivative is that with respect to the middle voxel of its own window; box filters make it
    independent of the radius in time.
    """

    def force(moved: Tensor, fixed: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        count = box_sum(torch.ones_like(fixed), radius)
        products = (moved, fixed, moved * moved, fixed * fixed, moved * fixed)
        m, f, mm, ff, mf = (box_sum(values, radius) / count for values in products)
        variance_m = (mm - m * m).clamp(min=0) * count
        variance_f = (ff - f * f).clamp(min=0) * count
        covariance = (mf - m * f) * count
        product = variance_m * variance_f
        acts = product > LEAST_VARIANCES
        safe = torch.where(acts, product, 1.0)
        correlation = torch.where(acts, covariance.square() / safe, 1.0)
        # d/dW of cov^2 / (varM varF), the factor cov / varM belonging to W.
        slope = (fixed - f) - covariance / variance_m.clamp(min=1e-12) * (moved - m)
        strength = torch.where(acts, 2 * covariance / safe * slope, 0.0)
        return strength * direction, 1 - correlation

    return force


FORCES = ("demons", "ssd", "ncc")


def force_of(name: str, radius: int) -> Force:
    """A row of ``FORCES``."""
    rows: dict[str, Force] = {"demons": demons_force, "ssd": ssd_force}
    return rows[name] if name in rows else correlation_force(radius)
