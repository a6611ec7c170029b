"""Grey images that are stored as colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def grey_of(array: NDArray[Any]) -> NDArray[Any] | None:
    """The grey image that equal colour channels hold; None if it is a colour image, or none.

    Parameters
    ----------
    array : ndarray, shape (*spatial, channels)
        RGB, or RGB and alpha, of unsigned integers. Alpha must be the same in every
        pixel: a translucent one has no grey value of its own.
    """
    channels = array.shape[-1]
    if array.dtype.kind != "u" or channels not in (3, 4):
        return None
    first = array[..., 0]
    if channels == 4 and (array[..., -1] != array[..., -1].flat[0]).any():
        return None
    if any((array[..., i] != first).any() for i in (1, 2)):
        return None
    return np.ascontiguousarray(first)
