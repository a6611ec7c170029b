from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from itk_ncr import ops
from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.networks import RigidTransformer
from itk_ncr.networks.rigid import rigid_motion, smoothed_and_shrunk


@pytest.mark.parametrize("size", [(70, 91), (20, 37, 6)])
def test_a_fresh_transformer_moves_nothing_at_all(size, pair):
    fixed, moving = pair(*size, batch=2)
    found = RigidTransformer(len(size))(fixed, moving)
    assert not found.displacement.any()
    assert torch.equal(ops.warp(moving, found.displacement), moving)
    assert found.displacement.shape == (2, len(size), *size)
    assert found.matrix.shape == (2, len(size), len(size) + 1)


@pytest.mark.parametrize("size", [(70, 91), (20, 37, 16)])
def test_gradients_reach_every_parameter(size, pair):
    network = RigidTransformer(len(size))
    with torch.no_grad():
        network.parameters_head.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    network(*pair(*size)).displacement.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_a_quarter_turn_about_the_centre_is_one():
    angles = torch.tensor([[math.pi / 2]], dtype=torch.float64)
    found = rigid_motion(angles, torch.zeros(1, 2, dtype=torch.float64), (5, 5), (1.0, 1.0))
    image = torch.arange(25.0, dtype=torch.float64).view(1, 1, 5, 5)
    # moved(row, column) is the value from (4 - column, row): the image, turned once.
    assert_close(ops.warp(image, found.displacement), torch.rot90(image, -1, (2, 3)))


def test_in_3d_the_three_angles_turn_about_the_three_axes():
    for axis in range(3):
        angles = torch.zeros(1, 3, dtype=torch.float64)
        angles[0, axis] = 0.2
        shift = torch.zeros(1, 3, dtype=torch.float64)
        found = rigid_motion(angles, shift, (7, 9, 11), (1.0, 1.0, 1.0))
        assert found.displacement[0, axis].abs().max() < 1e-12
        rotation = found.matrix[0, :, :3]
        assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
        assert torch.linalg.det(rotation).item() == pytest.approx(1)
        assert rotation.trace().item() == pytest.approx(1 + 2 * math.cos(0.2))


def test_matrix_and_displacement_say_the_same_and_lengths_in_space_are_kept(generator):
    angles = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    shift = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    spacing = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    found = rigid_motion(angles, shift, (4, 6, 5), spacing.tolist())
    positions = torch.tensor([[0.0, 0, 0], [3, 5, 1], [2, 2, 4]], dtype=torch.float64).T
    there = found.matrix[:, :, :3] @ positions + found.matrix[:, :, 3:]
    for number, (z, y, x) in enumerate([(0, 0, 0), (3, 5, 1), (2, 2, 4)]):
        moved = positions[:, number] + found.displacement[:, :, z, y, x]
        assert_close(there[:, :, number], moved)
    before = ((positions[:, 0] - positions[:, 1]) * spacing).norm()
    after = ((there[:, :, 0] - there[:, :, 1]) * spacing).norm(dim=1)
    assert_close(after, before.expand(2))


def test_smoothing_keeps_a_constant_and_shrinks_by_four():
    x = torch.full((1, 2, 64, 96, 5), 3.0)
    found = smoothed_and_shrunk(x)
    assert found.shape == (1, 2, 16, 24, 5)
    assert_close(found, torch.full_like(found, 3.0))
    ramp = torch.arange(64.0).view(1, 1, 64, 1).expand(1, 1, 64, 8)
    rows = smoothed_and_shrunk(ramp)[0, 0, 4:-4, 0]
    assert_close(rows.diff(), torch.full((7,), 4.0))


def test_it_learns_shifts_and_turns(generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = RigidTransformer(2)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blobs = (-((rows - 30) ** 2 / 200 + (columns - 34) ** 2 / 60)).exp()
    blobs = blobs + 0.6 * (-((rows - 44) ** 2 + (columns - 22) ** 2) / 40).exp()
    fixed = blobs.expand(16, 1, 64, 64).contiguous()
    errors = []
    for _ in range(60):
        angles = 0.2 * (2 * torch.rand(16, 1, generator=generator) - 1)
        shift = 10 * (2 * torch.rand(16, 2, generator=generator) - 1)
        truth = rigid_motion(angles, shift, (64, 64), (1.0, 1.0)).displacement
        # The network has to find what carries the one image onto the other.
        moved = ops.warp(fixed, truth)
        error = (network(moved, fixed, passes=1).displacement - truth).square().sum(1).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    # 73 voxels squared at first; 13 at the end with two seeds.
    assert sum(errors[-10:]) < 0.35 * sum(errors[:10])


@pytest.mark.parametrize("size", [(64, 48), (20, 16, 24)])
def test_a_further_pass_corrects_what_the_moved_image_still_lacks(size, pair, generator):
    network = RigidTransformer(len(size))
    with torch.no_grad():
        network.parameters_head.weight.normal_(std=0.1, generator=generator)
    fixed, moving = pair(*size, batch=2)
    first = network(fixed, moving, passes=1)
    rest = network(fixed, ops.warp(moving, first.displacement), passes=1)
    both = network(fixed, moving, passes=2)
    assert rest.shift.any()
    assert_close(both.angles, first.angles + rest.angles)
    assert_close(both.shift, first.shift + rest.shift)


def test_what_does_not_fit_is_refused(pair):
    network = RigidTransformer(2)
    with pytest.raises(ArgumentError, match="passes must be at least 1; got 0"):
        network(*pair(32, 32), passes=0)
    with pytest.raises(ArgumentError, match="spacing must be 2 positive numbers"):
        network(*pair(32, 32), spacing=(1.0, 0.0))
    with pytest.raises(ShapeError, match="one shape"):
        network(*pair(32, 32, 32))
    with pytest.raises(ArgumentError, match="dimension must be 2 or 3; got 1"):
        RigidTransformer(1)
