"""Recognition of OCT B-scans by their layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# The longer side of the image on which layers are looked for, and the Gaussian against speckle
# there, down and along the image, in pixels.
SIDE, SMOOTHING = 128, (2.0, 4.0)
# Squared differences down the image relative to those along it: 4.7 to 100 in 150 B-scans of
# OCTDL, 12 and 30 in two of another device, at most 1.14 in 112 axial slices of brains.
LAYERED = 2.5
# Share of the columns next to either side that must show something: layers do not end in the image.
FULL_WIDTH, BORDER = 0.9, 0.05


def is_layered(values: NDArray[np.float32], foreground: NDArray[np.bool_]) -> bool:
    """Whether a 2D image shows flat layers from one side to the other, as an OCT B-scan does.

    Parameters
    ----------
    values : ndarray of float32, shape (y, x)
        On the scale of :func:`normalise`.
    foreground : ndarray of bool, shape (y, x)
        Voxels that show the object.

    Returns
    -------
    bool
        False for every image that is not 2D.
    """
    if values.ndim != 2:
        return False
    height, width = values.shape
    step = max(1.0, max(height, width) / SIDE)
    columns = np.asarray(foreground.any(axis=0))
    border = max(1, round(BORDER * width))
    if min(columns[:border].mean(), columns[-border:].mean()) < FULL_WIDTH:
        return False
    even = ndimage.gaussian_filter(values, [sigma * step for sigma in SMOOTHING])
    thinned = even[:: int(step), :: int(step)]
    if min(thinned.shape) < 3:
        return False
    down, along = (float(np.square(d).sum()) for d in np.gradient(thinned))
    return down > LAYERED * along
