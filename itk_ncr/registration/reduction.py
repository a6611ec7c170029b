"""Reduction of images to coarser grids of the same extent, without a full second copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from itk_ncr.fields import downsample
from itk_ncr.images import Image, slabs

# Larger images are reduced along their last axes slab by slab, then along the first. The sums are
# the same but for their order: 1e-7 of the image's scale.
WHOLE_VOXELS = 4_000_000


def reduced(image: Image, shape: Sequence[int]) -> Tensor:
    """Smooth an image and sample it on a coarser grid; see :func:`itk_ncr.fields.downsample`.

    Parameters
    ----------
    image : Image, scalar
    shape : one integer per axis
        At most that of the image.

    Returns
    -------
    Tensor, float32, shape (1, 1, *shape)
        A copy, also where nothing is reduced.
    """
    shape = tuple(shape)
    if image.grid.voxels <= WHOLE_VOXELS or shape == image.grid.shape:
        return downsample(_tensor(image.array), shape)
    rows = image.rows()
    across = torch.empty(1, 1, image.grid.shape[0], *shape[1:])
    for slab in slabs(image.grid):
        few = _tensor(rows(slab))
        across[:, :, slab] = downsample(few, (few.shape[2], *shape[1:]))
    return downsample(across, shape)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32, order="C"))[None, None]
