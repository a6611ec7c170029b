"""``itk-ncr fill``: a lesion replaced by plausible tissue."""

from __future__ import annotations

from pathlib import Path

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import progress_bar
from itk_ncr.errors import NCRError
from itk_ncr.settings import FILLS


@click.command(
    short_help="Replace a lesion by plausible tissue, for tools without masks.",
    epilog="Example: itk-ncr fill patient.nii.gz lesion.nii.gz -o filled.nii.gz --kind mirror",
)
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("lesion_mask", type=click.Path(path_type=Path))
@options.output_file("Image to write; its ending says the format.")
@click.option(
    "--kind",
    type=click.Choice(FILLS),
    default="smooth",
    show_default=True,
    help="smooth continues the surroundings; partner takes the tissue from --partner, registered "
    "to the image; mirror takes it from the other side of the image itself.",
)
@options.file("--partner", "Healthy image of the same contrast; with mirror, the fallback.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@options.quiet_option
def fill(
    image: Path,
    lesion_mask: Path,
    output: Path,
    kind: str,
    partner: Path | None,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Fill the lesion of IMAGE that LESION_MASK shows (not 0 = lesion).

    Writes IMAGE with the lesion replaced, on its own grid; voxels that are 3 or more outside the
    mask keep their values. The filled region is synthetic: for other tools, not for diagnosis.
    """
    if kind == "partner" and partner is None:
        raise click.UsageError("--kind partner needs --partner")
    if kind == "smooth" and partner is not None:
        raise click.UsageError("--partner goes with --kind partner or mirror")
    sources = [image, lesion_mask, partner]
    runs.require_writable(output, overwrite, sources, runs.FORMATS + runs.PICTURES)

    from itk_ncr.images import read_image, write_image
    from itk_ncr.registration import fill_lesion

    read = read_image(image, "image")
    runs.require_flat(output, read.dimension)
    mask = read_image(lesion_mask, "lesion mask")
    healthy = None if partner is None else read_image(partner, "partner")
    if threads is not None:
        runs.limit_threads(threads)
    try:
        with progress_bar("fill", quiet) as progress:
            filled = fill_lesion(
                read, mask, kind, partner=healthy, threads=threads, progress=progress
            )
    except NCRError as error:
        raise type(error)(f"{error} (image '{image}', mask '{lesion_mask}')") from error
    write_image(filled, output)
    if not quiet:
        click.echo(click.format_filename(output))
