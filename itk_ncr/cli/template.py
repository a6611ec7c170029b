"""``itk-ncr template``: the unbiased mean of the images of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.studies import run_study, study_options
from itk_ncr.settings import TEMPLATE_ITERATIONS


@click.command(
    short_help="Make a template: the unbiased mean of the images of a folder.",
    epilog="Example: itk-ncr template healthy/ -o atlas",
)
@click.argument("folder", type=click.Path(path_type=Path))
@options.output_folder("Folder for the results; made if it does not exist.")
@options.method_options
@options.setting("affine")
@options.knobs
@click.option(
    "--lesion-masks",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of masks with the names of the images: 1 where one has a lesion.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    default=TEMPLATE_ITERATIONS,
    show_default=True,
    metavar="N",
    help="How often all images are registered to their mean.",
)
@study_options
def template(
    folder: Path,
    output: Path,
    lesion_masks: Path | None,
    iterations: int,
    **arguments: Any,
) -> None:
    """Register the images of FOLDER to their mean, and write the mean: no image is the reference.

    Lesions have no weight in the mean, whether their masks are given or found. The folder then
    holds:

    \b
    template         the mean; background 0, bright tissue 1
    support          share of the images that it is made of
    spread           standard deviation of the images
    mask_1...        1 where an image, in its own space, has no partner in the template
    transform_1.h5.. maps from the template to the images, for ITK, SimpleITK, ANTs and 3D Slicer
    summary.json     sharpness, bias, settings, versions, hashes
    report.html      a page to see all of it on

    The files appear together when everything is done, or not at all.
    """  # noqa: D301
    images = runs.images_of(folder)
    masks = None if lesion_masks is None else runs.masks_for(images, lesion_masks)
    files = [*images, *(mask for mask in masks or [] if mask is not None)]
    own = {"lesion_masks": masks, "iterations": iterations}
    run_study("template", [images], files, output, own | arguments)
