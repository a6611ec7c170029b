"""Whether the solver is unsure where it is wrong, and of registrations that failed.

    python benchmarks/bootstrap.py DIR [--dimension 3] [--split test] [--pairs 8] [--runs 8]

DIR holds the folder ixi_dlmuse. First pairs of known displacement: an image and itself through a
random smooth warp of up to four voxels, with noise. Spearman's rank correlation of the standard
deviation with the error, over the voxels of the object; bar: a median above .3. Then pairs of two
subjects, once as they are and once with the moving image turned by 30 degrees and no affine: the
area under the ROC curve of the mean deviation for the turned ones; bar: .95. Exits with 1 if a bar
is missed.
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path

import click
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import mannwhitneyu, spearmanr

import itk_ncr
from itk_ncr.fields import smooth
from itk_ncr.images import resample
from itk_ncr.ops import exponential, warp

CORRELATION, AREA = 0.3, 0.95
LARGEST, SMOOTHNESS, NOISE, DEGREES = 4.0, 6.0, 0.02, 30.0


def warped(image: itk_ncr.Image, seed: int) -> tuple[itk_ncr.Image, np.ndarray]:
    """An image through a random warp, and its displacement in voxels, (D, *spatial)."""
    generator = torch.Generator().manual_seed(seed)
    array = torch.from_numpy(image.array.astype(np.float32))[None, None]
    shape = (1, image.dimension, *array.shape[2:])
    velocity = smooth(torch.randn(shape, generator=generator), SMOOTHNESS)
    displacement = exponential(velocity * (LARGEST / float(velocity.abs().max())))
    noise = NOISE * float(array.max()) * torch.randn(array.shape, generator=generator)
    moved = warp(array, displacement) + noise * (array > 0)
    return itk_ncr.Image(moved[0, 0].numpy(), image.grid), displacement[0].numpy()


def turned(image: itk_ncr.Image) -> itk_ncr.Image:
    """An image turned about its centre, about the first axis in 3D."""
    degrees = np.deg2rad(DEGREES)
    matrix = Rotation.from_euler("z", degrees).as_matrix()[: image.dimension, : image.dimension]
    centre = image.grid.points().reshape(-1, image.dimension).mean(0)
    about = itk_ncr.AffineMap(tuple(map(tuple, matrix)), tuple(centre - matrix @ centre))
    return resample(image, image.grid, affine=about)


def deviation(result: itk_ncr.RegistrationResult) -> np.ndarray:
    """The standard deviation of the displacement in the object, mm."""
    return result.image("displacement_std").array[result.foreground.array > 0]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.option("--dimension", type=click.Choice(["2", "3"]), default="2", show_default=True)
@click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True)
@click.option("--pairs", type=click.IntRange(2), default=8, show_default=True)
@click.option("--runs", type=click.IntRange(2), default=8, show_default=True)
def main(folder: Path, dimension: str, split: str, pairs: int, runs: int) -> None:
    """Measure and print."""
    folder = folder / "ixi_dlmuse"
    with open(folder / "subjects.csv") as lines:
        names = [row["id"] for row in csv.DictReader(lines) if row["split"] == split]
    form = "vol3d/{}_t1.nii.gz" if dimension == "3" else "slices2d/{}_p02_t1.png"
    images = [itk_ncr.read_image(folder / form.format(name)) for name in names[: pairs + 1]]
    options = {"affine": "none", "uncertainty_runs": runs, "threads": 1}

    correlations, errors, deviations = [], [], []
    for seed, image in enumerate(images[:pairs]):
        fixed, truth = warped(image, seed)
        result = itk_ncr.register(fixed, image, **options)
        shown = result.foreground.array > 0
        # Array order of the components, and voxels.
        found = np.moveaxis(result.displacement.array, -1, 0)[::-1]
        in_plane = np.asarray(image.grid.direction) * image.grid.spacing
        found = np.tensordot(np.linalg.inv(in_plane)[::-1, ::-1], found, 1)
        error = np.linalg.norm(found - truth, axis=0)[shown] * image.grid.spacing[0]
        correlations.append(float(spearmanr(deviation(result), error).statistic))
        errors.append(error.mean())
        deviations.append(deviation(result).mean())

    right, wrong = [], []
    for fixed, moving in itertools.pairwise(images):
        right.append(deviation(itk_ncr.register(fixed, moving, **options)).mean())
        wrong.append(deviation(itk_ncr.register(fixed, turned(moving), **options)).mean())
    area = float(mannwhitneyu(wrong, right).statistic) / (len(wrong) * len(right))

    median = float(np.median(correlations))
    rows = (
        (
            "rank correlation with the error, median (least, most)",
            f"{median:.2f} ({min(correlations):.2f}, {max(correlations):.2f})",
            f"> {CORRELATION}",
        ),
        ("mean error, mm", f"{np.mean(errors):.3f}", ""),
        ("mean deviation, mm", f"{np.mean(deviations):.3f}", ""),
        (f"failures of {DEGREES:.0f} degrees, area under the curve", f"{area:.3f}", f">= {AREA}"),
        ("mean deviation as they are, mm", f"{np.mean(right):.2f}", ""),
        ("mean deviation of the turned ones, mm", f"{np.mean(wrong):.2f}", ""),
    )
    click.echo(f"{pairs} pairs of {split} subjects, {dimension}D, {runs} runs\n")
    click.echo("| | | bar |\n|---|---|---|")
    for row in rows:
        click.echo(f"| {' | '.join(row)} |")
    sys.exit(int(median <= CORRELATION or area < AREA))


if __name__ == "__main__":
    main()
