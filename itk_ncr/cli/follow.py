"""``itk-ncr follow``: a patient's visits, and what changed between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import note, progress_bar


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
@options.output_options
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier run in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on stdout.")
@options.quiet_option
def follow(
    visits: tuple[Path, ...],
    output: Path,
    moved_mm: float | None,
    ending: str | None,
    report: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
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
    suffix = f".{ending}" if ending else runs.format_for(visits[0])
    runs.OutputFolder(output, overwrite, visits)

    from itk_ncr import registration

    with progress_bar("follow", quiet or as_json) as progress:
        result = registration.follow(
            visits, moved_mm=moved_mm, progress=progress, **options.keywords(settings)
        )
    record = runs.save_study(
        result, output, ending=suffix, report=report, overwrite=overwrite, note=note
    )
    options.warn_all(result.warnings)
    if as_json:
        click.echo(json.dumps(record, indent=2, ensure_ascii=False))
    elif not quiet:
        _print(output, result)


def _print(output: Path, result: Any) -> None:
    from itk_ncr.evaluation import NOTICE, follow_figures

    for name, text in follow_figures(result):
        click.echo(f"{name:<42} {text}")
    click.echo(f"{'results in':<42} {click.format_filename(output)} ({NOTICE})")
