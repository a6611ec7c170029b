"""The compiled kernels against their plain torch twins, for every instruction set."""

from __future__ import annotations

import pytest
import torch

from itk_ncr import ops
from itk_ncr.ops import reference

# Rows shorter than a vector, of one vector, of vectors and a rest, longer than a piece; axes of 1.
SHAPES = [(5, 6, 3), (4, 5, 8), (6, 7, 21), (1, 9, 17), (1, 1, 9), (20, 17), (12, 1), (3, 300)]
# Measured worst relative to the largest value: 1.4e-6 and 1.1e-14.
BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-12}

CASES = {
    "exponential": lambda m, u, x: m.exponential(u),
    "exponential, 5 squarings": lambda m, u, x: m.exponential(u, 5),
    "exponential, none": lambda m, u, x: m.exponential(u, 0),
    "warp": lambda m, u, x: m.warp(x, u),
    "warp and fill": lambda m, u, x: m.warp(x, u, padding="fill", fill_value=0.5),
    "warp nearest": lambda m, u, x: m.warp(x, u, mode="nearest"),
    "compose": lambda m, u, x: m.compose(u, 0.5 * u),
    "jacobian": lambda m, u, x: m.jacobian_determinant(u),
    "box of radius 2": lambda m, u, x: m.box_sum(x, 2),
    "box of radius 6": lambda m, u, x: m.box_sum(x, 6),
    "resize up": lambda m, u, x: m.resize(x, tuple(2 * s for s in x.shape[2:])),
    "resize down": lambda m, u, x: m.resize(x, tuple((s + 1) // 2 for s in x.shape[2:])),
    "distance": lambda m, u, x: m.warp_mse(x, u, u[:, :2].detach()),
    "weighted distance": lambda m, u, x: m.warp_mse(x, u, u[:, :2].detach(), u[:, :1].detach()),
    "local correlation": lambda m, u, x: m.local_ncc(
        u[:, :1], u[:, 1:2].detach(), (u[:, :1] > 0).to(u).detach(), 2, eps=1e-2
    ),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_kernels_and_twins_agree_in_values_and_gradients(shape, dtype, variant, smooth_field):
    # No power of two: there the last bit of the norm decides on the number of squarings.
    u = smooth_field(shape, 3.9, batch=2, dtype=dtype).requires_grad_()
    x = torch.rand(2, 2, *(s + 2 for s in shape), dtype=dtype).requires_grad_()
    for name, call in CASES.items():
        found, expected = call(ops, u, x), call(reference, u, x)
        weight = torch.randn_like(expected)
        pairs = [(found, expected)]
        for wanted in (u, x):
            by = [torch.autograd.grad(y, wanted, weight, allow_unused=True, retain_graph=True)[0]
                  for y in (found, expected)]  # fmt: skip
            if by[1] is not None:
                # Rounding has no derivative: the twin gives zeros or nothing.
                pairs.append((torch.zeros_like(by[1]) if by[0] is None else by[0], by[1]))
        for a, b in pairs:
            # Variances are differences of sums.
            room = 10 if name == "local correlation" else 1
            bound = room * BOUNDS[dtype] * max(1.0, b.abs().max().item())
            assert (a - b).abs().max() <= bound, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_denoising_agrees_with_its_twin_and_goes_on_where_it_stopped(shape, variant):
    image = torch.rand(2, 2, *shape)
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
