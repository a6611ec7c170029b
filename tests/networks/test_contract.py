"""What every row of NETWORKS promises, in 2D and 3D."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from itk_ncr import ops
from itk_ncr.errors import ArgumentError
from itk_ncr.networks import NETWORKS, build_network
from itk_ncr.testing import NetworkContract

SMALL = {
    "ncr-net": {"width": 4},
    "ncr-pyramid": {"width": 8},
    "regnet": {"width": 4},
    "voxelmorph": {},
}
SIZES = {2: (64, 96), 3: (16, 16, 32)}
ODD_SIZES = {2: (181, 217), 3: (15, 16, 20)}

rows = pytest.mark.parametrize("name", NETWORKS)
dimensions = pytest.mark.parametrize("dimension", [2, 3])


def everything(prediction):
    return (*prediction.velocity, *prediction.displacement, *prediction.noncorrespondence)


def velocity_heads(network, dimension):
    """The layers that say the velocity: nothing else has that many channels here."""
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)) and layer.out_channels == dimension
    ]


@rows
class TestRows(NetworkContract):
    """The suite for third parties, for every row."""

    @pytest.fixture
    def network(self, name, dimension, lively):
        return lively(name, dimension, **SMALL[name])


@rows
@dimensions
def test_any_size_gives_what_padding_by_hand_gives(name, dimension, lively, pair):
    size = ODD_SIZES[dimension]
    fixed, moving = pair(*size)
    network = lively(name, dimension, **SMALL[name])
    widths = [w for n in reversed(size) for w in (0, -n % 16)]
    by_hand = [functional.pad(x, widths, mode="replicate") for x in (fixed, moving)]
    with torch.inference_mode():
        found, wanted = network(fixed, moving), network(*by_hand)
    for ours, theirs in zip(everything(found), everything(wanted), strict=True):
        interior = tuple(slice(0, n) for n in ours.shape[2:])
        assert_close(ours, theirs[(..., *interior)], rtol=0, atol=1e-5)
    scale = len(found.velocity) - 1
    assert found.velocity[-1].shape[2:] == tuple(-(-n // 2**scale) for n in size)


@rows
@dimensions
def test_heads_of_zeros_give_exactly_the_identity(name, dimension, lively, pair):
    network = lively(name, dimension, **SMALL[name])
    fixed, moving = pair(*ODD_SIZES[dimension])
    with torch.inference_mode():
        assert network(fixed, moving).displacement[0].any()
        for head in velocity_heads(network, dimension):
            head.weight.zero_()
            head.bias.zero_()
        prediction = network(fixed, moving)
    assert not any(u.any() for u in prediction.displacement)
    assert torch.equal(ops.warp(moving, prediction.displacement[0]), moving)


@rows
@dimensions
def test_a_fresh_network_begins_close_to_the_identity(name, dimension, pair):
    network = build_network(name, dimension=dimension, **SMALL[name]).eval()
    with torch.inference_mode():
        # The heads begin with a deviation of .05: .04 voxel was the most of six draws.
        assert network(*pair(*SIZES[dimension])).displacement[0].abs().max() < 0.3


@rows
@dimensions
def test_a_constant_velocity_moves_the_rim_as_much_as_the_centre(name, dimension, lively, pair):
    network = lively(name, dimension, **SMALL[name])
    with torch.inference_mode():
        for head in velocity_heads(network, dimension):
            head.weight.zero_()
            head.bias.fill_(0.05)
        prediction = network(*pair(*SIZES[dimension]))
    for displacement in prediction.displacement:
        # A pyramid adds up what its levels say.
        pushed = displacement.mean()
        assert 0.05 - 1e-6 < pushed < 1
        assert_close(displacement, pushed.expand_as(displacement), rtol=0, atol=1e-6)


@rows
@dimensions
def test_the_velocity_is_not_overwritten_by_its_integral(name, dimension, lively, pair):
    network = lively(name, dimension, integration="full", **SMALL[name])
    with torch.inference_mode():
        prediction = network(*pair(*SIZES[dimension]))
    velocity, displacement = prediction.velocity[0], prediction.displacement[0]
    assert (velocity - displacement).abs().max() > 1e-3
    assert_close(ops.exponential(velocity), displacement, rtol=0, atol=1e-5)


@rows
@dimensions
def test_half_resolution_integration_changes_little(name, dimension, lively, pair):
    network = lively(name, dimension, integration="half", **SMALL[name])
    full = build_network(name, dimension=dimension, **{**network.settings, "integration": "full"})
    full.load_state_dict(network.state_dict())
    images = pair(*SIZES[dimension])
    with torch.inference_mode():
        coarse, fine = network(*images), full.eval()(*images)
    size = fine.displacement[0].abs().mean()
    # The velocities are noise from voxel to voxel, the worst case for a coarser grid.
    assert (coarse.displacement[0] - fine.displacement[0]).abs().mean() < 0.5 * size
    assert torch.equal(coarse.velocity[0], fine.velocity[0])


@rows
@dimensions
def test_settings_and_weights_rebuild_the_network(name, dimension, lively, pair):
    network = lively(name, dimension, **SMALL[name])
    settings = json.loads(json.dumps(network.settings))
    again = build_network(name, dimension=dimension, **settings)
    assert again.settings == network.settings
    again.load_state_dict(network.state_dict())
    images = pair(*SIZES[dimension])
    with torch.inference_mode():
        for a, b in zip(
            everything(network(*images)), everything(again.eval()(*images)), strict=True
        ):
            assert torch.equal(a, b)


class Maps(nn.Module):
    """The convolutions alone, as an exporter sees them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, fixed, moving):
        found = self.network.maps(fixed, moving)
        if isinstance(found, torch.Tensor):
            return (found,)
        return tuple(t for part in found for t in (part if isinstance(part, list) else [part]))


@rows
@pytest.mark.parametrize("exporter", ["trace", "export"])
def test_the_convolutions_can_be_exported(name, exporter, lively, pair):
    maps = Maps(lively(name, 2, **SMALL[name]).requires_grad_(False))
    images = pair(32, 32)
    if exporter == "trace":
        exported = torch.jit.trace(maps, images, check_trace=False)
    else:
        exported = torch.export.export(maps, images).module()
    others = pair(32, 32)
    found, wanted = exported(*others), maps(*others)
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-6)


@rows
def test_settings_out_of_range_are_refused(name):
    with pytest.raises(ArgumentError, match="dimension must be 2 or 3; got 4"):
        build_network(name, dimension=4)
    with pytest.raises(ArgumentError, match="integration"):
        build_network(name, dimension=2, integration="quarter")


def test_an_unknown_network_is_refused_by_the_known_names():
    with pytest.raises(ArgumentError, match="ncr-net, ncr-pyramid, regnet, voxelmorph"):
        build_network("u-net", dimension=2)
