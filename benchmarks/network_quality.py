"""Quality of trained networks on test subjects: labels, lesions, folding and time.

    python benchmarks/network_quality.py --data DIR --dimension 2 \\
        --model NCR=itk_ncr/checkpoints/shipped/brain-t1-2d --model RegNet=runs/regnet/model

Every test subject is a fixed image, lesion-free and with the lesions L1 to L4; every other test
subject is a moving one. The masks of these lesions are in no training. Jaccard is the mean over the
labels of a pair. "Grown" starts in a true voxel of the lesion, so it is assisted by the truth. The
affine is left out: the images are aligned affinely already. --refine adds the network refined by so
many iterations of the per-pair solver, --method that method of `itk-ncr register` at its defaults.
What is chosen by such figures, as the number of iterations that a model recommends, is to be chosen
with --split val.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from manifests import write_manifests
from scipy.stats import wilcoxon

import itk_ncr
from itk_ncr.data import AllToAll, read_manifest
from itk_ncr.evaluation import jaccard, split_by_lesion
from itk_ncr_reproduction.measure import field_figures, mask_figures

FEWEST_VOXELS = {2: 20, 3: 51}
VERSIONS = ("none", "L1", "L2", "L3", "L4")


@dataclass(frozen=True)
class Case:
    """One pair and what is true about it."""

    version: str
    fixed: itk_ncr.Image
    moving: itk_ncr.Image
    fixed_labels: np.ndarray
    moving_labels: itk_ncr.Image
    lesion: np.ndarray


def cases(
    data: Path, dimension: int, split: str, pairs: int, versions: tuple[str, ...]
) -> Iterator[Case]:
    """The same random pairs of a split for every call, in every version."""
    with tempfile.TemporaryDirectory() as folder:
        write_manifests(data, Path(folder))
        manifest = read_manifest(Path(folder) / f"ixi-{dimension}d.csv")
        source = AllToAll(
            manifest,
            split,
            versions=versions,
            named_masks=data / "stroke_lesions" / "masks",
            match=False,
            preload=False,
        )
        count = len(source) // len(versions)
        for pair in np.random.default_rng(0).permutation(count)[:pairs]:
            for number, version in enumerate(versions):
                index = int(pair) * len(versions) + number
                sample = source.sample(index, torch.Generator().manual_seed(0))
                assert sample.fixed_labels is not None
                assert sample.moving_labels is not None
                # All images of the data lie on one grid, those of slices have spacing 1.
                grid = itk_ncr.read_image(manifest.subjects[source.pairs[index][0]].image).grid
                lesion = np.zeros(grid.shape, bool)
                if sample.lesion is not None:
                    lesion = sample.lesion[0].numpy() > 0
                yield Case(
                    version,
                    itk_ncr.Image(sample.fixed[0].numpy(), grid),
                    itk_ncr.Image(sample.moving[0].numpy(), grid),
                    sample.fixed_labels.numpy(),
                    itk_ncr.Image(sample.moving_labels.numpy(), grid),
                    lesion,
                )


def figures(case: Case, options: dict[str, Any] | None) -> dict[str, float]:
    """One registration and what came out; None: before any."""
    few = FEWEST_VOXELS[case.fixed.dimension]
    brain = case.fixed.array > 0
    if options is None:
        labels, row = case.moving_labels.array, {}
    else:
        begun, cpu = time.perf_counter(), time.process_time()
        result = itk_ncr.register(case.fixed, case.moving, affine="none", **options)
        row = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
        labels = result.resample(case.moving_labels, "nearest").array
        row |= field_figures(result, brain)
        row |= mask_figures(result, case.lesion, brain, np.random.default_rng(0))
    values = jaccard(case.fixed_labels, labels, (0,), few)
    row["jaccard"] = float(np.mean(list(values.values())))
    under = split_by_lesion(values, case.fixed_labels, case.lesion).inside
    if np.isfinite(under):
        row["under"] = under
    return row


def table(rows: dict[str, dict[str, list[dict[str, float]]]], versions: tuple[str, ...]) -> str:
    """Methods by lesion, as Markdown."""
    lines = []
    for figure, title, digits, factor in (
        ("jaccard", "Mean Jaccard of the labels", 3, 1),
        ("under", "The same, labels under the lesion", 3, 1),
        ("dice", "Dice of the mask with the lesion", 3, 1),
        ("grown", "Dice after region growing from a true voxel", 3, 1),
        ("detected", "Lesions detected, %", 1, 100),
        ("calibration", "Expected calibration error of the probabilities in the brain", 4, 1),
        ("masked", "Masked share of the brain, %", 2, 100),
        ("folding", "Folding voxels, %", 4, 100),
        ("jacobian", "Standard deviation of ln(Jacobian)", 3, 1),
        ("inverse", "Mean inverse error, voxels", 4, 1),
        ("seconds", "Seconds per pair, median", 2, 1),
    ):
        lines += ["", f"**{title}**", "", f"| | {' | '.join(versions)} |"]
        lines.append("|---" * (len(versions) + 1) + "|")
        for method, by_version in rows.items():
            cells = []
            for version in versions:
                values = [row[figure] for row in by_version[version] if figure in row]
                middle = np.median if figure == "seconds" else np.mean
                spread = f" ({np.std(values):.3f})" if figure == "jaccard" else ""
                cells.append(f"{factor * middle(values):.{digits}f}{spread}" if values else "")
            if any(cells):
                lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def comparisons(
    rows: dict[str, dict[str, list[dict[str, float]]]], versions: tuple[str, ...]
) -> str:
    """Differences of the Jaccard of all methods, with one-sided Wilcoxon tests."""
    lines = [
        "",
        "**Jaccard, first minus second; p: one-sided Wilcoxon signed-rank, first > second**",
    ]
    lines += ["", f"| | {' | '.join(versions)} |", "|---" * (len(versions) + 1) + "|"]
    names = [name for name in rows if name != "before"]
    for one in names:
        for two in names:
            if one == two:
                continue
            cells = []
            for version in versions:
                a, b = (np.array([r["jaccard"] for r in rows[n][version]]) for n in (one, two))
                p = wilcoxon(a, b, alternative="greater").pvalue if np.any(a != b) else 1.0
                cells.append(f"{(a - b).mean():+.4f} (p {p:.2g})")
            lines.append(f"| {one} - {two} | {' | '.join(cells)} |")
    lines += ["", "**Drop of the Jaccard from lesion-free**", ""]
    lines += [f"| | {' | '.join(versions[1:])} |", "|---" * len(versions) + "|"]
    for name in names:
        free = np.mean([r["jaccard"] for r in rows[name]["none"]])
        drops = [free - np.mean([r["jaccard"] for r in rows[name][v]]) for v in versions[1:]]
        lines.append(f"| {name} | {' | '.join(f'{d:.4f}' for d in drops)} |")
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--dimension", type=click.Choice(["2", "3"]), default="2")
@click.option("--model", "models", multiple=True, help="NAME=FOLDER, or NAME=shipped name.")
@click.option("--refine", type=int, multiple=True, help="Also the first model, refined so long.")
@click.option("--method", "others", multiple=True, help="Also this method, as ncr or greedy.")
@click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True)
@click.option("--pairs", default=60, show_default=True)
@click.option("--versions", default=",".join(VERSIONS), show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    data: Path,
    dimension: str,
    models: tuple[str, ...],
    refine: tuple[int, ...],
    others: tuple[str, ...],
    split: str,
    pairs: int,
    versions: str,
    threads: int,
    json_path: Path | None,
) -> None:
    """Measure and print the tables."""
    chosen = tuple(versions.split(","))
    methods: dict[str, dict[str, Any] | None] = {"before": None}
    named = dict(text.split("=", 1) for text in models)
    for name, model in named.items():
        methods[name] = {"engine": "network", "model": model, "refine": 0}
    for number in refine:
        name, model = next(iter(named.items()))
        methods[f"{name} + {number}"] = {"engine": "network", "model": model, "refine": number}
    methods |= {name: {"method": name} for name in others}
    rows: dict[str, dict[str, list[dict[str, float]]]] = {
        name: {version: [] for version in chosen} for name in methods
    }
    for case in cases(data, int(dimension), split, pairs, chosen):
        for name, options in methods.items():
            told = None if options is None else options | {"threads": threads}
            rows[name][case.version].append(figures(case, told))
    click.echo(f"{pairs} pairs of {split} subjects, {dimension}D")
    click.echo(table(rows, chosen))
    click.echo(comparisons(rows, chosen))
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
