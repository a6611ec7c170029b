"""Tests, effects and marks against SciPy, slow loops and the paper's rule."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from itk_ncr.errors import ArgumentError
from itk_ncr.evaluation import (
    Mark,
    best_rows,
    bootstrap_interval,
    effect_size,
    holm,
    signed_rank_test,
)

scipy_stats = pytest.importorskip("scipy.stats")


def test_one_sided_p_values_are_those_of_scipy_with_and_without_ties():
    generator = np.random.default_rng(7)
    for case in range(100):
        n = int(generator.integers(5, 60))
        first, second = generator.normal(0.2, 1, n), generator.normal(0, 1, n)
        if case % 2:  # ties, and pairs without a difference
            first, second = np.round(first), np.round(second)
            if (first == second).all():
                continue
        theirs = scipy_stats.wilcoxon(first, second, alternative="greater").pvalue
        assert signed_rank_test(first, second) == theirs


def test_small_samples_get_the_share_of_all_signs_that_are_as_extreme():
    first, second = np.array([5.0, 7.1, 9.3, 2.2, 8.5]), np.array([4.0, 5.0, 9.9, 1.9, 3.0])
    difference = first - second
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1
    seen = ranks[difference > 0].sum()
    sums = [
        sum(r for r, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product((0, 1), repeat=5)
    ]
    assert signed_rank_test(first, second) == pytest.approx(np.mean(np.array(sums) >= seen))


def test_what_does_not_differ_is_not_better():
    same = np.arange(6.0)
    assert signed_rank_test(same, same) == 1
    assert effect_size(same, same) == 0
    for wrong in ([], [np.nan, 1.0], [[1.0], [2.0]]):
        with pytest.raises(ArgumentError, match="finite"):
            signed_rank_test(wrong, wrong)


def test_effect_size_by_hand():
    # Differences 1, -2, 3, 0: ranks 1, 2, 3; (1 + 3 - 2) / 6. Ties share their rank.
    assert effect_size([1, 0, 3, 5], [0, 2, 0, 5]) == pytest.approx(1 / 3)
    assert effect_size([1, 0], [0, 1]) == 0
    assert effect_size([2, 3, 9], [1, 1, 1]) == 1
    assert effect_size([1, 1, 1], [2, 3, 9]) == -1


def test_holm_by_hand_and_against_its_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = np.round(generator.random(int(generator.integers(1, 8))) ** 3, 2)
        for level in (0.05, 0.2):
            # Step down: the smallest of those left against level over their number.
            believed, left = set(), sorted(range(len(p)), key=lambda i: p[i])
            while left and p[left[0]] <= level / len(left):
                believed.add(left.pop(0))
            found = set(np.flatnonzero(holm(p) <= level + 1e-12))
            # Equal p-values are believed together or, at the edge of rounding, apart by one step.
            assert {p[i] for i in found} == {p[i] for i in believed}
    with pytest.raises(ArgumentError, match="p_values"):
        holm([0.5, 1.5])


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(4)
    hits = 0
    for _ in range(150):
        low, high = bootstrap_interval(
            generator.exponential(1.0, 40), np.mean, 0.8, generator, resamples=300
        )
        hits += low <= 1.0 <= high
    # Binomial: 0.8 +- 3 deviations of 0.033, and small samples fall a little short of it.
    assert 0.68 < hits / 150 < 0.9


def test_bootstrap_intervals_are_seeded_and_stand_constants_and_ties():
    values = np.random.default_rng(0).normal(size=25)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    other = bootstrap_interval(values, generator=np.random.default_rng(1))
    assert other != bootstrap_interval(values)
    assert bootstrap_interval([3.0, 3.0, 3.0]) == (3, 3)
    low, high = bootstrap_interval([0.0] * 20 + [1.0], np.median)
    assert low <= 0 <= high
    with pytest.raises(ArgumentError, match="level"):
        bootstrap_interval(values, level=95)
    with pytest.raises(ArgumentError, match="values"):
        bootstrap_interval([np.nan])


def test_marks_follow_the_rule_of_the_paper():
    generator = np.random.default_rng(2)
    hard = generator.normal(0.5, 0.2, 40)  # how hard a case is, for all
    rows = {
        "best": hard + 0.10 + generator.normal(0, 0.02, 40),
        "ncr-s": hard + 0.05 + generator.normal(0, 0.02, 40),
        "ncr-u": hard + generator.normal(0, 0.02, 40),
        "ncr-b": hard + generator.normal(0, 0.02, 40),
    }
    group = ("ncr-s", "ncr-u", "ncr-b")
    marks = best_rows(rows, group=group)
    assert marks == {
        "best": Mark(bold=True),
        "ncr-s": Mark(star=True),
        "ncr-u": Mark(),
        "ncr-b": Mark(),
    }
    assert best_rows(rows, group=group, correct=True) == marks
    # Distances: the smallest wins.
    worst = {name: -values for name, values in rows.items()}
    assert best_rows(worst, higher_is_better=False, group=group) == marks
    # Two that cannot be told apart are neither.
    tied = {"a": rows["ncr-u"], "b": rows["ncr-b"]}
    assert best_rows(tied) == {"a": Mark(), "b": Mark()}
    # A single row has no rival.
    assert best_rows({"a": rows["best"]}, group=("a",)) == {"a": Mark()}
    with pytest.raises(ArgumentError, match="missing"):
        best_rows(rows, group=("missing",))
