import numpy as np
import pytest
import torch
from torch.testing import assert_close

from itk_ncr.registration.solver import Pair
from itk_ncr.registration.solver.evidence import (
    BLOCK,
    LARGEST_RESIDUAL,
    SURROUNDING_RADII,
    Perceptron,
    evidence_model,
    final_cues,
    standardised_residual,
    unexplained,
)


def smooth_image(shape, seed):
    """Values in [0.2, 1], with waves of some ten voxels."""
    generator = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    waves = sum(np.sin(a / 3.0 + generator.uniform(0, 6)) for a in axes)
    return torch.from_numpy(0.6 + 0.4 * waves / len(shape)).float()[None, None]


@pytest.fixture
def images():
    """Moving and fixed image of one tissue, with a little noise, and a weight of 1."""
    moving = smooth_image((40, 44), 0)
    noise = torch.randn(moving.shape, generator=torch.Generator().manual_seed(1))
    return moving, moving + 0.02 * noise, torch.ones_like(moving)


def lesion(fixed, value):
    ill = fixed.clone()
    ill[..., 15:24, 18:28] = value
    return ill


@pytest.mark.parametrize("value", [0.05, 1.4])
def test_bright_and_dark_lesions_stand_out_alike(images, value):
    moving, fixed, weight = images
    z = standardised_residual(moving, lesion(fixed, value), weight)
    inside = z[..., 17:22, 20:26]
    # Far beyond an outlier on average; in an image this small the gain takes a part.
    assert inside.abs().mean() > 0.55 * LARGEST_RESIDUAL
    assert (inside.sign() == (1 if value > 1 else -1)).all()
    assert z[..., 30:, :].abs().mean() < 1.2  # the mean of a unit normal is 0.8


@pytest.mark.parametrize(
    "curve", [lambda x: 1.2 - x, lambda x: x.sqrt(), lambda x: (3 * x).sin().abs()]
)
def test_any_relation_of_the_contrasts_is_explained(images, curve):
    moving, fixed, weight = images
    z = standardised_residual(moving, lesion(curve(fixed), 0.02), weight)
    assert z[..., 30:, :].abs().mean() < 1.2
    assert z[..., 17:22, 20:26].abs().mean() > 2


def test_a_slow_gain_is_no_residual(images):
    moving, fixed, weight = images
    ramp = torch.linspace(0.8, 1.25, moving.shape[-1])
    with_gain = standardised_residual(moving, fixed * ramp, weight)
    without = standardised_residual(moving, fixed, weight)
    assert with_gain.abs().mean() < 1.5 * without.abs().mean()
    # Without its correction the ends of the ramp would be off by ten deviations.
    assert with_gain[..., :5].abs().mean() < 2.5


def test_no_voxel_to_compare_is_no_error(images):
    moving, fixed, weight = images
    assert standardised_residual(moving, fixed, 0 * weight).isfinite().all()


def test_equal_images_leave_less_than_a_deviation():
    image = smooth_image((16, 20, 18), 2)
    z = standardised_residual(image, image, torch.ones_like(image))
    assert z.abs().mean() < 0.8  # the width of a smoothed bin


@pytest.mark.parametrize(
    ("learnt_from", "dimension"), [("brains", 2), ("brains", 3), ("retinas", 2)]
)
def test_the_shipped_model_takes_the_cues_that_are_made(learnt_from, dimension):
    shape = (20, 24, 22)[:dimension]
    image = smooth_image(shape, 3)
    pair = Pair(image, image, torch.ones_like(image), None, None, (1.0,) * dimension)
    model = evidence_model(learnt_from, dimension)
    along = model.along_path(pair, [torch.zeros(1, dimension, *shape)] * 3)
    assert (model.first is not None) == ((learnt_from, dimension) == ("brains", 2))
    if model.first is not None:
        assert along.shape == (1, 1 + len(SURROUNDING_RADII), *shape)
    log_odds = model.with_registration(along, final_cues(pair, image, pair.foreground))
    assert log_odds.shape == image.shape
    assert log_odds.isfinite().all()
    assert log_odds.mean() < -2  # nothing speaks against a partner here


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_the_unexplained_deviation_is_that_of_the_noise(noise):
    image = smooth_image((24, 28, 26), 2)
    generator = torch.Generator().manual_seed(0)
    noisy = 1 - image + noise * torch.randn(image.shape, generator=generator)
    found = unexplained(image, noisy, torch.ones_like(image))
    assert found == pytest.approx(noise, rel=0.3)
    assert unexplained(image, noisy, torch.zeros_like(image)) == 0


def test_a_perceptron_gives_the_same_in_blocks():
    generator = torch.Generator().manual_seed(0)
    shape = (BLOCK // 300 + 7, 310)
    cues = torch.rand(1, 4, *shape, generator=generator)
    layers = tuple(
        (torch.randn(n, m, generator=generator), torch.randn(n, generator=generator))
        for m, n in ((4, 5), (5, 1))
    )
    model = Perceptron(torch.zeros(4), torch.ones(4), layers)
    whole = model.forward(cues[0].flatten(1).T).view(1, 1, *shape)
    assert_close(model([cues[:, :1], cues[:, 1:]]), whole)
