r"""The mask step: where is it cheaper to give a voxel up than to explain it?

For the current field every voxel has an evidence g (what masking it saves, in the unit of the
price). The best mask for the price :math:`\tau` and the perimeter weight :math:`\kappa` minimises
:math:`\sum_x S (\tau - g) + \kappa\,\mathrm{Per}(S)`, and it is found exactly: with

.. math:: u = \arg\min_u \tfrac12 \lVert u - g \rVert^2 + \kappa\,\mathrm{TV}(u)

the set :math:`\{u > \tau\}` is a minimiser, for *every* price at once. So one convex problem gives
the whole family of nested masks, and :math:`u / (u + \tau)` is a probability whose cut at 1/2 is
the mask of the price, and whose cut at p is the mask of the price :math:`\tau p / (1 - p)`.

References
----------
Chambolle, "An algorithm for total variation minimization and applications", J Math Imaging Vis 20,
2004, doi:10.1023/B:JMIV.0000011325.36760.1e; Chan, Esedoglu, Nikolova, "Algorithms for finding
global minimizers of image segmentation and denoising models", SIAM J Appl Math 66, 2006,
doi:10.1137/040615286.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itk_ncr.ops import box_sum, total_variation_denoise

# Windows, contrast and repetitions of the snapping to edges; bright tissue is 1.
SNAP_RADIUS, SNAP_CONTRAST, SNAP_TIMES = 3, 0.003, 2


class MaskStep:
    """The exact mask step on one grid; starts each solution from the last one.

    Parameters
    ----------
    perimeter : float
        Weight of the mask's surface, in units of evidence x voxel.
    first_iterations, iterations : int
        Primal-dual steps of the first call and of later ones.
    """

    def __init__(self, perimeter: float, first_iterations: int = 100, iterations: int = 30) -> None:
        self.perimeter = perimeter
        self.first_iterations = first_iterations
        self.iterations = iterations
        self._dual: Tensor | None = None

    def level_set_function(self, evidence: Tensor) -> Tensor:
        """U of the module's formula; ``u > price`` is the best mask for that price.

        Parameters
        ----------
        evidence : Tensor, shape (1, 1, *spatial)
        """
        steps = self.first_iterations if self._dual is None else self.iterations
        u, self._dual, _ = total_variation_denoise(evidence, self.perimeter, steps, self._dual)
        return u


def snap_to_edges(
    level_set: Tensor, image: Tensor, price: float, radius: int = SNAP_RADIUS
) -> Tensor:
    """Move the level sets to the edges of an image that run close by (guided filter).

    A perimeter price rounds corners and fills creeks; where the image itself shows the rim, the rim
    decides. In every window u becomes the best linear function of the image.

    Parameters
    ----------
    level_set, image : Tensor, shape (1, 1, *spatial)
        u of :class:`MaskStep`, and the image on the scale of ``preprocessing``.
    price : float
        Evidence above four times the price is as good as any: it is cut there, lest a strong
        inside drags the rim outwards. So no probability rises above 0.8.

    References
    ----------
    He, Sun, Tang, "Guided image filtering", IEEE TPAMI 35, 2013, doi:10.1109/TPAMI.2012.213.
    """
    u = level_set.clamp(0, 4 * price)
    if radius < 1:
        return u
    share = 1 / box_sum(torch.ones_like(image), radius)

    def mean(values: Tensor) -> Tensor:
        return box_sum(values, radius) * share

    mean_image = mean(image)
    variance = mean(image * image) - mean_image.square()
    for _ in range(SNAP_TIMES):
        mean_u = mean(u)
        slope = (mean(u * image) - mean_u * mean_image) / (variance + SNAP_CONTRAST)
        u = mean(slope) * image + mean(mean_u - slope * mean_image)
    return u


def noncorrespondence_probability(level_set: Tensor, price: float) -> Tensor:
    """``u / (u + price)``, 0 where u is negative: 1/2 where u equals the price."""
    positive = level_set.clamp(min=0)
    return positive / (positive + price)


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow a mask of 0 and 1, (N, 1, *spatial), by ``radius`` voxels along every axis."""
    if radius < 1:
        return mask
    pool = torch.nn.functional.max_pool3d if mask.ndim == 5 else torch.nn.functional.max_pool2d
    for axis in range(2, mask.ndim):  # a cube is separable: one axis at a time
        window = [1] * (mask.ndim - 2)
        window[axis - 2] = 2 * radius + 1
        padding = [w // 2 for w in window]
        mask = pool(mask, window, stride=1, padding=padding)
    return mask
