"""``itk-ncr template``: the unbiased mean of the images of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import note, progress_bar
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
@options.output_options
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier run in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on stdout.")
@options.quiet_option
def template(
    folder: Path,
    output: Path,
    lesion_masks: Path | None,
    iterations: int,
    ending: str | None,
    report: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
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
    suffix = f".{ending}" if ending else runs.format_for(images[0])
    runs.OutputFolder(output, overwrite, [*images, *(masks or [])])

    from itk_ncr import registration

    with progress_bar("template", quiet or as_json) as progress:
        result = registration.template(
            images,
            lesion_masks=masks,
            iterations=iterations,
            progress=progress,
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
    from itk_ncr.evaluation import NOTICE, template_figures

    for name, text in template_figures(result):
        click.echo(f"{name:<24} {text}")
    click.echo(f"{'results in':<24} {click.format_filename(output)} ({NOTICE})")
