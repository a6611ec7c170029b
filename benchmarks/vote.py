"""Lesions found by a vote of several healthy images and by each of them alone (2D).

    python benchmarks/vote.py --data DIR [--split test] [--subjects 8] [--images 6]

DIR holds the folders ixi_dlmuse and stroke_lesions. Every subject is the fixed image once as it is
and once with each of the lesions L1, L3 and L4; the moving images are other subjects of the split,
drawn with a fixed seed. Then the subjects with the largest ventricles are registered to those with
the smallest, without any lesion. Average precision is that of the probability in the brain against
the inserted lesion; that of a single pair is the mean over the moving images of a subject. p: one-
sided Wilcoxon signed-rank test over subjects. Images are aligned affinely already. What the vote is
made of was chosen with --split val.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch
from manifests import write_manifests
from numpy.typing import NDArray
from scipy.stats import wilcoxon

import itk_ncr
from itk_ncr.data import AllToAll, read_manifest
from itk_ncr.evaluation import average_precision, dice

VERSIONS = ("none", "L1", "L3", "L4")
VENTRICLES = (4, 49, 50, 51, 52)
# Bars: p of the gain, masked share of healthy brains and with enlarged ventricles, cost in runs.
LARGEST_P, HEALTHY, ENLARGED = 0.05, 0.003, 0.01

Row = dict[str, float]


class Slices:
    """The slices of a split, with and without lesions."""

    def __init__(self, data: Path, folder: Path, split: str) -> None:
        write_manifests(data, folder)
        manifest = read_manifest(folder / "ixi-2d.csv")
        masks = data / "stroke_lesions" / "masks"
        self.source = AllToAll(
            manifest, split, versions=VERSIONS, named_masks=masks, match=False, preload=False
        )
        self.subjects = sorted({pair[0] for pair in self.source.pairs})
        self.grid = itk_ncr.read_image(manifest.subjects[self.subjects[0]].image).grid

    def pair(
        self, fixed: int, moving: int, version: str
    ) -> tuple[itk_ncr.Image, itk_ncr.Image, NDArray[np.bool_]]:
        """Both images and the lesion in the fixed one."""
        number = self.source.pairs.index((fixed, moving, version))
        sample = self.source.sample(number, torch.Generator().manual_seed(0))
        one, two = (
            itk_ncr.Image(side[0].numpy(), self.grid) for side in (sample.fixed, sample.moving)
        )
        lesion = np.zeros(self.grid.shape, bool)
        if sample.lesion is not None:
            lesion = sample.lesion[0].numpy() > 0
        return one, two, lesion

    def ventricles(self, subject: int) -> int:
        """Pixels of the ventricles."""
        other = next(s for s in self.subjects if s != subject)
        number = self.source.pairs.index((subject, other, "none"))
        labels = self.source.sample(number, torch.Generator().manual_seed(0)).fixed_labels
        assert labels is not None
        return int(np.isin(labels.numpy(), VENTRICLES).sum())


def measured(slices: Slices, fixed: int, moving: list[int], version: str) -> Row:
    """One vote, and the means of its single pairs."""
    pairs = [slices.pair(fixed, other, version) for other in moving]
    image, _, lesion = pairs[0]
    brain = image.array > 0
    lesion &= brain
    begun = time.process_time()
    result = itk_ncr.register(image, [m for _, m, _ in pairs], affine="none", threads=1)
    cpu = time.process_time() - begun
    singles = [one.noncorrespondence.array for one in result.results]
    together = result.noncorrespondence.array
    row = {
        "cpu": cpu,
        "vote masked": float((together > 0.5)[brain].mean()),
        "single masked": float(np.mean([(s > 0.5)[brain].mean() for s in singles])),
    }
    if lesion.any():
        row["vote precision"] = average_precision(together, lesion, brain)
        row["single precision"] = float(
            np.mean([average_precision(s, lesion, brain) for s in singles])
        )
        row["vote dice"] = dice(together > 0.5, lesion)
        row["single dice"] = float(np.mean([dice(s > 0.5, lesion) for s in singles]))
    return row


def single_cpu(slices: Slices, fixed: int, moving: int) -> float:
    """Processor time of one ordinary run."""
    one, two, _ = slices.pair(fixed, moving, "none")
    begun = time.process_time()
    itk_ncr.register(one, two, affine="none", threads=1)
    return time.process_time() - begun


def table(rows: dict[str, list[Row]], images: int, alone: float) -> str:
    """Figures and bars as Markdown."""
    lines = ["| | average precision, single | vote | p | Dice, single | vote |", "|---" * 6 + "|"]
    bars = []
    for version in VERSIONS[1:]:
        one, many = (
            np.array([row[f"{kind} precision"] for row in rows[version]])
            for kind in ("single", "vote")
        )
        p = float(wilcoxon(many, one, alternative="greater").pvalue)
        dices = [np.mean([row[f"{k} dice"] for row in rows[version]]) for k in ("single", "vote")]
        lines.append(
            f"| {version} | {one.mean():.3f} | {many.mean():.3f} | {p:.3g} | "
            f"{dices[0]:.3f} | {dices[1]:.3f} |"
        )
        bars.append((f"{version}: gain of average precision, p < {LARGEST_P}", f"{p:.3g}",
                     p < LARGEST_P))  # fmt: skip
    for version, bar, title in (
        ("none", HEALTHY, "healthy brains masked"),
        ("ventricles", ENLARGED, "enlarged ventricles masked"),
    ):
        vote, one = (
            100 * np.array([row[f"{kind} masked"] for row in rows[version]])
            for kind in ("vote", "single")
        )
        text = f"mean {vote.mean():.2f} %, worst {vote.max():.2f} % (single {one.mean():.2f} %)"
        bars.append((f"{title} <= {100 * bar:g} %", text, vote.mean() <= 100 * bar))
    cost = np.mean([row["cpu"] for found in rows.values() for row in found]) / alone
    bars.append((f"cost <= {images} single runs", f"{cost:.2f}", cost <= images))
    lines += ["", "| bar | measured | |", "|---" * 3 + "|"]
    lines += [f"| {text} | {found} | {'met' if ok else 'MISSED'} |" for text, found, ok in bars]
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True)
@click.option("--subjects", "count", default=8, show_default=True)
@click.option("--images", default=6, show_default=True)
def main(data: Path, split: str, count: int, images: int) -> None:
    """Measure and print the tables."""
    generator = np.random.default_rng(0)
    rows: dict[str, list[Row]] = {version: [] for version in (*VERSIONS, "ventricles")}
    with tempfile.TemporaryDirectory() as folder:
        slices = Slices(data, Path(folder), split)
        chosen = [slices.subjects[i] for i in generator.permutation(len(slices.subjects))]
        size = {subject: slices.ventricles(subject) for subject in slices.subjects}
        smallest = sorted(slices.subjects, key=size.__getitem__)
        alone = float(np.median([single_cpu(slices, chosen[0], m) for m in chosen[1:4]]))

        def enter(version: str, fixed: int, moving: list[int]) -> None:
            row = measured(slices, fixed, moving, version.replace("ventricles", "none"))
            rows[version].append(row)
            click.echo(f"{version} {fixed}: {row}", err=True)

        for fixed in chosen[:count]:
            others = [s for s in chosen if s != fixed]
            moving = [others[i] for i in generator.permutation(len(others))[:images]]
            for version in VERSIONS:
                enter(version, fixed, moving)
        for fixed in smallest[-4:]:
            enter("ventricles", fixed, smallest[:images])
    click.echo(f"{count} {split} subjects, {images} moving images each, 2D")
    click.echo(table(rows, images, alone))


if __name__ == "__main__":
    main()
