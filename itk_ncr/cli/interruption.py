"""Interruption and progress of a training on the command line."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from itk_ncr.cli.console import INTERRUPTED, note, progress_bar

if TYPE_CHECKING:
    from itk_ncr.training import Report

# Seconds between lines where no bar can be drawn.
BETWEEN_LINES = 60.0


class Interruption:
    """Context in which Ctrl-C and SIGTERM ask the training to stop after the current step.

    A second Ctrl-C raises :class:`InterruptedTraining`.
    """

    def __init__(self) -> None:
        self._signals: list[int] = []
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether a signal has asked the training to stop."""
        return bool(self._signals)

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _: object) -> None:
        if number == signal.SIGINT and signal.SIGINT in self._signals:
            raise InterruptedTraining
        self._signals.append(number)
        note("finishing the step; once more to leave at once")


class InterruptedTraining(click.ClickException):
    """Second Ctrl-C: progress since the last saved state is lost."""

    exit_code = INTERRUPTED

    def __init__(self) -> None:
        super().__init__("interrupted; the same command resumes from the last saved state")


@dataclass
class _Lines:
    """Progress as occasional lines, where no bar can be drawn."""

    last: float = -math.inf

    def __call__(self, report: Report) -> None:
        now = time.monotonic()
        if now - self.last >= BETWEEN_LINES or report.step == report.steps:
            self.last = now
            click.echo(_text(report), err=True)


@contextlib.contextmanager
def training_progress(speaks: bool) -> Iterator[Any]:
    """Progress callback after every step; a no-op with ``--quiet``."""
    if not speaks:
        yield None
        return
    if sys.stderr is None or not sys.stderr.isatty():
        yield _Lines()
        return
    with progress_bar("train", quiet=False) as bar:
        yield lambda report: bar(report.step / report.steps, _text(report))


def _text(report: Report) -> str:
    """State of the training in one line."""
    minutes, seconds = divmod(round(report.seconds_left), 60)
    return (
        f"step {report.step} of {report.steps}, loss {report.losses['total']:.4f}, "
        f"{report.seconds_per_step:.3g} s per step, {minutes // 60}:{minutes % 60:02d}:"
        f"{seconds:02d} left"
    )
