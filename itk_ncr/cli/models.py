"""``itk-ncr models``: list, show and verify trained models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from itk_ncr.errors import InputError

if TYPE_CHECKING:
    from itk_ncr.checkpoints import ModelDescription

NONE = "no models are installed; registering a pair needs none"
PIPE_WIDTH = 160


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List, show and verify trained models."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print all descriptions as JSON.")
def list_models(as_json: bool) -> None:
    """List the models that come with the package."""
    from itk_ncr.checkpoints import shipped_models

    found = shipped_models()
    if as_json:
        _print_json({name: description.as_dict() for name, description in found.items()})
    elif found:
        _print_table(found)
    else:
        click.echo(NONE)


@models.command(short_help="Show the card of a model: data, recipe, figures, limits.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the description as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show the card of the model NAME: data, licence, recipe, figures, limits.

    NAME is that of a model of the package, or the folder of one of your own.
    """
    from itk_ncr.checkpoints import find_model, model_card

    found = find_model(name)
    if as_json:
        _print_json(found.description.as_dict() | {"sha256": found.sha256})
    else:
        click.echo(model_card(found.description, found.sha256), nl=False)


@models.command(short_help="Check that models are what was written, by SHA-256.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify(names: tuple[str, ...]) -> None:
    """Verify the SHA-256 of models; of all shipped models without a NAME.

    Exit status 2 if one of them is not.
    """
    from itk_ncr.checkpoints import shipped_models, verify_model
    from itk_ncr.errors import NCRError

    chosen = names or tuple(shipped_models())
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


def _print_json(values: object) -> None:
    click.echo(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False))


def _print_table(found: dict[str, ModelDescription]) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

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
    ):
        table.add_column(heading, no_wrap=True)
    for name, d in found.items():
        spacing = "any" if d.spacing_mm is None else " x ".join(f"{s:.4g}" for s in d.spacing_mm)
        size = " x ".join(map(str, d.size))
        axes, refine = f"{d.dimension}D", str(d.refine)
        table.add_row(name, axes, d.contrast, size, spacing, d.network, d.variant, refine)
    # A pipe has no width of its own; 80 would cut names off.
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
