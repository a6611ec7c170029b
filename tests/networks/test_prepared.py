"""What is rearranged for prediction predicts the same."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.networks import NETWORKS, build_network, fold, prepare_for_inference, prepared
from itk_ncr.networks.layers import double, repeat_border
from itk_ncr.networks.slabs import RollingRows, bordered, starts

SMALL = {
    "ncr-net": {"width": 4},
    "ncr-pyramid": {"width": 4},
    "regnet": {"width": 4},
    "voxelmorph": {},
}
# Rounding in another order; the lively weights make fields of several voxels out of noise.
SAME = {"rtol": 1e-4, "atol": 1e-4}


def everything(prediction):
    return (*prediction.velocity, *prediction.displacement, *prediction.noncorrespondence)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dimension", [2, 3])
def test_the_prepared_network_predicts_the_same(name, dimension, lively, pair, monkeypatch):
    monkeypatch.setattr(prepared, "SLAB", 1)
    network = lively(name, dimension, **SMALL[name])
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    fast = prepare_for_inference(network)
    images = pair(*((45, 64) if dimension == 2 else (30, 16, 20)), batch=2)
    with torch.inference_mode():
        found, wanted = fast(*images), network(*images)
    assert len(everything(found)) == len(everything(wanted))
    for a, b in zip(everything(found), everything(wanted), strict=True):
        assert_close(a, b, **SAME)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key])


@pytest.mark.parametrize("name", ["ncr-net", "regnet"])
@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("find_mask", [True, False])
def test_it_takes_the_same_arguments(name, scales, find_mask, lively, pair):
    network = lively(name, 2, integration="half", **SMALL[name])
    images = pair(32, 48)
    with torch.inference_mode():
        found = prepare_for_inference(network)(*images, scales=scales, find_mask=find_mask)
        wanted = network(*images, scales=scales, find_mask=find_mask)
    assert len(found.velocity) == scales
    for a, b in zip(everything(found), everything(wanted), strict=True):
        assert_close(a, b, **SAME)


def test_half_precision_changes_little(lively, pair):
    network = lively("ncr-net", 2, width=8)
    images = pair(64, 64)
    with torch.inference_mode():
        found = prepare_for_inference(network, precision="bfloat16")(*images)
        wanted = network(*images)
    # 8 bits and a dozen layers; random weights amplify more than trained ones do: .06 measured.
    for a, b in zip(found.velocity, wanted.velocity, strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).abs().mean() < 0.1 * b.abs().mean()
    for a, b in zip(found.noncorrespondence, wanted.noncorrespondence, strict=True):
        assert (a - b).abs().mean() < 0.03


def test_what_it_cannot_do_is_refused(lively):
    network = lively("ncr-net", 2, width=4)
    with pytest.raises(ArgumentError, match="precision must be one of float32, bfloat16"):
        prepare_for_inference(network, precision="int8")
    with pytest.raises(ArgumentError, match="precision must be float32 for a VoxelMorph"):
        prepare_for_inference(build_network("voxelmorph", dimension=2), precision="bfloat16")
    with pytest.raises(ShapeError, match="one shape"):
        prepare_for_inference(network)(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 32))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dimension", [2, 3])
def test_folding_the_normalisation_changes_nothing(name, dimension, lively, pair):
    network = lively(name, dimension, **SMALL[name])
    simple = fold(network)
    assert not any("norm" in key for key in simple.state_dict())
    images = pair(*(32,) * dimension)
    with torch.inference_mode():
        for a, b in zip(everything(simple(*images)), everything(network(*images)), strict=True):
            assert_close(a, b, **SAME)


@pytest.mark.parametrize("dimension", [2, 3])
def test_one_layer_on_the_coarse_grid_is_enlarging_and_convolving(dimension, generator):
    coarse = torch.randn(1, 2, *(4, 3, 5)[:dimension], generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 2, *(3,) * dimension, generator=generator, dtype=torch.float64)
    plain = functional.conv2d if dimension == 2 else functional.conv3d
    wanted = plain(repeat_border(double(coarse)), weight)
    phases = plain(repeat_border(coarse), prepared.on_coarse_grid(weight))
    skip = torch.zeros_like(wanted)
    prepared._add_interleaved(phases, skip, skip)
    assert_close(skip, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 3, 1, 2)])
def test_the_fast_border_is_the_border(shape, generator):
    x = torch.randn(shape, generator=generator)
    assert torch.equal(bordered(x), repeat_border(x))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 9])
def test_rows_that_come_in_slabs_have_all_their_neighbours(step, generator):
    x = torch.randn(1, 2, 7, 4, generator=generator)
    rows, found = RollingRows(x, step), []
    for start, stop in starts(7, step):
        rows.room(stop - start).copy_(x[:, :, start:stop])
        at, ready = rows.close(stop - start, stop == 7)
        assert at == sum(part.shape[2] for part in found)
        if ready.shape[2] > 2:
            found.append(ready.unfold(2, 3, 1).clone())
    whole = repeat_border(x).unfold(2, 3, 1)
    assert torch.equal(torch.cat(found, 2), whole)
