"""Messages that ITK's decoders print while they read a picture."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from itk_ncr.images.formats.content import Refused

# Words of libtiff, libjpeg, CharLS and OpenJPEG where they fill up or leave out pixels.
DAMAGE = re.compile(
    r"corrupt|premature|bogus|not enough|lack of data|discarding|\bbad\b|error|fail|invalid|"
    r"unsupported|expected",
    re.IGNORECASE,
)
# libjpeg passes over them as every viewer does.
HARMLESS = re.compile(r"extraneous bytes before marker 0xd9")
_streams_lock = threading.Lock()


@contextmanager
def watched_decoder() -> Iterator[None]:
    """Refuse a picture whose decoder complains; nothing reaches the terminal.

    The libraries write to the process's own streams and read on, with pixels of their own.
    """
    import SimpleITK as sitk

    talkative = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    said: list[str] = []
    try:
        with _streams_lock, _set_aside(said):
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(talkative)
    for line in "".join(said).splitlines():
        if DAMAGE.search(line) and not HARMLESS.search(line):
            raise Refused(f"damaged: its decoder says {' '.join(line.split())[:120]!r}")


@contextmanager
def _set_aside(said: list[str]) -> Iterator[None]:
    """Append to ``said`` the output on streams 1 and 2 of the process within the block."""
    with tempfile.TemporaryFile() as aside:
        kept = {}
        _flush()
        for stream in (1, 2):
            with contextlib.suppress(OSError):  # closed: the output is lost
                kept[stream] = os.dup(stream)
                os.dup2(aside.fileno(), stream)
        try:
            yield
        finally:
            _flush()
            for stream, terminal in kept.items():
                os.dup2(terminal, stream)
                os.close(terminal)
            aside.seek(0)
            said.append(aside.read(10_000).decode("utf-8", "replace"))


def _flush() -> None:
    """Flush the buffers of Python and C, so that earlier output is not captured."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).fflush(None)


def itk_reason(error: Exception) -> str:
    """The last telling line of ITK's long exception text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception thrown", "Reason:"))]
    text = telling[-1] if telling else "ITK cannot read it"
    for mark in ("ITK ERROR:", "Description:"):
        text = text.split(mark)[-1].strip()
    text = re.sub(r"\(0x[0-9a-f]+\)", "", text)  # where ITK's object lies in memory
    return f"ITK cannot read it ({text})"
