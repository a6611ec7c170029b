"""Paired statistics: tests, effect sizes, confidence intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ArgumentError
from itk_ncr.evaluation.metrics.arrays import alike

Figures = NDArray[np.float64]


def signed_rank_test(first: ArrayLike, second: ArrayLike) -> float:
    """Wilcoxon's signed-rank test, one-sided: ``first`` is larger than ``second``.

    Pairs without a difference are left out (Wilcoxon's way), ties share their mean rank; small
    samples without either get exact values. Computed by SciPy.

    Parameters
    ----------
    first, second : array, shape (n,)
        Figures of the same cases in the same order.

    Returns
    -------
    float
        The p-value; 1 where no pair differs.

    Raises
    ------
    ArgumentError
        If a figure is not finite, or there is none.
    """
    one, two = _cases(first, second)
    if not (one != two).any():
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(one, two, alternative="greater").pvalue)


def effect_size(first: ArrayLike, second: ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation: how one-sided the differences are.

    The rank sum of the pairs in which ``first`` is larger minus that of the others, as a fraction
    of their sum; pairs without a difference are left out.

    Parameters
    ----------
    first, second : array, shape (n,)
        Figures of the same cases in the same order.

    Returns
    -------
    float
        1 where ``first`` is always larger, -1 where never, 0 where neither prevails.

    Raises
    ------
    ArgumentError
        If a figure is not finite, or there is none.

    References
    ----------
    Kerby, The simple difference formula, 2014, doi:10.2466/11.IT.3.1.
    """
    one, two = _cases(first, second)
    difference = (one - two)[one != two]
    if not difference.size:
        return 0.0
    from scipy import stats

    ranks = stats.rankdata(np.abs(difference))
    return float((np.sign(difference) * ranks).sum() / ranks.sum())


def holm(p_values: ArrayLike) -> Figures:
    """Holm-adjusted p-values.

    Parameters
    ----------
    p_values : array, shape (n,)

    Returns
    -------
    ndarray, shape (n,)
        In the order they came.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scand J Stat 6, 1979.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ArgumentError("p_values must be a list of numbers in [0, 1]; got something else.")
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


class ConfidenceInterval(NamedTuple):
    """Ends of a confidence interval.

    Attributes
    ----------
    low, high : float
        In the unit of the figure.
    """

    low: float
    high: float


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., ArrayLike] = np.mean,
    level: float = 0.95,
    generator: np.random.Generator | None = None,
    *,
    resamples: int = 2000,
) -> ConfidenceInterval:
    """Confidence interval of a statistic, from resampled cases (bias-corrected and accelerated).

    Parameters
    ----------
    values : array, shape (n,)
    statistic : function
        Takes an array and ``axis``, as ``numpy.mean`` and ``numpy.median`` do.
    level : float
        Of confidence, in (0, 1).
    generator : numpy.random.Generator, optional
        Default: one with seed 0, so that a table can be made again.
    resamples : int

    Returns
    -------
    ConfidenceInterval
        Both ends are the statistic where all resamples agree.

    References
    ----------
    Efron, Better bootstrap confidence intervals, JASA 82, 1987, doi:10.1080/01621459.1987.10478410.
    """
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
        raise ArgumentError("values must be a list of finite numbers; got none, NaN or Inf.")
    if not 0 < level < 1:
        raise ArgumentError(f"level must lie in (0, 1); got {level}.")
    if (sample == sample[0]).all():
        value = float(np.asarray(statistic(sample, axis=0)))
        return ConfidenceInterval(value, value)
    generator = np.random.default_rng(0) if generator is None else generator
    from scipy import stats

    options = {"confidence_level": level, "n_resamples": resamples, "rng": generator}
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap((sample,), statistic, **options)
    if np.isnan(found.confidence_interval.low):
        # The median of mostly equal values has no acceleration.
        found = stats.bootstrap((sample,), statistic, **options, method="percentile")
    return ConfidenceInterval(*(float(end) for end in found.confidence_interval))


@dataclass(frozen=True)
class Mark:
    """Emphasis of a value in a table."""

    bold: bool = False
    """Significantly better than every other row."""
    star: bool = False
    """Significantly better than every other row of its group."""


def best_rows(
    values: Mapping[str, ArrayLike],
    higher_is_better: bool = True,
    *,
    group: Collection[str] = (),
    level: float = 0.05,
    correct: bool = False,
) -> dict[str, Mark]:
    """Which rows of one column of a table are printed bold, and which get a star.

    The rule of the paper: bold is what one-sided signed-rank tests find better than every other
    row, a star what they find better than every other row of a group (there: the versions of one
    method).

    Parameters
    ----------
    values : dict of str to array, shape (n,)
        Figures of every row, for the same cases in the same order.
    higher_is_better : bool
        False for distances.
    group : collection of str
        Rows that compete for the star; a group of less than two has none.
    level : float
        Of significance.
    correct : bool
        Whether a row's p-values are adjusted by :func:`holm`; the paper's are not.

    Returns
    -------
    dict of str to Mark
        For every row.

    References
    ----------
    Andresen et al., Int J CARS 17, 2022, doi:10.1007/s11548-022-02577-4.
    """
    unknown = [name for name in group if name not in values]
    if unknown:
        raise ArgumentError(f"group must name rows of the table; got {', '.join(unknown)}.")

    def beats(name: str, rivals: Sequence[str]) -> bool:
        pairs = [(values[name], values[rival]) for rival in rivals]
        p = [signed_rank_test(*(pair if higher_is_better else pair[::-1])) for pair in pairs]
        return bool(p) and bool(((holm(p) if correct else np.asarray(p)) < level).all())

    return {
        name: Mark(
            bold=beats(name, [row for row in values if row != name]),
            star=name in group and beats(name, [row for row in group if row != name]),
        )
        for name in values
    }


def _cases(first: ArrayLike, second: ArrayLike) -> tuple[Figures, Figures]:
    one, two = (np.asarray(values, np.float64) for values in alike(first, second))
    if one.ndim != 1 or not one.size or not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise ArgumentError(
            "both samples must be lists of finite numbers; got none, NaN or Inf. "
            "Leave out the cases that one method has no figure for."
        )
    return one, two
