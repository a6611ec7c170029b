"""Calibration of soft masks, on truth drawn from known probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from itk_ncr.errors import ArgumentError
from itk_ncr.evaluation import expected_calibration_error


def test_calibration_error_by_hand():
    # Two bins: (0.2, 0.4) with one of two true, and (0.9, 1.0) with both.
    p, truth = [0.2, 0.4, 0.9, 1.0], [0, 1, 1, 1]
    by_hand = 0.5 * abs(0.5 - 0.3) + 0.5 * abs(1.0 - 0.95)
    assert expected_calibration_error(p, truth, bins=2) == pytest.approx(by_hand)
    assert expected_calibration_error(p, truth, [0, 0, 0, 1]) == 0
    assert np.isnan(expected_calibration_error(p, truth, [0, 0, 0, 0]))
    for wrong in ([1.2, 0, 0, 0], [-0.1, 0, 0, 0], [np.nan, 0, 0, 0]):
        with pytest.raises(ArgumentError, match="probability"):
            expected_calibration_error(wrong, truth)
