"""What ITK's decoders say on the side while they read a picture."""

from __future__ import annotations

import os
import re
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
_stderr_lock = threading.Lock()


@contextmanager
def watched_decoder() -> Iterator[None]:
    """Refuse a picture whose decoder complains; nothing reaches the terminal.

    The libraries write to the process's standard error and read on, with pixels of their own.
    """
    import SimpleITK as sitk

    talkative = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    said = ""
    try:
        with _stderr_lock, tempfile.TemporaryFile() as aside:
            try:
                terminal = os.dup(2)
            except OSError:  # closed: what is said goes nowhere
                yield
                return
            try:
                os.dup2(aside.fileno(), 2)
                yield
            finally:
                os.dup2(terminal, 2)
                os.close(terminal)
                aside.seek(0)
                said = aside.read(10_000).decode("utf-8", "replace")
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(talkative)
    for line in said.splitlines():
        if DAMAGE.search(line) and not HARMLESS.search(line):
            raise Refused(f"damaged: its decoder says {' '.join(line.split())[:120]!r}")


def itk_reason(error: Exception) -> str:
    """The last telling line of ITK's long exception text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception thrown", "Reason:"))]
    text = telling[-1] if telling else "ITK cannot read it"
    for mark in ("ITK ERROR:", "Description:"):
        text = text.split(mark)[-1].strip()
    return f"ITK cannot read it ({text})"
