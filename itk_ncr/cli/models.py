"""``itk-ncr models``: list, show, verify, add and remove trained models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from itk_ncr.cli.console import OrderedGroup, note
from itk_ncr.errors import InputError

if TYPE_CHECKING:
    from itk_ncr.checkpoints import ModelDescription

NONE = "no models are installed; registering a pair needs none"
PIPE_WIDTH = 160


@click.group(cls=OrderedGroup, invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List, show, verify, add and remove trained models."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@models.command("list", short_help="List shipped and added models.")
@click.option("--json", "as_json", is_flag=True, help="Print all descriptions as JSON.")
def list_models(as_json: bool) -> None:
    """List the models that come with the package, and those you have added."""
    from itk_ncr.checkpoints import installed_models, installed_names, shipped_models

    shipped, installed = shipped_models(), installed_models()
    if as_json:
        _print_json({name: about.as_dict() for name, about in (shipped | installed).items()})
    elif shipped or installed:
        _print_table(shipped, installed)
    else:
        click.echo(NONE)
    for name in installed_names():
        if name not in installed:
            note(f"model {name!r} cannot be read; `itk-ncr models verify {name}` shows the reason.")


@models.command(short_help="Show the card of a model: data, recipe, figures, limits.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the description as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show the card of the model NAME: data, licence, recipe, figures, limits.

    NAME is that of `itk-ncr models list`, or a folder.
    """
    from itk_ncr.checkpoints import find_model, model_card

    found = find_model(name)
    if as_json:
        _print_json(found.description.as_dict() | {"sha256": found.sha256})
    else:
        click.echo(model_card(found.description, found.sha256), nl=False)


@models.command(short_help="Verify the checksums (SHA-256) of models.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify(names: tuple[str, ...]) -> None:
    """Verify the SHA-256 of models; of all that are listed without a NAME.

    Exit status 2 if one of them is not.
    """
    from itk_ncr.checkpoints import installed_names, shipped_models, verify_model
    from itk_ncr.errors import NCRError

    chosen = names or (*shipped_models(), *installed_names())
    if not chosen:
        click.echo(NONE)
    wrong = 0
    for name in chosen:
        try:
            click.echo(f"{name}: right, SHA-256 {verify_model(name)}")
        except NCRError as error:
            wrong += 1
            click.echo(f"{name}: WRONG: {error}")
    if wrong:
        raise InputError(
            f"{wrong} of {len(chosen)} models must not be used. "
            "Take another copy, or install the package again."
        )


@models.command(short_help="Verify a model and install it under a name.")
@click.argument("source", metavar="FOLDER|FILE", type=click.Path(path_type=Path))
@click.option("--name", help="Name to find it by. Default: that of its description.")
def add(source: Path, name: str | None) -> None:
    """Verify a model and copy it into your data folder; `--model NAME` finds it there.

    FOLDER is what `itk-ncr train` writes as DIR/model; FILE is its weights.safetensors alone, which
    carries the description. Checksums, sizes, description and the fit of the weights to the network
    are checked first. Nothing is fetched and nothing in a model is executed.
    """
    from itk_ncr.checkpoints import add_model

    stored = add_model(source, name)
    known = stored.folder.name
    click.echo(f"{known}: right, SHA-256 {stored.sha256}")
    click.echo(f"in {click.format_filename(stored.folder)}; use it with --model {known}")


@models.command(short_help="Remove a model that was added.")
@click.argument("name")
def remove(name: str) -> None:
    """Remove the added model NAME; those of the package stay."""
    from itk_ncr.checkpoints import remove_model

    click.echo(f"{name}: removed from {click.format_filename(remove_model(name).parent)}")


def _print_json(values: object) -> None:
    click.echo(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False))


def _print_table(
    shipped: dict[str, ModelDescription], installed: dict[str, ModelDescription]
) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in (
        "name",
        "axes",
        "preset",
        "voxels",
        "size in mm",
        "network",
        "variant",
        "refine",
        *(["from"] if installed else []),
    ):
        table.add_column(heading, no_wrap=True)
    for name, d in (shipped | installed).items():
        spacing = "any" if d.spacing_mm is None else " x ".join(f"{s:.4g}" for s in d.spacing_mm)
        size = " x ".join(map(str, d.size))
        axes, refine = f"{d.dimension}D", str(d.refine)
        cells = [name, axes, d.contrast, size, spacing, d.network, d.variant, refine]
        if installed:
            cells.append("added" if name in installed else "package")
        table.add_row(*map(Text, cells))
    # A pipe has no width of its own; 80 would cut names off.
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
