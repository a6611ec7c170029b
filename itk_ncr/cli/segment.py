"""``itk-ncr segment``: make a mask from a probability map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import note
from itk_ncr.cli.words import Numbers
from itk_ncr.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from itk_ncr.images import Image

# Width of the band of even intensities, by what the voxels must be like.
DEVIATIONS = {"seed": 2.5, "region": 3.0}


@click.command(short_help="Make a mask from a probability: thresholds, growing.")
@click.argument("probability", type=click.Path(path_type=Path))
@options.output_file("Mask to write (1 inside); its ending says the format.")
@click.option(
    "--threshold",
    type=float,
    metavar="P",
    default=0.5,
    show_default=True,
    help="Voxels above it are inside.",
)
@click.option(
    "--high",
    type=float,
    metavar="P",
    help="Second threshold: keep only regions that reach above it somewhere (hysteresis).",
)
@click.option(
    "--seed",
    "seeds_mm",
    type=Numbers(float, "x,y,z in mm"),
    multiple=True,
    metavar="X,Y,Z",
    help="Grow from this point: mm, LPS. May be repeated.",
)
@click.option(
    "--seed-voxel",
    "seeds_voxel",
    type=Numbers(int, "i,j,k in voxels"),
    multiple=True,
    metavar="I,J,K",
    help="Grow from this voxel: index along x, y, z, from 0. May be repeated.",
)
@click.option("--largest", is_flag=True, help="Keep the region of the largest summed probability.")
@click.option(
    "--weight",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --largest: sum this image (a squared residual, say) instead.",
)
@click.option(
    "--intensity",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With seeds: the region must also be even in this image.",
)
@click.option(
    "--like",
    type=click.Choice(tuple(DEVIATIONS)),
    default="seed",
    show_default=True,
    help="With --intensity: even as the voxels around the seed, or as most of the region, of which "
    "the soft rim is then kept up to half contrast.",
)
@click.option(
    "--deviations",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="How even: in standard deviations.  [default: 2.5 like the seed, 3 like the region]",
)
@click.option(
    "--connectivity",
    type=click.Choice(["faces", "full"]),
    default="faces",
    show_default=True,
    help="Neighbours share a face, or at least a corner.",
)
@click.option(
    "--fill-holes/--no-fill-holes",
    default=False,
    show_default=True,
    help="Add what the mask encloses.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@options.quiet_option
def segment(
    probability: Path,
    output: Path,
    threshold: float,
    high: float | None,
    seeds_mm: tuple[tuple[float, ...], ...],
    seeds_voxel: tuple[tuple[int, ...], ...],
    largest: bool,
    weight: Path | None,
    intensity: Path | None,
    like: str,
    deviations: float | None,
    connectivity: Any,
    fill_holes: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Make a mask from PROBABILITY: an image, or the folder of a run.

    Without more, the voxels above the threshold; with --high, --seed, --seed-voxel or --largest,
    only some of their connected regions.

    A mask without any voxel is written, too: a note says so, and the exit status is 0.
    """
    _check_options(threshold, high, bool(seeds_mm or seeds_voxel), largest, weight, intensity, like)
    source = _probability_file(probability)
    runs.require_writable(
        output, overwrite, [source, weight, intensity], runs.FORMATS + runs.PICTURES
    )

    import numpy as np

    from itk_ncr import segmentation
    from itk_ncr.images import Image, read_image, write_image

    image = read_image(source, role="probability")
    runs.require_flat(output, image.dimension)
    if absent := int(np.count_nonzero(np.isnan(image.array))):
        note(f"{absent} voxels of '{source}' are NaN: they are outside")
    if high is not None:
        mask = segmentation.hysteresis(image.array, threshold, high, connectivity)
    elif seeds_mm or seeds_voxel:
        seeds = _seeds(image, seeds_mm, seeds_voxel)
        values = _companion(intensity, "intensity", image)
        width = DEVIATIONS[like] if deviations is None else deviations
        if like == "region" and values is not None:
            mask = segmentation.grow_even(
                image.array,
                seeds,
                values,
                level=threshold,
                deviations=width,
                connectivity=connectivity,
            )
        else:
            mask = segmentation.grow(
                image.array,
                seeds,
                threshold,
                connectivity=connectivity,
                intensity=values,
                deviations=width,
            )
    elif largest:
        weights = _companion(weight, "weight", image)
        mask = segmentation.largest_component(
            segmentation.threshold(image.array, threshold),
            image.array if weights is None else weights,
            connectivity,
        )
    else:
        mask = segmentation.threshold(image.array, threshold)
    if fill_holes:
        mask = segmentation.fill_holes(mask, connectivity)
    if not mask.any():
        there = image.array[~np.isnan(image.array)]
        largest_there = f"{there.max():.4g}" if there.size else "NaN"
        note(f"the mask is empty; the largest value of '{source}' is {largest_there}")
    write_image(Image(mask.astype(np.uint8), image.grid), output)
    if not quiet:
        _, count = segmentation.components(mask, connectivity)
        unit, power = ("ml", 1e-3) if image.dimension == 3 else ("mm2", 1.0)
        size = float(mask.sum()) * float(np.prod(image.grid.spacing)) * power
        click.echo(f"{int(mask.sum())} voxels, {size:.4g} {unit}, regions: {count}")
        click.echo(click.format_filename(output))


