"""The displacement that a synthetic pair comes with is the one that was applied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import itk_ncr
from itk_ncr.data import LesionBank, LesionMask, Lesions, Synthesis, SyntheticPairs, TrainingLayout
from itk_ncr.data.rendering import (
    posed,
    random_curve,
    random_intensities,
    random_shapes,
    random_velocity,
    through_curve,
)
from itk_ncr.errors import ArgumentError
from itk_ncr.ops import exponential, jacobian_determinant, warp
from tests.data.conftest import seeded

CLEAN = Synthesis(
    real=1.0, remapped=0.0, same_contrast=1.0, peak_voxels=(4.0, 5.0), scale_voxels=(12.0, 16.0),
    blur_voxels=(0.0, 0.0), texture=(0.0, 0.0), noise=(0.0, 0.0), gamma=0.0, bias=0.0,
)  # fmt: skip


@pytest.fixture(params=["2d", "3d"])
def manifest(request, manifest_2d, manifest_3d):
    return {"2d": manifest_2d, "3d": manifest_3d}[request.param]


def test_the_displacement_brings_moving_onto_fixed(manifest) -> None:
    source = SyntheticPairs(manifest, synthesis=CLEAN)
    for seed in range(3):
        sample = source.sample(seed, seeded(seed))
        moved = warp(sample.moving[None], sample.displacement[None])[0]
        wrong = warp(sample.moving[None], -sample.displacement[None])[0]

        def error(image: torch.Tensor, fixed: torch.Tensor = sample.fixed) -> float:
            return float((image - fixed).abs().mean())

        # What remains is interpolation at edges: measured 0.16 to 0.27 of the start.
        assert error(moved) < 0.4 * error(sample.moving)
        assert error(wrong) > error(sample.moving)
        agree = [
            float((labels == sample.fixed_labels).float().mean())
            for labels in (
                warp(
                    sample.moving_labels[None, None], sample.displacement[None], mode="nearest"
                ).squeeze(),
                sample.moving_labels,
            )
        ]
        # Nearest twice, along outlines: measured 0.967 to 0.973, from 0.87 to 0.93.
        assert agree[0] > 0.95
        assert agree[0] > agree[1] + 0.3 * (1 - agree[1])


def test_the_displacement_is_the_exponential_of_the_velocity_and_does_not_fold(manifest) -> None:
    source = SyntheticPairs(manifest, synthesis=CLEAN)
    sample = source.sample(0, seeded(1))
    longest = sample.velocity.norm(dim=0).max()
    # The velocity is made on a grid half as fine, where its peak may lie between voxels.
    assert 3.0 < longest <= 5.0 + 1e-4
    again = exponential(sample.velocity[None])[0]
    difference = (again - sample.displacement).norm(dim=0)
    # Integration on half the grid, of fields that vary over 12 voxels: measured 0.011.
    assert difference.mean() < 0.02 * longest
    assert jacobian_determinant(sample.displacement[None]).min() > 0.05


def test_lesions_of_either_image_are_known_on_the_fixed_grid(manifest_3d, tmp_path) -> None:
    grid = itk_ncr.read_image(manifest_3d.subjects[0].image).grid
    array = np.zeros(grid.shape, np.uint8)
    array[8:16, 10:18, 8:16] = 1
    itk_ncr.write_image(itk_ncr.Image(array, grid), tmp_path / "mask.nrrd")
    bank = LesionBank([LesionMask.read(tmp_path / "mask.nrrd")])
    healthy = SyntheticPairs(manifest_3d, synthesis=CLEAN)
    for where in ("fixed", "moving"):
        lesions = Lesions(bank, 1.0, where, appearances=("chronic",), blobs=0.0)
        source = SyntheticPairs(manifest_3d, synthesis=CLEAN, lesions=lesions)
        ill, well = source.sample(0, seeded(3)), healthy.sample(0, seeded(3))
        assert torch.equal(ill.displacement, well.displacement)
        if where == "fixed":
            assert torch.equal(ill.moving, well.moving)
            darker = (ill.fixed < well.fixed - 0.2)[0]
        else:
            assert torch.equal(ill.fixed, well.fixed)
            moved = [warp(s.moving[None], s.displacement[None])[0] for s in (ill, well)]
            darker = (moved[0] < moved[1] - 0.2)[0]
        truth = ill.lesion[0] > 0
        assert truth.sum() > 100
        overlap = 2 * (darker & truth).sum() / (darker.sum() + truth.sum())
        assert overlap > 0.75


def test_images_show_labels_through_curves_or_as_they_are(manifest_2d) -> None:
    kinds = {
        "real": Synthesis(real=1.0, remapped=0.0),
        "remapped": Synthesis(real=0.0, remapped=1.0),
        "labels": Synthesis(real=0.0, remapped=0.0),
    }
    for kind, synthesis in kinds.items():
        source = SyntheticPairs(manifest_2d, synthesis=synthesis)
        means = []
        for seed in range(12):
            sample = source.sample(0, seeded(seed))
            assert sample.fixed[0, 0, 0] == 0  # the background stays
            inner = sample.fixed[0][sample.fixed_labels == 2].mean()
            outer = sample.fixed[0][sample.fixed_labels == 1].mean()
            means.append(float(inner - outer))
        brighter = np.mean(np.array(means) > 0)
        # The inner part is brighter in the images, and in random contrasts by chance.
        assert brighter == 1 if kind == "real" else 0.05 < brighter < 0.95


def test_without_labels_the_images_themselves_are_used(manifest_2d) -> None:
    bare = replace(
        manifest_2d, subjects=tuple(replace(s, labels=None) for s in manifest_2d.subjects)
    )
    sample = SyntheticPairs(bare, synthesis=Synthesis(real=0, remapped=0)).sample(0, seeded(0))
    assert sample.fixed_labels is None
    assert sample.fixed.max() > 0.5


def test_shapes_need_no_images_and_cover_the_grid() -> None:
    labels = random_shapes((80, 90), seeded(0), count=8)
    assert set(labels.unique().tolist()) <= set(range(1, 9))
    assert len(labels.unique()) >= 5
    # Smooth: some twelve shapes fit along an axis, so that less than a fifth of the neighbours
    # differ; of random labels seven eighths do.
    assert (labels[1:] != labels[:-1]).float().mean() < 0.2
    sample = SyntheticPairs(shape=(32, 40), synthesis=Synthesis(shapes=8)).sample(0, seeded(1))
    assert sample.fixed.shape == (1, 32, 40)
    assert sample.fixed_labels.min() >= 1


@pytest.mark.parametrize("shape", [(40, 60), (20, 24, 28)])
def test_a_velocity_is_smooth_rests_at_the_border_and_has_its_peak(shape) -> None:
    for seed in range(5):
        v = random_velocity(shape, seeded(seed), peak_voxels=(2, 6), scale_voxels=(12, 20))
        assert v.shape == (1, len(shape), *shape)
        assert 2 <= float(v.square().sum(1).max().sqrt()) <= 6 + 1e-4
        for axis in range(2, v.ndim):
            assert v.select(axis, 0).eq(0).all()
            assert v.select(axis, -1).eq(0).all()
            # Over 12 voxels or more from peak to peak: the steepest slope of a wave of half
            # length 6 is pi / 6 of its height; the taper at the border adds its own.
            assert v.diff(dim=axis).abs().max() < 0.75 * v.abs().max()


def test_posing_happens_after_deforming() -> None:
    image = torch.rand(1, 1, 14, 14, generator=seeded(0))
    shift = torch.zeros(1, 2, 14, 14)
    shift[:, 0] = 2.0  # deformed(p) = p + (2, 0)
    flip = np.array([[1.0, 0, 0], [0, -1, 13]])  # posed(p) = (row, 13 - column)
    found = warp(image, posed(shift, flip))
    assert_close(found[..., :12, :], image[..., 2:, :].flip(-1), atol=1e-5, rtol=0)
    assert posed(shift, None) is shift


def test_a_curve_maps_its_knots_and_keeps_the_background() -> None:
    curve = torch.tensor([0.0, 0.8, 0.2])
    image = torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0, 1.4]])
    assert_close(through_curve(image, curve), torch.tensor([[0.0, 0.4, 0.8, 0.5, 0.2, 0.2]]))
    drawn = random_curve(seeded(0))
    assert drawn[0] == 0
    assert drawn[1:].min() >= 0.1


def test_random_intensities_keep_the_background_if_there_is_one() -> None:
    values = random_intensities(60, seeded(0))
    assert values.shape == (61,)
    assert values[0] == 0
    assert values[1:].min() > 0
    assert random_intensities(60, seeded(0), background=False)[0] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"real": 0.8, "remapped": 0.4}, "shares of one whole"),
        ({"peak_voxels": (3.0, 1.0)}, "peak_voxels must be two rising"),
        ({"scale_voxels": (1.0, 9.0)}, "scale_voxels must be at least 2"),
    ],
)
def test_a_synthesis_without_meaning_is_refused(options, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        Synthesis(**options)


def test_either_images_or_a_shape_must_be_given(manifest_2d) -> None:
    with pytest.raises(ArgumentError, match="either manifest or shape"):
        SyntheticPairs()
    with pytest.raises(ArgumentError, match="either manifest or shape"):
        SyntheticPairs(manifest_2d, shape=(3, 4))
    with pytest.raises(ArgumentError, match="length must be"):
        SyntheticPairs(shape=(30, 30), length=0)
    with pytest.raises(ArgumentError, match="split 'val'"):
        SyntheticPairs(manifest_2d, "val", layout=TrainingLayout())
