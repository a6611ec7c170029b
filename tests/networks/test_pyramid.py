"""What the pyramid does that the other networks do not."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError
from itk_ncr.networks import build_network, predict_with_uncertainty
from itk_ncr.networks.pyramid import local_correlation


def names_with_gradient(network, part):
    return {
        name
        for name, parameter in getattr(network, part).named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_correlation_is_1_at_the_shift_between_two_features(dimension, generator):
    first = torch.randn(1, 6, *(7, 6, 8)[:dimension], generator=generator)
    shift = (1, -1, 0)[:dimension]
    second = torch.roll(first, shift, tuple(range(2, dimension + 2)))
    found = local_correlation(first, second)
    assert found.shape == (1, 3**dimension, *first.shape[2:])
    # Position of the shift among the neighbours, the last axis running fastest.
    place = sum((s + 1) * 3 ** (dimension - 1 - axis) for axis, s in enumerate(shift))
    inside = (slice(None), place, *(slice(1, -1),) * dimension)
    assert_close(found[inside], torch.ones_like(found[inside]), rtol=0, atol=1e-4)
    others = [n for n in range(3**dimension) if n != place]
    assert found[:, others].mean() < 0.2


def test_the_correlation_ignores_gain_and_offset_of_the_features(generator):
    first = torch.randn(1, 6, 5, 4, generator=generator)
    second = torch.randn(1, 6, 5, 4, generator=generator)
    assert_close(
        local_correlation(3 * first + 2, second),
        local_correlation(first, second),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_mask_does_not_shape_the_deformation(dimension, lively, pair):
    network = lively("ncr-pyramid", dimension, width=4)
    prediction = network(*pair(*(16,) * dimension))
    sum(mask.sum() for mask in prediction.noncorrespondence).backward()
    assert names_with_gradient(network, "registration") == set()
    assert names_with_gradient(network, "encoder") != set()


def test_the_mask_is_found_on_the_moved_image(lively, pair):
    """Other velocity heads, another mask: it depends on the moved image, not on the moving one."""
    network = lively("ncr-pyramid", 2, width=4)
    images = pair(32, 32)
    with torch.inference_mode():
        before = network(*images).noncorrespondence[0]
        network.registration[0].head[-1].bias += 1.5
        after = network(*images).noncorrespondence[0]
    assert (after - before).abs().max() > 1e-3


def test_without_mask_decoder_there_is_no_mask_and_the_same_velocity(lively, pair):
    whole = lively("ncr-pyramid", 2, width=4)
    lean = build_network("ncr-pyramid", dimension=2, width=4, segmentation=False).eval()
    lean.load_state_dict(whole.state_dict(), strict=False)
    images = pair(32, 32)
    with torch.inference_mode():
        found, wanted = lean(*images), whole(*images)
    assert found.noncorrespondence == ()
    assert torch.equal(found.velocity[0], wanted.velocity[0])
    assert lean.settings["segmentation"] is False


@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("find_mask", [True, False])
def test_fewer_scales_are_the_finest_ones(scales, find_mask, lively, pair):
    network = lively("ncr-pyramid", 2, width=4)
    images = pair(32, 48)
    with torch.inference_mode():
        found, whole = network(*images, scales=scales, find_mask=find_mask), network(*images)
    assert len(found.velocity) == len(found.displacement) == scales
    assert len(found.noncorrespondence) == (scales if find_mask else 0)
    for a, b in zip(found.velocity, whole.velocity, strict=False):
        assert torch.equal(a, b)
    for a, b in zip(found.noncorrespondence, whole.noncorrespondence, strict=False):
        assert torch.equal(a, b)


def test_what_it_cannot_do_is_refused_in_one_line(generator):
    network = build_network("ncr-pyramid", dimension=2, width=4)
    with pytest.raises(ArgumentError, match="got NCRPyramid"):
        predict_with_uncertainty(network, *torch.zeros(2, 1, 1, 32, 32), generator=generator)
    with pytest.raises(ArgumentError, match="width must be at least 2"):
        build_network("ncr-pyramid", dimension=2, width=1)
