"""Real pathology: changes of multiple sclerosis, and pairs of retinal B-scans.

    python benchmarks/pathology.py --data DIR [--figures FOLDER]

Sclerosis: two visits of two patients with masks of what changed (FLAIR; T1 where there is one). The
figure is the area under the precision-recall curve of the noncorrespondence against the change;
chance reaches the share of changed voxels. "difference" is the plain absolute difference of the
images as they come (they are aligned), the least one should beat.

Retina: pairs of the test patients. The true correspondence is unknown there, so the figures are
those that need no truth, and --figures writes an overview of each pair to be looked at.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from manifests import write_manifests

import itk_ncr
from itk_ncr.data import read_manifest
from itk_ncr.evaluation import average_precision
from itk_ncr.evaluation.overview import overview
from itk_ncr.preprocessing import match_histogram, normalise

VISITS = (("patient01", "FLAIR"), ("patient01", "T1W"), ("patient03", "FLAIR"))


def sclerosis(data: Path, methods: dict[str, dict[str, Any]]) -> None:
    """Average precision per patient and contrast."""
    folder = data / "ms_longitudinal" / "vol3d"
    click.echo(f"\n| | {' | '.join(f'{p} {c}' for p, c in VISITS)} |")
    click.echo("|---" * (len(VISITS) + 1) + "|")
    rows: dict[str, list[float]] = {"chance": [], "difference": []}
    for patient, contrast in VISITS:
        moving, fixed = (
            itk_ncr.read_image(folder / f"{patient}_study{visit}_{contrast}.nii.gz")
            for visit in (1, 2)
        )
        truth = itk_ncr.read_image(folder / f"{patient}_change_gt.nii.gz").array > 0
        brain = itk_ncr.read_image(folder / f"{patient}_brainmask.nii.gz").array > 0
        rows["chance"].append(float(truth[brain].mean()))
        one, two = normalise(fixed.array), normalise(moving.array)
        values, _ = match_histogram(two.values, one.values, two.foreground, one.foreground)
        rows["difference"].append(average_precision(np.abs(values - one.values), truth, brain))
        for name, options in methods.items():
            result = itk_ncr.register(fixed, moving, **options)
            precision = average_precision(result.noncorrespondence.array, truth, brain)
            rows.setdefault(name, []).append(precision)
    for name, figures in rows.items():
        click.echo(f"| {name} | {' | '.join(f'{f:.3f}' for f in figures)} |")


def retina(manifest: Path, methods: dict[str, dict[str, Any]], out: Path | None) -> None:
    """Figures of the pairs of the test patients that need no truth."""
    found = read_manifest(manifest)
    pairs = [(i, j) for i, j in found.pairs if found.subjects[i].split == "test"]
    click.echo(f"\n{len(pairs)} pairs of retinal B-scans of test patients\n")
    click.echo("| | distance before | distance outside the mask | masked, % | folding, % | s |")
    click.echo("|---|---|---|---|---|---|")
    for name, options in methods.items():
        rows = []
        for i, j in pairs:
            fixed, moving = (itk_ncr.read_image(found.subjects[k].image) for k in (i, j))
            result = itk_ncr.register(fixed, moving, **options)
            q = result.quality
            rows.append(
                (
                    q.distance_before,
                    q.distance_outside,
                    100 * q.masked_fraction,
                    100 * q.folding_fraction,
                    q.seconds,
                )
            )
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                stem = f"{found.subjects[i].image.stem}_{name.replace(' ', '-')}.png"
                overview(fixed, moving, result, out / stem)
        cells = " | ".join(f"{value:.3f}" for value in np.mean(rows, 0))
        click.echo(f"| {name} | {cells} |")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--figures", type=click.Path(path_type=Path), help="Folder for overviews (retina).")
@click.option("--only", type=click.Choice(["sclerosis", "retina"]))
@click.option("--threads", default=1, show_default=True)
def main(data: Path, figures: Path | None, only: str | None, threads: int) -> None:
    """Measure and print the tables."""
    network: dict[str, Any] = {"engine": "network", "threads": threads}
    if only != "retina":
        # What was learnt on T1 is shown FLAIR here, too: another contrast, as users will do.
        brain = network | {"model": "brain-t1-3d"}
        sclerosis(
            data,
            {
                "network": brain | {"refine": 0},
                "network + refinement": brain,
                "per-pair solver": {"engine": "instance", "threads": threads},
            },
        )
    if only != "sclerosis":
        with tempfile.TemporaryDirectory() as folder:
            write_manifests(data, Path(folder))
            oct_network = network | {"model": "oct-2d"}
            retina(
                Path(folder) / "oct.csv",
                {
                    "network": oct_network | {"refine": 0},
                    "network + refinement": oct_network,
                    "per-pair solver": {"engine": "instance", "preset": "oct", "threads": threads},
                },
                figures,
            )


if __name__ == "__main__":
    main()
