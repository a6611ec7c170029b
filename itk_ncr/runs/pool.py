"""Worker processes for cohorts on this machine; losing one does not affect the others."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from itk_ncr.errors import WorkerError
from itk_ncr.files import remove_abandoned
from itk_ncr.runs.job import Job, Row, failure

# Read by the libraries of a worker when they start; torch and ITK are set once more later.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
ATTEMPTS = 2
PATIENCE = 15.0  # seconds for a worker to clear up before it is killed
_LAST_WORDS = 20  # lines of stderr
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from itk_ncr.processes import end_with_parent; "
    "end_with_parent({parent}); from itk_ncr.runs.worker import main; main()"
)

Finished = tuple[int, Row]
Seen = Callable[[int, float], None]
"""Gets the number of a job and the share of it that is done."""
Note = Callable[[str], None]
Events = queue.Queue[tuple["_Worker", str, Any]]


def work_here(
    jobs: Sequence[Job], *, workers: int, threads: int, seen: Seen, note: Note
) -> Generator[Finished]:
    """Run jobs in worker processes; yields each result with its number as it finishes.

    A worker that dies is replaced, and its job done once more after the others.

    Raises
    ------
    WorkerError
        If workers die before they have begun.
    """
    events: Events = queue.Queue()
    waiting = deque(range(len(jobs)))
    attempts = dict.fromkeys(waiting, 0)
    staff: list[_Worker] = []
    begun = False
    try:
        while waiting or any(worker.job is not None for worker in staff):
            for worker in staff:
                if waiting and worker.ready and worker.job is None:
                    number = waiting.popleft()
                    worker.take(number, jobs[number])
            starting = sum(not worker.ready for worker in staff)
            while len(staff) < workers and starting < len(waiting):
                staff.append(_Worker(threads, events))
                starting += 1
            try:
                worker, kind, content = events.get(timeout=1.0)
            except queue.Empty:  # on some systems an interruption is only heard between waits
                continue
            job = worker.job
            if kind == "ready":
                worker.ready = begun = True
            elif kind == "note":
                note(content)
            elif kind == "progress" and job is not None:
                seen(job, content)
            elif kind == "finished" and job is not None:
                worker.job = None
                yield job, content
            elif kind == "gone":
                staff.remove(worker)
                if not begun:
                    raise WorkerError(f"the processes that register do not start: one {content}.")
                if job is not None:
                    _clear_up(jobs[job])
                    seen(job, 0.0)
                    attempts[job] += 1
                    if attempts[job] < ATTEMPTS:
                        waiting.append(job)
                    else:
                        yield job, failure(f"the process that registered it {content}, twice")
    finally:
        _dismiss(staff)
        for worker in staff:
            if worker.job is not None:
                _clear_up(jobs[worker.job])


def _clear_up(job: Job) -> None:
    """Remove leftovers of a worker that has ended."""
    for folder in (Path(job.output).parent, Path(job.output)):
        remove_abandoned(folder)


class _Worker:
    """A worker process and the thread that reads its messages."""

    def __init__(self, threads: int, events: Events) -> None:
        self.ready = False
        self.job: int | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path, parent=os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(threads),
        )
        self._events = events
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        threading.Thread(target=self._listen, daemon=True).start()

    def take(self, number: int, job: Job) -> None:
        """Send a job to the worker."""
        self.job = number
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it is dead; _listen will say so
            self.process.stdin.write(json.dumps(job.as_dict()).encode() + b"\n")
            self.process.stdin.flush()

    def dismiss(self) -> None:
        """The end of its stdin is what a worker stops at."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # a line that its death cut off
                kind, content = json.loads(line)
                self._events.put((self, kind, content))
        status = self.process.wait()
        self._reader.join(timeout=1.0)
        self._events.put((self, "gone", self._how(status)))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._last_words.append(line.decode("utf-8", "replace").strip())

    def _how(self, status: int) -> str:
        """Description of how the worker ended."""
        if status < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-status).name
                guess = ", perhaps for want of memory" if name == "SIGKILL" else ""
                return f"was ended by {name}{guess}"
        words = next((line for line in reversed(self._last_words) if line), "")
        return f"ended with status {status}" + (f" ({words})" if words else "")


def environment(threads: int) -> Mapping[str, str]:
    """Environment variables of a worker with a given number of threads."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def _dismiss(workers: Sequence[_Worker]) -> None:
    """Ask all workers to stop and clean up; kill those that do not."""
    for worker in workers:
        worker.dismiss()
    until = time.monotonic() + PATIENCE
    try:
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, until - time.monotonic()))
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
