"""``itk-ncr reproduce``, where the package ``itk_ncr_reproduction`` is installed."""

from __future__ import annotations

import click

from itk_ncr.errors import MissingDependencyError

__all__ = ["reproduce"]

try:
    from itk_ncr_reproduction.command import reproduce
except ModuleNotFoundError as missing:
    if missing.name != "itk_ncr_reproduction":
        raise

    @click.command(
        short_help="Make the paper's tables and figures again (from a checkout of the source).",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def reproduce(words: tuple[str, ...]) -> None:
        """Make the paper's tables and figures again; needs a checkout of the source."""
        del words
        raise MissingDependencyError(
            "'itk-ncr reproduce' must find the package itk_ncr_reproduction; got none: it comes "
            "with the source only. Install from a checkout: pip install -e '.[itk,report]'."
        )
