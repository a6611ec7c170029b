"""Small networks that say something: random heads, statistics that are not those of the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from itk_ncr.networks import build_network

Build = Callable[..., nn.Module]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


@pytest.fixture
def lively(generator: torch.Generator) -> Build:
    """Builds a network in evaluation mode whose weights are no special case."""

    def build(name: str, dimension: int, **settings: Any) -> nn.Module:
        network = build_network(name, dimension=dimension, **settings)
        with torch.no_grad():
            for key, tensor in network.state_dict().items():
                if key.endswith("running_var"):
                    tensor.uniform_(0.2, 0.5, generator=generator)
                elif tensor.ndim == 1 and tensor.is_floating_point():
                    tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
                elif tensor.ndim > 1:
                    fan = tensor[0].numel()
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * fan**-0.5)
        return network.eval()

    return build


@pytest.fixture
def pair(generator: torch.Generator) -> Callable[..., tuple[Tensor, Tensor]]:
    def make(*spatial: int, batch: int = 1) -> tuple[Tensor, Tensor]:
        both = torch.rand(2, batch, 1, *spatial, generator=generator)
        return both[0], both[1]

    return make
