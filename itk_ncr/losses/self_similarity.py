r"""MIND-SSC: compares the *structure* around a voxel, so that contrasts may differ.

The descriptor holds, for pairs (i, j) of neighbours of x on different axes (4 in 2D, 12 in 3D),

.. math:: \exp\left(-\frac{D_{ij}(x) - \min D(x)}{V(x)}\right), \quad
    D_{ij}(x) = \text{mean over a patch of } (I(x + s_i) - I(x + s_j))^2,

with V the mean of the numerators, kept within 1/1000 and 1000 times its mean over the image.

References
----------
Heinrich et al., MICCAI 2013, doi:10.1007/978-3-642-40811-3_24.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn.functional import pad

from itk_ncr.errors import ArgumentError
from itk_ncr.losses.weighting import extent, mean_over, require_weight, total, weighted
from itk_ncr.ops import box_sum
from itk_ncr.ops.checks import require_same_shape


def mind(
    moved: Tensor,
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    radius: int = 1,
    dilation: int = 2,
) -> Tensor:
    """Mean squared difference of the self-similarity descriptors, (N,).

    Blind to ``a * moved + b`` for any a but 0, and nearly so to any smooth change of contrast.

    Parameters
    ----------
    moved, fixed : Tensor, shape (N, C, *spatial)
        Channels are described one by one and averaged.
    correspondence : Tensor, shape (N, 1, *spatial), optional
        Weight in [0, 1]; 0 takes a voxel out of the mean *and* out of every patch.
    foreground : Tensor, shape (N, 1, *spatial), optional
        Voxels over which the mean is taken. Default: all.
    radius : int
        Patches of 2r + 1 voxels per axis.
    dilation : int
        Distance of the neighbours, in voxels.

    Returns
    -------
    Tensor, shape (N,)
        Distance in [0, 1].

    Raises
    ------
    ShapeError
        If the images differ in shape, or a weight is not one channel on their grid.
    ArgumentError
        If ``dilation`` is not at least 1.
    """
    require_same_shape(fixed=fixed, moved=moved)
    require_weight("correspondence", correspondence, fixed)
    require_weight("foreground", foreground, fixed)
    both = torch.cat([moved, fixed], dim=1)
    descriptors = mind_descriptor(both, correspondence, radius=radius, dilation=dilation)
    first, second = descriptors.chunk(2, dim=1)
    squares = (first - second).square().mean(1, keepdim=True)
    return mean_over(weighted(squares, correspondence), foreground)


def mind_descriptor(
    image: Tensor, weight: Tensor | None = None, *, radius: int = 1, dilation: int = 2
) -> Tensor:
    """Describe the surroundings of every voxel by numbers in (0, 1].

    Parameters
    ----------
    image : Tensor, shape (N, C, *spatial)
        In any intensity unit.
    weight : Tensor, shape (N, 1, *spatial), optional
        Weight of a voxel in every patch. Default: 1.
    radius : int
        Patches of 2r + 1 voxels per axis.
    dilation : int
        Distance of the neighbours, in voxels.

    Returns
    -------
    Tensor, shape (N, C * P, *spatial)
        Descriptors; P is 4 in 2D and 12 in 3D.

    Raises
    ------
    ArgumentError
        If ``dilation`` is below 1.
    """
    if not dilation >= 1:
        raise ArgumentError(f"dilation must be at least 1; got {dilation}. Give voxels.")
    distance = _patch_distances(image, weight, radius, dilation)
    distance = distance - distance.amin(2, keepdim=True)
    variance = distance.mean(2, keepdim=True)
    usual = _mean_of_channels(variance.squeeze(2), weight).unsqueeze(2)
    variance = torch.minimum(torch.maximum(variance, 1e-3 * usual), 1e3 * usual)
    # An image without any structure: 0 / tiny.
    smallest = torch.finfo(image.dtype).tiny
    return torch.exp(-distance / variance.clamp_min(smallest)).flatten(1, 2)


def _patch_distances(image: Tensor, weight: Tensor | None, radius: int, dilation: int) -> Tensor:
    """D of the module's formula, (N, C, P, *spatial)."""
    around = _neighbours(image, dilation)
    pairs = [(i, j) for i, j in itertools.combinations(range(len(around)), 2) if i // 2 != j // 2]
    squares = torch.stack([(around[i] - around[j]).square() for i, j in pairs], dim=2)
    if weight is None:
        return _box_sum(squares, radius) / box_sum(image.new_ones(1, 1, *image.shape[2:]), radius)
    seen_around = _neighbours(weight, dilation)
    seen = torch.stack([seen_around[i] * seen_around[j] for i, j in pairs], dim=2)
    count = _box_sum(seen, radius)
    # A patch without any weight tells nothing: 0, in both images.
    return _box_sum(seen * squares, radius) / torch.where(count > 0, count, 1.0)


def _box_sum(values: Tensor, radius: int) -> Tensor:
    """Sum over windows, with one axis more before the spatial ones."""
    return box_sum(values.flatten(0, 1), radius).view_as(values)


def _mean_of_channels(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over the voxels that weigh, (N, C, *spatial) -> (N, C, 1, ...)."""
    channels = values.flatten(0, 1).unsqueeze(1)
    if weight is not None:
        weight = weight.expand_as(values).flatten(0, 1).unsqueeze(1)
    mean = total(weighted(channels, weight)) / extent(channels, weight)
    return mean.view(*values.shape[:2], *(1,) * (values.ndim - 2))


def _neighbours(image: Tensor, dilation: int) -> list[Tensor]:
    """Give the image moved by +-dilation along every axis, border values repeating."""
    axes = image.ndim - 2
    padded = pad(image, (dilation,) * (2 * axes), mode="replicate")
    moved = []
    for axis in range(axes):
        for start in (0, 2 * dilation):
            view = padded
            for other in range(axes):
                first = start if other == axis else dilation
                view = view.narrow(2 + other, first, image.shape[2 + other])
            moved.append(view)
    return moved
