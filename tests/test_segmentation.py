"""Thresholds, components and growing, against slow oracles and pictures drawn by hand."""

from __future__ import annotations

from collections import deque
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.segmentation import (
    components,
    fill_holes,
    grow,
    grow_even,
    hysteresis,
    largest_component,
    oracle_seed,
    threshold,
)


def picture(*rows: str) -> np.ndarray:
    return np.array([[c != "." for c in row] for row in rows])


def flood(inside: np.ndarray, seed: tuple[int, ...], full: bool) -> np.ndarray:
    """Breadth-first search with nothing clever in it."""
    steps = [s for s in product((-1, 0, 1), repeat=inside.ndim) if any(s)]
    if not full:
        steps = [s for s in steps if sum(map(abs, s)) == 1]
    region = np.zeros_like(inside)
    if not inside[seed]:
        return region
    region[seed] = True
    queue = deque([seed])
    while queue:
        here = queue.popleft()
        for step in steps:
            there = tuple(a + b for a, b in zip(here, step, strict=True))
            if not all(0 <= t < n for t, n in zip(there, inside.shape, strict=True)):
                continue
            if inside[there] and not region[there]:
                region[there] = True
                queue.append(there)
    return region


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(5, 7), (1, 6), (3, 4, 5), (2, 1, 6)]),
    seed=st.integers(0, 2**31),
    full=st.booleans(),
)
def test_growing_is_a_flood_from_each_seed(shape, seed, full):
    generator = np.random.default_rng(seed)
    probability = generator.random(shape)
    seeds = np.stack([generator.integers(n, size=2) for n in shape], axis=1)
    expected = np.zeros(shape, bool)
    for point in seeds:
        expected |= flood(probability > 0.4, tuple(point), full)
    region = grow(probability, seeds, 0.4, connectivity="full" if full else "faces")
    assert np.array_equal(region, expected)


def test_the_level_itself_and_not_a_number_stay_out():
    assert threshold([[0.5, 0.51, np.nan, np.inf]]).tolist() == [[False, True, False, True]]


def test_corners_join_only_with_full_connectivity():
    diagonal = np.eye(3, dtype=bool)
    assert components(diagonal)[1] == 3
    assert components(diagonal, "full")[1] == 1


@pytest.mark.parametrize("shape", [(40, 37), (12, 13, 11), (1, 9, 30)])
@pytest.mark.parametrize("connectivity", ["faces", "full"])
def test_components_are_those_of_scipy_in_the_order_of_their_first_voxel(shape, connectivity):
    mask = np.random.default_rng(5).random(shape) > (0.5 if connectivity == "faces" else 0.8)
    neighbours = ndimage.generate_binary_structure(
        len(shape), 1 if connectivity == "faces" else len(shape)
    )
    expected, expected_count = ndimage.label(mask, neighbours)
    labels, count = components(mask, connectivity)
    assert count == expected_count > 3
    firsts = [np.flatnonzero(labels == number)[0] for number in range(1, count + 1)]
    assert firsts == sorted(firsts)
    # One to one, whatever numbers scipy gives.
    assert len({*zip(labels.ravel(), expected.ravel(), strict=True)}) == count + 1


def test_components_of_nothing_are_none():
    labels, count = components(np.zeros((3, 4)))
    assert count == 0
    assert not labels.any()
    assert not largest_component(np.zeros((3, 4))).any()


def test_hysteresis_keeps_weak_voxels_only_next_to_strong_ones():
    probability = np.array([[0.4, 0.9, 0.4, 0.0, 0.4, 0.6, 0.4]])
    kept = hysteresis(probability, low=0.3, high=0.8)
    assert kept.tolist() == [[True, True, True, False, False, False, False]]
    with pytest.raises(ArgumentError, match=r"low 0\.9 and high 0\.1"):
        hysteresis(probability, low=0.9, high=0.1)


def test_the_heaviest_component_is_not_the_largest():
    probability = np.array([[0.6, 0.6, 0.6, 0.0, 1.0, 1.0]])
    assert largest_component(probability > 0.5)[0].tolist() == [True] * 3 + [False] * 3
    heavy = largest_component(probability > 0.5, probability)
    assert heavy[0].tolist() == [False] * 4 + [True] * 2
    weights = np.where(probability == 1, np.nan, probability)
    assert largest_component(probability > 0.5, weights)[0, 0]


def test_intensity_stops_growth_at_an_edge_that_the_probability_does_not_see():
    probability = np.ones((5, 8))
    image = np.zeros((5, 8))
    image[:, 5:] = 100
    image[::2, ::2] += 1  # so that the patch has a spread
    region = grow(probability, [[2, 1]], intensity=image)
    assert region[:, :5].all()
    assert not region[:, 5:].any()
    both = grow(probability, [[2, 1], [2, 7]], intensity=image)
    assert both.all()


