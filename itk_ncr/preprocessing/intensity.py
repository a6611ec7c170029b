"""Two images made comparable: one scale, and one histogram where that brings them closer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import ImageValueError

Array = NDArray[np.float32]

# A value that this share of the voxels holds exactly is a background, not tissue.
BACKGROUND_SHARE = 0.05
# Brightest share of the foreground that is cut off (vessels, implants).
TOP_SHARE = 0.01
# Quantiles of the foreground between which one histogram is mapped onto another.
LANDMARKS = np.linspace(0.02, 0.98, 25)
# |correlation| x mutual information must rise by this factor before a matching is accepted.
ACCEPTANCE = 1.02
HISTOGRAM_BINS = 32


@dataclass(frozen=True)
class Normalised:
    """An image on a common scale.

    Attributes
    ----------
    values : ndarray, float32
        0 is the background, about 1 the brightest tissue.
    foreground : ndarray of bool
        Voxels that show something.
    """

    values: Array
    foreground: NDArray[np.bool_]


def normalise(image: NDArray[np.floating], name: str = "image") -> Normalised:
    """Scale an image so that its background is 0 and its bright tissue 1.

    NaN and infinite voxels count as background.

    Parameters
    ----------
    image : ndarray, any shape
    name : str
        What to call it in an error.

    Raises
    ------
    ImageValueError
        If no voxel is finite, or all are equal.
    """
    with np.errstate(over="ignore"):  # told as infinite voxels
        values = np.array(image, np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        raise ImageValueError(
            f"{name} must have voxels that are finite in float32; got none. Check the file."
        )
    low = float(values[finite].min())
    values[~finite] = low
    if float(values.max()) == low:
        raise ImageValueError(
            f"{name} must show something; got {low:g} in every voxel. Check the file."
        )
    foreground = finite & (values > low)
    if foreground.mean() > 1 - BACKGROUND_SHARE:
        # No value stands out as background: dark voxels are tissue too.
        low = float(np.quantile(values, TOP_SHARE / 2))
        foreground = finite.copy()
    high = float(np.quantile(values[foreground], 1 - TOP_SHARE))
    if high <= low:
        high = float(values.max())
    values -= low
    values /= high - low
    np.clip(values, 0.0, 1.5, out=values)
    return Normalised(values, foreground)


def match_histogram(
    moving: Array,
    fixed: Array,
    moving_foreground: NDArray[np.bool_],
    fixed_foreground: NDArray[np.bool_],
) -> tuple[Array, bool]:
    """Map the moving intensities onto the fixed ones if that makes the images more alike.

    A monotone map between quantiles of the two foregrounds is accepted only where the product of
    absolute correlation and mutual information rises: a lesion that fills much of one image would
    otherwise shift all tissue of the other.

    Parameters
    ----------
    moving, fixed : ndarray, float32, same shape
        Roughly aligned, on the scale of :func:`normalise`.
    moving_foreground, fixed_foreground : ndarray of bool

    Returns
    -------
    ndarray, float32
        The moving image, matched or as it was.
    bool
        Whether the match was accepted.

    References
    ----------
    The acceptance rule is that of DRAMMS (Ou et al., 2011, doi:10.1016/j.media.2010.07.002).
    """
    both = moving_foreground & fixed_foreground
    if both.sum() < 1000:
        return moving, False
    source = np.quantile(moving[moving_foreground], LANDMARKS)
    target = np.quantile(fixed[fixed_foreground], LANDMARKS)
    source, kept = np.unique(source, return_index=True)
    target = np.maximum.accumulate(target[kept])
    if len(source) < 3:
        return moving, False
    # 0 stays 0: the background is not a tissue. Beyond the last landmark the map is a shift.
    source = np.concatenate([[0.0], np.maximum(source, 1e-6), [source[-1] + 1.0]])
    target = np.concatenate([[0.0], target, [target[-1] + 1.0]])
    matched = np.interp(moving, source, target).astype(np.float32)
    matched[~moving_foreground] = moving[~moving_foreground]
    before = likeness(moving[both], fixed[both])
    after = likeness(matched[both], fixed[both])
    return (matched, True) if after > ACCEPTANCE * before else (moving, False)


def likeness(a: Array, b: Array) -> float:
    """Absolute correlation times mutual information of two lists of intensities."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    a64 -= a64.mean()
    b64 -= b64.mean()
    spread = np.sqrt((a64 * a64).mean() * (b64 * b64).mean())
    correlation = 0.0 if spread == 0 else abs((a64 * b64).mean() / spread)
    joint = np.histogram2d(a, b, HISTOGRAM_BINS)[0] / len(a)
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    information = float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())
    return correlation * information
