"""``itk-ncr batch``: register a table of pairs and summarise the results."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import INTERRUPTED, TROUBLE, note, progress_bar

if TYPE_CHECKING:
    from itk_ncr.runs import BidsPlan, Cohort, CohortPlan, CohortProgress

TOLD = 10  # failures; summary.csv has them all


class FailedPairs(click.ClickException):
    """Some pairs could not be registered; the others were."""

    exit_code = TROUBLE


class InterruptedCohort(click.ClickException):
    """Interrupted; finished pairs stay, and the same command does the rest."""

    exit_code = INTERRUPTED


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path))
@options.output_folder(
    "Folder of the cohort; made if it does not exist, resumed if it holds this one."
)
@options.method_options
@options.setting("affine", help="Align first, or trust the headers; PAIRS may name a file.")
@options.knobs
@options.setting("uncertainty_runs")
@options.output_options
@options.cohort_options(
    "pair",
    workers="Pairs at a time. Default: as many as processors and memory allow; the processors are "
    "divided among them.",
    scheduler="Register the pairs on the workers of a Dask scheduler instead.",
    dry_run="Check PAIRS, say what would be done, and stop.",
)
def batch(
    pairs: Path,
    output: Path,
    ending: str | None,
    report: bool,
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Register all PAIRS of a table.

    PAIRS is a CSV with the columns fixed, moving and optionally name (of the pair and its folder),
    subject, lesion_mask, moving_lesion_mask, roi_mask, moving_roi_mask, brain_mask,
    moving_brain_mask, labels (of moving), fixed_labels, affine, initial_transform. Paths are
    relative to the CSV. Other columns are carried into the summary.

    \b
    DIR/NAME/        what `itk-ncr register` writes, one folder per pair
    DIR/summary.csv  one line per pair: status, error, figures of quality, time, memory
    DIR/cohort.html  the same as a page for the browser
    DIR/cohort.json  settings

    A pair that fails is a line in the summary, the others are done; the exit status is then 1. The
    same command resumes: pairs whose folder holds the results of the same files and settings
    are not done again.
    """  # noqa: D301
    plan = runs.plan_cohort(
        pairs,
        output,
        options.keywords(settings),
        ending=f".{ending}" if ending else None,
        report=report,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
    )
    run_plan(plan, output, len(plan.pairs), dry_run=dry_run, as_json=as_json, quiet=quiet)


def run_plan(
    plan: CohortPlan | BidsPlan,
    output: Path,
    pairs: int,
    *,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a plan of a cohort with progress and a summary, or print the plan (dry run).

    Raises
    ------
    FailedPairs, InterruptedCohort
    """
    if dry_run:
        for title, text in plan.summary():
            click.echo(f"{title:<10} {text}")
        return
    last: list[CohortProgress] = []
    try:
        with _listener(as_json, quiet) as listen:

            def listener(progress: CohortProgress) -> None:
                last[:] = [progress]
                listen(progress)

            cohort = plan.run(listener, note=note)
    except KeyboardInterrupt:
        done = last[0].done if last else 0
        raise InterruptedCohort(
            f"interrupted; {done} of {pairs} pairs are done, the same command resumes"
        ) from None
    if not (quiet or as_json):
        _print(cohort, output)
    if failed := cohort.count("failed"):
        raise FailedPairs(f"{failed} of {pairs} pairs failed; '{output / 'summary.csv'}' says why")


@contextlib.contextmanager
def _listener(as_json: bool, quiet: bool) -> Iterator[Callable[[CohortProgress], None]]:
    """Progress callback: JSON lines, a progress bar, or lines on stderr."""
    if as_json:
        yield _print_json
    elif quiet:
        yield lambda _: None
    elif sys.stderr is None or not sys.stderr.isatty():
        yield _print_line
    else:
        with progress_bar("batch", quiet=False) as bar:
            yield lambda progress: bar(progress.share, _standing(progress))


def _print_json(progress: CohortProgress) -> None:
    if progress.row is not None:
        click.echo(json.dumps(progress.row, ensure_ascii=True))


def _print_line(progress: CohortProgress) -> None:
    if progress.row is not None:
        row = progress.row
        if row["status"] == "failed":
            what = f"failed: {row['error']}"
        else:
            what = "there already" if row["kept"] else f"done in {row['seconds']:.1f} s"
        click.echo(f"{row['name']}: {what} ({_standing(progress)})", err=True)


def _standing(progress: CohortProgress) -> str:
    text = f"{progress.done + progress.failed} of {progress.pairs}"
    if progress.failed:
        text += f", {progress.failed} failed"
    if progress.seconds_left:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        text += f", {minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
    return text


def _print(cohort: Cohort, output: Path) -> None:
    from itk_ncr.evaluation import NOTICE

    done, failed = cohort.count("done"), [row for row in cohort.rows if row["status"] == "failed"]
    kept = f", {cohort.kept} of them before" if cohort.kept else ""
    click.echo(f"{'done':<10} {done} of {len(cohort.rows)}{kept}")
    for row in failed[:TOLD]:
        click.echo(f"{'failed':<10} {row['name']}: {row['error']}")
    if len(failed) > TOLD:
        click.echo(f"{'failed':<10} and {len(failed) - TOLD} more")
    click.echo(f"{'results in':<10} {click.format_filename(output)} ({NOTICE})")
