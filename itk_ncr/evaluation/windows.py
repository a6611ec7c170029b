"""Intensity window in which CT images are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from itk_ncr.evaluation.contrast import sampled
from itk_ncr.images import Image, map_values
from itk_ncr.preprocessing import Window, common_window, ct_window


def as_compared(fixed: Image, moving: Image, warped: Image) -> tuple[Image, Image, Image]:
    """A pair and its warped image as the registration saw their intensities.

    CT numbers are cut to the window of the pair and count from its lower end, so that air is 0.
    Other images stay as they are.

    Parameters
    ----------
    fixed, moving, warped : Image, scalar
        The last with the intensities of the moving image.
    """
    one, other = (ct_window(sampled(np.asarray(image.array))) for image in (fixed, moving))
    name = common_window(one, other) if one is not None and other is not None else None
    return (
        _cut(fixed, one, name),
        _cut(moving, other, name),
        _cut(warped, other, name),
    )


def _cut(image: Image, window: Window | None, name: str | None) -> Image:
    if window is None:
        return image
    low, high = window.range(name)

    def cut(values: NDArray) -> NDArray[np.float32]:
        finite = np.nan_to_num(np.asarray(values, np.float32), nan=low, posinf=high, neginf=low)
        return np.clip(finite, low, high) - np.float32(low)

    return map_values(image, cut, np.float32)
