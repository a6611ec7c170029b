"""Accuracy, masks, time and memory of the per-pair solver, compared with SyN and greedy.

    python benchmarks/registration.py --data DIR [--pairs 10] [--no-ants] [--greedy] [--json FILE]

DIR holds the folders ixi_dlmuse and stroke_lesions (and, for the real pathology, ms_longitudinal).
Figures are means over the first pairs (i, i + 1) of the test split. Jaccard is over the labels with
more than 50 voxels; "under" are those that the lesion touches. The affine is left out everywhere
but in SyN, which brings its own: the images are aligned affinely already.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from phantoms import FEWEST_VOXELS, IGNORED_LABELS, BrainPair, brain_pairs

import itk_ncr
from itk_ncr.evaluation import average_precision, dice, jaccard, labels_touching
from itk_ncr.segmentation import grow_even, oracle_seed


def overlaps(pair: BrainPair, labels: np.ndarray) -> dict[str, float]:
    """Mean Jaccard over all labels and over those under the lesion."""
    values = jaccard(pair.fixed_labels, labels, IGNORED_LABELS, FEWEST_VOXELS)
    touched = labels_touching(pair.fixed_labels, pair.lesion)
    under = [value for label, value in values.items() if label in touched]
    return {"all": float(np.mean(list(values.values()))), "under": float(np.mean(under))}


def registered(pair: BrainPair, fixed: itk_ncr.Image, **options: Any) -> dict[str, float]:
    """One registration through our interface and its figures."""
    begun, cpu = time.perf_counter(), time.process_time()
    result = itk_ncr.register(fixed, pair.moving, affine="none", **options)
    row = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    row |= overlaps(pair, result.resample(pair.moving_labels, "nearest").array)
    brain = pair.fixed.array > 0
    mask = result.mask.array > 0
    row["masked_percent"] = 100 * float(mask[brain].mean())
    row["folding_percent"] = 100 * result.quality.folding_fraction
    row["inverse_error"] = result.quality.inverse_error_mean_voxel
    row["dice"] = dice(mask, pair.lesion)
    probability = result.noncorrespondence.array
    seed = oracle_seed(probability, pair.lesion, np.random.default_rng(0))
    if seed is None:
        row["dice_grown"] = 0.0
    else:
        row["dice_grown"] = dice(grow_even(probability, seed, fixed.array), pair.lesion)
    return row


def syn(pair: BrainPair, fixed: itk_ncr.Image, lesion: np.ndarray | None) -> dict[str, float]:
    """One registration by ANTs SyN with its defaults, the lesion masked if it is told."""
    import ants

    def image(array: np.ndarray) -> Any:
        return ants.from_numpy(array.T.astype(np.float32), spacing=fixed.grid.spacing)

    begun, cpu = time.perf_counter(), time.process_time()
    mask = {} if lesion is None else {"mask": image(~lesion)}
    target = image(fixed.array)
    found = ants.registration(target, image(pair.moving.array), "SyN", random_seed=1, **mask)
    row = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    labels = ants.apply_transforms(
        target,
        image(pair.moving_labels.array),
        found["fwdtransforms"],
        interpolator="nearestNeighbor",
    )
    return row | overlaps(pair, labels.numpy().T.astype(int))


def real_pathology(data: Path) -> dict[str, float]:
    """Area under the precision-recall curve against lesion changes of multiple sclerosis."""
    figures = {}
    folder = data / "ms_longitudinal" / "vol3d"
    for patient in ("patient01", "patient03"):
        first = itk_ncr.read_image(folder / f"{patient}_study1_FLAIR.nii.gz")
        second = itk_ncr.read_image(folder / f"{patient}_study2_FLAIR.nii.gz")
        truth = itk_ncr.read_image(folder / f"{patient}_change_gt.nii.gz").array > 0
        brain = itk_ncr.read_image(folder / f"{patient}_brainmask.nii.gz").array > 0
        result = itk_ncr.register(second, first)
        probability = result.noncorrespondence.array
        figures[patient] = average_precision(probability, truth, within=brain)
        figures[f"{patient} chance"] = float(truth[brain].mean())
    return figures


def time_2d(data: Path) -> float:
    """Median seconds of a 160 x 192 slice of the first pair, without affine and files."""
    pair = next(brain_pairs(data, 1))
    index = pair.fixed.array.shape[0] // 2
    grid = itk_ncr.Grid.of_array((192, 160))
    fixed, moving = (
        np.kron(image.array[index], np.ones((2, 2), np.uint8))[:192, :160]
        for image in (pair.fixed_with_lesion, pair.moving)
    )
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        itk_ncr.register(itk_ncr.Image(fixed, grid), itk_ncr.Image(moving, grid), affine="none")
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def peak_memory(data: Path) -> float:
    """Peak memory in GB of a process that registers one 3D pair and nothing else."""
    command = [sys.executable, __file__, "--data", str(data), "--memory-only"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--pairs", default=10, show_default=True)
@click.option("--ants/--no-ants", "with_ants", default=True, show_default=True)
@click.option("--greedy/--no-greedy", "with_greedy", default=False, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--memory-only", is_flag=True, hidden=True)
def main(
    data: Path,
    pairs: int,
    with_ants: bool,
    with_greedy: bool,
    threads: int,
    json_file: Path | None,
    memory_only: bool,
) -> None:
    """Print the figures of the per-pair solver beside their bars."""
    if memory_only:
        pair = next(brain_pairs(data, 1))
        itk_ncr.register(pair.fixed_with_lesion, pair.moving, affine="none", threads=threads)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
        return
    rows: list[dict[str, Any]] = []
    for pair in brain_pairs(data, pairs):
        row: dict[str, Any] = {
            "name": pair.name,
            "affine": overlaps(pair, pair.moving_labels.array),
        }
        row["free"] = registered(pair, pair.fixed, threads=threads)
        row["ill"] = registered(pair, pair.fixed_with_lesion, threads=threads)
        row["unmasked"] = registered(pair, pair.fixed_with_lesion, threads=threads, mask="none")
        known = itk_ncr.Image(pair.lesion.astype(np.uint8), pair.fixed.grid)
        row["told"] = registered(pair, pair.fixed_with_lesion, threads=threads, lesion_mask=known)
        if with_ants:
            row["syn free"] = syn(pair, pair.fixed, None)
            row["syn ill"] = syn(pair, pair.fixed_with_lesion, None)
            row["syn told"] = syn(pair, pair.fixed_with_lesion, pair.lesion)
        if with_greedy:
            greedy = {"threads": threads, "method": "greedy"}
            row["greedy free"] = registered(pair, pair.fixed, **greedy)
            row["greedy told"] = registered(
                pair, pair.fixed_with_lesion, lesion_mask=known, **greedy
            )
        rows.append(row)
        print(_line(row), file=sys.stderr, flush=True)
    report = {
        "rows": rows,
        "peak_memory_gb": peak_memory(data),
        "seconds_2d": time_2d(data),
    }
    if (data / "ms_longitudinal").exists():
        report["average_precision"] = real_pathology(data)
    print(_table(report))
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1))


def _line(row: dict[str, Any]) -> str:
    parts = [
        f"{name} {value['all']:.3f}/{value['under']:.3f}"
        for name, value in row.items()
        if isinstance(value, dict)
    ]
    return f"{row['name']}: " + "  ".join(parts) + f"  dice {row['ill']['dice']:.3f}"


def _table(report: dict[str, Any]) -> str:
    rows = report["rows"]

    def mean(kind: str, figure: str) -> float:
        return float(np.mean([row[kind][figure] for row in rows]))

    def worst(kind: str, figure: str) -> float:
        return float(np.max([row[kind][figure] for row in rows]))

    names = {
        "affine": "affine only",
        "syn free": "SyN, no lesion",
        "syn ill": "SyN, lesion, no mask given",
        "syn told": "SyN, lesion, true mask given",
        "greedy free": "greedy, no lesion",
        "greedy told": "greedy, lesion, true mask given",
        "free": "itk_ncr, no lesion",
        "unmasked": 'itk_ncr, lesion, mask="none"',
        "ill": "itk_ncr, lesion, no mask given",
        "told": "itk_ncr, lesion, true mask given",
    }
    lines = [
        "| mean over pairs | Jaccard, all | under the lesion | CPU s | wall s |",
        "|---" * 5 + "|",
    ]
    for kind, name in names.items():
        if kind in rows[0]:
            spent = (
                f"{mean(kind, 'cpu'):.1f} | {mean(kind, 'seconds'):.1f}"
                if "cpu" in rows[0][kind]
                else "- | -"
            )
            lines.append(
                f"| {name} | {mean(kind, 'all'):.3f} | {mean(kind, 'under'):.3f} | {spent} |"
            )
    drop = mean("free", "all") - mean("ill", "all")
    checks = [
        ("drop of the mean Jaccard by the lesion", f"{drop:.4f}", "<= .02", drop <= 0.02),
        ("DSC of the mask", f"{mean('ill', 'dice'):.3f}", ">= .80", mean("ill", "dice") >= 0.8),
        (
            "DSC after region growing (seed from the truth)",
            f"{mean('ill', 'dice_grown'):.3f}",
            ">= .88",
            mean("ill", "dice_grown") >= 0.88,
        ),
        (
            "masked without lesion, worst, % of brain",
            f"{worst('free', 'masked_percent'):.3f}",
            "< 1",
            worst("free", "masked_percent") < 1,
        ),
    ]
    folding = max(worst("free", "folding_percent"), worst("ill", "folding_percent"))
    inverse = max(worst("free", "inverse_error"), worst("ill", "inverse_error"))
    seconds = float(np.median([row["ill"]["seconds"] for row in rows]))
    checks += [
        ("folding, worst, % of voxels", f"{folding:.4f}", "0", folding == 0),
        ("inverse error, worst mean, voxel", f"{inverse:.4f}", "<= .05", inverse <= 0.05),
        ("median wall seconds, 3D", f"{seconds:.1f}", "<= 15", seconds <= 15),
        ("seconds, 2D 160 x 192", f"{report['seconds_2d']:.2f}", "<= 2", report["seconds_2d"] <= 2),
        (
            "peak memory of the process, GB",
            f"{report['peak_memory_gb']:.2f}",
            "<= 1.5",
            report["peak_memory_gb"] <= 1.5,
        ),
    ]
    if "syn free" in rows[0]:
        gain = mean("free", "all") - mean("syn free", "all")
        under = mean("ill", "under") - mean("syn told", "under")
        checks = [
            ("gain over SyN without lesion", f"{gain:+.3f}", ">= +.03", gain >= 0.03),
            ("under the lesion, gain over SyN told the mask", f"{under:+.3f}", "> 0", under > 0),
            *checks,
        ]
    if "greedy free" in rows[0]:
        gain = mean("free", "all") - mean("greedy free", "all")
        under = mean("ill", "under") - mean("greedy told", "under")
        checks = [
            ("gain over greedy without lesion", f"{gain:+.3f}", ">= +.01", gain >= 0.01),
            ("under the lesion, gain over greedy told the mask", f"{under:+.3f}", "> 0", under > 0),
            *checks,
        ]
    lines += ["", "| figure | measured | bar | |", "|---" * 4 + "|"]
    lines += [f"| {n} | {v} | {b} | {'met' if ok else 'MISSED'} |" for n, v, b, ok in checks]
    for name, value in report.get("average_precision", {}).items():
        lines.append(f"| precision-recall area, MS change, {name} | {value:.3f} | - | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
