"""Histograms as SVG for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BARS = 24


@dataclass(frozen=True)
class Bar:
    """One bar: its position, height and label."""

    x: float
    width: float
    height: float
    tip: str


@dataclass(frozen=True)
class Histogram:
    """A distribution in units of the drawing: 0 to 100 across, 0 to 40 up."""

    name: str
    bars: tuple[Bar, ...]
    low: str
    high: str
    median: str
    at_median: float
    limit: float | None
    """Where the verdict begins to say "review"; None if that is outside the drawing."""
    words: str
    """The same for those who do not see it."""


def histogram(
    name: str, values: Sequence[float], form: str, unit: str = "", limit: float | None = None
) -> Histogram | None:
    """The distribution of the finite values; None if there is none."""
    array = np.asarray([v for v in values if math.isfinite(v)], dtype=np.float64)
    if not array.size:
        return None
    low, middle, high = float(array.min()), float(np.median(array)), float(array.max())

    def text(value: float) -> str:
        return f"{value:{form}}{unit}"

    if high > low:
        counts, edges = np.histogram(array, BARS, (low, high))
    else:
        counts = np.zeros(BARS, int)
        counts[BARS // 2] = array.size
        edges = np.linspace(low - 0.5, high + 0.5, BARS + 1)

    def across(value: float) -> float:
        return round(float(100 * (value - edges[0]) / (edges[-1] - edges[0])), 2)

    bars = tuple(
        Bar(
            across(start),
            round(across(stop) - across(start), 2),
            round(float(max(40 * count / counts.max(), 1)), 2),
            f"{text(start)} to {text(stop)}: {count}" if high > low else f"{text(low)}: {count}",
        )
        for count, start, stop in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    )
    shown = limit is not None and edges[0] <= limit <= edges[-1]
    return Histogram(
        name,
        bars,
        text(low),
        text(high),
        text(middle),
        across(middle),
        across(limit) if shown and limit is not None else None,
        f"{name}: {array.size} pairs from {text(low)} to {text(high)}, median {text(middle)}",
    )
