"""Masks from probabilities on the command line."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def probability(tmp_path):
    """Two regions, a faint large one with a hole and a sure small one, in an oblique image."""
    array = np.zeros((5, 12, 14), np.float32)
    array[1:4, 2:7, 2:7] = 0.6
    array[2, 4, 4] = 0.1
    array[2:4, 8:10, 9:12] = 0.95
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.5, 3.0))
    image.SetOrigin((-20.0, 11.0, 4.0))
    image.SetDirection(OBLIQUE)
    sitk.WriteImage(image, str(tmp_path / "p.nii.gz"))
    return tmp_path / "p.nii.gz", array, image


@pytest.fixture
def segment(probability, run, read, tmp_path):
    def call(*words: object) -> np.ndarray:
        result = run("segment", probability[0], "-o", tmp_path / "out.nrrd", "--overwrite", *words)
        assert result.exit_code == 0, result.output
        return read(tmp_path / "out.nrrd") > 0

    return call


def test_above_the_threshold_is_inside(segment, probability):
    array = probability[1]
    assert np.array_equal(segment(), array > 0.5)
    assert np.array_equal(segment("--threshold", 0.05, "-q"), array > 0.05)


def test_the_mask_lies_where_the_probability_lies(segment, probability, tmp_path):
    segment()
    mask = sitk.ReadImage(str(tmp_path / "out.nrrd"))
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert mask.GetOrigin() == pytest.approx(probability[2].GetOrigin())
    assert mask.GetDirection() == pytest.approx(OBLIQUE, abs=1e-6)


def test_regions_must_reach_the_high_threshold(segment, probability):
    assert np.array_equal(segment("--high", 0.9), probability[1] > 0.9)


def test_a_seed_in_mm_and_one_in_voxels_find_the_same_region(segment, probability):
    faint = (probability[1] > 0.5) & (probability[1] < 0.9)
    point = probability[2].TransformIndexToPhysicalPoint((5, 3, 2))
    in_mm = segment("--seed", ",".join(f"{value + 0.2:.3f}" for value in point))
    assert np.array_equal(in_mm, faint)
    assert np.array_equal(segment("--seed-voxel", "5,3,2"), faint)
    both = segment("--seed-voxel", "5,3,2", "--seed-voxel", "10,9,3")
    assert np.array_equal(both, probability[1] > 0.5)
    assert not segment("--seed-voxel", "0,0,0").any()


def test_a_seed_between_voxels_belongs_to_the_nearest(segment, probability):
    def seed(index: float) -> str:
        point = probability[2].TransformContinuousIndexToPhysicalPoint((index, 3.0, 2.0))
        return ",".join(f"{value:.4f}" for value in point)

    assert segment("--seed", seed(6.4)).any()  # the region ends at 6
    assert not segment("--seed", seed(6.6)).any()


def test_the_largest_region_is_that_of_the_largest_sum(segment, probability, save, tmp_path):
    assert np.array_equal(segment("--largest"), (probability[1] > 0.5) & (probability[1] < 0.9))
    weight = sitk.GetImageFromArray((probability[1] > 0.9).astype(np.float32))
    weight.CopyInformation(probability[2])
    sitk.WriteImage(weight, str(tmp_path / "w.nrrd"))
    assert np.array_equal(
        segment("--largest", "--weight", tmp_path / "w.nrrd"), probability[1] > 0.9
    )


def test_holes_are_filled_when_asked_for(segment):
    filled = segment("--largest", "--fill-holes")
    assert filled[2, 4, 4]
    assert filled.sum() == 75
    assert segment("--largest").sum() == 74


def test_growth_stops_where_the_image_changes(segment, probability, tmp_path):
    image = np.zeros((5, 12, 14), np.float32)
    image[:, :, 5:] = 50
    image[:, ::2] += 1
    other = sitk.GetImageFromArray(image)
    other.CopyInformation(probability[2])
    sitk.WriteImage(other, str(tmp_path / "i.nrrd"))
    grown = segment("--seed-voxel", "3,3,2", "--intensity", tmp_path / "i.nrrd")
    expected = probability[1] > 0.5
    expected[..., 5:] = False
    assert np.array_equal(grown, expected)


def test_growth_like_the_region_keeps_its_rim_up_to_half_contrast(save, run, read, tmp_path):
    z, y, x = np.ogrid[-14:15, -14:15, -14:15]
    truth = z**2 + y**2 + x**2 < 9**2
    coverage = ndimage.gaussian_filter(truth.astype(float), 1.0)
    image = (200 - 150 * coverage).astype(np.float32)
    image += np.random.default_rng(0).normal(0, 3, image.shape).astype(np.float32)
    wide = np.where(ndimage.binary_dilation(truth, iterations=1), 0.7, 0.2).astype(np.float32)
    probability, intensity = save(wide, tmp_path / "p.nrrd"), save(image, tmp_path / "i.nrrd")

    def grown(name, *words):
        out = tmp_path / f"{name}.nrrd"
        words = ("-o", out, "--seed-voxel", "14,14,14", "--intensity", intensity, *words)
        assert run("segment", probability, *words).exit_code == 0
        return read(out).astype(bool)

    region = grown("region", "--like", "region")
    assert (region ^ truth).sum() < 0.03 * truth.sum()
    assert (grown("seed") ^ truth).sum() > 0.2 * truth.sum()
    narrow = grown("narrow", "--like", "region", "--deviations", 0.5)
    assert (narrow ^ region).any()


def test_size_and_regions_are_told(probability, run, tmp_path):
    result = run("segment", probability[0], "-o", tmp_path / "out.png.nrrd")
    # 74 + 12 voxels of 4.5 mm3.
    assert result.stdout.startswith("86 voxels, 0.387 ml, regions: 2\n")


def test_an_empty_mask_and_absent_voxels_are_remarked(save, run, read, tmp_path):
    values = np.full((5, 12, 14), 0.25, np.float32)
    values[0, 0, :3] = np.nan
    path = save(values, tmp_path / "p.nrrd")
    result = run("segment", path, "-o", tmp_path / "out.nrrd", "-q")
    assert result.exit_code == 0
    absent, empty = result.stderr.splitlines()
    assert absent.startswith("note: 3 voxels of ")
    assert empty.endswith("is 0.25")
    path = save(np.full_like(values, np.nan), tmp_path / "none.nrrd")
    result = run("segment", path, "-o", tmp_path / "none_out.nrrd", "-q")
    assert result.stderr.splitlines()[1].endswith("is NaN")
    assert not read(tmp_path / "out.nrrd").any()


def test_the_folder_of_a_run_will_do(registered, run, read, tmp_path):
    result = run("segment", registered, "-o", tmp_path / "out.nrrd", "--threshold", 0.3)
    assert result.exit_code == 0
    expected = read(registered / "mask_probability.nrrd") > 0.3
    assert np.array_equal(read(tmp_path / "out.nrrd"), expected)


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (
            ["--seed-voxel", "14,0,0"],
            "seed 14,0,0 lies outside the image: voxel 14,0,0 of size 14,12,5",
        ),
        (["--seed-voxel", "-1,0,0"], "lies outside"),
        (["--seed", "1000,0,0"], "seed 1000,0,0 lies outside"),
        (["--seed", "1,2"], "seed 1,2 must have 3 numbers"),
        (["--seed-voxel", "1,1,1", "--intensity", "small.nrrd"], "intensity 'small.nrrd' must lie"),
        (["--largest", "--weight", "none.nrrd"], "none.nrrd"),
        (["--high", ".2"], "low must not be above high"),
        (["-o", "out.jpg"], "must end in"),
        (["-o", "out.png"], "it is 3D and a picture is flat"),
        (["--threshold", "nan"], "--threshold must be a number; got nan"),
        (["--high", "inf"], "--high must be a number; got inf"),
        (["-o", "p.nii.gz", "--overwrite"], "is an input"),
    ],
)
def test_a_call_that_makes_no_sense_is_named(
    probability, save, run, tree, tmp_path, monkeypatch, words, fragment
):
    monkeypatch.chdir(tmp_path)
    save(np.ones((5, 12, 13), np.float32), tmp_path / "small.nrrd")
    before = tree(tmp_path)
    result = run("segment", probability[0], "-o", "out.nrrd", *words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert fragment in result.stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["missing.nrrd", "vector.nrrd", "run"])
def test_a_source_that_is_no_probability_is_named(save, run, tree, tmp_path, name):
    save(np.ones((5, 6, 2), np.float32), tmp_path / "vector.nrrd", vector=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    before = tree(tmp_path)
    result = run("segment", tmp_path / name, "-o", tmp_path / "out.nrrd")
    assert result.exit_code == 2
    assert str(tmp_path / name) in result.stderr
    assert tree(tmp_path) == before
