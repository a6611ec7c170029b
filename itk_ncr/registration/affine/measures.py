"""Dissimilarity of two images at the points that a pose maps onto each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from itk_ncr.registration.affine.geometry import Array
from itk_ncr.registration.affine.points import Matches

# Bins per image of the joint histogram: as many as the points fill.
FEWEST_BINS, MOST_BINS = 12, 32
# Smoothing of the histogram, bins.
PARZEN_SIGMA = 1.0
# Intensity of the last bin; bright tissue is 1.
BRIGHTEST = 1.3


@dataclass(frozen=True)
class Judgement:
    """The cost of a pose, and how it changes with the values at every point.

    Attributes
    ----------
    cost : float
    force : ndarray (n,)
        Derivative of the cost for the value that depends on the pose.
    curvature : ndarray (n,)
        Positive; the second derivative, neighbours held still.
    """

    cost: float
    force: Array
    curvature: Array


Measure = Callable[[Matches], Judgement]


def correlation(matches: Matches) -> Judgement:
    """1 - the correlation coefficient: for images of one contrast."""
    weight = matches.weight
    fixed, fixed_spread = _standard(matches.fixed, weight)
    moving, moving_spread = _standard(matches.moving, weight)
    r = float((weight * fixed * moving).sum())
    force = np.where(
        matches.moves,
        -(fixed - r * moving) / moving_spread,
        -(moving - r * fixed) / fixed_spread,
    )
    curvature = np.where(matches.moves, 1 / moving_spread**2, 1 / fixed_spread**2)
    return Judgement(1 - r, weight * force, weight * curvature)


def _standard(values: Array, weight: Array) -> tuple[Array, float]:
    """Values less their mean, in units of their spread; and the spread."""
    centred = values - (weight * values).sum()
    spread = max(float(np.sqrt((weight * centred * centred).sum())), 1e-6)
    return centred / spread, spread


def information(matches: Matches) -> Judgement:
    """Minus the mutual information, in nats: for images of any contrasts."""
    bins = int(np.clip(len(matches.weight) ** (1 / 3), FEWEST_BINS, MOST_BINS))
    fixed, moving = (_bin(values, bins) for values in (matches.fixed, matches.moving))
    joint = _smooth(_histogram(fixed, moving, matches.weight, bins))
    joint = joint / max(joint.sum(), 1e-12) + 1e-6 / bins**2  # nothing meets: no information
    logs = np.log(joint)
    gain = logs - np.log(joint.sum(1, keepdims=True)) - np.log(joint.sum(0, keepdims=True))
    cost = -float((joint * gain).sum())
    per_value = (bins - 1) / BRIGHTEST
    for_moving = _look_up(np.gradient(gain, axis=1), fixed, moving)
    for_fixed = _look_up(np.gradient(gain, axis=0), fixed, moving)
    force = -np.where(matches.moves, for_moving, for_fixed) * per_value
    return Judgement(cost, matches.weight * force, matches.weight * force * force)


def _bin(values: Array, bins: int) -> Array:
    return np.clip(values, 0, BRIGHTEST) * ((bins - 1) / BRIGHTEST)


def _corners(fixed: Array, moving: Array, bins: int) -> list[tuple[Array, Array]]:
    """Flat indices of the four bins around every point, and the weights there."""
    i, j = (np.minimum(v.astype(np.int64), bins - 2) for v in (fixed, moving))
    a, b = fixed - i, moving - j
    base = i * bins + j
    return [
        (base, (1 - a) * (1 - b)),
        (base + 1, (1 - a) * b),
        (base + bins, a * (1 - b)),
        (base + bins + 1, a * b),
    ]


def _histogram(fixed: Array, moving: Array, weight: Array, bins: int) -> Array:
    total = np.zeros(bins * bins)
    for index, share in _corners(fixed, moving, bins):
        total += np.bincount(index, weight * share, bins * bins)
    return total.reshape(bins, bins)


def _look_up(table: Array, fixed: Array, moving: Array) -> Array:
    flat = np.ascontiguousarray(table).ravel()
    corners = _corners(fixed, moving, len(table))
    return np.asarray(sum(flat[index] * share for index, share in corners))


def _smooth(table: Array) -> Array:
    reach = np.arange(-3, 4)
    kernel = np.exp(-0.5 * (reach / PARZEN_SIGMA) ** 2)
    kernel /= kernel.sum()
    for _ in range(2):
        padded = np.pad(table, ((3, 3), (0, 0)))
        table = sum(k * padded[i : i + len(table)] for i, k in enumerate(kernel)).T
    return np.asarray(table)


MEASURES: dict[str, Measure] = {"correlation": correlation, "information": information}
