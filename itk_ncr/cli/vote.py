"""``itk-ncr vote``: what a patient shows and several healthy images lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from itk_ncr.cli import options
from itk_ncr.cli.studies import run_study, study_options


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
@options.keep_going
@study_options
def vote(
    fixed: Path,
    moving: tuple[Path, ...],
    output: Path,
    lesion_mask: Path | None,
    roi_mask: Path | None,
    brain_mask: Path | None,
    **arguments: Any,
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

    def rows(result: Any) -> list[tuple[str, str]]:
        return [(one.name, f"Dice with the vote {one.dice:.2f}") for one in result.ballots]

    masks = {"lesion_mask": lesion_mask, "roi_mask": roi_mask, "brain_mask": brain_mask}
    files = [fixed, *moving, *(mask for mask in masks.values() if mask is not None)]
    run_study("vote", [fixed, moving], files, output, masks | arguments, rows)
