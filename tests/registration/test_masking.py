import itertools
import math

import numpy as np
import pytest
import torch

from itk_ncr.registration.solver.masking import dilate, level_set_function, snap_to_edges

ALL_MASKS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=16))).view(-1, 4, 4).double()


def cost(mask, evidence, price, perimeter):
    """sum S (price - g) + perimeter * number of faces between masked and unmasked voxels."""
    faces = mask.diff(dim=-1).abs().sum((-2, -1)) + mask.diff(dim=-2).abs().sum((-2, -1))
    return (mask * (price - evidence)).sum((-2, -1)) + perimeter * faces


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("perimeter", [0.0, 0.03, 0.1])
def test_no_mask_of_4x4_voxels_is_cheaper_at_any_price(seed, perimeter):
    generator = torch.Generator().manual_seed(seed)
    evidence = torch.rand(4, 4, generator=generator, dtype=torch.float64).square() * 0.4
    level_set = level_set_function(evidence[None, None], perimeter, iterations=4000)
    for price in (0.03, 0.1, 0.2):
        found = (level_set[0, 0] > price).double()
        best = cost(ALL_MASKS, evidence, price, perimeter).min()
        assert cost(found, evidence, price, perimeter) <= best + 1e-6


def test_probability_cut_anywhere_is_the_mask_of_another_price():
    generator = torch.Generator().manual_seed(0)
    log_odds = 3 * torch.randn(1, 1, 14, 12, generator=generator, dtype=torch.float64)
    probability = torch.sigmoid(level_set_function(log_odds, 0.5, iterations=4000))
    for cut in (0.2, 0.5, 0.8):
        price = math.log(cut / (1 - cut))
        dearer = level_set_function(log_odds - price, 0.5, iterations=4000)
        assert torch.equal(probability > cut, dearer > 0)


def test_dilation_grows_by_the_radius_along_every_axis():
    mask = torch.zeros(1, 1, 9, 11, 13)
    mask[0, 0, 4, 5, 6] = 1
    grown = dilate(mask, 2)
    assert grown.sum() == 125
    assert grown[0, 0, 2:7, 3:8, 4:9].min() == 1
    assert torch.equal(dilate(mask, 0), mask)


def test_snapping_moves_the_rim_to_the_edge_of_the_image():
    image = torch.ones(1, 1, 32, 32)
    image[..., 10:22, 10:22] = 0.2  # a dark square
    rows = torch.arange(32.0)
    off = ((rows - 15.5).abs() < 4.5).float()  # evidence two pixels short of its rim
    level_set = 6 * (off[:, None] * off[None, :])[None, None] - 2
    truth = (image < 0.5).float()
    before = ((level_set > 0).float() - truth).abs().sum()
    after = ((snap_to_edges(level_set, image) > 0).float() - truth).abs().sum()
    assert before > 40
    assert after < 0.4 * before


def test_snapping_leaves_evenness_alone():
    level_set = torch.full((1, 1, 12, 14), 0.15)
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 1, 12, 14, generator=generator)
    np.testing.assert_allclose(snap_to_edges(level_set, image), level_set, atol=1e-5)
