"""``itk-ncr follow``: a patient's visits, and what changed between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from itk_ncr.cli import options
from itk_ncr.cli.studies import run_study, study_options


@click.command(
    short_help="Compare visits of one patient: what appeared, vanished, moved.",
    epilog="Example: itk-ncr follow january.nii.gz march.nii.gz june.nii.gz -o out",
)
@click.argument("visits", type=click.Path(path_type=Path), nargs=-1, required=True)
@options.output_folder("Folder for the results; made if it does not exist.")
@options.method_options
@options.setting("affine")
@options.knobs
@click.option(
    "--moved",
    "moved_mm",
    type=click.FloatRange(0, min_open=True),
    metavar="MM",
    help="Distance beyond which tissue counts as moved, mm. Default: 1, or two voxels.",
)
@study_options
def follow(
    visits: tuple[Path, ...],
    output: Path,
    moved_mm: float | None,
    **arguments: Any,
) -> None:
    """Bring the VISITS of one patient, in order of time, to the space in their middle.

    No visit is the reference. The folder then holds, on the grid of the middle:

    \b
    visit_1...       the visits
    appeared_1...    1 where something is new at the second (third, ...) visit
    vanished_1...    1 where something of the first (second, ...) visit is gone
    moved_1...       1 where tissue that both show lies elsewhere
    transform_1.h5.. maps from the middle to the visits, for ITK, SimpleITK, ANTs and 3D Slicer
    summary.json     volumes, settings, versions, hashes
    report.html      a page with the curve of volumes

    The files appear together when everything is done, or not at all.
    """  # noqa: D301
    run_study("follow", [visits], visits, output, {"moved_mm": moved_mm, **arguments})
