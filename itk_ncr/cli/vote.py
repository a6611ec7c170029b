"""``itk-ncr vote``: what a patient shows and several healthy images lack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import note, progress_bar


@click.command(
    short_help="Find what a patient shows and several healthy images lack.",
    epilog="Example: itk-ncr vote patient.nii.gz healthy1.nii.gz healthy2.nii.gz healthy3.nii.gz "
    "-o out",
)
@click.argument("fixed", type=click.Path(path_type=Path))
@click.argument("moving", type=click.Path(path_type=Path), nargs=-1, required=True)
@options.output_folder("Folder for the results; made if it does not exist.")
@options.method_options
@options.file(
    "--lesion-mask", "Mask in the space of FIXED: 1 where it has no counterpart (1 = ignore)."
)
@options.file("--roi-mask", "Mask in the space of FIXED: 1 where to compare the images (1 = use).")
@options.file("--brain-mask", "Mask in the space of FIXED: 1 in the brain, for whole heads.")
@options.setting("affine")
@options.knobs
@options.output_options
@options.keep_going
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier run in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on stdout.")
@options.quiet_option
def vote(
    fixed: Path,
    moving: tuple[Path, ...],
    output: Path,
    lesion_mask: Path | None,
    roi_mask: Path | None,
    brain_mask: Path | None,
    ending: str | None,
    report: bool,
    keep_going: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Register every MOVING image to FIXED and write the mask that they agree on.

    FIXED is the patient, the MOVING images are healthy ones of the same kind, two or more. The
    evidence of all is averaged before the mask is drawn: how one healthy person differs from the
    patient cancels, the lesion stays. The folder then holds:

    \b
    mask                  1 where FIXED has no counterpart, by the vote
    mask_probability      the probability of that
    agreement             share of the images whose own mask is there
    mask_probability_1... the maps of the single images, in the order given
    transform_1.h5...     their maps for ITK, SimpleITK, ANTs and 3D Slicer
    summary.json          settings, versions, hashes, how each image agrees
    report.html           a page to see all of it on

    The files appear together when everything is done, or not at all.
    """  # noqa: D301
    masks = {"lesion_mask": lesion_mask, "roi_mask": roi_mask, "brain_mask": brain_mask}
    given: dict[str, Any] = {name: path for name, path in masks.items() if path is not None}
    suffix = f".{ending}" if ending else runs.format_for(fixed)
    runs.OutputFolder(output, overwrite, [fixed, *moving, *given.values()])

    from itk_ncr import registration

    with progress_bar("vote", quiet or as_json) as progress:
        result = registration.vote(
            fixed,
            moving,
            keep_going=keep_going,
            progress=progress,
            **given,
            **options.keywords(settings),
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
    from itk_ncr.evaluation import NOTICE, vote_figures

    for name, text in vote_figures(result):
        click.echo(f"{name:<28} {text}")
    for ballot in result.ballots:
        click.echo(f"{ballot.name:<28} Dice with the vote {ballot.dice:.2f}")
    click.echo(f"{'results in':<28} {click.format_filename(output)} ({NOTICE})")
