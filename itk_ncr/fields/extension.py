"""What a field would be where nothing is known about it: the surroundings, carried inwards."""

from __future__ import annotations

import torch
from torch import Tensor

from itk_ncr.fields.smoothing import smooth

# Certainty of a Gaussian average above which a wider one is not asked.
ENOUGH = 0.25


def extend(field: Tensor, known: Tensor, *, scales: int = 4) -> Tensor:
    """Replace a field where it is not known by weighted averages of where it is.

    Averages over Gaussians of 1, 2, 4 ... voxels see the known part only (normalised convolution);
    every voxel takes the narrowest one that has enough to go by. Where even the widest sees
    nothing, the field stays.

    Parameters
    ----------
    field : Tensor, shape (N, C, *spatial)
    known : Tensor, shape (N, 1, *spatial)
        In [0, 1]; 1 keeps the field as it is.
    scales : int
        Number of Gaussians.

    Returns
    -------
    Tensor, shape (N, C, *spatial)
    """
    filled = field
    weighted = field * known
    for scale in reversed(range(scales)):
        sigma = float(2**scale)
        certainty = smooth(known, sigma)
        average = smooth(weighted, sigma) / certainty.clamp(min=1e-6)
        trust = (certainty / ENOUGH).clamp(max=1)
        filled = torch.lerp(filled, average, trust)
    return torch.lerp(filled, field, known)
