r"""The mask step: from the log-odds of single voxels to regions.

Every voxel has log-odds g that it has no partner (``evidence``), less the logarithm of the price
:math:`\tau` of masking it. With the perimeter weight :math:`\kappa` the best mask minimises
:math:`-\sum_x S\,g + \kappa\,\mathrm{Per}(S)`, where Per counts the faces between masked and other
voxels (``perimeter_form="faces"``). It is found by one convex problem: with

.. math:: u = \arg\min_u \tfrac12 \lVert u - g \rVert^2 + \kappa\,\mathrm{TV}(u)

the set :math:`\{u > c\}` is a minimiser for *every* offset c of the log-odds at once. So one convex
problem gives the whole family of nested masks, and the logistic function of u is a probability: its
cut at 1/2 is the mask of the price, its cut at p that of the price :math:`\tau p / (1 - p)`. TV is
the anisotropic total variation, the sum of differences along the axes.

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
# Log-odds that the snapping sees.
SNAP_RANGE = (-1.0, 3.0)


def level_set_function(log_odds: Tensor, perimeter: float, iterations: int = 120) -> Tensor:
    """U of the module's formula; ``u > 0`` is the best mask.

    Parameters
    ----------
    log_odds : Tensor, shape (1, 1, *spatial)
        g, with the price taken off.
    perimeter : float
        Weight of the mask's surface, in log-odds x voxels.
    iterations : int
        Primal-dual steps.
    """
    u, _, _ = total_variation_denoise(log_odds, perimeter, iterations)
    return u


def snap_to_edges(level_set: Tensor, image: Tensor, radius: int = SNAP_RADIUS) -> Tensor:
    """Move the level set of 0 to edges of an image that run close by (guided filter).

    A perimeter price rounds corners and fills creeks; where the image itself shows the rim, the rim
    decides. In every window u becomes the best linear function of the image. Values that keep their
    sign stay as they are.

    Parameters
    ----------
    level_set, image : Tensor, shape (1, 1, *spatial)
        u of :func:`level_set_function`, and the image on the scale of ``preprocessing``.

    References
    ----------
    He, Sun, Tang, "Guided image filtering", IEEE TPAMI 35, 2013, doi:10.1109/TPAMI.2012.213.
    """
    if radius < 1:
        return level_set
    # Cut, so that voxels of high confidence do not dominate the rim.
    u = level_set.clamp(*SNAP_RANGE)
    share = 1 / box_sum(torch.ones_like(image), radius)

    def mean(values: Tensor) -> Tensor:
        return box_sum(values, radius) * share

    mean_image = mean(image)
    variance = mean(image * image) - mean_image.square()
    for _ in range(SNAP_TIMES):
        mean_u = mean(u)
        slope = (mean(u * image) - mean_u * mean_image) / (variance + SNAP_CONTRAST)
        u = mean(slope) * image + mean(mean_u - slope * mean_image)
    return torch.where((u > 0) == (level_set > 0), level_set, u)


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
