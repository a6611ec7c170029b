"""Metrics of probability maps: average precision and calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ArgumentError
from itk_ncr.evaluation.metrics.arrays import alike


def average_precision(
    probability: ArrayLike, truth: ArrayLike, within: ArrayLike | None = None
) -> float:
    """Area under the precision-recall curve, as a step function (no interpolation).

    Parameters
    ----------
    probability : array
        Larger means more likely; ties count as one step.
    truth : array, the shape of ``probability``
        Not zero is true.
    within : array, the shape of ``probability``, optional
        Only voxels that are not zero here count.

    Returns
    -------
    float
        In [0, 1]; chance reaches the share of true voxels. Not a number without true voxels.

    Raises
    ------
    ShapeError
        If the arrays differ in shape.
    ArgumentError
        If a probability is not a number.
    """
    score, true = _chosen(probability, truth, within)
    if not true.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(true[order])
    last_of_ties = np.append(np.diff(score[order]) != 0, True)
    found = hits[last_of_ties]
    precision = found / (1 + np.flatnonzero(last_of_ties))
    return float((precision * np.diff(found, prepend=0)).sum() / hits[-1])


def expected_calibration_error(
    probability: ArrayLike, truth: ArrayLike, within: ArrayLike | None = None, *, bins: int = 15
) -> float:
    r"""Expected calibration error: mean gap between probability and fraction of true voxels.

    .. math:: \sum_b \frac{n_b}{n} | \bar{y}_b - \bar{p}_b |

    over bins of equal width, with the mean truth and probability of each.

    Parameters
    ----------
    probability : array
        In [0, 1].
    truth : array, the shape of ``probability``
        Not zero is true.
    within : array, the shape of ``probability``, optional
        Only voxels that are not zero here count.
    bins : int

    Returns
    -------
    float
        In [0, 1]; 0 is calibrated. Not a number without voxels.

    References
    ----------
    Naeini et al., AAAI 2015; Guo et al., ICML 2017, arXiv:1706.04599.
    """
    if bins < 1:
        raise ArgumentError(f"bins must be at least 1; got {bins}.")
    score, true = _chosen(probability, truth, within)
    _require_probability(score)
    if not score.size:
        return float("nan")
    # 1 belongs to the last bin.
    place = np.minimum((score * bins).astype(int), bins - 1)
    surplus = np.bincount(place, true, bins) - np.bincount(place, score, bins)
    return float(np.abs(surplus).sum() / score.size)


def _chosen(
    probability: ArrayLike, truth: ArrayLike, within: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probabilities and truth of the voxels that count, as lists."""
    score, true = alike(probability, truth)
    if within is not None:
        chosen = alike(probability, within)[1] > 0
        score, true = score[chosen], true[chosen]
    score, true = score.ravel().astype(np.float64), true.ravel() > 0
    if np.isnan(score).any():
        raise ArgumentError(
            f"probability must be a number everywhere; got {int(np.isnan(score).sum())} NaN. "
            "Leave these voxels out with `within`."
        )
    return score, true


def _require_probability(values: NDArray[np.float64]) -> None:
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ArgumentError(
            f"probability must lie in [0, 1]; got {values.min():g} to {values.max():g}."
        )
