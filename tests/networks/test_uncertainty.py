from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from itk_ncr import ops
from itk_ncr.errors import ArgumentError
from itk_ncr.networks import build_network, predict_with_uncertainty
from itk_ncr.networks.layers import double


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_without_dropout_nothing_is_uncertain(lively, pair):
    network = lively("ncr-net", 2, width=4)
    images = pair(40, 32)
    found = predict_with_uncertainty(network, *images, generator=seeded(0), passes=3)
    wanted = network(*images)
    assert not found.displacement_std.any()
    assert_close(found.displacement, wanted.displacement[0])
    assert_close(found.noncorrespondence, wanted.noncorrespondence[0])
    p = found.noncorrespondence.double()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    assert_close(found.entropy.double(), entropy, rtol=0, atol=1e-5)
    assert found.entropy.max() <= math.log(2) + 1e-6


def test_statistics_are_those_of_the_passes(lively, pair):
    network = lively("ncr-net", 2, width=4, dropout=0.3)
    images = pair(32, 32, batch=2)
    found = predict_with_uncertainty(network, *images, generator=seeded(1), passes=4)
    assert found.displacement_std.shape == (2, 1, 32, 32)
    assert (found.displacement_std > 0).any()
    # By hand: the same draws, all passes kept, encoder each time.
    generator = seeded(1)
    fields, masks = [], []
    with torch.no_grad():
        for _ in range(4):
            features = network.encoder(torch.cat([images[1], images[0]], 1))
            (velocity,) = network.registration(features, 1, generator=generator)
            (logit,) = network.segmentation(features, 1, generator=generator)
            masks.append(logit.sigmoid())
            fields.append(ops.exponential(double(velocity)))
    stacked = torch.stack(fields)
    spread = stacked.var(0).sum(1, keepdim=True).sqrt()
    assert_close(found.displacement, stacked.mean(0), rtol=1e-4, atol=1e-4)
    assert_close(found.displacement_std, spread, rtol=1e-3, atol=1e-4)
    assert_close(found.noncorrespondence, torch.stack(masks).mean(0), rtol=0, atol=1e-5)


def test_the_generator_decides_and_the_mode_does_not(lively, pair):
    network = lively("regnet", 2, width=4, dropout=0.3)
    images = pair(32, 32)
    first = predict_with_uncertainty(network, *images, generator=seeded(5), passes=2)
    network.train()
    torch.manual_seed(17)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    again = predict_with_uncertainty(network, *images, generator=seeded(5), passes=2)
    other = predict_with_uncertainty(network, *images, generator=seeded(6), passes=2)
    assert network.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert torch.equal(first.displacement, again.displacement)
    assert not torch.equal(first.displacement, other.displacement)
    assert first.noncorrespondence is None
    assert first.entropy is None


def test_dropout_keeps_the_mean_of_the_features(lively):
    network = lively("regnet", 2, width=4, dropout=0.25)
    x = torch.ones(1, 4, 100, 100)
    dropped = network.registration._drop(x, seeded(2))
    # 40 000 values: the share of zeros has a deviation of .0022.
    assert abs((dropped == 0).float().mean() - 0.25) < 0.01
    assert abs(dropped.mean() - 1) < 0.015
    assert torch.equal(network.registration._drop(x, None), x)


def test_what_it_cannot_use_is_refused(pair):
    images = pair(16, 16)
    ours = build_network("ncr-net", dimension=2, width=4)
    with pytest.raises(ArgumentError, match="passes must be at least 2; got 1"):
        predict_with_uncertainty(ours, *images, generator=seeded(0), passes=1)
    other = build_network("voxelmorph", dimension=2)
    with pytest.raises(ArgumentError, match="got VoxelMorph"):
        predict_with_uncertainty(other, *images, generator=seeded(0))
