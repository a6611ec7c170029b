"""Accuracy of lesion filling on phantoms whose healthy original is known.

    python benchmarks/filling.py --data DIR [--dimension 2] [--subjects 10]

DIR holds the folders ixi_dlmuse and stroke_lesions. Every validation subject gets the lesions L1
and L4. Printed are the mean absolute error inside the lesion against the original, peak
signal-to-noise ratio there, and the mean Jaccard of the labels under the lesion after registering a
third subject to the filled image without a mask, beside registering with the true lesion masked.
The partner is another subject than the one that is registered. Images are aligned affinely already,
so only mirror images are aligned anew. In 2D the central slices of the volumes are used.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from phantoms import IGNORED_LABELS

import itk_ncr
from itk_ncr.data import make_phantom
from itk_ncr.evaluation import jaccard, labels_touching
from itk_ncr.registration import RegistrationSettings
from itk_ncr.registration.filling import filled

LESIONS = ("L1", "L4")
FEWEST_VOXELS = {2: 20, 3: 51}
# Bars: error against that of the smooth fill, and loss of Jaccard against masking.
MOST_ERROR, MOST_LOSS = 0.6, 0.005


def central(image: itk_ncr.Image, dimension: int) -> itk_ncr.Image:
    """The image, or its central slice."""
    if dimension == 3:
        return image
    array = image.array[image.array.shape[0] // 2]
    grid = itk_ncr.Grid.of_array(array.shape, spacing=image.grid.spacing[:2])
    return itk_ncr.Image(array, grid)


class Case:
    """One phantom, its partner for the fill, and the subject that is registered to it."""

    def __init__(self, data: Path, subjects: list[str], number: int, lesion: str, axes: int):
        def read(offset: int, kind: str) -> itk_ncr.Image:
            name = subjects[(number + offset) % len(subjects)]
            return itk_ncr.read_image(data / "ixi_dlmuse" / "vol3d" / f"{name}_{kind}.nii.gz")

        whole = read(0, "t1")
        generator = torch.Generator().manual_seed(number)
        masks = data / "stroke_lesions" / "masks"
        made = make_phantom(whole, lesion, generator, masks=masks)
        self.axes = axes
        self.healthy, self.ill, self.mask = (
            central(image, axes) for image in (whole, made.image, made.lesion)
        )
        self.moving, self.partner = (central(read(i, "t1"), axes) for i in (1, 2))
        self.labels, self.moving_labels = (central(read(i, "seg"), axes) for i in (0, 1))
        self.lesion = self.mask.array > 0

    def fill(self, kind: str) -> tuple[itk_ncr.Image, dict[str, float]]:
        """The filled image, its errors, and the time it took."""
        begun = time.process_time()
        settings = RegistrationSettings(affine="none", threads=1)
        done = filled(self.ill, self.mask, kind, self.partner, settings)
        seconds = time.process_time() - begun
        for warning in done.warnings:
            click.echo(f"{kind}: {warning}", err=True)
        off = (done.image.array.astype(float) - self.healthy.array)[self.lesion]
        peak = 20 * np.log10(float(self.healthy.array.max()) / np.sqrt((off**2).mean()))
        return done.image, {"error": float(np.abs(off).mean()), "psnr": peak, "cpu": seconds}

    def under(self, fixed: itk_ncr.Image, **options: Any) -> float:
        """Mean Jaccard of the labels under the lesion after an unmasked registration."""
        result = itk_ncr.register(
            fixed,
            self.moving,
            method="instance",
            preset=f"mri-{self.axes}d",
            affine="none",
            mask="none",
            threads=1,
            **options,
        )
        carried = result.resample(self.moving_labels, "nearest").array
        values = jaccard(self.labels.array, carried, IGNORED_LABELS, FEWEST_VOXELS[self.axes])
        touched = labels_touching(self.labels.array, self.lesion)
        return float(np.mean([value for label, value in values.items() if label in touched]))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--dimension", type=click.IntRange(2, 3), default=2, show_default=True)
@click.option("--subjects", "count", default=10, show_default=True)
def main(data: Path, dimension: int, count: int) -> None:
    """Print the figures of every fill beside their bars."""
    with open(data / "ixi_dlmuse" / "subjects.csv") as lines:
        subjects = [row["id"] for row in csv.DictReader(lines) if row["split"] == "val"]
    rows: list[dict[str, dict[str, float]]] = []
    for number in range(min(count, len(subjects))):
        for lesion in LESIONS:
            case = Case(data, subjects, number, lesion, dimension)
            row = {
                "unmasked": {"under": case.under(case.ill)},
                "masked": {"under": case.under(case.ill, lesion_mask=case.mask)},
            }
            for kind in ("smooth", "partner", "mirror"):
                image, row[kind] = case.fill(kind)
                row[kind]["under"] = case.under(image)
            rows.append(row)
            click.echo(f"{subjects[number]} {lesion}: {_line(row)}", err=True)
    click.echo(_table(rows))


def _line(row: dict[str, dict[str, float]]) -> str:
    return "; ".join(
        f"{kind} {' '.join(f'{value:.3f}' for value in figures.values())}"
        for kind, figures in row.items()
    )


def _table(rows: list[dict[str, dict[str, float]]]) -> str:
    def mean(kind: str, figure: str) -> float:
        return float(np.mean([row[kind][figure] for row in rows]))

    lines = [
        f"{len(rows)} phantoms",
        "",
        "| lesion | error inside | share of smooth's | PSNR, dB | labels under it | CPU s, fill |",
        "|---" * 6 + "|",
    ]
    for kind in ("unmasked", "masked"):
        lines.append(f"| {kind} | - | - | - | {mean(kind, 'under'):.3f} | - |")
    for kind in ("smooth", "partner", "mirror"):
        share = mean(kind, "error") / mean("smooth", "error")
        lines.append(
            f"| filled, {kind} | {mean(kind, 'error'):.1f} | {share:.2f} | "
            f"{mean(kind, 'psnr'):.1f} | {mean(kind, 'under'):.3f} | {mean(kind, 'cpu'):.1f} |"
        )
    lines += ["", "| bar | measured | |", "|---" * 3 + "|"]
    for kind in ("partner", "mirror"):
        share = mean(kind, "error") / mean("smooth", "error")
        loss = mean("masked", "under") - mean(kind, "under")
        for text, ok in (
            (f"{kind}: error <= {MOST_ERROR} of smooth's | {share:.2f}", share <= MOST_ERROR),
            (f"{kind}: labels under it lose <= {MOST_LOSS} | {loss:+.4f}", loss <= MOST_LOSS),
        ):
            lines.append(f"| {text} | {'met' if ok else 'MISSED'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
