r"""Masked image distances.

Every distance is 0 for images that are alike and is a *mean*: it is divided by the number of all
voxels (or by the extent of the foreground), never by the number of unmasked ones. Otherwise masking
would make the remaining mean smaller for free, and the price :math:`\tau` of a masked voxel would
lose its meaning: with a mean over N voxels, a voxel is worth masking where N times the derivative
of the distance for its correspondence exceeds :math:`\tau`, whatever the similarity.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from itk_ncr.losses.local_correlation import local_ncc
from itk_ncr.losses.self_similarity import mind
from itk_ncr.losses.weighting import (
    extent,
    mean_over,
    product,
    require_weight,
    total_double,
    weighted,
)
from itk_ncr.ops.checks import require_same_shape

# (moved, fixed, correspondence=None, *, foreground=None, **settings) -> (N,)
Similarity = Callable[..., Tensor]


def masked_mse(
    moved: Tensor,
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
) -> Tensor:
    r"""Mean squared difference.

    .. math:: d = \frac{1}{N} \sum_x w(x) \, (m(x) - f(x))^2

    Parameters
    ----------
    moved, fixed : Tensor, shape (N, C, *spatial)
        The moved and the fixed image; several channels are averaged.
    correspondence : Tensor, shape (N, 1, *spatial), optional
        Weight in [0, 1]; 0 takes a voxel out. Default: 1 everywhere.
    foreground : Tensor, shape (N, 1, *spatial), optional
        Voxels over which the mean is taken, with weights >= 0. Default: all.

    Returns
    -------
    Tensor, shape (N,)
        In squared intensity.

    Raises
    ------
    ShapeError
        If the images differ in shape, or a weight is not one channel on their grid.
    """
    require_same_shape(fixed=fixed, moved=moved)
    require_weight("correspondence", correspondence, fixed)
    require_weight("foreground", foreground, fixed)
    squares = (moved - fixed).square()
    if squares.shape[1] > 1:
        squares = squares.mean(1, keepdim=True)
    return mean_over(weighted(squares, correspondence), foreground)


def masked_ncc(
    moved: Tensor,
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    centred: bool = False,
    eps: float = 1e-3,
) -> Tensor:
    r"""Squared normalised cross-correlation: global, with the mask in the sums.

    .. math:: d = 1 - \frac{(\sum_x w m f)^2 + \epsilon}{\sum_x w m^2 \, \sum_x w f^2 + \epsilon}

    Parameters
    ----------
    moved, fixed : Tensor, shape (N, C, *spatial)
        The moved and the fixed image, in any intensity unit; channels enter one sum.
    correspondence : Tensor, shape (N, 1, *spatial), optional
        Weight in [0, 1]; 0 takes a voxel out of the sums. Default: 1 everywhere.
    foreground : Tensor, shape (N, 1, *spatial), optional
        Multiplied with the correspondence. Default: 1 everywhere.
    centred : bool
        Subtract the weighted mean of every channel first: the squared correlation coefficient,
        invariant to ``a * moved + b`` for any b and any a but 0. Default: as published.
    eps : float
        Added above and below, so that two black images count as alike.

    Returns
    -------
    Tensor, shape (N,)
        0 where the images are proportional (centred: linearly related), 1 where they are
        orthogonal (uncorrelated).

    Raises
    ------
    ShapeError
        If the images differ in shape, or a weight is not one channel on their grid.

    References
    ----------
    Andresen et al., Int J CARS 17, 2022, doi:10.1007/s11548-022-02577-4, and its released code.
    """
    require_same_shape(fixed=fixed, moved=moved)
    require_weight("correspondence", correspondence, fixed)
    require_weight("foreground", foreground, fixed)
    weight = product(correspondence, foreground)
    if centred:
        moved, fixed = _less_mean(moved, weight), _less_mean(fixed, weight)
    weighted_moved = weighted(moved, weight)
    cross = total_double(weighted_moved * fixed)
    energy_fixed = total_double(weighted(fixed, weight) * fixed)
    energy_moved = total_double(weighted_moved * moved)
    above, below = cross.square() + eps, energy_fixed * energy_moved + eps
    return ((below - above) / below).to(fixed.dtype)


def _less_mean(image: Tensor, weight: Tensor | None) -> Tensor:
    """Subtract the weighted mean of every channel; leave the image alone where nothing weighs.

    No gradient runs through the mean, and none is missing: sums of products of images without mean
    do not change when their means do.
    """
    with torch.no_grad():
        # Channels go to the batch axis, so that each is summed by itself.
        channels = image.flatten(0, 1).unsqueeze(1)
        if weight is not None:
            weight = weight.expand_as(image).flatten(0, 1).unsqueeze(1)
        mean = total_double(weighted(channels, weight)) / extent(channels, weight)
        mean = mean.to(image.dtype).view(*image.shape[:2], *(1,) * (image.ndim - 2))
    return image - mean


# Each similarity by its name in settings.
SIMILARITIES: dict[str, Similarity] = {
    "mse": masked_mse,
    "ncc": masked_ncc,
    "ncc-centred": partial(masked_ncc, centred=True),
    "lncc": local_ncc,
    "mind": mind,
}
