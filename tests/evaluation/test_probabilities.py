"""Calibration of soft masks, on truth drawn from known probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from itk_ncr.errors import ArgumentError
from itk_ncr.evaluation import expected_calibration_error, temperature_scale, tempered


def drawn(logits, seed=0):
    """Truth that has the probabilities of some logits."""
    return np.random.default_rng(seed).random(logits.shape) < 1 / (1 + np.exp(-logits))


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


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_spoilt_probabilities_is_found_and_mends_them(temperature):
    pytest.importorskip("scipy")
    logits = np.random.default_rng(1).normal(size=40_000) * 2
    truth = drawn(logits)
    spoilt = 1 / (1 + np.exp(-logits * temperature))
    found = temperature_scale(spoilt, truth)
    # 40 000 draws: about one per cent off, at most 3 % for three seeds.
    assert found == pytest.approx(temperature, rel=0.05)
    mended = tempered(spoilt, found)
    assert expected_calibration_error(mended, truth) < 0.01
    if temperature != 1:
        assert expected_calibration_error(spoilt, truth) > 0.05


def test_tempering_keeps_order_and_certainty():
    p = np.array([0.0, 1e-9, 0.2, 0.5, 0.7, 1.0])
    warm = tempered(p, 4.0)
    assert (np.diff(warm) > 0).all()
    assert (warm[[0, 3, 5]] == [0, 0.5, 1]).all()
    # Odds of 1 to 4, to the power of a quarter.
    assert warm[2] == pytest.approx(1 / (1 + 4**0.25))
    assert tempered(p[2:5], 1.0) == pytest.approx(p[2:5])
    with pytest.raises(ArgumentError, match="temperature"):
        tempered(p, 0)
