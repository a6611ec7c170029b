"""Peak memory of a registration above the two images, for heads of usual sizes.

    python benchmarks/memory.py [--size 240x240x155] [--size 512x512x120] [--no-report]

The heads are synthetic (a skull, folded tissue, ventricles; int16). Every figure is the largest
resident memory of a fresh process minus the voxels of both images as they are stored: Python, torch
and ITK themselves are part of it. "function" calls ``itk_ncr.register`` on images in memory,
"command" runs ``itk-ncr register`` on files, with all of its outputs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

import itk_ncr
from itk_ncr.cli import command_line
from itk_ncr.runs.memory import peak_memory

SIZES = ("240x240x155", "512x512x120")
EXTENT_MM = (200.0, 240.0, 240.0)
BYTES_PER_VOXEL = 2


def head(shape: tuple[int, ...], seed: int) -> itk_ncr.Image:
    """A synthetic head of 200 x 240 x 240 mm with a given number of voxels, (z, y, x)."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    bulge = 1 + 0.03 * seed * np.sin(3 * y + 2 * z) * x
    radius = np.sqrt((z / 0.8) ** 2 + (y / 0.9) ** 2 + (x / 0.75) ** 2) * bulge
    folds = np.sin(22 * radius + 4 * np.sin(9 * x + seed) * np.cos(8 * y) * np.sin(7 * z))
    values = np.where(radius < 0.85, 600 + 200 * folds, 0)
    values += np.where((radius > 0.92) & (radius < 1.0), 900, 0)
    values[np.broadcast_to((x / 0.12) ** 2 + (y / 0.4) ** 2 + (z / 0.2) ** 2 < 1, shape)] = 150
    spacing = [e / n for e, n in zip(EXTENT_MM, shape, strict=True)]
    return itk_ncr.Image(values.astype(np.int16), itk_ncr.Grid.of_array(shape, spacing[::-1]))


def measured(arguments: list[str]) -> float:
    """Peak of a child process in MB."""
    command = [sys.executable, __file__, "--child", json.dumps(arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(arguments: list[str]) -> None:
    """What a child process does: register, and print its own peak."""
    if arguments[0] == "function":
        fixed, moving = (itk_ncr.read_image(path) for path in arguments[1:])
        itk_ncr.register(fixed, moving)
    else:
        command_line.main(arguments, standalone_mode=False)
    click.echo(peak_memory())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--size", "sizes", multiple=True, default=SIZES, show_default=True, metavar="XxYxZ")
@click.option("--report/--no-report", default=True, show_default=True)
@click.option("--child", "as_child", hidden=True)
def main(sizes: tuple[str, ...], report: bool, as_child: str | None) -> None:
    """Measure and print one row a size."""
    if as_child is not None:
        child(json.loads(as_child))
        return
    click.echo("| size | images, MB | function, MB above them | command, MB above them |")
    click.echo("|---|---|---|---|")
    for size in sizes:
        shape = tuple(int(n) for n in size.split("x"))[::-1]
        images = 2 * BYTES_PER_VOXEL * int(np.prod(shape)) / 1e6
        with tempfile.TemporaryDirectory() as folder:
            paths = [str(Path(folder) / f"{name}.nii") for name in ("fixed", "moving")]
            for seed, path in enumerate(paths):
                itk_ncr.write_image(head(shape, seed), path)
            function = measured(["function", *paths]) - images
            options = [] if report else ["--no-report"]
            output = str(Path(folder) / "out")
            command = measured(["register", *paths, "-q", "-o", output, *options]) - images
        click.echo(f"| {size} | {images:.0f} | {function:.0f} | {command:.0f} |")


if __name__ == "__main__":
    main()
