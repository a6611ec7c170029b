"""The command ``itk-ncr reproduce``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from itk_ncr.cli.console import note, progress_bar
from itk_ncr.cli.options import output_folder, quiet_option, seed_option
from itk_ncr.errors import InputError

BUDGETS = ("small", "full")
TABLES, FIGURES = (1, 2, 3, 4), (2, 3, 4, 5, 6)


def _numbers(known: tuple[int, ...]) -> click.ParamType:
    """A list of numbers such as 1,2,4; "none" is an empty one."""

    class Numbers(click.ParamType):
        name = "N,N,..."

        def convert(
            self, value: object, param: click.Parameter | None, ctx: click.Context | None
        ) -> tuple[int, ...]:
            if isinstance(value, tuple):
                return value
            words = [] if value == "none" else str(value).split(",")
            if not all(word.strip() in map(str, known) for word in words):
                self.fail(
                    f"must list some of {', '.join(map(str, known))}, or say none; got {value!r}",
                    param,
                    ctx,
                )
            return tuple(sorted({int(word) for word in words}))

    return Numbers()


@click.command(short_help="Make the paper's tables and figures again.")
@click.argument("data", type=click.Path(path_type=Path))
@output_folder("Folder; made if it does not exist, resumed if it holds this reproduction.")
@click.option("--tables", type=_numbers(TABLES), default=TABLES, help="Default: 1,2,3,4.")
@click.option("--figures", type=_numbers(FIGURES), default=FIGURES, help="Default: 2,3,4,5,6.")
@click.option(
    "--budget",
    type=click.Choice(BUDGETS),
    default="small",
    show_default=True,
    help="small: an hour of two cores; full: the paper's steps, folds and pairs.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes of one thread each. Default: one per core.",
)
@seed_option
@click.option("--device", type=click.Choice(["cpu", "auto", "cuda"]), default="cpu",
              show_default=True, help="Of the trainings.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would be done, and stop.")
@quiet_option
def reproduce(
    data: Path,
    output: Path,
    tables: tuple[int, ...],
    figures: tuple[int, ...],
    budget: str,
    workers: int | None,
    seed: int,
    device: str,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Train, measure and draw what the paper shows, on the images in DATA.

    DATA is the data folder (brains with labels, lesion masks, retinas) of docs/reproduction.md.

    \b
    DIR/README.md         findings, tables and figures, beside what the paper prints
    DIR/tables/           the tables as CSV
    DIR/figures/          the figures as PNG
    DIR/measurements.csv  every figure of every method on every pair
    DIR/manifest.json     settings, hash of the data, versions, times
    DIR/work/             models and measurements; may be deleted afterwards

    Ctrl-C stops; the same command resumes.
    """  # noqa: D301
    if not tables and not figures:
        raise InputError("--tables and --figures must ask for something; got none for both.")
    from itk_ncr import training
    from itk_ncr_reproduction.design import design
    from itk_ncr_reproduction.document import write_reproduction
    from itk_ncr_reproduction.run import plan_text
    from itk_ncr_reproduction.run import reproduce as run_all

    workers = os.cpu_count() or 1 if workers is None else workers
    chosen = design(budget, seed)
    if not quiet or dry_run:
        for title, text in plan_text(data, chosen, tables, figures):
            click.echo(f"{title:<14} {text}")
    if dry_run:
        return
    words = ["itk-ncr", "reproduce", data.name, "-o", output.name, "--budget", budget]
    words += [] if tables == TABLES else ["--tables", ",".join(map(str, tables)) or "none"]
    words += [] if figures == FIGURES else ["--figures", ",".join(map(str, figures)) or "none"]
    words += ["--seed", str(seed)] if seed else []
    with progress_bar("reproduce", quiet) as progress:
        found = run_all(
            data,
            output,
            chosen,
            tables=tables,
            figures=figures,
            workers=workers,
            device=training.device_of(device),
            command=shlex.join(words),
            progress=lambda share, text: progress(0.97 * share, text),
        )
        page = write_reproduction(found, tables, figures, lambda text: progress(0.98, text))
    failed = sorted(
        {k for case in found.measured for k, v in case.figures.items() if "failed" in v}
    )
    if failed:
        note(f"{', '.join(failed)} failed on some pairs; the page says why")
    if not quiet:
        click.echo(f"{'page':<14} {click.format_filename(page)}")
