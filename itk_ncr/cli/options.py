"""Options of several commands: how to register, for one pair or for many; the seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from itk_ncr import runs

# Named here so that the help need not import the solver; a test holds them to its table.
PRESETS = ("auto", "brain-t1", "oct", "mri-3d", "mri-2d", "multimodal")
ENGINES = ("auto", "network", "instance")
METHODS = (
    "ncr",
    "network",
    "instance",
    "affine",
    "demons",
    "symmetric-demons",
    "bspline",
    "syn",
    "ants-syn",
    "elastix",
    "greedy",
    "enantiomorphic",
    "varreg",
)
LIST = "list"
_POSITIVE = click.FloatRange(min=0, min_open=True)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def file(name: str, help: str) -> Callable[[_Function], _Function]:
    """An option that takes a file."""
    return click.option(name, type=click.Path(path_type=Path), metavar="FILE", help=help)


def output_file(help: str) -> Callable[[_Function], _Function]:
    """The option ``-o FILE`` of a command that writes one file."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        required=True,
        metavar="FILE",
        help=help,
    )


seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of every random draw.",
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
    """``name=value`` words by name; None without any."""
    given = dict[str, str]()
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"'{word}' is not NAME=VALUE, as alpha=1")
        given[name.replace("-", "_")] = value
    return given or None


_METHOD = (
    click.option(
        "--method",
        type=click.Choice((*METHODS, LIST), case_sensitive=False),
        default="ncr",
        show_default=True,
        metavar="NAME",
        is_eager=True,
        callback=_list_methods,
        help="ncr is ours, by a network or by the pair alone (network, instance: one of them). "
        f"Others: {', '.join(METHODS[3:])}. list prints what each finds, needs and costs.",
    ),
    click.option(
        "--option",
        "method_options",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_pairs,
        help="Option that the method alone has; --method list names them. May be repeated.",
    ),
    click.option(
        "--preset",
        type=click.Choice(PRESETS, case_sensitive=False),
        default="auto",
        show_default=True,
        help="What the images show, or how to solve; auto goes by the number of axes.",
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINES, case_sensitive=False),
        default="auto",
        show_default=True,
        help="Begin with a trained network, or solve the pair alone; auto takes the network where "
        "--model or --preset names one that fits.",
    ),
    click.option(
        "--model",
        metavar="NAME|DIR",
        help="Network to begin with: see `itk-ncr models list`, or a folder of your own.",
    ),
    click.option(
        "--refine",
        type=click.IntRange(min=0),
        metavar="N",
        help="Iterations of the solver after the network; 0 takes the network as it is. "
        "Default: what the model recommends.",
    ),
)
_KNOBS = (
    click.option(
        "--smoothness",
        type=_POSITIVE,
        metavar="X",
        default=1.0,
        show_default=True,
        help="Stiffness of the deformation; 2 is twice as stiff.",
    ),
    click.option(
        "--mask-price",
        type=_POSITIVE,
        metavar="X",
        default=1.0,
        show_default=True,
        help="Price of calling a voxel without counterpart; larger means smaller masks.",
    ),
    click.option(
        "--mask",
        type=click.Choice(["auto", "none"]),
        default="auto",
        show_default=True,
        help="Find what has no counterpart, or register as usual.",
    ),
    click.option(
        "--mask-threshold",
        type=click.FloatRange(0, 1),
        metavar="P",
        default=0.5,
        show_default=True,
        help="Probability above which a voxel is in the mask.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="CPU threads; results do not change.",
    ),
    click.option(
        "--working-voxels",
        type=click.IntRange(min=4096),
        metavar="N",
        help="Solve larger images on a coarser grid of so many voxels.",
    ),
    seed_option,
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
    """What registers: --method, --preset, --engine, --model, --refine."""
    return _with(_METHOD, function)


def knobs(function: _Function) -> _Function:
    """How it is to do that: --smoothness to --seed."""
    return _with(_KNOBS, function)


def output_options(function: _Function) -> _Function:
    """What is written besides: --format, --report."""
    return _with(_OUTPUT, function)


def _with(options: tuple[Callable[[Any], Any], ...], function: _Function) -> _Function:
    for option in reversed(options):
        function = option(function)
    return function


def keywords(options: dict[str, Any]) -> dict[str, Any]:
    """The options as keywords of ``itk_ncr.register``; what was not given keeps its default."""
    return {name: value for name, value in options.items() if value is not None}
