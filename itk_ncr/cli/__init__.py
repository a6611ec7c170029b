"""The command ``itk-ncr``: parses words, calls one function, prints.

Only click is imported here; each command imports what it needs when it runs, so that ``--help``,
``--version`` and ``info`` answer at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module

import click

from itk_ncr import __version__
from itk_ncr.cli.console import OneLineErrors

__all__ = ["command_line", "main"]


@click.group(
    cls=OneLineErrors,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done; 2 the call or an input is at fault, nothing was written; "
    "1 something else went wrong; 130 interrupted. For research use only.",
)
@click.version_option(__version__, prog_name="itk-ncr", message="%(prog)s %(version)s")
@click.option(
    "--traceback",
    is_flag=True,
    help="Show the traceback of an error (anywhere in the line; or set ITK_NCR_TRACEBACK=1).",
)
@click.pass_context
def command_line(context: click.Context, traceback: bool) -> None:
    """Register images with pathologies.

    Finds the diffeomorphism that carries a moving image onto a fixed one, and the regions of both
    that have no counterpart in the other. 2D and 3D, NIfTI, NRRD, MetaImage and DICOM folders.
    """
    del traceback  # OneLineErrors takes it out of the line before click reads it
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


# Each is the command of that name in the module of that name.
COMMANDS = (
    "register",
    "batch",
    "bids",
    "vote",
    "follow",
    "template",
    "apply",
    "convert",
    "segment",
    "fill",
    "report",
    "phantom",
    "reproduce",
    "train",
    "models",
    "export",
    "info",
)

for _name in COMMANDS:
    command_line.add_command(getattr(import_module(f"{__name__}.{_name}"), _name))


def main() -> None:
    """Run the command line and leave with its exit status."""
    # OpenMP's threads spin while they wait for each other. Where another program has their
    # processor that is for nothing: a 2D pair took 17 s instead of 2.4 s with two threads on two
    # busy cores. A short spin loses nothing on idle ones. Read when OpenMP starts, with torch.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        command_line(prog_name="itk-ncr")
    except SystemExit as leaving:
        if leaving.code:
            # Not through the libraries' own endings: after a transform that a full disk cut off,
            # HDF5 crashes there and the status would be that of a crash.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, AttributeError):
                    stream.flush()
            os._exit(leaving.code if isinstance(leaving.code, int) else 1)
        raise
