"""Uncertainty of the per-pair solver."""

import dataclasses

import numpy as np
import pytest
import torch

import itk_ncr
from itk_ncr.errors import ArgumentError
from itk_ncr.evaluation import summary
from itk_ncr.fields import smooth
from itk_ncr.registration.solver import Pair, displacement_deviation, solver_preset


@pytest.fixture(scope="module")
def uncertain(slice_pair):
    fixed, moving, _ = slice_pair
    return itk_ncr.register(fixed, moving, affine="none", uncertainty_runs=4, threads=1)


def test_nothing_is_repeated_by_default(slice_pair):
    fixed, moving, _ = slice_pair
    result = itk_ncr.register(fixed, moving, affine="none")
    assert result.displacement_std is None
    with pytest.raises(ArgumentError, match="'displacement_std' needs a registration with uncert"):
        result.image("displacement_std")


def test_the_deviation_is_in_mm_on_the_fixed_grid(slice_pair, uncertain):
    fixed, moving, _ = slice_pair
    deviation = uncertain.image("displacement_std")
    assert deviation.grid.equals(fixed.grid)
    assert deviation.array.dtype == np.float32
    assert (deviation.array >= 0).all()
    doubled = [
        itk_ncr.Image(
            i.array, itk_ncr.Grid.of_array(i.array.shape, spacing=[2 * h for h in i.grid.spacing])
        )
        for i in (fixed, moving)
    ]
    other = itk_ncr.register(*doubled, affine="none", uncertainty_runs=4, threads=1)
    shown = uncertain.foreground.array > 0
    ratio = other.displacement_std.array[shown].mean() / deviation.array[shown].mean()
    assert ratio == pytest.approx(2, rel=0.02)


def test_the_same_seed_gives_the_same_bits_and_another_one_others(slice_pair, uncertain):
    fixed, moving, _ = slice_pair
    options = {"affine": "none", "uncertainty_runs": 4, "threads": 1}
    again = itk_ncr.register(fixed, moving, **options)
    other = itk_ncr.register(fixed, moving, seed=1, **options)
    np.testing.assert_array_equal(again.displacement_std.array, uncertain.displacement_std.array)
    assert (other.displacement_std.array != uncertain.displacement_std.array).any()
    # The map itself does not depend on it.
    np.testing.assert_array_equal(other.displacement.array, uncertain.displacement.array)


def test_what_is_explained_worse_is_less_sure():
    generator = torch.Generator().manual_seed(0)
    texture = smooth(torch.randn(1, 1, 48, 64, generator=generator), 2.0)
    texture = 0.5 + 0.3 * texture / texture.std()
    pair = Pair(texture, texture, torch.ones_like(texture), None, None, (1.0, 1.0))
    noise = torch.randn(texture.shape, generator=generator)
    settings = solver_preset("auto", 2)
    little, much = (
        displacement_deviation(
            pair, settings, texture + level * noise, torch.eye(2), 4, generator
        ).mean()
        for level in (0.02, 0.2)
    )
    assert 0 < 2 * little < much


def test_the_entropy_is_largest_at_even_odds(uncertain):
    probability = np.linspace(0, 1, uncertain.noncorrespondence.array.size, dtype=np.float32)
    image = itk_ncr.Image(
        probability.reshape(uncertain.noncorrespondence.array.shape), uncertain.foreground.grid
    )
    entropy = dataclasses.replace(uncertain, noncorrespondence=image).entropy.array.ravel()
    assert entropy.max() == pytest.approx(np.log(2), abs=1e-6)
    assert abs(probability[entropy.argmax()] - 0.5) < 1e-3
    assert entropy[[0, -1]] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uncertainty_runs": 1}, "must be 0 or at least 2; got 1"),
        ({"uncertainty_runs": -3}, "uncertainty_runs must be a whole number from 0 to 1000"),
        ({"uncertainty_runs": 4, "method": "demons"}, "must be 0 with method='demons'; got 4"),
    ],
)
def test_settings_that_make_no_sense_are_refused(slice_pair, options, message):
    fixed, moving, _ = slice_pair
    with pytest.raises(ArgumentError, match=message):
        itk_ncr.register(fixed, moving, **options)


def test_its_files_and_figures_are_written(uncertain, tmp_path):
    folder = uncertain.save(tmp_path / "out", report=False)
    assert {"displacement_std.nrrd", "mask_entropy.nrrd"} <= {p.name for p in folder.iterdir()}
    told = summary(uncertain)["uncertainty"]
    assert told["runs"] == 4
    assert 0 < told["displacement_std_mean_mm"] < told["displacement_std_95_mm"]
