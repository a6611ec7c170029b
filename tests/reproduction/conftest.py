"""A data folder in small: twelve patients, the four named lesions, no retinas that are needed."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.data import NAMED_LESIONS
from itk_ncr_reproduction.design import Dealing, Design, design

SHAPE = (192, 160)  # of the slices whose plane the package knows


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """The folders that a reproduction looks for."""
    folder = tmp_path_factory.mktemp("data")
    slices = folder / "ixi_dlmuse" / "slices2d"
    slices.mkdir(parents=True)
    names = [f"P{number:02d}" for number in range(12)]
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for number, name in enumerate(names):
        draw = np.random.default_rng(number)
        height, width = draw.uniform(60, 75), draw.uniform(48, 58)
        radius = np.hypot((rows - 96) / height, (columns - 80) / width)
        labels = (radius < 1).astype(np.uint8) + (radius < 0.6) + 2 * (radius < 0.3)
        image = np.array([0, 180, 110, 60, 60])[labels] * (1 + 0.03 * draw.standard_normal(SHAPE))
        # 1 is no anatomy in these data.
        named = np.array([0, 2, 3, 0, 5])[labels]
        for kind, array in (("t1", image), ("seg", named)):
            picture = sitk.GetImageFromArray(np.clip(array, 0, 255).astype(np.uint8))
            sitk.WriteImage(picture, str(slices / f"{name}_p02_{kind}.png"))
            for level in ("m08", "p18"):
                sitk.WriteImage(picture, str(slices / f"{name}_{level}_{kind}.png"))
    with open(folder / "ixi_dlmuse" / "subjects.csv", "w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["id", "split"])
        writer.writerows([name, "train" if n < 10 else "test"] for n, name in enumerate(names))
    masks = folder / "stroke_lesions" / "masks"
    masks.mkdir(parents=True)
    for number, lesion in enumerate(NAMED_LESIONS.values()):
        sitk.WriteImage(_ball(radius_mm=8 + 4 * number), str(masks / f"{lesion.mask}.nii.gz"))
    retinas = folder / "oct_octdl_pairs"
    retinas.mkdir()
    (retinas / "pairs.csv").write_text("patient,fixed,moving\np,a.png,b.png\n")
    return folder


def _ball(radius_mm: float) -> sitk.Image:
    """A lesion right of the middle of the central slice, z = 2.5 mm."""
    image = sitk.Image([64, 64, 32], sitk.sitkUInt8)
    image.SetSpacing([2.5, 2.5, 2.5])
    image.SetOrigin([-80.0, -80.0, -37.5])
    array = sitk.GetArrayFromImage(image)
    z, y, x = np.meshgrid(*(np.arange(n) * 2.5 for n in array.shape), indexing="ij")
    distance = np.sqrt((z - 40) ** 2 + (y - 80) ** 2 + (x - 100) ** 2)
    found = sitk.GetImageFromArray((distance < radius_mm).astype(np.uint8))
    found.CopyInformation(image)
    return found


@pytest.fixture(scope="session")
def tiny() -> Design:
    """Ten patients in five folds, two networks of three steps, one pair."""
    plan = design("small")
    brains = plan.experiment("mri-2d")
    settings = replace(
        brains.settings, steps=3, batch=1, network_settings={"width": 1, "integration": "half"}
    )
    experiment = replace(
        brains,
        settings=settings,
        sampling=replace(brains.sampling, reduce=4),
        variants=("regnet", "ncr-s"),
        rows=("without", "regnet", "ncr-s", "instance"),
        pairs=1,
        strict_pairs=1,
        strict_rows=("without", "ncr-s"),
    )
    return replace(plan, dealing=Dealing(10, 5, 0), experiments=(experiment,))
