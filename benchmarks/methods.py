"""Accuracy, time and memory of every registration method on the brain pair of examples/data.

    python benchmarks/methods.py [--dimension 2] [--methods demons,syn] [--threads 1]

Each method runs in a process of its own. Jaccard is over the labels with more than 50 voxels, after
one affine for all; seconds are without reading files, affine and imports (a first, tiny
registration loads what there is to load); memory is the peak of the process with all its libraries.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

import itk_ncr
from itk_ncr.evaluation import jaccard
from itk_ncr.registration import REGISTRATIONS

DATA = Path(__file__).parents[1] / "examples" / "data"
FEWEST_VOXELS = 50


def images(dimension: int) -> list[itk_ncr.Image]:
    """Fixed and moving image and labels; in 2D the middle slices, twice as fine."""
    names = ("fixed_t1", "moving_t1", "fixed_labels", "moving_labels")
    volumes = [itk_ncr.read_image(DATA / f"{name}.nii.gz") for name in names]
    if dimension == 3:
        return volumes
    slices = [
        np.kron(v.array[v.array.shape[0] // 2], np.ones((2, 2), v.array.dtype)) for v in volumes
    ]
    spacing = [h / 2 for h in volumes[0].grid.spacing[:2]]
    return [itk_ncr.Image(s, itk_ncr.Grid.of_array(s.shape, spacing=spacing)) for s in slices]


def measure(method: str, dimension: int, threads: int) -> dict[str, object]:
    """The figures of one method in this process."""
    fixed, moving, fixed_labels, moving_labels = images(dimension)
    affine = itk_ncr.register(fixed, moving, method="affine", threads=threads).affine
    warm = np.random.default_rng(0).random((16,) * dimension).astype(np.float32)
    itk_ncr.register(warm, warm, method=method, affine="none", threads=threads)
    begun = time.perf_counter()
    result = itk_ncr.register(fixed, moving, method=method, affine=affine, threads=threads)
    seconds = time.perf_counter() - begun
    labels = result.resample(moving_labels, "nearest").array
    overlap = jaccard(fixed_labels.array, labels, (0,), FEWEST_VOXELS)
    return {
        "jaccard": float(np.mean(list(overlap.values()))),
        "seconds": seconds,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "folding_percent": 100 * result.quality.folding_fraction,
        "inverse_error": result.quality.inverse_error_mean_voxel,
        "voxels": fixed.grid.voxels,
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--dimension", type=click.IntRange(2, 3), default=2, show_default=True)
@click.option("--methods", default=",".join(n for n in REGISTRATIONS if n != "network"))
@click.option("--threads", default=1, show_default=True)
@click.option("--one", is_flag=True, hidden=True)
def main(dimension: int, methods: str, threads: int, one: bool) -> None:
    """Print one line per method."""
    if one:
        print(json.dumps(measure(methods, dimension, threads)))
        return
    print("| method | Jaccard | seconds | peak GB | folding, % | inverse error, voxel |")
    print("|---" * 6 + "|")
    for method in methods.split(","):
        command = [sys.executable, __file__, "--one", "--methods", method]
        command += ["--dimension", str(dimension), "--threads", str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"| {method} | {done.stderr.strip().splitlines()[-1]} |", flush=True)
            continue
        row = json.loads(done.stdout)
        print(
            f"| {method} | {row['jaccard']:.3f} | {row['seconds']:.1f} | {row['gigabytes']:.2f} "
            f"| {row['folding_percent']:.3f} | {row['inverse_error']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
