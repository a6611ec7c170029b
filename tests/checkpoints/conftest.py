import pytest
import torch

from itk_ncr.checkpoints import ModelDescription
from itk_ncr.networks import build_network


@pytest.fixture
def network():
    """A tiny network whose heads are not zero."""
    made = build_network("ncr-net", dimension=2, width=4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made.eval()


@pytest.fixture
def description():
    return ModelDescription(
        name="tiny",
        network="ncr-net",
        network_settings={},
        dimension=2,
        contrast="texture",
        preset="mri-2d",
        spacing_mm=(1.5, 2.0),
        orientation="LP",
        size=(48, 40),
        variant="ncr-u",
        training={"recipe": "none", "seed": 0, "steps": 0},
        licence={"weights": "Apache-2.0"},
        limits="A test.",
    )
