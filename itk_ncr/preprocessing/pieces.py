"""The pieces of a mask, and their holes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def largest_pieces(mask: Mask, share: float) -> Mask:
    """The largest connected piece and those of at least a share of its size, holes filled."""
    import SimpleITK as sitk

    # A volume of one slice is a slice: all of its voxels would lie on the border.
    flat = mask.reshape([n for n in mask.shape if n > 1])
    if flat.ndim not in (2, 3) or not mask.any():
        return mask
    image = sitk.GetImageFromArray(flat.view(np.uint8))
    pieces = sitk.RelabelComponentImageFilter()
    labels = pieces.Execute(sitk.ConnectedComponent(image))
    sizes = pieces.GetSizeOfObjectsInPixels()
    kept = sum(size >= share * sizes[0] for size in sizes)
    image = sitk.BinaryThreshold(labels, 1, kept, 1, 0)
    filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(image))
    return filled.view(bool).reshape(mask.shape)


def grown(mask: Mask, voxels: int) -> Mask:
    """The mask with all voxels that so many steps along the axes reach."""
    mask = mask.copy()
    for _ in range(voxels):
        before = mask.copy()
        for axis in range(mask.ndim):
            one, old = np.moveaxis(mask, axis, 0), np.moveaxis(before, axis, 0)
            one[1:] |= old[:-1]
            one[:-1] |= old[1:]
    return mask
