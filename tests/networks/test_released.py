"""compat="released"."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from itk_ncr import ops
from itk_ncr.errors import ArgumentError
from itk_ncr.networks import build_network, warp_released
from itk_ncr.networks.released import exponential_released, sample_released


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def without_motion(network):
    for head in network.registration.heads:
        torch.nn.init.zeros_(head[-1].weight)
        torch.nn.init.zeros_(head[-1].bias)
    return network


@pytest.mark.parametrize(("name", "count"), [("ncr-net", 1_157_729), ("regnet", 719_502)])
def test_it_has_the_weights_of_ours_under_the_same_names(name, count):
    released = build_network(name, dimension=2, compat="released")
    ours = build_network(name, dimension=2)
    assert parameters(released) == count
    assert list(released.state_dict()) == list(ours.state_dict())
    assert build_network(name, dimension=2, **released.settings).settings == released.settings


def test_a_velocity_of_zero_halves_the_edges_and_quarters_the_corners(lively, pair):
    network = without_motion(lively("ncr-net", 2, width=4, compat="released"))
    fixed, moving = pair(48, 64)
    with torch.inference_mode():
        displacement = network(fixed, moving).displacement[0]
    ones = torch.ones_like(moving)
    moved = warp_released(ones, displacement)
    assert_close(moved[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]], torch.full((4,), 0.25))
    assert_close(moved[0, 0, 0, 5:-5], torch.full((54,), 0.5))
    assert_close(moved[0, 0, 5:-5, -1], torch.full((38,), 0.5))
    assert_close(moved[0, 0, 1:-1, 1:-1], torch.ones(46, 62))
    # The sampling is the one that the released code does on its own field of zeros.
    theirs = sample_released(moving, torch.zeros(1, 2, 48, 64))
    assert_close(warp_released(moving, displacement), theirs, rtol=0, atol=1e-5)
    # Ours does nothing of this.
    usual = without_motion(lively("ncr-net", 2, width=4))
    with torch.inference_mode():
        assert torch.equal(ops.warp(ones, usual(fixed, moving).displacement[0]), ones)


def test_the_released_sampling_of_a_field_is_the_warp_by_the_displacement(lively, pair):
    network = lively("ncr-net", 2, width=4, compat="released", regularize="velocity")
    fixed, moving = pair(32, 48)
    with torch.inference_mode():
        for head in network.registration.heads:
            head[-1].weight.mul_(0.03)
            head[-1].bias.mul_(0.03)
        prediction = network(fixed, moving, scales=1)
        sizes = torch.tensor([32, 48]).view(1, 2, 1, 1)
        released = (prediction.velocity[0] * 2 / sizes).flip(1)
        theirs = sample_released(moving, exponential_released(released))
        found = warp_released(moving, prediction.displacement[0])
    assert_close(found, theirs, rtol=0, atol=1e-4)


def test_a_constant_velocity_loses_nine_tenths_at_the_rim():
    found = exponential_released(torch.full((1, 2, 64, 64), 0.05))[0, 0]
    assert_close(found[20:40, 20:40], torch.full((20, 20), 0.05), rtol=1e-4, atol=0)
    rim = torch.cat([found[0, 8:-8], found[8:-8, 0]])
    assert rim.min() > 0.0035
    assert rim.max() < 0.0075


def test_the_first_sample_decides_about_the_squarings():
    generator = torch.Generator().manual_seed(0)
    still = torch.randn(1, 2, 32, 32, generator=generator) * 0.02
    fast = still * 2000
    first = exponential_released(torch.cat([fast, still]))
    last = exponential_released(torch.cat([still, fast]))
    assert_close(first[:1], exponential_released(fast))
    assert_close(last[:1], exponential_released(still))
    assert not torch.allclose(first[1], last[0], rtol=0, atol=1e-6)


def test_the_velocity_is_overwritten_unless_asked_otherwise(lively, pair):
    settings = {"width": 4, "compat": "released"}
    overwritten = lively("ncr-net", 2, **settings)
    kept = build_network("ncr-net", dimension=2, regularize="velocity", **settings).eval()
    kept.load_state_dict(overwritten.state_dict())
    images = pair(32, 32)
    with torch.inference_mode():
        a, b = overwritten(*images), kept(*images)
    assert torch.equal(a.displacement[0], b.displacement[0])
    magnification = a.displacement[0] - a.velocity[0]
    assert_close(magnification[0, 0, :, 3], torch.linspace(-0.5, 0.5, 32), rtol=0, atol=1e-5)
    assert (a.velocity[0] - b.velocity[0]).abs().max() > 0.1


@pytest.mark.parametrize("dimension", [2, 3])
def test_all_scales_have_their_sizes(dimension, lively, pair):
    network = lively("ncr-net", dimension, width=4, compat="released")
    size = (16, 32, 16)[:dimension]
    with torch.inference_mode():
        prediction = network(*pair(*size))
        regnet = build_network("regnet", dimension=dimension, width=4, compat="released").eval()
        alone = regnet(*pair(*size), scales=2)
    for scale in range(3):
        wanted = tuple(n // 2**scale for n in size)
        assert prediction.displacement[scale].shape == (1, dimension, *wanted)
        assert prediction.noncorrespondence[scale].shape == (1, 1, *wanted)
    assert len(alone.displacement) == 2
    assert alone.noncorrespondence == ()


def test_the_2d_regnet_repeats_where_ours_interpolates(lively, pair):
    ours = lively("regnet", 2, width=4)
    released = build_network("regnet", dimension=2, width=4, compat="released").eval()
    released.load_state_dict(ours.state_dict())
    images = pair(32, 32)
    with torch.inference_mode():
        assert not torch.allclose(ours.maps(*images)[0][0], released.maps(*images)[0][0])


def test_only_the_rim_of_the_mask_knows_that_the_last_block_pads_with_zeros(lively, pair):
    ours = lively("ncr-net", 2, width=4)
    released = build_network("ncr-net", dimension=2, width=4, compat="released").eval()
    released.load_state_dict(ours.state_dict())
    images = pair(32, 32)
    with torch.inference_mode():
        a, b = ours.maps(*images)[1], released.maps(*images)[1]
    assert_close(a[0][..., 2:-2, 2:-2], b[0][..., 2:-2, 2:-2], rtol=0, atol=1e-5)
    assert not torch.allclose(a[0][..., 0, :], b[0][..., 0, :])
    assert_close(a[1], b[1])


def test_settings_that_are_not_there_are_refused():
    with pytest.raises(ArgumentError, match="compat must be released; got 'paper'"):
        build_network("ncr-net", dimension=2, compat="paper")
    with pytest.raises(ArgumentError, match="regularize must be one of displacement, velocity"):
        build_network("ncr-net", dimension=2, compat="released", regularize="mask")
