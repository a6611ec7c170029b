import math

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ShapeError
from itk_ncr.fields import (
    folding_fraction,
    inverse_consistency,
    smooth,
    vector_length,
)
from itk_ncr.ops import exponential_pair


def positions(shape):
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def test_a_shift_and_its_negative_undo_each_other_inside():
    there = torch.zeros(1, 3, 8, 9, 10)
    there[:, 1] = 2.0
    assert inverse_consistency(there, -there).eq(0).all()
    error = inverse_consistency(there, torch.zeros_like(there))
    assert error.shape == (1, 1, 8, 9, 10)
    assert_close(error, torch.full_like(error, 2.0))


def test_the_error_is_measured_with_the_voxel_size_of_its_own_axis():
    there = torch.zeros(1, 2, 6, 7)
    there[:, 0], there[:, 1] = 3.0, 4.0
    error = inverse_consistency(there, torch.zeros_like(there), spacing=(2.0, 0.5))
    assert_close(error, torch.full_like(error, math.hypot(6.0, 2.0)))


def test_the_inverse_is_looked_up_where_the_point_has_gone():
    # u moves column 2 by one; the inverse differs from column to column.
    there, back = torch.zeros(1, 2, 1, 6), torch.zeros(1, 2, 1, 6)
    there[0, 1, 0, 2] = 1.0
    back[0, 1, 0, 2], back[0, 1, 0, 3] = 7.0, -1.0
    assert inverse_consistency(there, back)[0, 0, 0, 2] == 0


def test_the_exponentials_of_opposite_velocities_are_nearly_inverse():
    generator = torch.Generator().manual_seed(0)
    velocity = smooth(torch.randn(1, 3, 24, 28, 26, generator=generator), 4.0)
    velocity *= 3.0 / velocity.abs().max()
    error = inverse_consistency(*exponential_pair(velocity))[..., 4:-4, 4:-4, 4:-4]
    assert error.mean() < 0.05
    assert error.max() < 0.2  # bound for a velocity of at most 3 voxels


def test_vectors_of_no_length_have_a_gradient_of_zero():
    field = torch.tensor([[3.0, 0.0], [4.0, 0.0]]).view(1, 2, 1, 2).requires_grad_()
    length = vector_length(field)
    assert length.flatten().tolist() == [5.0, 0.0]
    length.sum().backward()
    assert_close(field.grad.flatten(), torch.tensor([0.6, 0.0, 0.8, 0.0]))
    resting = torch.zeros(1, 3, 2, 2, 2, requires_grad=True)
    inverse_consistency(resting, -resting).sum().backward()
    assert resting.grad.eq(0).all()


def test_shares_of_folded_voxels_are_counted_per_sample():
    identity = torch.zeros(1, 2, 10, 12, dtype=torch.float64)
    mirrored = identity.clone()
    mirrored[:, 1] = -2 * positions((10, 12))[:, 1]  # x -> -x
    half = mirrored.clone()
    half[..., :6] = 0  # u jumps from 0 to -12 at column 6
    assert_close(
        folding_fraction(torch.cat([identity, mirrored, half])),
        # Central differences see the jump from column 5 on: 7 of 12.
        torch.tensor([0.0, 1.0, 7 / 12], dtype=torch.float64),
    )


def test_refuses_fields_on_different_grids():
    with pytest.raises(ShapeError, match="inverse must have the shape"):
        inverse_consistency(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 5))
