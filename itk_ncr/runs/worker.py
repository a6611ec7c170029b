"""Worker process: jobs on stdin, events on stdout, one JSON line each.

A fresh interpreter, not a fork: OpenMP does not survive one. What it imports it imports once.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, BinaryIO

from itk_ncr.runs.job import Job, run_job

TERMINATED = 143
BETWEEN_EVENTS = 0.5  # seconds


def main() -> None:
    """Serve jobs until stdin ends; removes unfinished files when it stops early."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    # What libraries print is not to be taken for events.
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    status = 0
    try:
        serve(os.fdopen(0, "rb", buffering=0), events)
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    except OSError:  # the parent has closed the pipe
        status = TERMINATED
    finally:
        # Not through the endings of the libraries, which may wait for threads of their own.
        os._exit(status)


def serve(jobs: BinaryIO, events: BinaryIO) -> None:
    """Run one job after another and report events."""
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(jobs, lines), daemon=True).start()

    def say(kind: str, content: Any = None) -> None:
        events.write(json.dumps([kind, content]).encode() + b"\n")
        events.flush()

    said = 0.0

    def progress(share: float, _text: str) -> None:
        nonlocal said
        if time.monotonic() - said > BETWEEN_EVENTS:
            said = time.monotonic()
            say("progress", share)

    def remark(text: str) -> None:
        say("note", text)

    say("ready")
    while line := lines.get():
        say("finished", run_job(Job(**json.loads(line)), progress=progress, note=remark))


def _listen(jobs: BinaryIO, lines: queue.Queue[bytes]) -> None:
    """Read jobs from stdin; the end of stdin means stop."""
    for line in jobs:
        lines.put(line)
    os.kill(os.getpid(), signal.SIGTERM)
