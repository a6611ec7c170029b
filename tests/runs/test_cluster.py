"""Pairs given to Dask: a worker that dies takes none with it, and none is done twice."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from itk_ncr import runs
from itk_ncr.errors import WorkerError
from itk_ncr.runs import job as jobs
from itk_ncr.runs.job import run_job

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Two processes of one thread."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as found:
        yield found


def test_of_two_workers_one_is_killed_and_no_pair_is_lost_or_doubled(
    cluster, table, row, tmp_path, quick, summary, complete, kill_workers
):
    names, out = "abcde", tmp_path / "out"
    path = table(*(row(name) for name in names[:-1]), row("e", moving="broken.nrrd"))
    plan = runs.plan_cohort(path, out, quick, report=False, scheduler=cluster.scheduler_address)
    finished: list[str] = []
    # In the background: a busy machine may tell of the first pair when all are done.
    killer = kill_workers(out, times=1)
    outcome = plan.run(lambda progress: finished.append(progress.row["name"]))
    killer.join(10)
    assert not killer.is_alive()
    assert Counter(finished) == Counter(names)  # each once
    assert (outcome.count("done"), outcome.count("failed")) == (4, 1)
    rows = summary(out)
    assert [row["name"] for row in rows] == list(names)
    assert "broken.nrrd" in rows[-1]["error"]
    assert {row["threads"] for row in rows[:-1]} == {"1"}  # as many as a worker of the cluster has
    assert all(complete(out / name) for name in names[:-1])
    assert {path.name for path in out.iterdir()} == {*names[:-1], "summary.csv", "cohort.json"}


def test_without_a_scheduler_one_line_says_how_to_start_one(
    table, row, tmp_path, quick, monkeypatch
):
    from itk_ncr.runs import cluster

    monkeypatch.setattr(cluster, "CONNECTING", 0.5)
    plan = runs.plan_cohort(
        table(row("a")), tmp_path / "out", quick, report=False, scheduler="tcp://127.0.0.1:9"
    )
    with pytest.raises(WorkerError, match=r"no Dask scheduler answers at .tcp://127\.0\.0\.1:9"):
        plan.run()


def test_what_answers_but_is_no_scheduler_is_one_line(
    table, row, tmp_path, quick, monkeypatch, caplog
):
    from itk_ncr.runs import cluster

    monkeypatch.setattr(cluster, "CONNECTING", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(300))

        threading.Thread(target=answer, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        plan = runs.plan_cohort(
            table(row("a")), tmp_path / "out", quick, report=False, scheduler=address
        )
        with pytest.raises(WorkerError, match="no Dask scheduler answers"):
            plan.run()
        server.shutdown(socket.SHUT_RDWR)
    assert not caplog.records


def test_a_scheduler_without_workers_is_waited_for_but_not_in_silence(monkeypatch):
    from itk_ncr.runs import cluster

    monkeypatch.setattr(cluster, "BETWEEN_LOOKS", 0.001)
    one = {"1": {"nthreads": 1}}
    answers = iter([{}, {}, one, {}, {}, {"1": {"nthreads": 4}}])
    seen, notes = threading.Event(), []

    class Client:
        def scheduler_info(self) -> dict[str, dict]:
            workers = next(answers, None)
            if workers is None:
                seen.set()
            return {"workers": one if workers is None else workers}

    with cluster._watched_workers(Client(), "tcp://host:1", notes.append):
        assert seen.wait(10)
    waits = [text for text in notes if "has no workers; waiting" in text]
    assert len(waits) == 2
    assert "`dask worker tcp://host:1 --nthreads 1`" in waits[0]
    assert len([text for text in notes if "several threads" in text]) == 1


def test_a_pair_that_two_workers_finish_is_one_result(table, row, tmp_path, quick, monkeypatch):
    """As after a pause in which the scheduler took a worker for dead and sent its pair on."""
    job = runs.plan_cohort(table(row("a")), tmp_path / "out", quick, report=False).jobs[0]
    run_pair, first = jobs.run_pair, []

    def overtaken(*words: object, **more: object) -> object:
        monkeypatch.setattr(jobs, "run_pair", run_pair)
        first.append(run_job(job))  # from beginning to end while the other one has begun
        return run_pair(*words, **more)

    monkeypatch.setattr(jobs, "run_pair", overtaken)
    second = run_job(job)
    assert (first[0]["kept"], second["kept"]) == (False, True)
    assert second["seconds"] == first[0]["seconds"]
    assert [path.name for path in Path(tmp_path / "out").iterdir()] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no Slurm")
def test_the_lines_for_slurm_submit_workers_of_one_thread_that_find_the_scheduler(
    tmp_path, monkeypatch
):
    pytest.importorskip("dask_jobqueue")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (
        ("sbatch", f'cat "$1" > {tmp_path}/job.sh\necho "Submitted batch job 7"'),
        ("scancel", "exit 0"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    page = Path(__file__).parents[2] / "docs" / "cohorts.md"
    code = re.search(r"^```python\n(from dask_jobqueue.*?)^```", page.read_text(), re.M | re.S)[1]
    made: dict[str, Any] = {}
    exec(code.replace("scale(40)", "scale(1)"), made)
    try:
        limit = time.monotonic() + 60
        while not (tmp_path / "job.sh").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        script = (tmp_path / "job.sh").read_text()
        assert made["cluster"].scheduler_address in script
        assert re.search(r"--nthreads 1\b", script)
        assert "#SBATCH --mem=8G" in script
        assert "#SBATCH -p QUEUE" in script
    finally:
        made["cluster"].close()
