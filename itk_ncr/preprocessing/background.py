"""Detection of the image background: air, a mounting medium, or padding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.preprocessing.pieces import grown

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

# As many values give a quantile, a histogram, a mode; larger images are sampled.
SAMPLE, HISTOGRAM_SAMPLE, MODE_SAMPLE = 2**21, 2**18, 2**15
HISTOGRAM_BINS = 1024
# Highest quantile that takes part in the first threshold. Fat, vessels and contrast agent lie above
# it in whole heads. Sparse images, whose object is smaller, come last, with an even background.
TOP_QUANTILE, TOP_QUANTILE_OF_SPARSE = 0.98, 1.0
# The object begins this far above the background: deviations of its noise, and at least
# this share of the distance to the object.
DEVIATIONS, LEAST_STEP = 4.0, 0.02
# Voxels without a value surround an object if they hold more of the border of the image. Air inside
# of them is at least this share of the rest, further from them than a rim.
SURROUNDING_SHARE, LEAST_SHARE_INSIDE, RIM_VOXELS = 0.25, 0.15, 4
# Padding: one value, at least this common, this far (share of the range of all others) below them.
PADDING_SHARE, PADDING_GAP = 0.005, 0.25


@dataclass(frozen=True)
class _Rule:
    """Criteria by which the dark (or bright) class of an image is its background.

    Attributes
    ----------
    noise : float
        Largest deviation, as a share of the distance to the object. Measured: stripped brains 0 to
        0.001, whole heads 0.006 to 0.022; OCT, whose vitreous is not background, 0.06 to 0.3;
        tissue alone 0.1 to 0.5.
    border : float
        Least share of the border of the image.
    share : float
        Least share of the image.
    """

    noise: float
    border: float
    share: float = 0.0


# The dark class, and what is dark in it where little air is seen beside dark and bright tissue. A
# frame of zeros around an OCT is too little.
DARK = (_Rule(0.055, 0.1), _Rule(0.045, 0.4, 0.1), _Rule(0.03, 0.4, 0.1))
# Bright objects that fill an image are more common than bright backgrounds.
BRIGHT = (_Rule(0.08, 0.6, 0.1), _Rule(0.045, 0.6, 0.1), _Rule(0.03, 0.6, 0.1))
# One value, as around a stripped brain or outside the field of view.
CONSTANT = _Rule(0.0, 0.1, 0.05)
SPARSE = _Rule(0.005, 0.1)


@dataclass(frozen=True)
class Background:
    """The level and the noise of what surrounds an object.

    Attributes
    ----------
    level : float
        Its most common intensity.
    threshold : float
        Intensity where the object begins.
    middle : float
        Half way to the median of the object.
    clear : bool
        Whether the object stands out from it; not where one value frames an OCT.
    bright : bool
        Whether it is brighter than the object, as around a stained slice.
    """

    level: float
    threshold: float
    middle: float
    clear: bool = True
    bright: bool = False

    @property
    def distance(self) -> float:
        """From the background to the median of the object, positive."""
        return 2 * abs(self.middle - self.level)

    def negative(self) -> Background:
        """The same of the negative image."""
        return Background(-self.level, -self.threshold, -self.middle, self.clear, not self.bright)


def padding_value(values: Array, valid: Mask) -> float | None:
    """The constant that fills voxels outside the field of view; None if there is none.

    It stands far below everything else: -2000 around a CT, -1 around an MR image. Zero is no
    padding but the natural level of air.

    Parameters
    ----------
    values : ndarray, float32
    valid : ndarray of bool, same shape
        Voxels with a finite value.
    """
    shown = sampled(values, valid)
    lowest = float(shown.min())
    rest = shown[shown > lowest]
    if lowest == 0 or not len(rest) or len(rest) > (1 - PADDING_SHARE) * len(shown):
        return None
    low, high = (float(q) for q in np.quantile(rest, (0.001, 0.98)))
    return lowest if low - lowest > PADDING_GAP * (high - low) > 0 else None


def find_background(values: Array, valid: Mask) -> Background | None:
    """The even background that an object stands out from; None if tissue fills the image.

    Parameters
    ----------
    values : ndarray, float32
    valid : ndarray of bool, same shape
        Voxels that count: finite and no padding.
    """
    found = _search(sampled(values, valid, HISTOGRAM_SAMPLE), values[border(valid)])
    if found is None or not surrounded(valid):
        return found
    # Fluid at the rim of a stripped brain, whose air has no value, is not air.
    sign = -1 if found.bright else 1
    inner = valid & ~grown(~valid, RIM_VOXELS) & (sign * values <= sign * found.threshold)
    return found if inner.sum() >= LEAST_SHARE_INSIDE * valid.sum() else None


def surrounded(valid: Mask) -> bool:
    """Whether voxels without a value lie around the others, within the box that holds those.

    A frame around the whole image does not count: the image was padded, its object was not cut out.
    """
    box = []
    for axis in range(valid.ndim):
        along = np.flatnonzero(valid.any(tuple(a for a in range(valid.ndim) if a != axis)))
        if not len(along):
            return True
        box.append(slice(along[0], along[-1] + 1))
    inner = valid[tuple(box)]
    return bool((~inner[border(np.ones_like(inner))]).mean() > SURROUNDING_SHARE)


def sampled(values: Array, among: Mask, most: int = SAMPLE) -> Array:
    """The values of a mask, or evenly taken ones of a large image."""
    step = -(-values.size // most)
    if step == 1:
        return values[among]
    while math.gcd(step, values.size) > 1:  # not the same column of every row
        step += 1
    return values.reshape(-1)[::step][among.reshape(-1)[::step]]


def _search(shown: Array, around: Array) -> Background | None:
    search = _Search(shown, around), _Search(-shown, -around)
    for dark, bright in zip(DARK, BRIGHT, strict=True):
        found = search[0].next(dark, CONSTANT)
        if found is not None:
            return found
        # Saturated fluid has one value too, and is not background.
        found = search[1].next(bright)
        if found is not None:
            return found.negative()
    return _Search(shown, around, TOP_QUANTILE_OF_SPARSE).next(SPARSE)


def border(valid: Mask) -> Mask:
    """The valid voxels next to the end of the image or to one that is not valid."""
    edge = np.zeros_like(valid)
    whole = bool(valid.all())
    for axis, n in enumerate(valid.shape):
        if n == 1:
            continue  # an image of one slice has its border in the plane
        one, all_ = (np.moveaxis(a, axis, 0) for a in (edge, valid))
        one[0] = one[-1] = True
        if whole:
            continue
        one[1:] |= ~all_[:-1]
        one[:-1] |= ~all_[1:]
    edge &= valid
    return edge


class _Search:
    """Splits values at a threshold, and their dark class again, until that is a background."""

    def __init__(self, shown: Array, around: Array, top: float = TOP_QUANTILE) -> None:
        self.shown, self.around, self.top = shown, around, top
        self.below, self.first = shown, True

    def next(self, *rules: _Rule) -> Background | None:
        """The background at the next threshold, if it is one by any of the rules."""
        middle = _middle(self.below, self.top)
        if middle is None:
            return None
        self.below = self.below[self.below <= middle]
        first, self.first = self.first, False
        level, deviation = _mode(self.below)
        distance = float(np.median(self.shown[self.shown > middle])) - level
        step = max(LEAST_STEP * distance, DEVIATIONS * deviation)
        border = (self.around <= level + step).mean()
        share = (self.shown <= level + step).mean()
        for one in rules:
            if deviation <= one.noise * distance and border >= one.border and share >= one.share:
                clear = first or one is not CONSTANT
                return Background(level, level + step, level + distance / 2, clear)
        return None


def _middle(shown: Array, top: float) -> float | None:
    """Threshold half way between the medians below and above it, starting from Otsu's."""
    low, high = (float(q) for q in np.quantile(shown, (0.001, top)))
    if high <= low:
        return None
    width = (high - low) / HISTOGRAM_BINS
    bins = np.clip((shown - np.float32(low)) / np.float32(width), 0, HISTOGRAM_BINS - 1)
    counts = np.bincount(bins.astype(np.int16), minlength=HISTOGRAM_BINS)
    below = np.cumsum(counts)
    cut = _otsu(counts)
    for _ in range(20):
        if below[cut] == below[-1]:
            return None
        medians = (below[cut] / 2, (below[cut] + below[-1]) / 2)
        before, cut = cut, int(np.searchsorted(below, medians).sum()) // 2
        if cut == before:
            break
    return low + (cut + 1) * width


def _otsu(counts: NDArray[np.int64]) -> int:
    """Last bin of the lower class, for the largest variance between the two."""
    bins = np.arange(len(counts))
    below, first = np.cumsum(counts).astype(np.float64), np.cumsum(counts * bins).astype(np.float64)
    above = below[-1] - below
    apart = first[-1] * below - first * below[-1]
    product = below * above
    variance = np.divide(apart**2, product, out=np.zeros_like(apart), where=product > 0)
    # Between two separate peaks every threshold is as good; the one in the middle is taken.
    best = np.flatnonzero(variance == variance.max())
    return int(best[len(best) // 2])


def _mode(values: Array) -> tuple[float, float]:
    """Median and deviation of the densest half, which other tissue hardly moves."""
    ordered = np.sort(values[:: -(-len(values) // MODE_SAMPLE)])
    half = max(1, len(ordered) // 2)
    lengths = ordered[half - 1 :] - ordered[: len(ordered) - half + 1]
    first = int(np.argmin(lengths))
    # Half of a normal distribution lies within 1.35 deviations.
    return float(np.median(ordered[first : first + half])), float(lengths[first]) / 1.35
