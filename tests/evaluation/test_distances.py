"""Lines, landmarks, inverses and correlations against closed forms and slow loops."""

from __future__ import annotations

import numpy as np
import pytest

import itk_ncr
from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.evaluation import (
    correlation,
    inverse_consistency,
    jaccard,
    landmark_errors,
    line_distance,
    robustness,
    split_by_lesion,
)


def test_parallel_lines_are_as_far_apart_as_they_look():
    level = np.full(40, 10.0)
    found = line_distance(level, level + 3)
    assert (found.average, found.hausdorff, found.percentile_95) == (3, 3, 3)
    # Of a slope of 1 the nearest place is half the height and half the width away. Only 2 pixels at
    # either end have none.
    slope = np.arange(100.0)
    assert line_distance(slope, slope + 3).average == pytest.approx(3 / np.sqrt(2), rel=0.01)
    stretched = line_distance(level, level + 3, spacing=(0.5, 2.0))
    assert stretched.hausdorff == 1.5


def test_one_spike_is_the_largest_distance_and_hardly_the_average():
    level, spiked = np.zeros(50), np.zeros(50)
    spiked[20] = 10
    found = line_distance(spiked, level)
    assert found.hausdorff == pytest.approx(10)
    # The flat line's point under the spike is near the spike's flank: 10 / sqrt(101) away, at most.
    assert 10 / 100 <= found.average <= (10 + 1) / 100


def test_a_line_distance_is_that_of_finely_sampled_lines():
    generator = np.random.default_rng(3)
    one, two = (np.cumsum(generator.normal(size=30)) + 5 for _ in range(2))
    one[7], two[15:18] = np.nan, np.nan
    found = line_distance(one, two, spacing=(0.7, 1.3))

    def dense(line):
        pieces = []
        for k in range(len(line)):
            if np.isfinite(line[k]):
                pieces.append([(line[k], k)])
                if k + 1 < len(line) and np.isfinite(line[k + 1]):
                    t = np.linspace(0, 1, 2001)
                    pieces.append(np.stack([line[k] + t * (line[k + 1] - line[k]), k + t], 1))
        return np.concatenate(pieces) * (0.7, 1.3)

    nearest = []
    for here, there in ((one, two), (two, one)):
        line = dense(there)
        for k in np.flatnonzero(np.isfinite(here)):
            nearest.append(np.linalg.norm(line - np.array([here[k] * 0.7, k * 1.3]), axis=1).min())
    assert found.average == pytest.approx(np.mean(nearest), abs=1e-3)
    assert found.hausdorff == pytest.approx(np.max(nearest), abs=1e-3)


def test_a_line_that_is_missing_is_infinitely_far():
    nothing, line = np.full(5, np.nan), np.zeros(5)
    assert line_distance(nothing, line).hausdorff == np.inf
    assert line_distance(nothing, nothing).average == 0
    with pytest.raises(ShapeError, match="columns"):
        line_distance(np.zeros((2, 5)), np.zeros((2, 5)))


def field(shape, vector, spacing, origin):
    grid = itk_ncr.Grid.of_array(shape, spacing, origin)
    return itk_ncr.Image(np.broadcast_to(np.asarray(vector, float), (*shape, len(vector))), grid)


def test_landmarks_are_carried_from_the_fixed_to_the_moving_image():
    u = field((12, 10), (3.0, -4.0), (2.0, 1.0), (100.0, -50.0))
    fixed = np.array([[104.0, -45.0], [110.0, -42.0]])
    assert landmark_errors(fixed, fixed) == pytest.approx([0, 0])
    assert landmark_errors(fixed, fixed + np.array([3, -4])) == pytest.approx([5, 5])
    assert landmark_errors(fixed, fixed + np.array([3, -4]), u) == pytest.approx([0, 0])
    assert landmark_errors(fixed, fixed + np.array([6, -8]), u) == pytest.approx([5, 5])
    with pytest.raises(ShapeError, match="shape"):
        landmark_errors(fixed, fixed[:1])


def test_robustness_counts_landmarks_that_came_closer():
    assert robustness([4, 4, 4, 4], [1, 4, 5, 3.9]) == 0.5
    with pytest.raises(ArgumentError, match="landmark"):
        robustness([], [])


def test_inverse_consistency_is_what_is_left_after_going_there_and_back():
    there = field((9, 8), (2.0, 1.0), (1.0, 1.0), (0.0, 0.0))
    # The moving grid is larger by two columns, and its inverse forgets half a millimetre in y.
    back = field((9, 10), (-2.0, -0.5), (1.0, 1.0), (0.0, 0.0))
    error = inverse_consistency(there, back)
    assert error.shape == (9, 8)
    assert error[:8] == pytest.approx(np.full((8, 8), 0.5))
    # The last row leaves the grid of the inverse.
    assert np.isnan(error[8]).all()


def test_correlation_is_that_of_numpy_and_minds_no_scale():
    generator = np.random.default_rng(0)
    one, two = generator.normal(size=(2, 6, 7))
    mask = generator.random((6, 7)) < 0.5
    assert correlation(one, two) == pytest.approx(np.corrcoef(one.ravel(), two.ravel())[0, 1])
    assert correlation(one, two, mask) == pytest.approx(np.corrcoef(one[mask], two[mask])[0, 1])
    assert correlation(one, 5 - 3 * one) == pytest.approx(-1)
    assert np.isnan(correlation(one, np.ones_like(one)))


def test_figures_of_labels_are_split_by_the_lesion():
    fixed, moved = np.array([1, 1, 2, 2, 3, 3]), np.array([1, 0, 2, 2, 3, 0])
    values = jaccard(fixed, moved)
    split = split_by_lesion(values, fixed, np.array([0, 1, 0, 0, 0, 0]))
    assert split.inside == 0.5
    assert split.outside == 0.75
    assert np.isnan(split_by_lesion(values, fixed, fixed * 0).inside)
