"""Figures against closed forms, slow loops and other people's code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.evaluation import (
    average_precision,
    detected,
    dice,
    jaccard,
    jacobian_statistics,
    labels_touching,
    mean_jaccard,
    surface_distance,
)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), labels=st.integers(1, 6))
def test_jaccard_is_intersection_over_union_of_each_label(seed, labels):
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, labels + 1, (2, 4, 5)) * 7
    expected = {
        int(label): np.sum((first == label) & (second == label))
        / np.sum((first == label) | (second == label))
        for label in np.unique(first)
        if label
    }
    assert jaccard(first, second) == pytest.approx(expected)


def test_jaccard_leaves_out_what_it_is_told_and_what_only_the_second_has():
    first = np.array([1, 1, 1, 2, 3, 0])
    second = np.array([1, 1, 0, 2, 9, 9])
    assert jaccard(first, second) == pytest.approx({1: 2 / 3, 2: 1.0, 3: 0.0})
    assert jaccard(first, second, ignore=(0, 2), minimum_voxels=2) == pytest.approx({1: 2 / 3})
    assert mean_jaccard(first, second) == pytest.approx(5 / 9)
    assert np.isnan(mean_jaccard(first * 0, second))


def test_labels_are_split_by_one_shared_voxel():
    assert labels_touching([1, 1, 2, 3, 3], [0, 1, 0, 0, 1]) == {1, 3}


def test_dice_of_halves_and_of_nothing():
    assert dice([1, 1, 0, 0], [0, 1, 1, 0]) == 0.5
    assert dice([0, 0], [0, 0]) == 1.0
    assert dice([0, 1], [0, 0]) == 0.0


def test_one_voxel_inside_is_enough_to_detect():
    assert detected([0, 1, 1], [0, 0, 1])
    assert not detected([1, 0, 0], [0, 0, 1])


def test_average_precision_by_hand():
    # Ranked: hit, miss, hit, miss: precision 1 at recall 1/2, 2/3 at recall 1.
    assert average_precision([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)
    # Everything tied: one step at the prevalence, in whatever order the voxels come.
    assert average_precision([0.5] * 4, [1, 0, 0, 0]) == 0.25
    assert average_precision([0.5] * 4, [0, 0, 0, 1]) == 0.25
    assert average_precision([0.9, 0.8, 0.7], [0, 1, 0], within=[0, 1, 1]) == 1.0
    assert np.isnan(average_precision([0.5], [0]))
    with pytest.raises(ArgumentError, match="1 NaN"):
        average_precision([np.nan, 0.5], [1, 0])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_average_precision_is_the_sum_over_every_threshold(seed):
    generator = np.random.default_rng(seed)
    score, truth = generator.integers(0, 8, 40) / 8, generator.integers(0, 2, 40)
    truth[0] = 1
    area, recall_before = 0.0, 0.0
    for level in sorted(set(score), reverse=True):
        found = score >= level
        precision, recall = truth[found].mean(), truth[found].sum() / truth.sum()
        area += precision * (recall - recall_before)
        recall_before = recall
    assert average_precision(score, truth) == pytest.approx(area)


def boxes(shape):
    mask, truth = np.zeros((2, *shape), bool)
    mask[tuple(slice(1, n - 2) for n in shape)] = True
    truth[tuple(slice(2, n - 1) for n in shape)] = True
    truth[tuple(n // 2 for n in shape)] = False
    return mask, truth


def slow_surface(mask):
    """Voxels with a neighbour outside, one by one."""
    points = []
    for p in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                q = p.copy()
                q[axis] += step
                if q[axis] < 0 or q[axis] >= mask.shape[axis] or not mask[tuple(q)]:
                    points.append(tuple(p))
    return np.array(sorted(set(points)), float)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 1.0, 0.5)])
@pytest.mark.parametrize("shape", [(8, 9), (7, 6, 9)])
def test_surface_distances_are_those_of_all_pairs(shape, spacing):
    spacing = spacing[: len(shape)]
    mask, truth = boxes(shape)
    between = cdist(slow_surface(mask) * spacing, slow_surface(truth) * spacing)
    nearest = np.concatenate([between.min(1), between.min(0)])
    distance = surface_distance(mask, truth, spacing)
    assert distance.average == pytest.approx(nearest.mean(), abs=1e-5)
    assert distance.hausdorff == pytest.approx(nearest.max(), abs=1e-5)
    assert distance.percentile_95 == pytest.approx(np.percentile(nearest, 95), abs=1e-5)


def test_a_mask_that_is_missing_is_infinitely_far():
    mask, _ = boxes((6, 6))
    assert surface_distance(mask, mask).hausdorff == 0
    assert surface_distance(mask, mask * 0).average == np.inf
    assert surface_distance(mask * 0, mask * 0).average == 0
    with pytest.raises(ShapeError, match="2 numbers"):
        surface_distance(mask, mask, (1, 1, 1))
    with pytest.raises(ShapeError, match=r"2 numbers; got 1\.5"):
        surface_distance(mask, mask, 1.5)
    with pytest.raises(ShapeError, match=r"\(z, y, x\) or \(y, x\); got shape \(6,\)"):
        surface_distance(mask[0], mask[0])


def test_folding_counts_zero_and_not_a_number():
    figures = jacobian_statistics([0.5, 2.0, 0.0, -1.0])
    assert (figures.minimum, figures.maximum, figures.folding_fraction) == (-1, 2, 0.5)
    assert figures.deviation_of_logarithm == pytest.approx(np.log(2))
    assert jacobian_statistics([1.0, np.nan]).folding_fraction == 0.5
    assert jacobian_statistics([1.0, -9.0], within=[1, 0]).minimum == 1
    with pytest.raises(ArgumentError, match="within"):
        jacobian_statistics([1.0], within=[0])


def test_different_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"\(2,\) and \(3,\)"):
        dice([1, 0], [1, 0, 0])
