"""Stopping rule of a level: no new minimum for a while, or a flat fit at the finest level."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# Iterations without a new minimum that end a level.
PATIENCE = 10
# Values that the line is fitted to, and slope and deviation below which it is flat, in shares of
# the range of all values of the level.
WINDOW, FLAT = 20, 0.005
# Rises in a row that count as divergence at the finest level: it never turned back after five.
RISES = 5


@dataclass
class MetricHistory:
    """Metric values of one level ("simple graduated" policy of ITKVariationalRegistration).

    Parameters
    ----------
    finest : bool
        Whether the line is looked at too.
    """

    finest: bool
    values: list[float] = field(default_factory=list)

    def done(self, value: float) -> bool:
        """Take a value; True if the level should end."""
        self.values.append(value)
        since = len(self.values) - 1 - int(np.argmin(self.values))
        if since > PATIENCE:
            return True
        if not self.finest or len(self.values) < WINDOW:
            return False
        spread = max(self.values) - min(self.values)
        if spread == 0:
            return True
        last = (np.asarray(self.values[-WINDOW:]) - min(self.values)) / spread
        slope, level = np.polyfit(np.arange(WINDOW), last, 1)
        if slope > 0:
            return True
        line = level + slope * np.arange(WINDOW)
        return bool(abs(slope) < FLAT and np.abs(last - line).max() < FLAT)
