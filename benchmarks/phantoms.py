"""Brain pairs with a phantom lesion in the fixed image, as the benchmarks and studies use them.

The shape of a lesion is a real stroke mask; its appearance is modelled: like cerebrospinal fluid,
with noise and a soft rim. It is drawn here, not by ``itk_ncr.data``, whose appearances have changed
and may change again: the figures of docs/benchmarks.md stay comparable to earlier ones.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import itk_ncr
from itk_ncr_reproduction import sources

# White matter of the data is 180: this is 0.3 of it, the middle of what chronic strokes show.
CSF, CSF_TEXTURE, NOISE = 55.0, 18.0, 3.0
RIM_VOXELS = 1.0
SMALLEST, LARGEST = 15_000, 40_000
# Whole lesions only: fragments of one stroke would be several small ones.
LEAST_IN_ONE_PIECE = 0.95
# Background, and what counts as no label in the data.
IGNORED_LABELS = (0, *sources.IGNORED_LABELS)
FEWEST_VOXELS = 51


@dataclass(frozen=True)
class BrainPair:
    """Two subjects, their labels, and one lesion for the fixed one."""

    name: str
    fixed: itk_ncr.Image
    moving: itk_ncr.Image
    fixed_labels: NDArray[np.uint8]
    moving_labels: itk_ncr.Image
    lesion: NDArray[np.bool_]
    fixed_with_lesion: itk_ncr.Image


def brain_pairs(data: Path, count: int) -> Iterator[BrainPair]:
    """The first pairs (i, i + 1) of the test split, each with its own lesion."""
    with open(data / "ixi_dlmuse" / "subjects.csv") as lines:
        subjects = [row["id"] for row in csv.DictReader(lines) if row["split"] == "test"]
    lesions = large_lesions(data, count)
    folder = data / "ixi_dlmuse" / "vol3d"
    for i in range(count):
        one, two = subjects[i], subjects[i + 1]
        fixed = itk_ncr.read_image(folder / f"{one}_t1.nii.gz")
        lesion = itk_ncr.read_image(data / "stroke_lesions" / "masks" / f"{lesions[i]}.nii.gz")
        ill, truth = insert_lesion(fixed.array, lesion.array > 0, np.random.default_rng(i))
        yield BrainPair(
            name=f"{one[3:6]}/{two[3:6]} {lesions[i]}",
            fixed=fixed,
            moving=itk_ncr.read_image(folder / f"{two}_t1.nii.gz"),
            fixed_labels=itk_ncr.read_image(folder / f"{one}_seg.nii.gz").array,
            moving_labels=itk_ncr.read_image(folder / f"{two}_seg.nii.gz"),
            lesion=truth,
            fixed_with_lesion=itk_ncr.Image(ill, fixed.grid),
        )


def large_lesions(data: Path, count: int) -> list[str]:
    """Names of lesions drawn with seed 0 among those that are large and in one piece."""
    with open(data / "stroke_lesions" / "lesions.csv") as lines:
        names = [
            row["id"]
            for row in csv.DictReader(lines)
            if SMALLEST <= int(row["n_vox_grid"]) <= LARGEST
            and float(row["largest_component_fraction"]) >= LEAST_IN_ONE_PIECE
        ]
    order = np.random.default_rng(0).permutation(len(names))
    return [names[i] for i in order[:count]]


def insert_lesion(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The image with fluid in the mask, and the mask inside the brain."""
    truth = mask & ndimage.binary_fill_holes(image > 0)
    coverage = ndimage.gaussian_filter(truth.astype(float), RIM_VOXELS)
    texture = ndimage.gaussian_filter(generator.standard_normal(image.shape), 1.0)
    fluid = CSF + CSF_TEXTURE * texture + NOISE * generator.standard_normal(image.shape)
    ill = (1 - coverage) * image + coverage * fluid
    ill[image == 0] = 0
    return np.clip(np.rint(ill), 0, 255).astype(np.uint8), truth
