"""Display contrast: grey windows, and matching of grey values between images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Window = tuple[float, float]

# Below this correlation of warped and fixed the two are of different contrast, and their
# difference says nothing.
ALIKE = 0.65
# As many values give a percentile or a straight line for a picture; 2 million take 0.03 s.
SAMPLE = 2**21


def sampled(array: NDArray) -> NDArray:
    """Every n-th voxel along every axis, so that at most ``SAMPLE`` remain; a view."""
    step = math.ceil((array.size / SAMPLE) ** (1 / array.ndim))
    return array[(slice(None, None, step),) * array.ndim]


def grey_window(array: NDArray) -> Window:
    """Grey values for black and white; the background, often half of the voxels, stays black."""
    low, high = (float(v) for v in np.percentile(sampled(array), (0.5, 99.7)))
    return (low, high) if high > low else (low, low + 1.0)


def scaled(array: NDArray, window: Window) -> NDArray:
    """Grey values as shares of a window, in [0, 1]."""
    share = np.asarray((array - window[0]) / (window[1] - window[0]))
    return np.clip(share, 0, 1, out=share)


def bright(array: NDArray, window: Window) -> NDArray[np.bool_]:
    """Above a tenth of a window: not the dark background."""
    return np.asarray(array > window[0] + 0.1 * (window[1] - window[0]))


def jacobian_limit(determinant: NDArray) -> float:
    """The determinant (and 1 over it) at the ends of a logarithmic colour bar."""
    few = sampled(determinant)
    positive = few[few > 0]
    if not positive.size:
        return 2.0
    return float(np.clip(np.exp(np.percentile(np.abs(np.log(positive)), 99)), 1.25, 8.0))


@dataclass(frozen=True)
class Match:
    """Linear map between the grey values of two images: ``slope * source + offset``."""

    slope: float
    offset: float
    correlation: float

    @classmethod
    def of(cls, source: NDArray, target: NDArray) -> Match:
        """Least squares; of constants the identity."""
        x, y = source.astype(np.float64).ravel(), target.astype(np.float64).ravel()
        if x.size < 2 or not (x.std() > 0 and y.std() > 0):
            return cls(1.0, 0.0, 1.0)
        correlation = float(np.corrcoef(x, y)[0, 1])
        slope = correlation * float(y.std() / x.std())
        return cls(slope, float(y.mean() - slope * x.mean()), correlation)

    @property
    def alike(self) -> bool:
        """Whether a difference of the two is meaningful."""
        return self.correlation >= ALIKE