def lesion_in_tissue() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True lesion, image (even lesion of 50, soft rim, in tissue of 200 and 150), probability."""
    generator = np.random.default_rng(0)
    z, y, x = np.ogrid[-14:15, -14:15, -14:15]
    truth = z**2 + y**2 + x**2 < 9**2
    coverage = ndimage.gaussian_filter(truth.astype(float), 1.0)
    tissue = np.where(x + 0 * y + 0 * z > 0, 200.0, 150.0)
    image = (1 - coverage) * tissue + coverage * 50 + 4 * generator.standard_normal(truth.shape)
    probability = np.where(ndimage.binary_dilation(truth, iterations=1), 0.7, 0.2)
    return truth, image, probability


@pytest.mark.parametrize("gain", [1.0, -2.5])
def test_growing_evenly_finds_a_soft_rim_at_half_contrast_whatever_the_unit(gain):
    truth, image, probability = lesion_in_tissue()
    wide = grow(probability, [(14, 14, 14)])
    even = grow_even(probability, [(14, 14, 14)], gain * image + 30)
    assert (wide & ~truth).sum() > 0.2 * truth.sum()
    # Noise may tip voxels whose contrast is nearly half; 2.1 % of the ball were wrong.
    assert (even ^ truth).sum() < 0.03 * truth.sum()
    assert not (even & ~wide).any()


def test_growing_evenly_keeps_a_part_for_every_lesion_with_a_seed():
    first, image, probability = lesion_in_tissue()
    truth = np.concatenate([first, first])
    both = np.concatenate([image, image + 300])
    even = grow_even(np.concatenate([probability] * 2), [(14, 14, 14), (43, 14, 14)], both)
    assert (even ^ truth).sum() < 0.03 * truth.sum()


def test_growing_evenly_leaves_out_what_is_not_a_number_and_grows_nothing_from_outside():
    truth, image, probability = lesion_in_tissue()
    image[:14] = np.nan
    even = grow_even(probability, [(20, 14, 14)], image)
    assert not even[:14].any()
    assert (even ^ truth)[14:].sum() < 0.03 * truth[14:].sum()
    assert not grow_even(probability, [(0, 0, 0)], image).any()
    with pytest.raises(ShapeError, match="intensity must have the shape of probability"):
        grow_even(probability, [(14, 14, 14)], image[1:])
    with pytest.raises(ArgumentError, match="deviations must be positive"):
        grow_even(probability, [(14, 14, 14)], image, deviations=0)


def test_an_even_patch_lets_in_its_own_value_only():
    image = np.array([[5.0, 5.0, 5.0, 5.1]])
    assert grow(np.ones((1, 4)), [[0, 0]], intensity=image)[0].tolist() == [1, 1, 1, 0]


def test_a_hole_is_what_the_sea_cannot_reach():
    ring = picture(".....", ".###.", ".#.#.", ".###.", ".....")
    filled = fill_holes(ring)
    assert filled[2, 2]
    assert filled.sum() == 9
    open_ring = ring.copy()
    open_ring[2, 3] = False
    assert np.array_equal(fill_holes(open_ring), open_ring)


def test_a_wall_of_corners_holds_water_only_when_it_counts_as_one_piece():
    diamond = picture("..#..", ".#.#.", "#...#", ".#.#.", "..#..")
    assert fill_holes(diamond, "full").sum() == 13
    assert np.array_equal(fill_holes(diamond, "faces"), diamond)


def test_a_cavity_is_filled_in_3d_and_a_tunnel_is_not():
    shell = np.ones((4, 5, 6), bool)
    shell[1:3, 2, 2:4] = False
    assert fill_holes(shell).all()
    shell[:, 2, 2] = False
    assert np.array_equal(fill_holes(shell), shell)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_is_filled_as_a_picture(axis):
    ring = np.expand_dims(picture("###", "#.#", "###"), axis)
    assert fill_holes(ring).all()
    assert fill_holes(ring).shape == ring.shape


def test_the_oracle_draws_inside_both_and_gives_up_where_they_do_not_meet():
    probability = np.array([[0.9, 0.9, 0.1, 0.9]])
    truth = np.array([[0, 1, 1, 1]])
    drawn = {tuple(oracle_seed(probability, truth, np.random.default_rng(i))[0]) for i in range(30)}
    assert drawn == {(0, 1), (0, 3)}
    assert oracle_seed(probability, truth * 0, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("seeds", "error", "text"),
    [
        ([[0, 4]], ArgumentError, r"voxel \(0, 4\)"),
        ([[-1, 0]], ArgumentError, r"voxel \(-1, 0\)"),
        ([[0, 0, 0]], ShapeError, r"\(n, 2\)"),
        ([[0.5, 0]], ShapeError, "whole numbers"),
    ],
)
def test_a_wrong_seed_is_named(seeds, error, text):
    with pytest.raises(error, match=text):
        grow(np.ones((1, 4)), seeds)


def test_wrong_shapes_and_words_are_named():
    with pytest.raises(ShapeError, match="2 or 3 axes"):
        threshold(np.ones((1, 2, 3, 4)))
    with pytest.raises(ShapeError, match="intensity"):
        grow(np.ones((2, 2)), [[0, 0]], intensity=np.ones((2, 3)))
    with pytest.raises(ShapeError, match="weight"):
        largest_component(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ArgumentError, match="'corners'"):
        components(np.ones((2, 2)), "corners")
