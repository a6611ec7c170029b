"""The divergence of a predicted distribution of velocities from a smooth prior."""

from __future__ import annotations

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError


def velocity_divergence(mean: Tensor, log_variance: Tensor, *, precision: float = 10.0) -> Tensor:
    r"""Kullback-Leibler divergence per voxel from a prior that links neighbours, up to a constant.

    .. math:: \frac d2 \left[ \mathrm{mean}(\lambda D \sigma^2 - \log \sigma^2)
              + \frac\lambda2 \, \mathrm{mean}_{axes} \, \mathrm{mean} |\Delta \mu|^2 \right]

    with D the number of neighbours of a voxel.

    Parameters
    ----------
    mean, log_variance : Tensor, shape (N, D, *spatial)
        Of a normal distribution without covariances, in voxels.
    precision : float
        lambda of the prior, positive; 10 to 25 in the publication.

    Returns
    -------
    Tensor, shape (N,)

    Raises
    ------
    ShapeError
        If the two differ in shape.
    ArgumentError
        If ``precision`` is not positive.

    References
    ----------
    Dalca et al., MICCAI 2018, doi:10.1007/978-3-030-00928-1_82.
    """
    if mean.shape != log_variance.shape:
        raise ShapeError(
            f"log_variance must have the shape of mean, {tuple(mean.shape)}; got "
            f"{tuple(log_variance.shape)}. Take both from one prediction."
        )
    if not precision > 0:
        raise ArgumentError(f"precision must be positive; got {precision}. Pass 10, as published.")
    dimension = mean.shape[1]
    spread = precision * _neighbours(mean) * log_variance.exp() - log_variance
    steps = [
        mean.diff(dim=axis).square().flatten(1).mean(1)
        for axis in range(2, mean.ndim)
        if mean.shape[axis] > 1
    ]
    roughness = torch.stack(steps).sum(0) / dimension if steps else mean.new_zeros(len(mean))
    return 0.5 * dimension * (spread.flatten(1).mean(1) + 0.5 * precision * roughness)


def _neighbours(field: Tensor) -> Tensor:
    """How many neighbours every voxel has, shape (1, 1, *spatial)."""
    spatial = field.shape[2:]
    count = field.new_zeros((1, 1, *spatial))
    for axis, size in enumerate(spatial):
        along = field.new_full((size,), 2.0)
        along[0] -= 1
        along[-1] -= 1
        count = count + along.view(-1, *(1,) * (len(spatial) - 1 - axis))
    return count
