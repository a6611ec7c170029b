"""``itk-ncr convert``: convert displacement fields between mm and voxels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.apply import field_file
from itk_ncr.cli.console import note
from itk_ncr.errors import InputError

if TYPE_CHECKING:
    from itk_ncr.geometry import Grid
    from itk_ncr.images import Image

TRANSFORMS = (".h5", ".hdf5", ".tfm", ".txt")
VOXEL_FIELDS = (".nii", ".nii.gz")
_FILE = click.Path(path_type=Path)


@click.command(short_help="Convert fields to and from Learn2Reg and VoxelMorph.")
@click.argument("field", type=_FILE)
@options.output_file("File to write.")
@click.option(
    "--to",
    "target",
    type=click.Choice(["voxels", "mm"]),
    required=True,
    help="voxels: FIELD is in mm, or a folder of `itk-ncr register`. mm: FIELD is in voxels.",
)
@click.option(
    "--fixed", type=_FILE, metavar="FILE", help="Fixed image; its geometry is needed with --to mm."
)
@click.option(
    "--moving",
    type=_FILE,
    metavar="FILE",
    help="Moving image. Default: that of the folder, else one on the grid of the fixed image.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@options.quiet_option
def convert(
    field: Path,
    output: Path,
    target: str,
    fixed: Path | None,
    moving: Path | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Convert a displacement FIELD between mm and voxels.

    Learn2Reg and VoxelMorph keep voxel fields: NIfTI of the size (x, y, z, 3), or (3, x, y, z), or
    .npz; voxel i of the fixed image belongs to position i + u(i) in the array of the moving image.
    Ours are in mm (LPS), as those of ITK, ANTs and greedy, which need no conversion.

    \b
    itk-ncr convert RUN -o disp_0001_0002.nii.gz --to voxels
    itk-ncr convert disp.nii.gz -o displacement.nii.gz --to mm --fixed F --moving M

    With --to mm the output may also be a transform (.h5, .tfm). Fields of FSL are refused with the
    command that converts them.
    """  # noqa: D301
    if target == "voxels":
        if fixed is not None:
            raise click.UsageError("--fixed is for --to mm; a field in mm has its own geometry")
        _to_voxels(field, output, moving, overwrite)
    else:
        _to_mm(field, output, fixed, moving, overwrite)
    if not quiet:
        click.echo(click.format_filename(output))


def _to_voxels(field: Path, output: Path, moving: Path | None, overwrite: bool) -> None:
    from itk_ncr.images import read_displacement, write_voxel_field

    source = field_file(field)
    runs.require_writable(output, overwrite, [source, moving], VOXEL_FIELDS)
    displacement = read_displacement(source)
    grid = _grid(moving)
    if grid is None and field.is_dir():
        grid = read_displacement(field_file(field, inverse=True)).grid
    _require_dimension(grid, displacement.dimension)
    _say_assumed(grid)
    write_voxel_field(displacement, output, grid)


def _to_mm(
    field: Path, output: Path, fixed: Path | None, moving: Path | None, overwrite: bool
) -> None:
    from itk_ncr.images import read_voxel_field, write_image, write_transform

    if fixed is None:
        raise click.UsageError("--to mm needs --fixed: a field in voxels has no geometry")
    runs.require_writable(output, overwrite, [field, fixed, moving], (*runs.FORMATS, *TRANSFORMS))
    on = _grid(fixed)
    assert on is not None  # fixed is there
    grid = _grid(moving)
    _require_dimension(grid, on.dimension)
    _say_assumed(grid)
    displacement: Image = read_voxel_field(field, on, grid)
    if output.name.lower().endswith(TRANSFORMS):
        write_transform(output, None, displacement)
    else:
        write_image(displacement, output)


def _grid(path: Path | None) -> Grid | None:
    from itk_ncr.images import read_image

    return None if path is None else read_image(path).grid


def _require_dimension(moving: Grid | None, dimension: int) -> None:
    if moving is not None and moving.dimension != dimension:
        raise InputError(
            f"the moving image must be {dimension}D like the field; got {moving.dimension}D."
        )


def _say_assumed(moving: Grid | None) -> None:
    if moving is None:
        note("no --moving: the moving image is taken to lie on the grid of the fixed one")
