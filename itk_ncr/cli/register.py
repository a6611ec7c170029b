"""``itk-ncr register``: register one pair of images and write the results to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import note, progress_bar


@click.command(
    epilog="Example: itk-ncr register patient.nii.gz healthy.nii.gz -o out "
    "--labels healthy_regions.nii.gz"
)
@click.argument("fixed", type=click.Path(path_type=Path))
@click.argument("moving", type=click.Path(path_type=Path))
@options.output_folder("Folder for the results; made if it does not exist.")
@options.method_options
@options.file(
    "--lesion-mask", "Mask in the space of FIXED: 1 where it has no counterpart (1 = ignore)."
)
@options.file("--moving-lesion-mask", "The same for MOVING, in its space.")
@options.file("--roi-mask", "Mask in the space of FIXED: 1 where to compare the images (1 = use).")
@options.file("--moving-roi-mask", "The same for MOVING, in its space.")
@options.file("--brain-mask", "Mask in the space of FIXED: 1 in the brain, for whole heads.")
@options.file("--moving-brain-mask", "The same for MOVING, in its space.")
@options.file("--labels", "Label map in the space of MOVING, to be carried onto FIXED.")
@options.file(
    "--fixed-labels", "Label map in the space of FIXED, to measure the overlap of --labels with it."
)
@click.option(
    "--affine",
    default="auto",
    show_default=True,
    metavar="auto|none|FILE",
    help="Align first, trust the headers, or take an affine transform (fixed to moving) from FILE.",
)
@options.file(
    "--initial-transform", "Affine transform (fixed to moving) that --affine auto starts from."
)
@options.knobs
@options.setting("uncertainty_runs")
@options.output_options
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier run in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on stdout.")
@options.quiet_option
def register(
    fixed: Path,
    moving: Path,
    output: Path,
    lesion_mask: Path | None,
    moving_lesion_mask: Path | None,
    roi_mask: Path | None,
    moving_roi_mask: Path | None,
    brain_mask: Path | None,
    moving_brain_mask: Path | None,
    labels: Path | None,
    fixed_labels: Path | None,
    affine: str,
    initial_transform: Path | None,
    ending: str | None,
    report: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Register MOVING to FIXED and write the results to a folder.

    Both are scalar images of 2 or 3 dimensions, each on its own grid: NIfTI, NRRD, MetaImage, a
    folder with one DICOM series, or a grey picture. The folder then holds:

    \b
    warped                MOVING on the grid of FIXED
    displacement          mm, LPS, on FIXED: warped(x) = MOVING(x + displacement(x))
    displacement_inverse  the way back, on the grid of MOVING
    mask, mask_moving     1 where FIXED (MOVING) has no counterpart in the other image
    mask_probability      the probability of that, on FIXED
    jacobian              determinant of x -> x + displacement(x)
    displacement_std      mm, with --uncertainty-runs; mask_entropy as well
    labels                the label map of --labels on FIXED
    transform.h5          the same map for ITK, SimpleITK, ANTs and 3D Slicer
    transform_inverse.h5  its inverse, for the same programs
    summary.json          settings, versions, hashes, figures of quality, warnings
    report.html           a page to see all of it on, and what to check
    overview.png          all of it at a glance (needs matplotlib)

    The files appear together when everything is done, or not at all. A folder that holds files is
    refused without --overwrite; with it, the files of an earlier run are replaced, others stay.
    """  # noqa: D301
    if in_words := affine.lower() in ("auto", "none"):
        settings["affine"] = affine.lower()
    files = runs.PairFiles(
        fixed=fixed,
        moving=moving,
        lesion_mask=lesion_mask,
        moving_lesion_mask=moving_lesion_mask,
        roi_mask=roi_mask,
        moving_roi_mask=moving_roi_mask,
        brain_mask=brain_mask,
        moving_brain_mask=moving_brain_mask,
        labels=labels,
        fixed_labels=fixed_labels,
        affine=None if in_words else Path(affine),
        initial_transform=initial_transform,
    )
    with progress_bar("register", quiet or as_json) as progress:
        run = runs.run_pair(
            files,
            output,
            options.keywords(settings),
            ending=f".{ending}" if ending else None,
            report=report,
            overwrite=overwrite,
            progress=progress,
            note=note,
        )
    if as_json:
        click.echo(run.text, nl=False)
    elif not quiet:
        _print(output, run)


def _print(output: Path, run: runs.PairRun) -> None:
    from itk_ncr.evaluation import NOTICE, figures

    verdict = run.record["verdict"]
    click.echo(f"{'verdict':<18} {verdict['grade']}: {verdict['sentence']}")
    for name, text in figures(run.result, run.record.get("label_overlap"), run.record.get("brain")):
        click.echo(f"{name:<18} {text}")
    click.echo(f"{'results in':<18} {click.format_filename(output)} ({NOTICE})")
