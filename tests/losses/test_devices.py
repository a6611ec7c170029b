"""Nothing is made on the CPU for tensors that live elsewhere (the published code had the reverse).

The meta device has shapes and no numbers; like any other it refuses to be mixed with the CPU.
"""

import pytest
import torch

from itk_ncr.fields import (
    downsample,
    folding_fraction,
    inverse_consistency,
    resize_velocity,
    smooth,
)
from itk_ncr.losses import (
    PRESETS,
    SIMILARITIES,
    perimeter,
    smoothness,
)


@pytest.fixture(params=[(12, 14), (8, 9, 10)])
def shape(request):
    return request.param


def empty(channels, shape):
    return torch.empty(2, channels, *shape, device="meta", requires_grad=True)


def test_the_meta_device_can_tell():
    with pytest.raises(RuntimeError, match="device"):
        empty(1, (4, 4)) * torch.ones(4)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities_follow_their_images(name, shape):
    image, weight = empty(1, shape), empty(1, shape)
    value = SIMILARITIES[name](image, empty(1, shape).detach(), weight, foreground=weight)
    value.sum().backward()
    assert value.device.type == image.grad.device.type == "meta"
    fixed_weights = SIMILARITIES[name](image, image.detach(), weight.detach())
    assert fixed_weights.device.type == "meta"


def test_the_functional_follows_its_images(shape):
    image, mask, velocity = empty(1, shape), empty(1, shape), empty(len(shape), shape)
    for settings in PRESETS.values():
        value = settings(image, image, velocity, mask, labels=(mask, mask))
        assert value.total.device.type == "meta"
    for form in ("tv", "faces", "sobel", "released"):
        assert perimeter(mask, form).device.type == "meta"
    unequal = (1.0, 2.0, 3.0)[: len(shape)]
    rough = smoothness(velocity, spacing=unequal, component_weights=unequal, weight=mask)
    assert rough.device.type == "meta"


def test_fields_stay_where_they_are(shape):
    velocity, half = empty(len(shape), shape), tuple(n // 2 for n in shape)
    for result in (
        smooth(velocity, 1.5),
        resize_velocity(velocity, half),
        downsample(velocity, half),
        inverse_consistency(velocity, velocity, spacing=(1.0, 2.0, 3.0)[: len(shape)]),
        folding_fraction(velocity),
    ):
        assert result.device.type == "meta"
