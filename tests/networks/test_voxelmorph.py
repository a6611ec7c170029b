from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError
from itk_ncr.networks import build_network

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


def test_filters_that_are_not_there_are_refused():
    with pytest.raises(ArgumentError, match="filters must be one of miccai, tmi"):
        build_network("voxelmorph", dimension=2, filters="large")
