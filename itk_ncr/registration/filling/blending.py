"""Insertion of tissue into a lesion, with matched intensities and a soft edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Voxels over which a fill fades into the image: the soft rim of a lesion lies outside its mask.
BLEND_VOXELS = 2
# Width in voxels of the rim on which intensities are matched; it begins where the fading ends.
RIM_VOXELS = 5
# Fewest voxels of the rim from which a gain can be estimated.
FEWEST_RIM_VOXELS = 20
GAIN_RANGE = (0.5, 2.0)
# Correlation on the rim below which the other image does not show the same tissue.
LEAST_RIM_CORRELATION = 0.3


@dataclass(frozen=True)
class Surroundings:
    """Transition between a lesion and the image.

    Attributes
    ----------
    weight : ndarray of float32
        1 in the lesion, falling to 0 over ``BLEND_VOXELS`` outside it.
    rim : ndarray of bool
        The ``RIM_VOXELS`` around that.
    """

    weight: NDArray[np.float32]
    rim: NDArray[np.bool_]


def surroundings(lesion: NDArray[np.bool_]) -> Surroundings:
    """Weights and rim of a lesion mask with at least one voxel; distances are in voxels."""
    distance = ndimage.distance_transform_edt(~lesion)
    weight = np.clip(1 - distance / (BLEND_VOXELS + 1), 0, 1).astype(np.float32)
    beyond = distance - BLEND_VOXELS
    return Surroundings(weight, (beyond >= 1) & (beyond <= RIM_VOXELS))


@dataclass(frozen=True)
class RimMatch:
    """``gain * source + offset`` is the source in the intensities of the image.

    Attributes
    ----------
    gain, offset : float
    correlation : float
        Of both on the rim; NaN where the rim shows too little.
    """

    gain: float = 1.0
    offset: float = 0.0
    correlation: float = float("nan")


def match_on_rim(
    source: NDArray[np.float32], image: NDArray[np.float32], rim: NDArray[np.bool_]
) -> RimMatch:
    """Gain and offset that give both images the same mean and deviation on a rim.

    Not the least-squares line: what does not fit exactly would flatten its slope.

    Parameters
    ----------
    source, image : ndarray, same shape
    rim : ndarray of bool
        Where both show tissue around the lesion.
    """
    if np.count_nonzero(rim) < FEWEST_RIM_VOXELS:
        return RimMatch()
    one, two = source[rim].astype(np.float64), image[rim].astype(np.float64)
    deviations = one.std(), two.std()
    if min(deviations) == 0:
        return RimMatch(1.0, float(two.mean() - one.mean()))
    correlation = float(((one - one.mean()) * (two - two.mean())).mean() / np.prod(deviations))
    gain = float(np.clip(deviations[1] / deviations[0], *GAIN_RANGE))
    return RimMatch(gain, float(two.mean() - gain * one.mean()), correlation)


def blended(
    image: NDArray[np.generic], fill: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.generic]:
    """The image with a fill where the weight is not 0, in the type of the image.

    Voxels of weight 0 keep their bits; integers are rounded and kept within what occurs.
    """
    result = image.copy()
    touched = weight > 0
    # Non-finite voxels count as lesion, too.
    share = np.where(np.isfinite(image[touched]), weight[touched], 1.0)
    known = np.where(share < 1, image[touched].astype(np.float64), 0.0)
    values = (1 - share) * known + share * fill[touched]
    if np.issubdtype(image.dtype, np.integer):
        values = np.clip(np.rint(values), image.min(), image.max())
    result[touched] = values.astype(image.dtype)
    return result
