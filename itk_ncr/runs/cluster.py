"""Cohorts on a Dask cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from itk_ncr.errors import WorkerError, require_package
from itk_ncr.runs.job import Job, Row, failure, run_job
from itk_ncr.runs.messages import reason

CONNECTING = 15.0  # seconds
BETWEEN_LOOKS = 5.0  # seconds
_one_at_a_time = threading.Lock()


def work_on_cluster(
    jobs: Sequence[Job], scheduler: str, *, note: Callable[[str], None]
) -> Generator[tuple[int, Row]]:
    """Run jobs on a Dask scheduler; yields each result with its number as it finishes.

    A job whose worker dies is sent to another one; after some deaths (Dask's setting
    ``allowed-failures``) it counts as failed. Leaving early takes back what has not begun.

    Parameters
    ----------
    jobs : sequence of Job
        Their files must be seen under these names by all workers.
    scheduler : str
        Its address, such as ``tcp://host:8786``.
    note : callable
        Called with remarks, one line each.

    Raises
    ------
    WorkerError
        If there is no scheduler, or it is lost.
    MissingDependencyError
        If distributed is not installed.
    """
    distributed = require_package("distributed", "--scheduler", "dask")
    with _silent_loggers():
        try:
            client = distributed.Client(scheduler, timeout=CONNECTING)
        except Exception as error:  # of what answers Dask believes any length of message
            raise WorkerError(
                f"no Dask scheduler answers at '{scheduler}' ({type(error).__name__}). "
                "Start one with `dask scheduler`, and workers with `dask worker --nthreads 1`."
            ) from error
        with client, _watched_workers(client, scheduler, note):
            # A name of its own for each run, or Dask would answer with the outcome of another one.
            run = secrets.token_hex(4)
            futures = {
                client.submit(do_remotely, job.as_dict(), key=f"itk-ncr-{run}-{number}"): number
                for number, job in enumerate(jobs)
            }
            try:
                for future in distributed.as_completed(list(futures)):
                    number = futures.pop(future)
                    if future.status == "finished":
                        yield number, future.result()
                    elif future.status == "error":
                        yield number, failure(_words(future.exception()))
                    else:
                        raise WorkerError(
                            f"the Dask scheduler at '{scheduler}' is gone ({future.status}). "
                            "The same command resumes when it is back."
                        )
                    future.release()
            finally:
                client.cancel(list(futures))


@contextlib.contextmanager
def _silent_loggers() -> Iterator[None]:
    """Silence Dask's tracebacks; errors are reported in one line."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _watched_workers(client: Any, scheduler: str, note: Callable[[str], None]) -> Iterator[None]:
    """Note missing workers, now and later."""
    ended = threading.Event()

    def look(had: bool) -> bool:
        """Whether there are workers, and a note where there are none any more."""
        workers = client.scheduler_info()["workers"].values()
        if had and not workers:
            note(
                f"the Dask scheduler at '{scheduler}' has no workers; waiting for one. Start some "
                f"with `dask worker {scheduler} --nthreads 1`."
            )
        if any(worker["nthreads"] > 1 for worker in workers):
            note(
                "some Dask workers have several threads; a process registers one pair at a time. "
                "Start them with --nthreads 1 and more --nworkers to share pairs evenly."
            )
        return bool(workers)

    def watch(there: bool) -> None:
        while not ended.wait(BETWEEN_LOOKS):
            with contextlib.suppress(Exception):  # the scheduler is gone, which others say
                there = look(there)

    thread = threading.Thread(target=watch, args=(look(True),), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def do_remotely(values: dict[str, Any]) -> Row:
    """Do a job in a worker of Dask, with as many threads as the worker has."""
    from distributed import get_worker

    job = Job(**values)
    if job.settings.get("threads") is None:
        threads = get_worker().state.nthreads
        job = dataclasses.replace(job, settings={**job.settings, "threads": threads})
    with _one_at_a_time:  # numbers of threads and warnings are those of the process
        return run_job(job)


def _words(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":
        return "the workers that registered it died, one after the other; perhaps out of memory"
    return reason(error)
