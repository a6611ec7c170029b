r"""Masked image distances, and the evidence for masking a voxel.

Every distance is 0 for images that are alike and is a *mean*: it is divided by the number of all
voxels (or by the extent of the foreground), never by the number of unmasked ones. Otherwise masking
would make the remaining mean smaller for free, and the price :math:`\tau` of a masked voxel would
lose its meaning.

The evidence maps have the same unit: to first order, masking voxel x lowers the distance by
``evidence(x) / N``, and raises :math:`\tau\,\mathrm{mean}(S)` by ``tau / N``. So whatever the
similarity, a voxel is worth masking where its evidence exceeds :math:`\tau`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from itk_ncr.losses.local_correlation import local_ncc, local_ncc_map
from itk_ncr.losses.self_similarity import mind, mind_map
from itk_ncr.losses.weighting import (
    extent,
    mean_over,
    product,
    require_weight,
    total_double,
    weighted,
)
from itk_ncr.ops.checks import require_same_shape

# (moved, fixed, correspondence=None, *, foreground=None, **settings) -> (N,); a map for evidence.
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
    squares = masked_mse_map(moved, fixed, correspondence, foreground=foreground)
    return mean_over(weighted(squares, correspondence), foreground)


def masked_mse_map(
    moved: Tensor,
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
) -> Tensor:
    """Evidence of :func:`masked_mse`: the squared difference.

    The saving of one voxel depends on no other, so the weights are checked and not used.

    Parameters
    ----------
    moved, fixed, correspondence, foreground
        As for :func:`masked_mse`.

    Returns
    -------
    Tensor, shape (N, 1, *spatial)
        Evidence >= 0, in squared intensity; the mean over channels.

    Raises
    ------
    ShapeError
        As :func:`masked_mse`.
    """
    require_same_shape(fixed=fixed, moved=moved)
    require_weight("correspondence", correspondence, fixed)
    require_weight("foreground", foreground, fixed)
    squares = (moved - fixed).square()
    return squares if squares.shape[1] == 1 else squares.mean(1, keepdim=True)


def masked_ncc(
    moved: Tensor,
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    eps: float = 1e-3,
) -> Tensor:
    r"""Squared normalised cross-correlation as published: global, not centred, mask in the sums.

    .. math:: d = 1 - \frac{(\sum_x w m f)^2 + \epsilon}{\sum_x w m^2 \, \sum_x w f^2 + \epsilon}

    Parameters
    ----------
    moved, fixed : Tensor, shape (N, C, *spatial)
        The moved and the fixed image, in any intensity unit; channels enter one sum.
    correspondence : Tensor, shape (N, 1, *spatial), optional
        Weight in [0, 1]; 0 takes a voxel out of the sums. Default: 1 everywhere.
    foreground : Tensor, shape (N, 1, *spatial), optional
        Multiplied with the correspondence. Default: 1 everywhere.
    eps : float
        Added above and below, so that two black images count as alike.

    Returns
    -------
    Tensor, shape (N,)
        0 where the images are proportional, 1 where they are orthogonal.

    Raises
    ------
    ShapeError
        If the images differ in shape, or a weight is not one channel on their grid.

    References
    ----------
    Andresen et al., Int J CARS 17, 2022, doi:10.1007/s11548-022-02577-4, and its released code.
    """
    weight = _weight(moved, fixed, correspondence, foreground)
    above, below = _correlation(moved, fixed, weight, eps)[3:]
    return ((below - above) / below).to(fixed.dtype)


def masked_ncc_map(
    moved: Tensor,
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    eps: float = 1e-3,
) -> Tensor:
    r"""Evidence of :func:`masked_ncc`: N times what masking a voxel saves.

    With :math:`A = \sum wmf`, :math:`B = \sum wf^2`, :math:`C = \sum wm^2`, and up to eps

    .. math:: N g(x) = N \, \mathrm{NCC} \left(\frac{f^2}{B} + \frac{m^2}{C}
        - \frac{2 f m}{A}\right),

    the exact derivative of the distance for the correspondence of the voxel.

    Parameters
    ----------
    moved, fixed, correspondence, foreground, eps
        As for :func:`masked_ncc`.

    Returns
    -------
    Tensor, shape (N, 1, *spatial)
        Evidence; negative where a voxel makes the images more alike.

    Raises
    ------
    ShapeError
        As :func:`masked_ncc`.
    """
    weight = _weight(moved, fixed, correspondence, foreground)
    return _correlation_evidence(moved, fixed, weight, foreground, eps)


def masked_centred_ncc(
    moved: Tensor,
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    eps: float = 1e-3,
) -> Tensor:
    r"""Squared correlation coefficient: global NCC of the images less their (weighted) means.

    Invariant to ``a * moved + b`` for any b and any a but 0, so also to an inverted contrast.

    Parameters
    ----------
    moved, fixed, correspondence, foreground, eps
        As for :func:`masked_ncc`; every channel has its own mean.

    Returns
    -------
    Tensor, shape (N,)
        0 where the images are linearly related, 1 where they are uncorrelated.

    Raises
    ------
    ShapeError
        As :func:`masked_ncc`.
    """
    weight = _weight(moved, fixed, correspondence, foreground)
    moved, fixed = _less_mean(moved, weight), _less_mean(fixed, weight)
    above, below = _correlation(moved, fixed, weight, eps)[3:]
    return ((below - above) / below).to(fixed.dtype)


def masked_centred_ncc_map(
    moved: Tensor,
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    eps: float = 1e-3,
) -> Tensor:
    """Evidence of :func:`masked_centred_ncc`: that of NCC, on the images less their means.

    Exact as well: the means move when a voxel is masked, but the sums of products are not affected.

    Parameters
    ----------
    moved, fixed, correspondence, foreground, eps
        As for :func:`masked_centred_ncc`.

    Returns
    -------
    Tensor, shape (N, 1, *spatial)
        Evidence; negative where a voxel makes the images more alike.

    Raises
    ------
    ShapeError
        As :func:`masked_ncc`.
    """
    weight = _weight(moved, fixed, correspondence, foreground)
    moved, fixed = _less_mean(moved, weight), _less_mean(fixed, weight)
    return _correlation_evidence(moved, fixed, weight, foreground, eps)


def _weight(
    moved: Tensor, fixed: Tensor, correspondence: Tensor | None, foreground: Tensor | None
) -> Tensor | None:
    require_same_shape(fixed=fixed, moved=moved)
    require_weight("correspondence", correspondence, fixed)
    require_weight("foreground", foreground, fixed)
    return product(correspondence, foreground)


def _correlation(
    moved: Tensor, fixed: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Give A, B, C of the map's formula, and numerator and denominator; each (N,), float64."""
    weighted_moved = weighted(moved, weight)
    cross = total_double(weighted_moved * fixed)
    energy_fixed = total_double(weighted(fixed, weight) * fixed)
    energy_moved = total_double(weighted_moved * moved)
    return (
        cross,
        energy_fixed,
        energy_moved,
        cross.square() + eps,
        energy_fixed * energy_moved + eps,
    )


def _correlation_evidence(
    moved: Tensor, fixed: Tensor, weight: Tensor | None, foreground: Tensor | None, eps: float
) -> Tensor:
    cross, energy_fixed, energy_moved, above, below = _correlation(moved, fixed, weight, eps)
    size = extent(fixed, foreground)
    ratio = above / below**2
    column = (-1, *(1,) * (fixed.ndim - 1))
    of_fixed = (size * ratio * energy_moved).to(fixed.dtype).view(column)
    of_moved = (size * ratio * energy_fixed).to(fixed.dtype).view(column)
    of_both = (size * 2 * cross / below).to(fixed.dtype).view(column)
    evidence = of_fixed * fixed.square() + of_moved * moved.square() - of_both * fixed * moved
    return evidence.sum(1, keepdim=True)


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
    "ncc-centred": masked_centred_ncc,
    "lncc": local_ncc,
    "mind": mind,
}

# What masking a voxel saves, in the same unit for all: (N, C, *spatial) images -> (N, 1, *spatial).
EVIDENCE: dict[str, Similarity] = {
    "mse": masked_mse_map,
    "ncc": masked_ncc_map,
    "ncc-centred": masked_centred_ncc_map,
    "lncc": local_ncc_map,
    "mind": mind_map,
}
