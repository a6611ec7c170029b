"""The compiled kernels against their plain torch twins, for every instruction set."""

from __future__ import annotations

import pytest
import torch

from itk_ncr import ops
from itk_ncr.ops import reference

# Rows shorter than a vector, of one vector, of vectors and a rest, longer than a piece; axes of 1.
SHAPES = [(5, 6, 3), (4, 5, 8), (6, 7, 21), (1, 9, 17), (1, 1, 9), (20, 17), (12, 1), (3, 300)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_kernels_and_twins_agree_in_values_and_gradients(shape, dtype, variant, agree_with_twins):
    agree_with_twins(shape, dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_denoising_agrees_with_its_twin_and_goes_on_where_it_stopped(shape, dtype, variant):
    image = torch.rand(2, 2, *shape, dtype=dtype)
    u, dual, gap = ops.total_variation_denoise(image, 0.1, 30)
    expected = reference.total_variation_denoise(image, 0.1, 30)
    torch.testing.assert_close(u, expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(dual, expected[1], atol=1e-5, rtol=0)
    # The gap is a difference of sums of some hundred voxels.
    torch.testing.assert_close(gap, expected[2], atol=1e-3, rtol=1e-3)
    kept = dual.clone()
    assert ops.total_variation_denoise(image, 0.1, 30, dual)[2].sum() <= gap.sum() + 1e-5
    assert torch.equal(dual, kept)


def test_denoising_two_plateaus_moves_each_by_its_rim_over_its_area():
    image = torch.zeros(1, 1, 8, 10, dtype=torch.float64)
    image[..., 5:] = 1.0
    u, _, gap = ops.total_variation_denoise(image, 0.5, 4000)
    # Closed form: a jump along a straight line of length L between plateaus of area A moves each
    # by weight * L / A.
    torch.testing.assert_close(u[..., :5].mean(), torch.tensor(0.5 * 8 / 40, dtype=u.dtype))
    torch.testing.assert_close(u[..., 5:].mean(), torch.tensor(1 - 0.5 * 8 / 40, dtype=u.dtype))
    assert 0 <= gap < 1e-6


@pytest.mark.parametrize("pixel", [torch.uint8, torch.int16, torch.int32, torch.float64], ids=str)
def test_labels_keep_their_type_and_values(pixel, smooth_field):
    labels = torch.randint(0, 200, (1, 2, 7, 9, 11)).to(pixel)
    u = smooth_field((6, 8, 10), 5.0)
    for padding in ("border", "fill"):
        found = ops.warp(labels, u, mode="nearest", padding=padding, fill_value=7)
        assert found.dtype == pixel
        expected = reference.warp(labels, u, mode="nearest", padding=padding, fill_value=7)
        assert torch.equal(found, expected)


def test_half_way_positions_go_up_and_the_rim_belongs_to_the_image():
    row = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    u = torch.zeros(1, 2, 1, 4)
    u[0, 1, 0] = torch.tensor([-0.5, 0.5, 1.49, 0.5])
    found = ops.warp(row, u, mode="nearest", padding="fill", fill_value=-1.0)
    assert found.flatten().tolist() == [1.0, 3.0, 4.0, -1.0]


@pytest.mark.parametrize("shape", [(6, 7, 19), (11, 19)], ids=str)
def test_a_nan_position_shows_as_nan_and_touches_nothing_else(shape, variant, smooth_field):
    image = torch.rand(1, 1, *shape)
    u = smooth_field(shape, 2.0)
    whole = ops.warp(image, u)
    for component in range(len(shape)):
        broken = u.clone()
        at = tuple(s // 2 for s in shape)
        broken[(0, component, *at)] = float("nan")
        for padding in ("border", "fill"):
            found = ops.warp(image, broken, padding=padding)
            assert found.isnan().sum() == 1
            assert found[(0, 0, *at)].isnan()
        keep = ~found.isnan()
        assert torch.equal(ops.warp(image, broken)[keep], whole[keep])
        assert ops.exponential(broken, 3)[(0, component, *at)].isnan()


def test_infinite_and_huge_positions_repeat_the_border(variant):
    image = torch.arange(12.0).view(1, 1, 1, 12)
    u = torch.zeros(1, 2, 1, 12)
    u[0, 1, 0, :4] = torch.tensor([float("inf"), float("-inf"), 3e38, -3e38])
    assert ops.warp(image, u).flatten()[:4].tolist() == [11.0, 0.0, 11.0, 0.0]
