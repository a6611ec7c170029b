"""Phantoms from the command line: files whose truth fits them, or one line and nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr import data, runs
from itk_ncr.cli.phantom import CONTRASTS, KINDS, MODELS
from itk_ncr.data import LESION_KINDS, LESION_MODELS, OctPhantoms, read_manifest, surfaces


def test_the_help_offers_every_lesion():
    assert KINDS == LESION_KINDS
    assert ("realistic", *LESION_MODELS) == MODELS
    assert tuple(data.CONTRASTS) == CONTRASTS


def test_a_realistic_lesion_is_written_with_all_that_it_affects(run, tmp_path, blobs):
    image = sitk.GetImageFromArray((200 * blobs((60, 64)) + 1).astype(np.uint8))
    image.SetSpacing((3.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / "healthy.png"))
    words = ("phantom", tmp_path / "healthy.png", "-o", tmp_path / "out", "--seed", "4")
    result = run(*words, "--lesion", "realistic", "--contrast", "flair")
    assert result.exit_code == 0, result.output
    kind = result.output.split(":")[0]
    assert kind in LESION_MODELS
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written >= {"phantom.png", "lesion.png", "affected.png", "summary.json"}
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert record["settings"]["lesion"] == kind
    wrong = run(*words[:3], tmp_path / "no", "--lesion", "grey", "--contrast", "t1")
    assert wrong.exit_code == 2
    assert "--contrast goes with --lesion realistic" in wrong.output
    assert not (tmp_path / "no").exists()


def test_a_lesion_is_written_in_the_geometry_and_type_of_the_image(run, tmp_path, blobs):
    image = sitk.GetImageFromArray(blobs((20, 24, 28)).astype(np.int16))
    image.SetSpacing((1.5, 2.0, 2.5))
    image.SetOrigin((-20, 30, 7))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / "healthy.nii.gz"))
    words = ("phantom", tmp_path / "healthy.nii.gz", "-o", tmp_path / "out", "--lesion", "chronic")
    centre = image.TransformIndexToPhysicalPoint((14, 12, 10))
    at = ",".join(f"{value:g}" for value in centre)
    result = run(*words, "--volume", "0.9", "--at", at, "--mass-effect", "1.5", "--seed", "3")
    assert result.exit_code == 0, result.output
    # A voxel is 7.5 mm3.
    assert "chronic: 0.9 ml, 120 voxels" in result.output
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {"phantom.nii.gz", "lesion.nii.gz", "displacement.nii.gz", "summary.json"}
    made, lesion, u = (
        sitk.ReadImage(str(tmp_path / "out" / f"{name}.nii.gz"))
        for name in ("phantom", "lesion", "displacement")
    )
    assert made.GetPixelID() == image.GetPixelID()
    for other in (made, lesion, u):
        assert other.GetSize() == image.GetSize()
        assert np.allclose(other.GetSpacing(), image.GetSpacing())
        assert np.allclose(other.GetOrigin(), image.GetOrigin())
        assert np.allclose(other.GetDirection(), image.GetDirection())
    # SimpleITK applies the truth to the healthy image: away from the lesion, the phantom.
    field = sitk.DisplacementFieldTransform(sitk.Cast(u, sitk.sitkVectorFloat64))
    warped = sitk.Resample(image, made, field, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    distance = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(lesion, squaredDistance=False, useImageSpacing=True)
    )
    inner = (slice(2, -2),) * 3
    off = np.abs(sitk.GetArrayFromImage(warped) - sitk.GetArrayFromImage(made))
    assert off[inner][distance[inner] > 9].max() <= 0.51  # rounded to whole numbers
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert record["truth"]["voxels"] == int(sitk.GetArrayFromImage(lesion).sum()) == 120
    assert np.linalg.norm(np.array(record["truth"]["centre_mm"]) - centre) < 3
    assert record["truth"]["largest_displacement_mm"] == pytest.approx(1.5, abs=0.3)
    again = run(*words[:3], tmp_path / "again", *words[4:], "--volume", "0.9", "--at", at,
                "--mass-effect", "1.5", "--seed", "3", "-q")  # fmt: skip
    assert again.output == ""
    assert np.array_equal(read(tmp_path / "again/phantom.nii.gz"), sitk.GetArrayFromImage(made))


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_a_mask_in_its_own_space_and_a_picture(run, tmp_path, blobs, save):
    healthy = save(blobs((40, 48)).astype(np.uint8), tmp_path / "slice.png", spacing=1.0)
    mask = np.zeros((10, 10), np.uint8)
    mask[2:6, 2:8] = 1
    small = sitk.GetImageFromArray(mask)
    small.SetOrigin((20, 14))
    sitk.WriteImage(small, str(tmp_path / "mask.nrrd"))
    result = run("phantom", healthy, "-o", tmp_path / "out", "--mask", tmp_path / "mask.nrrd")
    assert result.exit_code == 0, result.output
    expected = np.zeros((40, 48), bool)
    expected[16:20, 22:28] = True
    assert np.array_equal(read(tmp_path / "out/lesion.png") > 0, expected)
    assert "24 mm2" in result.output
    # Named lesions take masks from a folder.
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(small, str(tmp_path / "masks/soop_930.nrrd"))
    result = run("phantom", healthy, "-o", tmp_path / "L3", "--lesion", "L3",
                 "--lesion-masks", tmp_path / "masks")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert np.array_equal(read(tmp_path / "L3/lesion.png") > 0, expected)


def test_oct_pairs_are_what_training_and_batch_read(run, tmp_path):
    words = ("phantom", "oct", "-o", tmp_path / "out", "--count", 4, "--scans", 2, "--first", 7)
    result = run(*words, "--size", 96, 192, "--seed", 5)
    assert result.exit_code == 0, result.output
    assert "4 pairs of 2 patients" in result.output
    manifest = read_manifest(tmp_path / "out/training.csv")
    assert len(manifest.pairs) == 4
    assert manifest.patients() == ("patient0007", "patient0008")
    assert all(s.labels is not None for s in manifest.subjects)
    pairs = runs.read_pairs(tmp_path / "out/pairs.csv")
    assert [p.name for p in pairs][:2] == ["patient0007_scan00", "patient0007_scan01"]
    # What is written is what the library makes of these patients.
    source = OctPhantoms(4, shape=(96, 192), seed=5, first=7, scans=2)
    labels = source.sample(0, __import__("torch").Generator()).fixed_labels
    followup = sitk.ReadImage(str(tmp_path / "out/patient0007_scan00_followup_labels.png"))
    assert np.array_equal(sitk.GetArrayFromImage(followup), labels.numpy())
    assert followup.GetSpacing() == pytest.approx((6 / 192, 1.92 / 96), rel=1e-3)
    with (tmp_path / "out/surfaces.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["name"] == "patient0008_scan01"]
    assert len(rows) == 2 * 192
    drawn = surfaces(read(tmp_path / "out/patient0008_scan01_baseline_labels.png"))
    for name in ("ILM", "RPE", "BM"):
        written = [float(r[name] or "nan") for r in rows if r["image"] == "baseline"]
        np.testing.assert_array_equal(written, drawn[name])
    # A call that asks for some of them makes the same ones.
    result = run("phantom", "oct", "-o", tmp_path / "one", "--count", 1, "--first", 8, "--scans", 2,
                 "--size", 96, 192, "--seed", 5)  # fmt: skip
    assert result.exit_code == 0, result.output
    name = "patient0008_scan00_baseline.png"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("IMAGE", "--count", "3"), "--count: not for an image"),
        (("oct", "--lesion", "L1"), "--lesion: not for oct"),
        (("IMAGE", "--at", "1"), "is not x,y,z in mm"),
        (("IMAGE", "--at", "1,2,3"), "centre of the lesion must have 2 numbers"),
        (("IMAGE", "--at", "900,900"), "centre of the lesion must lie"),
        (("IMAGE", "--volume", "1e9"), "size of the lesion must be at most half"),
        (("IMAGE", "--mask", "IMAGE", "--lesion-masks", "."), "exclude each other"),
        (("IMAGE", "--lesion", "L1", "--lesion-masks", "nowhere"), "soop_543"),
        (("IMAGE", "--lesion-masks", "nowhere"), "--lesion-masks goes with --lesion L1"),
        (("nothing.nii.gz",), "nothing.nii.gz"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(run, pair, tmp_path, words, message):
    words = [str(pair[0]) if word == "IMAGE" else word for word in words]
    result = run("phantom", *words, "-o", tmp_path / "new" / "out")
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays_unless_told(run, pair, tmp_path):
    assert run("phantom", pair[0], "-o", tmp_path / "out", "-q").exit_code == 0
    before = (tmp_path / "out/lesion.nrrd").read_bytes()
    refused = run("phantom", pair[0], "-o", tmp_path / "out", "--seed", 8)
    assert refused.exit_code == 2
    assert (tmp_path / "out/lesion.nrrd").read_bytes() == before
    assert (
        run("phantom", pair[0], "-o", tmp_path / "out", "--seed", 8, "--overwrite").exit_code == 0
    )
    assert (tmp_path / "out/lesion.nrrd").read_bytes() != before
