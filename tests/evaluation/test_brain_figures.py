"""Figures inside and outside of a brain mask."""

from __future__ import annotations

import json

import numpy as np
import pytest

import itk_ncr
from itk_ncr.cli import command_line
from itk_ncr.evaluation import brain_figures
from itk_ncr.images import write_image


@pytest.fixture(scope="module")
def head():
    """A bright ring around a textured brain, with a dark lesion in one and the brain masks."""
    y, x = np.mgrid[:72, :64]
    radius = np.hypot((y - 36) / 34, (x - 32) / 30)
    texture = 100 + 25 * np.sin(y / 3.0) * np.cos(x / 4.0)
    image = np.where(radius < 0.75, texture, np.where((radius > 0.85) & (radius < 1), 220, 0))
    lesion = (np.hypot(y - 40, x - 26) < 6) & (radius < 0.75)
    grid = itk_ncr.Grid.of_array(image.shape, (2.0, 1.5))
    ill = np.where(lesion, 12, image)
    ill = np.where((radius > 0.85) & (y < 20), 0, ill)  # its scalp differs too
    brain = itk_ncr.Image((radius < 0.78).astype(np.uint8), grid)
    images = (itk_ncr.Image(i.astype(np.float32), grid) for i in (ill, image))
    return *images, brain


def test_brain_masks_keep_the_mask_in_the_brain_and_are_counted(head):
    fixed, moving, brain = head
    result = itk_ncr.register(
        fixed, moving, affine="none", brain_mask=brain, moving_brain_mask=brain, threads=1
    )
    mask = result.mask.array > 0
    assert not (mask & (brain.array == 0)).any()
    found = brain_figures(result, brain, brain)
    assert list(found) == ["inside", "outside", "moving_brain"]
    inside = brain.array > 0
    assert found["inside"]["masked_fraction"] == pytest.approx(mask.sum() / inside.sum())
    assert found["inside"]["masked_cm2"] == pytest.approx(mask.sum() * 3.0 / 100)
    assert found["inside"]["minimum_jacobian"] == result.jacobian.array[inside].min()
    assert found["outside"]["masked_cm2"] == 0
    assert set(found["moving_brain"]) == {"masked_fraction", "masked_cm2"}


def test_a_region_of_interest_and_a_brain_mask_are_both_heeded(head):
    fixed, moving, brain = head
    left = itk_ncr.Image((np.indices(brain.array.shape)[1] < 32).astype(np.uint8), brain.grid)
    both = itk_ncr.register(
        fixed, moving, affine="none", roi_mask=left, brain_mask=brain, threads=1
    )
    one = itk_ncr.Image(left.array * brain.array, brain.grid)
    same = itk_ncr.register(fixed, moving, affine="none", roi_mask=one, threads=1)
    assert np.array_equal(both.displacement.array, same.displacement.array)


def test_the_command_takes_them_and_tells_the_figures(head, tmp_path):
    fixed, moving, brain = head
    for name, image in (("fixed", fixed), ("moving", moving), ("brain", brain)):
        write_image(image, tmp_path / f"{name}.nii.gz")
    command_line.main(
        [
            "register", *(str(tmp_path / f"{n}.nii.gz") for n in ("fixed", "moving")),
            "-o", str(tmp_path / "out"), "--affine=none", "--no-report", "-q",
            f"--brain-mask={tmp_path}/brain.nii.gz",
        ],
        standalone_mode=False,
    )  # fmt: skip
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(record["brain"]) == {"inside", "outside"}
    assert record["inputs"]["brain_mask"]["path"].endswith("brain.nii.gz")


def test_masks_of_another_dimension_are_refused(head):
    fixed, moving, brain = head
    solid = itk_ncr.Image(np.ones((3, 4, 5), np.uint8), itk_ncr.Grid.of_array((3, 4, 5)))
    with pytest.raises(itk_ncr.errors.ShapeError, match="brain mask"):
        itk_ncr.register(fixed, moving, roi_mask=brain, brain_mask=solid)
