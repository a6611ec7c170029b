"""Console output: one-line errors, warnings and progress bars."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from itk_ncr.errors import (
    ImageWriteError,
    MissingDependencyError,
    NCRError,
    RegistrationAborted,
    WorkerError,
)
from itk_ncr.runs import FOR_PEOPLE, reason

BAD_INPUT, TROUBLE, INTERRUPTED, TERMINATED = 2, 1, 130, 143
_NOT_THE_CALLERS = (ImageWriteError, MissingDependencyError, WorkerError)
# What the system says of paths that no file can have.
_NO_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
Progress = Callable[[float, str], None]


class OrderedGroup(click.Group):
    """A group that lists its commands in the order of their definition."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands; click would sort them."""
        del ctx
        return list(self.commands)


class OneLineErrors(OrderedGroup):
    """A group whose commands fail with one line ``error: …`` and a status, never a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, report and leave; ``standalone_mode=False`` lets errors through, as click does."""
        words = list(sys.argv[1:] if args is None else args)
        tell_all = bool(os.environ.get("ITK_NCR_TRACEBACK"))
        if "--traceback" in words:
            words.remove("--traceback")
            tell_all = True
        if not standalone_mode:
            return super().main(words, prog_name, complete_var, False, **extra)
        with _terminable(), _single_line_warnings():
            try:
                _require_words(words)
                status = super().main(words, prog_name, complete_var, False, **extra)
                _flush()
            except (Exception, KeyboardInterrupt) as error:
                if tell_all:
                    traceback.print_exception(error)
                status, line = _verdict(error)
                _say(f"error: {line}")
        sys.exit(status if isinstance(status, int) else 0)


def _require_words(words: Sequence[str]) -> None:
    """Refuse empty arguments: an empty path would mean the current folder."""
    if any(not word or (word.startswith("--") and word.endswith("=")) for word in words):
        raise click.UsageError("An argument is empty; is a variable of the shell not set?")


def _verdict(error: BaseException) -> tuple[int, str]:
    """Exit status and line for an error."""
    if isinstance(error, (click.Abort, KeyboardInterrupt, RegistrationAborted)):
        return INTERRUPTED, "interrupted; nothing was written"
    if isinstance(error, BrokenPipeError):
        # The reader has gone; Python would complain again when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return TROUBLE, "the reader of the output has closed it"
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "itk-ncr"
        # Click's names of its own types
        fault = error.format_message().replace("integer range", "whole number")
        fault = fault.replace("float range", "number")
        stop = "" if fault.endswith((".", "?")) else "."
        return BAD_INPUT, f"{fault}{stop} See '{command} --help'."
    if isinstance(error, click.ClickException):
        return error.exit_code, error.format_message()
    refused = isinstance(error, NCRError)
    misnamed = isinstance(error, OSError) and error.errno in _NO_NAMES
    at_fault = misnamed or (refused and not isinstance(error, _NOT_THE_CALLERS))
    return BAD_INPUT if at_fault else TROUBLE, reason(error)


def _say(line: str) -> None:
    """Print one line on stderr, with undecodable names and line breaks escaped."""
    text = " ".join(line.split()).encode("utf-8", "backslashreplace").decode()
    with contextlib.suppress(OSError):
        try:
            click.echo(text, err=True)
        except UnicodeEncodeError:
            click.echo(text.encode("ascii", "backslashreplace").decode(), err=True)


def note(line: str) -> None:
    """A remark on stderr."""
    _say(f"note: {line}")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that unfinished output is removed as on Ctrl-C."""

    def leave(*_: object) -> None:
        sys.exit(TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _single_line_warnings() -> Iterator[None]:
    """Python's warnings as one line on stderr, each once."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        text = str(message)
        if text not in seen and issubclass(category, FOR_PEOPLE):
            seen.add(text)
            _say(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


def _unseen(_fraction: float, _text: str) -> None:
    """No-op progress callback."""


@contextlib.contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Progress]:
    """A bar on stderr where that is a terminal; else nothing.

    Yields
    ------
    callable
        ``report(fraction, text)`` with the share done in [0, 1].
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield _unseen
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.fields[title]}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0, title=title)

        def report(fraction: float, text: str) -> None:
            bar.update(task, completed=fraction, description=text)

        yield report
