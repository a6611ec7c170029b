"""Expectation-maximisation: weights of outliers, cavities, brightness that changes nothing."""

import numpy as np
import pytest
import torch

import itk_ncr
from itk_ncr.errors import ArgumentError
from itk_ncr.registration.variational import em
from itk_ncr.registration.variational.em import Beliefs, EMOptions

from .test_chen import heads


def test_random_outliers_get_low_weights_and_matched_voxels_high_ones():
    generator = torch.Generator().manual_seed(0)
    squares = (0.05 * torch.randn(1, 1, 40, 40, generator=generator)).square()
    outlier = torch.rand(1, 1, 40, 40, generator=generator) < 0.2
    squares = torch.where(outlier, 0.5, squares)
    weight = em.uniform(squares, 0.05, 1)
    assert weight[outlier].max() < 0.1
    assert weight[~outlier].mean() > 0.9


def test_an_outlier_is_as_likely_at_the_stated_deviation():
    squares = torch.full((1, 1, 3, 3), (em.EQUAL_AT * 0.07) ** 2)
    torch.testing.assert_close(em.uniform(squares, 0.07, 1), torch.full((1, 1, 3, 3), 0.5))


@pytest.mark.parametrize("eta", [0.0, 0.8])
def test_a_cavity_is_told_from_other_outliers_by_its_intensity(eta):
    squares = torch.full((1, 1, 12, 12), 0.001)
    fixed = torch.full((1, 1, 12, 12), 0.7)
    squares[..., 2:6, 2:6], fixed[..., 2:6, 2:6] = 0.3, em.CAVITY
    squares[..., 8:11, 8:11], fixed[..., 8:11, 8:11] = 0.3, 1.0
    valid, resected = em.resection(squares, fixed, Beliefs(squares, 0.1), eta)
    assert valid[..., 2:6, 2:6].max() < 0.1
    assert resected[..., 3:5, 3:5].min() > 0.9
    assert resected[..., 8:11, 8:11].max() < 0.1
    assert valid[..., 9, 9] < 0.5
    assert valid[..., 0, 8:].min() > 0.9


def test_neighbours_outvote_a_single_outlier():
    squares = torch.full((1, 1, 9, 9), 0.001)
    squares[..., 4, 4] = 0.07
    fixed = torch.full((1, 1, 9, 9), em.CAVITY)
    alone, together = (
        em.resection(squares, fixed, Beliefs(squares, 0.1), eta)[0][0, 0, 4, 4] for eta in (0, 1.5)
    )
    assert together > 0.9 > alone


def test_gain_offset_and_a_ramp_of_brightness_are_evened():
    _, moving, _ = heads()
    image = torch.from_numpy(moving / 200)[None, None]
    ramp = torch.linspace(0, 0.5, 64).view(1, 1, 64, 1) - torch.linspace(0, 0.2, 64)
    evened = em.evened(0.6 * image + 0.1 + ramp, image, torch.ones_like(image))
    torch.testing.assert_close(evened, image, atol=1e-5, rtol=0)
    weight = (torch.arange(64) < 40).float().expand(1, 1, 64, 64)
    ill = torch.where(weight > 0, 0.6 * image + ramp, 3.0)
    evened = em.evened(ill, image, weight)
    torch.testing.assert_close(evened[..., :40], image[..., :40], atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", em.OUTLIER_MODELS)
def test_a_lesion_is_found_and_little_else(model):
    options = {"method": "em", "affine": "none", "threads": 1}
    options["method_options"] = {"outlier_model": model}
    fixed, moving, lesion = heads(5.0)
    result = itk_ncr.register(fixed, moving, **options)
    mask = result.mask.array > 0
    assert 2 * (mask & lesion).sum() / (mask.sum() + lesion.sum()) > 0.8
    blind = itk_ncr.register(fixed, moving, mask="none", **options)
    assert not blind.noncorrespondence.array.any()


def test_a_ramp_of_brightness_leaves_the_map_unchanged():
    fixed, moving, _ = heads()
    rows = np.indices((64, 64))[0].astype(np.float32)
    options = {"method": "em", "affine": "none", "threads": 1}
    plain, ramped = (
        itk_ncr.register(image, moving, **options).displacement.array
        for image in (fixed, fixed + 0.5 * rows)
    )
    assert np.linalg.norm(plain - ramped, axis=-1)[fixed > 0].mean() < 0.1
    assert np.linalg.norm(plain, axis=-1).max() > 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outlier_model": "student"}, "option outlier_model must be one of uniform, resection"),
        ({"eta": -1}, "option eta must be 0 or a positive number; got -1"),
        ({"window": 0}, "option window must be a positive number; got 0"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ArgumentError, match=said):
        EMOptions(**options)


def test_identical_images_stay_where_they_are():
    _, moving, _ = heads()
    result = itk_ncr.register(moving, moving, method="em", affine="none", threads=1)
    assert np.abs(result.displacement.array).max() < 1e-3
    assert result.quality.masked_fraction == 0
