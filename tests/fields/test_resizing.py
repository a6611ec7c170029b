import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.fields import (
    downsample,
    reduced_shape,
    resize_displacement,
    resize_velocity,
    smooth,
)
from itk_ncr.ops import exponential, warp


def positions(shape):
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def affine_displacement(shape, matrix, shift):
    """u(p) = A p + t on a grid, in voxels."""
    p = positions(shape)
    return torch.einsum("cd,nd...->nc...", matrix, p) + shift.view(1, -1, *(1,) * len(shape))


sizes = st.integers(2, 12)


@settings(deadline=None, max_examples=40)
@given(old=st.tuples(sizes, sizes, sizes), new=st.tuples(sizes, sizes, sizes))
def test_an_affine_motion_is_the_same_motion_on_another_grid(old, new):
    generator = torch.Generator().manual_seed(sum(old) * 31 + sum(new))
    matrix = torch.rand(3, 3, generator=generator, dtype=torch.float64) - 0.5
    shift = torch.rand(3, generator=generator, dtype=torch.float64)
    # In units of the whole image the ends are 0 and 1 on both grids: scale there and back.
    to_old = torch.tensor([n - 1.0 for n in old], dtype=torch.float64)
    to_new = torch.tensor([n - 1.0 for n in new], dtype=torch.float64)
    on_old = affine_displacement(old, to_old[:, None] * matrix / to_old, to_old * shift)
    on_new = affine_displacement(new, to_new[:, None] * matrix / to_new, to_new * shift)
    assert_close(resize_displacement(on_old, new), on_new, rtol=0, atol=1e-10)


def test_a_point_moved_on_the_coarse_grid_lands_at_the_same_place_of_the_fine_one():
    coarse = torch.zeros(1, 2, 5, 9, dtype=torch.float64)
    coarse[:, 0] = 1.0  # one row down of 4 steps: a quarter of the height
    fine = resize_velocity(coarse, (13, 9))
    rows = torch.arange(13, dtype=torch.float64).view(1, 1, 13, 1).expand(1, 1, 13, 9)
    # 3 of 12 fine steps; the last rows stop at the border.
    assert_close(warp(rows, fine)[..., :10, :], rows[..., :10, :] + 3)
    assert fine[:, 1].eq(0).all()


def test_same_size_is_untouched_and_an_axis_of_one_voxel_keeps_its_values():
    field = torch.rand(1, 3, 4, 5, 6)
    assert torch.equal(resize_displacement(field, (4, 5, 6)), field)
    thin = torch.full((1, 3, 1, 5, 6), 2.0)
    thick = resize_displacement(thin, (4, 9, 6))
    assert_close(thick[0, :, 3, 8, 5], torch.tensor([2.0, 4.0, 2.0]))
    assert_close(resize_displacement(thick, (1, 5, 6)), thin)


def test_resizing_commutes_with_the_exponential():
    generator = torch.Generator().manual_seed(3)
    velocity = smooth(torch.randn(1, 2, 24, 32, generator=generator, dtype=torch.float64), 4.0)
    velocity *= 1.5 / velocity.abs().max()
    fine = (47, 63)
    first = exponential(resize_velocity(velocity, fine))
    last = resize_displacement(exponential(velocity), fine)
    # Linear interpolation of a curved field; worst of 5 seeds: .019 of 3 voxels moved (.18 at the
    # rim, where the two grids clamp at different places).
    assert (first - last)[..., 6:-6, 6:-6].abs().max() < 0.04


def test_refuses_what_is_no_field_or_no_shape():
    with pytest.raises(ShapeError, match="one channel per axis"):
        resize_velocity(torch.zeros(1, 2, 4, 4, 4), (2, 2, 2))
    with pytest.raises(ShapeError, match="shape must be 2 positive sizes"):
        resize_velocity(torch.zeros(1, 2, 4, 4), (2, 2, 2))
    with pytest.raises(ShapeError, match="shape must be 2 positive sizes"):
        resize_velocity(torch.zeros(1, 2, 4, 4), (2, 0))


def test_reduced_shapes_keep_both_ends():
    assert reduced_shape((97, 113, 96), 2) == (49, 57, 49)
    assert reduced_shape((97, 20), (4, 1)) == (25, 20)
    assert reduced_shape((97, 20, 5), 8, minimum=12) == (13, 12, 5)
    with pytest.raises(ArgumentError, match="factor must be >= 1"):
        reduced_shape((9, 9), 0.5)


def test_downsampling_keeps_constants_and_ramps_and_removes_what_the_coarse_grid_cannot_hold():
    constant = torch.full((1, 1, 17, 21), 0.3, dtype=torch.float64)
    assert_close(downsample(constant, (9, 11)), torch.full((1, 1, 9, 11), 0.3).double())
    ramp = positions((33, 21))[:, :1]
    small = downsample(ramp, (17, 11))
    assert_close(small[..., 3:-3, :], 2 * positions((17, 11))[:, :1, 3:-3])
    checkers = positions((33, 41)).sum(1, keepdim=True) % 2
    # A Gaussian of one voxel leaves exp(-pi^2 / 2) = .7 % per axis of the highest wave.
    assert (downsample(checkers, (17, 21)) - 0.5)[..., 2:-2, 2:-2].abs().max() < 1e-3
    assert (downsample(checkers, (33, 21)) - 0.5)[..., 2:-2].abs().max() < 1e-2


def test_an_axis_that_is_not_reduced_is_not_smoothed():
    image = torch.rand(1, 1, 12, 9, dtype=torch.float64)
    image[..., 1:] = image[..., :1]
    assert_close(downsample(image, (12, 5)), image[..., :5])


def test_a_grid_is_never_enlarged_by_downsampling():
    image = torch.rand(1, 1, 33, 33)
    with pytest.raises(ShapeError, match="between 1 and"):
        downsample(image, (34, 9))