def _check_options(
    threshold: float,
    high: float | None,
    seeds: bool,
    largest: bool,
    weight: Path | None,
    intensity: Path | None,
    like: str,
) -> None:
    for name, value in (("--threshold", threshold), ("--high", high)):
        if value is not None and not abs(value) < float("inf"):
            raise click.UsageError(f"{name} must be a number; got {value}")
    if (high is not None) + seeds + largest > 1:
        raise click.UsageError("--high, seeds and --largest exclude each other; give one")
    if weight is not None and not largest:
        raise click.UsageError("--weight goes with --largest")
    if intensity is not None and not seeds:
        raise click.UsageError("--intensity goes with --seed or --seed-voxel")
    if like == "region" and intensity is None:
        raise click.UsageError("--like region goes with --intensity")


def _probability_file(path: Path) -> Path:
    """Path of the probability map: the image itself, or that in the folder of a run."""
    if path.is_dir() and (path / runs.RECORD).is_file():
        for ending in runs.FORMATS:
            if (path / f"mask_probability{ending}").is_file():
                return path / f"mask_probability{ending}"
        raise InputError(f"run '{path}' holds no mask_probability. Give an image.")
    return path


def _companion(path: Path | None, role: str, image: Image) -> NDArray | None:
    """Another image on the same grid."""
    if path is None:
        return None
    from itk_ncr.images import read_image

    other = read_image(path, role=role)
    if not other.grid.equals(image.grid):
        raise InputError(
            f"{role} '{path}' must lie on the grid of the probability, size {image.grid.size}; got "
            f"size {other.grid.size}, or another place in space. Resample it first."
        )
    return other.array


def _seeds(
    image: Image,
    seeds_mm: tuple[tuple[float, ...], ...],
    seeds_voxel: tuple[tuple[int, ...], ...],
) -> NDArray:
    """Seeds as voxel indices in array order (z, y, x)."""
    import numpy as np

    places = [(seed, False) for seed in seeds_mm] + [(seed, True) for seed in seeds_voxel]
    found = []
    for seed, in_voxels in places:
        text = ",".join(f"{value:g}" for value in seed)
        if len(seed) != image.dimension:
            raise InputError(f"seed {text} must have {image.dimension} numbers; got {len(seed)}.")
        exact = np.asarray(seed) if in_voxels else image.grid.continuous_index(seed)
        index = np.floor(exact + 0.5).astype(np.int64)
        if (index < 0).any() or (index >= image.grid.size).any():
            raise InputError(
                f"seed {text} lies outside the image: voxel {','.join(map(str, index))} of size "
                f"{','.join(map(str, image.grid.size))}. Is it LPS, in the order x, y, z?"
            )
        found.append(index[::-1])
    return np.stack(found)
