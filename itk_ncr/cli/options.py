"""Options shared by several commands."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from itk_ncr import runs
from itk_ncr.settings import SETTINGS

LIST = "list"
_Function = TypeVar("_Function", bound=Callable[..., Any])


def file(name: str, help: str) -> Callable[[_Function], _Function]:
    """An option that takes a file."""
    return click.option(name, type=click.Path(path_type=Path), metavar="FILE", help=help)


def output_file(help: str) -> Callable[[_Function], _Function]:
    """The option ``-o FILE`` of a command that writes one file."""
    return _output("FILE", help)


def output_folder(help: str) -> Callable[[_Function], _Function]:
    """The option ``-o DIR`` of a command that writes a folder."""
    return _output("DIR", help)


def _output(metavar: str, help: str) -> Callable[[_Function], _Function]:
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        required=True,
        metavar=metavar,
        help=help,
    )


def _list_methods(context: click.Context, _option: click.Parameter, value: str) -> str:
    """Print the table of methods and leave, where "list" was given."""
    if value == LIST and not context.resilient_parsing:
        from itk_ncr.registration.catalogue import catalogue

        click.echo(catalogue())
        context.exit()
    return value


def _pairs(
    _context: click.Context, _option: click.Parameter, words: tuple[str, ...]
) -> dict[str, str] | None:
    """Values of ``name=value`` words by name; None without any."""
    given = dict[str, str]()
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"'{word}' is not NAME=VALUE, as alpha=1")
        given[name.replace("-", "_")] = value
    return given or None


def setting(name: str, **changes: Any) -> Callable[[_Function], _Function]:
    """The option of a setting of a registration; ``changes`` are keywords of ``click.option``."""
    about = SETTINGS[name]
    kind: click.ParamType | None = None
    if about.words:
        kind = click.Choice(about.words, case_sensitive=False)
    elif about.kind == "float":
        least = 0 if about.positive else about.least
        kind = click.FloatRange(least, about.most, min_open=about.positive)
    elif about.kind == "int":
        kind = click.IntRange(about.least, about.most)
    usual = {} if about.optional else {"default": about.default, "show_default": True}
    options = {"type": kind, "metavar": about.metavar, "help": about.help, **usual, **changes}
    return click.option(f"--{name.replace('_', '-')}", **options)


seed_option = setting("seed")
quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="Print nothing but errors and warnings."
)
keep_going = click.option(
    "--keep-going",
    is_flag=True,
    help="Leave out an image that cannot be read or registered, with a warning, instead of "
    "stopping.",
)
_METHOD = (
    setting(
        "method",
        type=click.Choice((*SETTINGS["method"].words, LIST), case_sensitive=False),
        is_eager=True,
        callback=_list_methods,
    ),
    click.option(
        "--option",
        "method_options",
        multiple=True,
        metavar=SETTINGS["method_options"].metavar,
        callback=_pairs,
        help=f"{SETTINGS['method_options'].help} May be repeated.",
    ),
    *map(setting, ("preset", "engine", "model", "refine")),
)
_KNOBS = tuple(
    map(
        setting,
        (
            *("smoothness", "mask_price", "mask", "mask_threshold"),
            *("threads", "working_voxels", "seed"),
        ),
    )
)
_OUTPUT = (
    click.option(
        "--format",
        "ending",
        type=click.Choice([ending.lstrip(".") for ending in runs.FORMATS]),
        help="Format of the images written. Default: that of FIXED; NIfTI for DICOM.",
    ),
    click.option(
        "--report/--no-report",
        default=True,
        show_default=True,
        help="Draw report.html and overview.png as well.",
    ),
)


def method_options(function: _Function) -> _Function:
    """Options that choose the method: --method, --preset, --engine, --model, --refine."""
    return _with(_METHOD, function)


def knobs(function: _Function) -> _Function:
    """Options of the registration: --smoothness to --seed."""
    return _with(_KNOBS, function)


def output_options(function: _Function) -> _Function:
    """Options of the output: --format, --report."""
    return _with(_OUTPUT, function)


def cohort_options(
    what: str, *, workers: str, scheduler: str, dry_run: str
) -> Callable[[_Function], _Function]:
    """Options of a command that runs a cohort: --workers to --quiet.

    Parameters
    ----------
    what : str
        One unit of the cohort, as "pair".
    workers, scheduler, dry_run : str
        Help of these options.
    """
    return lambda function: _with(
        (
            click.option("--workers", type=click.IntRange(min=1), metavar="N", help=workers),
            click.option("--scheduler", metavar="ADDRESS", help=scheduler),
            click.option("--overwrite", is_flag=True, help=f"Repeat {what}s that are done."),
            click.option("--dry-run", is_flag=True, help=dry_run),
            click.option(
                "--json",
                "as_json",
                is_flag=True,
                help=f"Print a line of JSON per finished {what}.",
            ),
            quiet_option,
        ),
        function,
    )


def _with(options: tuple[Callable[[Any], Any], ...], function: _Function) -> _Function:
    for option in reversed(options):
        function = option(function)
    return function


def warn_all(texts: Iterable[str]) -> None:
    """Warnings of a result, one line each on stderr."""
    for text in texts:
        warnings.warn(text, stacklevel=2)


def keywords(options: dict[str, Any]) -> dict[str, Any]:
    """The options as keywords of ``itk_ncr.register``; what was not given keeps its default."""
    return {name: value for name, value in options.items() if value is not None}
