"""Options, output folder and printed figures shared by the commands of studies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import note, progress_bar

_Function = TypeVar("_Function", bound=Callable[..., Any])
_OPTIONS = (
    options.output_options,
    click.option("--overwrite", is_flag=True, help="Replace the files of an earlier run in DIR."),
    click.option("--json", "as_json", is_flag=True, help="Print summary.json on stdout."),
    options.quiet_option,
)


def study_options(function: _Function) -> _Function:
    """Options of the output of a study, --format to --quiet, for :func:`run_study`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def run_study(
    command: str,
    images: Sequence[Any],
    inputs: Sequence[Path],
    output: Path,
    arguments: dict[str, Any],
    rows: Callable[[Any], Iterable[tuple[str, str]]] = lambda _: (),
) -> None:
    """Compute a study, write its folder and print its figures.

    Parameters
    ----------
    command : str
        Name of the command, and of the function in ``itk_ncr.registration``.
    images : sequence
        Positional arguments of the function.
    inputs : sequence of Path
        Files that must not be overwritten; the first decides the format of the images.
    output : Path
        Folder of the results.
    arguments : dict
        Values of :func:`study_options`, and keywords of the function.
    rows : callable, optional
        From the result to further names and values to print.
    """
    ending, report, overwrite, as_json, quiet = (
        arguments.pop(name) for name in ("ending", "report", "overwrite", "as_json", "quiet")
    )
    suffix = f".{ending}" if ending else runs.format_for(inputs[0])
    runs.OutputFolder(output, overwrite, inputs)

    from itk_ncr import registration

    with progress_bar(command, quiet or as_json) as progress:
        compute = getattr(registration, command)
        result = compute(*images, progress=progress, **options.keywords(arguments))
    record = runs.save_study(
        result, output, ending=suffix, report=report, overwrite=overwrite, note=note
    )
    options.warn_all(result.warnings)
    if as_json:
        click.echo(json.dumps(record, indent=2, ensure_ascii=False))
    elif not quiet:
        from itk_ncr.evaluation import NOTICE, study_figures

        lines = [
            *study_figures(result),
            *rows(result),
            ("results in", f"{click.format_filename(output)} ({NOTICE})"),
        ]
        width = max(len(name) for name, _ in lines)
        for name, text in lines:
            click.echo(f"{name:<{width}} {text}")
