"""``itk-ncr bids``: a BIDS dataset in, BIDS derivatives out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.batch import run_plan
from itk_ncr.errors import InputError

_MANY = ("--participant-label", "--participant_label", "--session-label", "--session_label")
_FILE = click.Path(path_type=Path)


class BidsCommand(click.Command):
    """Takes several words after an option, as BIDS apps do: ``--participant-label 01 02``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat such an option before each of its words."""
        spread: list[str] = []
        many = None
        for word in args:
            if word.startswith("-"):
                many = word if word in _MANY else None
                if many is None:
                    spread.append(word)
            else:
                spread += [many, word] if many else [word]
        return super().parse_args(ctx, spread)


@click.command(cls=BidsCommand)
@click.argument("bids_dir", type=_FILE)
@click.argument("out", type=_FILE)
@click.argument("level", type=click.Choice(["participant", "group"]))
@options.file("--template", "Image that all are registered to; needed for level participant.")
@click.option(
    "--template-name",
    "space",
    metavar="NAME",
    help="Name of TEMPLATE in file names. Default: NAME of tpl-NAME in its own, else its own.",
)
@options.file("--template-labels", "Label map of TEMPLATE, to be carried onto each participant.")
@options.file("--template-brain-mask", "Mask of TEMPLATE: 1 in the brain, for whole heads.")
@click.option(
    "--participant-label",
    "--participant_label",
    "participants",
    multiple=True,
    metavar="LABEL...",
    help="Only these participants, with or without sub-.",
)
@click.option(
    "--session-label",
    "--session_label",
    "sessions",
    multiple=True,
    metavar="LABEL...",
    help="Only these sessions, with or without ses-.",
)
@click.option(
    "--suffix",
    type=click.Choice(["T1w", "FLAIR", "T2w"]),
    default="T1w",
    show_default=True,
    help="Images to register.",
)
@click.option(
    "--derivatives",
    type=_FILE,
    multiple=True,
    metavar="DIR",
    help="Further dataset with lesion masks, besides those in BIDS_DIR/derivatives.",
)
@click.option(
    "--lesion-masks/--no-lesion-masks",
    default=True,
    show_default=True,
    help="Use the masks whose label or desc contains lesion.",
)
@options.method_options
@options.setting("affine", help="Align first, or trust the headers.")
@options.knobs
@click.option("--report/--no-report", default=True, show_default=True, help="Draw the pages.")
@options.cohort_options(
    "image",
    workers="Images at a time.",
    scheduler="Let the workers of a Dask scheduler do the work.",
    dry_run="Check, say what would be done, and stop.",
)
def bids(
    bids_dir: Path,
    out: Path,
    level: str,
    template: Path | None,
    space: str | None,
    template_labels: Path | None,
    template_brain_mask: Path | None,
    participants: tuple[str, ...],
    sessions: tuple[str, ...],
    suffix: str,
    derivatives: tuple[Path, ...],
    lesion_masks: bool,
    report: bool,
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Register the images of a BIDS dataset to a template.

    BIDS_DIR is the root of a raw dataset, OUT the folder of the derivatives. Level participant
    registers each image, with its lesion mask if there is one; level group sums up all that are
    done: cohort.html, summary.csv, and how often each voxel of TEMPLATE is masked.

    \b
    OUT/sub-01/anat/
      sub-01_space-NAME_T1w.nii.gz                            on the template
      sub-01_from-T1w_to-NAME_mode-image_xfm.h5               carries images to the template
      sub-01_from-NAME_to-T1w_mode-image_xfm.h5               the way back
      sub-01_desc-noncorrespondence_mask.nii.gz               no counterpart in the template
      sub-01_desc-noncorrespondence_probseg.nii.gz            the probability of that
      sub-01_space-NAME_desc-noncorrespondence_mask.nii.gz    on the template
      sub-01_space-NAME_label-lesion_mask.nii.gz              the mask that was given, likewise
      sub-01_desc-template_dseg.nii.gz                        --template-labels on the participant
    OUT/cohort/                                               what `itk-ncr batch` writes

    The same command resumes a stopped run. Participants may be done by several
    calls at the same time.

    Example: itk-ncr bids data data/derivatives/itk_ncr participant --template
    tpl-MNI152_T1w.nii.gz --participant-label 01 02
    """  # noqa: D301
    if level == "group":
        group = runs.summarise_bids(out, space=space)
        if not quiet:
            click.echo(f"{'images':<10} {len(group.rows)}")
            for path in (group.page, *group.maps):
                click.echo(f"{'written':<10} {click.format_filename(path)}")
        return
    if template is None:
        raise InputError("--template must be given for level participant. Name an image file.")
    plan = runs.plan_bids(
        bids_dir,
        out,
        template,
        options.keywords(settings),
        space=space,
        suffix=suffix,
        participants=participants,
        sessions=sessions,
        derivatives=derivatives,
        lesion_masks=lesion_masks,
        labels=template_labels,
        brain_mask=template_brain_mask,
        report=report,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
    )
    output, count = plan.cohort.output, len(plan.images)
    run_plan(plan, output, count, dry_run=dry_run, as_json=as_json, quiet=quiet)
