"""Templates: the unbiased mean of several images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

import itk_ncr
from itk_ncr.errors import ArgumentError, ImageReadError, ShapeError
from itk_ncr.geometry import Grid
from itk_ncr.ops import exponential, warp
from itk_ncr.registration.studies.template import _Mean

SHAPE = (56, 64)
GRID = Grid.of_array(SHAPE, spacing=(1.5, 1.5))


def anatomy() -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    disc = np.hypot(rows - 28, (columns - 32) * 0.9) < 23
    texture = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(SHAPE), 1.5)
    return (disc * (100 + 180 * texture)).clip(0).astype(np.float32)


def deformed(image: np.ndarray, peak: float, seed: int) -> itk_ncr.Image:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 2, *SHAPE, generator=generator).numpy()
    velocity = torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 7, 7)))
    velocity = velocity * (peak / velocity.abs().max())
    moved = warp(torch.from_numpy(image)[None, None], exponential(velocity))
    return itk_ncr.Image(moved[0, 0].numpy(), GRID)


@pytest.fixture(scope="module")
def images():
    """One anatomy deformed by two fields and by what undoes each: their middle is the anatomy."""
    return [deformed(anatomy(), peak, seed) for seed in (1, 2) for peak in (3.5, -3.5)]


@pytest.fixture(scope="module")
def made(images):
    return itk_ncr.template(images, method="demons", affine="none", iterations=2, threads=1)


def likeness(one: np.ndarray, two: np.ndarray) -> float:
    inside = anatomy() > 0
    return float(np.corrcoef(one[inside], two[inside])[0, 1])


def test_a_template_is_sharper_than_the_affine_mean(made):
    sharpness = [each.sharpness for each in made.rounds]
    assert sharpness[-1] > sharpness[0] + 0.1
    assert sharpness[-1] > 0.85


def test_a_template_is_the_anatomy_in_the_middle_of_its_images(made, images):
    mean = np.mean([image.array for image in images], axis=0)
    best_single = max(likeness(image.array, anatomy()) for image in images)
    found = likeness(made.template.array, anatomy())
    assert found > max(best_single, likeness(mean, anatomy()))
    assert found > 0.95


def test_the_maps_of_a_template_have_no_mean(made):
    fields = np.stack([field.array for field in made.space.displacements])
    inside = anatomy() > 0
    lengths = np.linalg.norm(fields, axis=-1)[:, inside]
    bias = np.linalg.norm(fields.mean(0), axis=-1)[inside]
    assert lengths.mean() > 0.75  # half a voxel: there is something to be biased about
    assert bias.mean() < 0.05 * 1.5


def test_a_masked_lesion_does_not_reach_the_mean():
    healthy = np.full((2, 20, 20), 0.5, np.float32)
    ill = healthy.copy()
    weights = np.ones_like(healthy)
    ill[0, 5:10, 5:10], weights[0, 5:10, 5:10] = 3.0, 0.0
    mean = _Mean.of(ill, weights, Grid.of_array((20, 20)))
    np.testing.assert_allclose(mean.values, 0.5)
    np.testing.assert_allclose(mean.support[5:10, 5:10], 0.5)
    assert not mean.hole.any()


def test_where_every_image_is_masked_the_surroundings_go_on():
    images = np.full((2, 20, 20), 0.5, np.float32)
    images[:, 8:11, 8:11] = 3.0
    weights = np.ones_like(images)
    weights[:, 8:11, 8:11] = 0.0
    mean = _Mean.of(images, weights, Grid.of_array((20, 20)))
    np.testing.assert_allclose(mean.values, 0.5, atol=1e-3)
    assert mean.hole.sum() == 9
    assert mean.support[9, 9] == 0


def test_a_template_is_saved_with_maps_record_and_page(made, tmp_path):
    folder = made.save(tmp_path / "atlas")
    names = {path.name for path in folder.iterdir()}
    assert {"template.nrrd", "support.nrrd", "mask_4.nrrd", "transform_1.h5"} <= names
    assert "Sharpness" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("images", "options", "error", "said"),
    [
        ([anatomy()], {}, ArgumentError, "two or more"),
        (anatomy(), {}, ArgumentError, "must be a list"),
        ([anatomy(), anatomy()], {}, ArgumentError, "image 2 like image 1"),
        ([anatomy(), anatomy() + 1], {"iterations": 0}, ArgumentError, "iterations"),
        ([anatomy(), anatomy() + 1], {"lesion_masks": [None]}, ArgumentError, "per image, 2"),
        ([anatomy(), "missing.nii"], {}, ImageReadError, "image 2"),
        ([anatomy(), np.ones((4, 8, 9)).cumsum(0)], {}, ShapeError, "image 2"),
    ],
)
def test_what_makes_no_template_is_refused_in_one_line(images, options, error, said):
    with pytest.raises(error, match=said):
        itk_ncr.template(images, **options)
