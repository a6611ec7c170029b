"""Temperatures: found from truth of known probability, and stored in the weights."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.data import Sample
from itk_ncr.errors import ArgumentError
from itk_ncr.networks import build_network, prepare_for_inference
from itk_ncr.training.calibration import fit_temperature, temper, temperature_of


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_spoilt_logits_is_found(temperature):
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(40_000, generator=generator)
    truth = torch.rand(40_000, generator=generator) < logits.sigmoid()
    # 40 000 draws: about one per cent off.
    assert fit_temperature(logits * temperature, truth) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("truth", [torch.zeros(9), torch.ones(9)])
def test_truth_of_one_kind_fits_nothing(truth):
    assert fit_temperature(torch.linspace(-3, 3, 9), truth) == 1.0


@pytest.mark.parametrize("name", ["ncr-net", "ncr-pyramid"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_tempering_divides_the_logits_and_leaves_the_velocity(name, dimension):
    network = build_network(name, dimension=dimension, width=4).eval()
    warm = temper(network, 2.5)
    fixed, moving = torch.rand(
        2, 1, 1, *(16,) * dimension, generator=torch.Generator().manual_seed(2)
    )
    with torch.inference_mode():
        before, after = network(fixed, moving), prepare_for_inference(warm)(fixed, moving)
    assert_close(after.velocity[0], before.velocity[0], rtol=1e-4, atol=1e-4)
    for a, b in zip(after.noncorrespondence, before.noncorrespondence, strict=True):
        assert_close(a.logit(), b.logit() / 2.5, rtol=1e-3, atol=1e-4)


class Discs:
    """Pairs whose fixed image has a bright disc, which is the lesion; others have none."""

    def __len__(self) -> int:
        return 6

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        image = 0.3 + 0.1 * torch.rand(1, 32, 32, generator=generator)
        fixed, lesion = image.clone(), torch.zeros(1, 32, 32)
        if index % 2:
            lesion[:, 8:16, 8:16] = 1
            fixed = fixed + 0.5 * lesion
        return Sample(f"pair {index}", fixed, image, lesion=lesion if index % 2 else None)


def test_a_network_that_is_too_sure_is_cooled_down_to_what_it_knows():
    network = build_network("ncr-net", dimension=2, width=4).eval()
    first = temperature_of(network, Discs(), seed=0)
    again = temperature_of(temper(network, 0.5 * first), Discs(), seed=0)
    assert again == pytest.approx(2.0, rel=1e-3)


def test_what_has_no_mask_has_no_temperature():
    for name in ("regnet", "voxelmorph"):
        network = build_network(name, dimension=2).eval()
        with pytest.raises(ArgumentError, match="network must be ncr-net or ncr-pyramid"):
            temper(network, 2.0)
        with pytest.raises(ArgumentError, match="network must find a mask"):
            temperature_of(network, Discs(), seed=0)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match="temperature must be positive"):
            temper(build_network("ncr-net", dimension=2, width=4), temperature)
