from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from itk_ncr import ops
from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.losses import velocity_divergence
from itk_ncr.networks import Posterior, build_network

BELOW = [(2, 16), (16, 32), (32, 32), (32, 32), (32, 32), (64, 32), (64, 32), (48, 32)]


@pytest.mark.parametrize(
    ("filters", "above"),
    [("miccai", [(32, 16), (16, 3)]), ("tmi", [(34, 32), (32, 16), (16, 16), (16, 3)])],
)
def test_the_layers_have_the_published_channels(filters, above):
    network = build_network("voxelmorph", dimension=3, filters=filters)
    expected = sum(27 * before * after + after for before, after in BELOW + above)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("filters", ["miccai", "tmi"])
@pytest.mark.parametrize("integration", ["half", "full"])
def test_both_filter_sets_predict_in_voxels_of_the_image(filters, integration, lively, pair):
    network = lively("voxelmorph", 2, filters=filters, integration=integration)
    fixed, moving = pair(50, 40)
    with torch.inference_mode():
        network.velocity.weight.zero_()
        network.velocity.bias.copy_(torch.tensor([1.5, -0.25]))
        prediction = network(fixed, moving)
    for field in (*prediction.velocity, *prediction.displacement):
        assert field.shape == (1, 2, 50, 40)
        wanted = torch.tensor([1.5, -0.25]).view(1, 2, 1, 1).expand_as(field)
        assert_close(field, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("filters", ["miccai", "tmi"])
def test_the_way_back_undoes_the_way_there(filters, lively, pair):
    network = lively("voxelmorph", 2, filters=filters, integration="full")
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    fixed = (rows / 9).sin()[None, None]
    moving = (columns / 7).cos()[None, None]
    with torch.inference_mode():
        peak = network.posterior(fixed, moving).mean.abs().max()
        network.velocity.weight.div_(peak)
        network.velocity.bias.div_(peak)
        there, back = network.both_ways(fixed, moving)
        only = network(fixed, moving)
        assert torch.equal(there.displacement[0], only.displacement[0])
        assert torch.equal(there.velocity[0], -back.velocity[0])
        rest = ops.compose(there.displacement[0], back.displacement[0])
    size = there.displacement[0].abs().mean()
    assert size > 0.1
    assert rest[..., 8:-8, 8:-8].abs().mean() < 0.1 * size


def test_a_sample_has_the_predicted_mean_and_spread(lively, pair, generator):
    mean = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 60, 60)
    log_variance = torch.tensor([math.log(0.25), -50.0]).view(1, 2, 1, 1).expand(1, 2, 60, 60)
    drawn = Posterior(mean, log_variance).sample(generator)
    # 3600 values: the error of the mean is .5 / 60, four of them; of the spread 1.2 %, four again.
    assert abs(drawn[0, 0].mean() - 1) < 4 * 0.5 / 60
    assert abs(drawn[0, 0].std() / 0.5 - 1) < 0.05
    assert_close(drawn[:, 1], mean[:, 1])

    network = lively("voxelmorph", 2, probabilistic=True)
    images = pair(32, 32)
    with torch.inference_mode():
        usual, again = network(*images), network(*images)
        samples = [network(*images, generator=generator).velocity[0] for _ in range(2)]
    assert torch.equal(usual.velocity[0], again.velocity[0])
    assert not torch.equal(*samples)


def test_without_a_head_for_the_variance_a_sample_is_the_mean(lively, pair, generator):
    network = lively("voxelmorph", 2)
    images = pair(32, 32)
    with torch.inference_mode():
        drawn = network(*images, generator=generator)
        assert torch.equal(drawn.velocity[0], network(*images).velocity[0])


def test_the_head_of_the_variance_starts_low_and_learns():
    network = build_network("voxelmorph", dimension=2, probabilistic=True)
    assert network.log_variance.bias.eq(-10).all()
    posterior = network.posterior(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16))
    velocity_divergence(posterior.mean, posterior.log_variance).sum().backward()
    assert network.log_variance.weight.grad.any()


@pytest.mark.parametrize("size", [(3, 4), (2, 3, 4), (1, 4)])
def test_the_divergence_is_that_of_a_loop_over_voxels_and_neighbours(size, generator):
    dimension = len(size)
    mean = torch.randn(2, dimension, *size, generator=generator)
    log_variance = torch.randn(2, dimension, *size, generator=generator)
    precision = 7.0
    for n in range(2):
        spread, steps = [], {axis: [] for axis in range(dimension)}
        for voxel in itertools.product(*map(range, size)):
            neighbours = 0
            for axis in range(dimension):
                for step in (-1, 1):
                    other = list(voxel)
                    other[axis] += step
                    if not 0 <= other[axis] < size[axis]:
                        continue
                    neighbours += 1
                    if step == 1:
                        there = (n, slice(None), *other)
                        steps[axis] += (
                            (mean[there] - mean[(n, slice(None), *voxel)]) ** 2
                        ).tolist()
            for c in range(dimension):
                value = log_variance[(n, c, *voxel)].item()
                spread.append(precision * neighbours * math.exp(value) - value)
        rough = sum(sum(s) / len(s) for s in steps.values() if s) / dimension
        wanted = dimension / 2 * (sum(spread) / len(spread) + precision / 2 * rough)
        found = velocity_divergence(mean, log_variance, precision=precision)[n]
        assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_the_divergence_is_least_where_the_prior_is():
    # For a flat mean the best variance of a voxel with D neighbours is 1 / (precision * D).
    mean = torch.zeros(1, 2, 9, 9)
    log_variance = torch.zeros(1, 2, 9, 9, requires_grad=True)
    for _ in range(60):
        (gradient,) = torch.autograd.grad(
            velocity_divergence(mean, log_variance, precision=3.0).sum(), log_variance
        )
        log_variance = (log_variance - 40 * gradient).detach().requires_grad_()
    assert log_variance[0, 0, 4, 4].exp().item() == pytest.approx(1 / 12, rel=1e-3)
    assert log_variance[0, 0, 0, 0].exp().item() == pytest.approx(1 / 6, rel=1e-3)


def test_what_the_divergence_cannot_use_is_refused():
    with pytest.raises(ShapeError, match="log_variance must have the shape of mean"):
        velocity_divergence(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 5))
    with pytest.raises(ArgumentError, match="precision must be positive; got 0"):
        velocity_divergence(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), precision=0)
    with pytest.raises(ArgumentError, match="filters must be one of miccai, tmi"):
        build_network("voxelmorph", dimension=2, filters="large")
