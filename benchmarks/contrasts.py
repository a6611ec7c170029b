"""Registration of slices of two contrasts: accuracy and masked healthy tissue.

    python benchmarks/contrasts.py --data DIR [--pairs 5] [--split val|test]

DIR holds the folder ixi_dlmuse. Pairs are (i, i + 1) of a split; the affine is left out, for the
slices are aligned. The moving slice is remapped: as a T2 image, inverted from fluid to white
matter, and by a map that is not monotone. Jaccard is over the labels with more than 50 pixels.
"""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import click
import numpy as np
from phantoms import FEWEST_VOXELS, IGNORED_LABELS

import itk_ncr
from itk_ncr.evaluation import jaccard

# Intensities of the T1 slices (fluid 30, grey matter 110, white matter 170), and what becomes of
# them.
MAPS = {
    "as T2": ([0, 1, 30, 70, 110, 150, 180, 255], [0, 180, 230, 190, 130, 95, 80, 75]),
    "not monotone": ([0, 1, 40, 110, 170, 255], [0, 60, 20, 200, 120, 60]),
}


def remapped(image: itk_ncr.Image, name: str) -> itk_ncr.Image:
    """The image in another contrast."""
    values = np.interp(image.array, *MAPS[name]).astype(np.float32)
    return itk_ncr.Image(values, image.grid)


def figures(
    folder: Path, one: str, two: str, contrast: str | None, preset: str
) -> tuple[float, float]:
    """Mean Jaccard, and percent of the brain masked."""
    fixed, moving, labels, moving_labels = (
        itk_ncr.read_image(folder / f"{subject}_p02_{kind}.png")
        for kind in ("t1", "seg")
        for subject in (one, two)
    )
    if contrast is not None:
        moving = remapped(moving, contrast)
    result = itk_ncr.register(fixed, moving, affine="none", preset=preset, threads=1)
    warped = result.resample(moving_labels, "nearest").array
    values = jaccard(labels.array, warped, IGNORED_LABELS, FEWEST_VOXELS)
    masked = (result.mask.array > 0)[fixed.array > 0].mean()
    return float(np.mean(list(values.values()))), 100 * float(masked)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True
)
@click.option("--pairs", default=5, show_default=True)
@click.option("--split", type=click.Choice(["val", "test"]), default="val", show_default=True)
def main(data: Path, pairs: int, split: str) -> None:
    """Print one row a pair and the means."""
    folder = data / "ixi_dlmuse"
    with open(folder / "subjects.csv") as lines:
        subjects = [row["id"] for row in csv.DictReader(lines) if row["split"] == split]
    runs = [(None, "auto"), *((name, "multimodal") for name in MAPS)]
    click.echo(f"| pair | {' | '.join(name or 'one contrast' for name, _ in runs)} |")
    click.echo("|---" * (len(runs) + 1) + "|")
    rows = []
    for one, two in itertools.islice(itertools.pairwise(subjects), pairs):
        rows.append([figures(folder / "slices2d", one, two, *run) for run in runs])
        click.echo(_row(f"{one[3:6]}/{two[3:6]}", rows[-1]))
    click.echo(_row("mean", np.mean(rows, axis=0).tolist()))


def _row(name: str, cells: list[tuple[float, float]]) -> str:
    return f"| {name} | {' | '.join(f'{j:.4f}, {m:.2f} % masked' for j, m in cells)} |"


if __name__ == "__main__":
    main()
