"""Many pairs: none lost, none doubled, whatever happens to the processes that do them."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from itk_ncr import runs
from itk_ncr.errors import ArgumentError, InputError, WorkerError
from itk_ncr.runs import planning, pool
from itk_ncr.runs.job import run_job

COMMAND = [sys.executable, "-m", "itk_ncr", "batch", "--no-report", "--affine=none", "--mask=none"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the jobs in this process: as good, where nothing happens to a process."""

    def work(jobs: list, **_: object) -> Iterator[tuple[int, dict]]:
        for number, job in enumerate(jobs):
            yield number, run_job(job)

    monkeypatch.setattr(pool, "work_here", work)


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def cohort(
    tmp_path_factory: pytest.TempPathFactory, images: Path
) -> tuple[Path, runs.Cohort, list[runs.CohortProgress]]:
    """A folder, the outcome, and what was heard of three good pairs and a bad one."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "pairs.csv").write_text(
        "name,fixed,moving,labels,fixed_labels,affine,group\n"
        f"z,{images}/fixed.nrrd,{images}/moving.nrrd,,,,x\n"
        f"bad,{images}/broken.nrrd,{images}/moving.nrrd,,,,x\n"
        f"y,{images}/fixed.nrrd,{images}/moving.nrrd,"
        f"{images}/labels.nrrd,{images}/fixed_labels.nrrd,,y\n"
        f"a,{images}/fixed.nrrd,{images}/fixed.nrrd,,,auto,y\n"
    )
    heard: list[runs.CohortProgress] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in pool.THREAD_VARIABLES:
            patch.delenv(name, raising=False)
        plan = runs.plan_cohort(
            folder / "pairs.csv",
            folder / "out",
            {"affine": "none", "mask": "none"},
            report=False,
            workers=2,
        )
    return folder / "out", plan.run(heard.append), heard


def test_a_failing_pair_is_a_line_and_the_others_are_done(cohort, summary, complete):
    folder, outcome, _ = cohort
    rows = summary(folder)
    assert [row["name"] for row in rows] == ["z", "bad", "y", "a"]  # as in the table
    assert [row["status"] for row in rows] == ["done", "failed", "done", "done"]
    assert "broken.nrrd" in rows[1]["error"]
    assert [row["group"] for row in rows] == ["x", "x", "y", "y"]
    assert (outcome.count("done"), outcome.count("failed"), outcome.kept) == (3, 1, 0)
    assert visible(folder) == {"z", "y", "a", "summary.csv", "cohort.json"}
    assert all(complete(folder / name) for name in "zya")


def test_the_summary_has_the_figures_of_the_folders(cohort, summary):
    folder, _, _ = cohort
    row = summary(folder)[2]
    record = json.loads((folder / "y" / "summary.json").read_text())
    for name, value in record["quality"].items():
        assert float(row[name]) == pytest.approx(value, rel=1e-5)
    assert float(row["label_jaccard"]) > float(row["label_jaccard_before"]) > 0.5
    assert float(row["label_jaccard"]) == pytest.approx(
        record["label_overlap"]["jaccard"], rel=1e-5
    )
    # The process had done another pair before; what that needed is not this one's.
    assert 100 < float(row["peak_memory_megabytes"]) < 2000
    assert row["folder"] == "y"


def test_a_line_of_the_table_may_ask_for_its_own_affine(cohort):
    folder, _, _ = cohort
    records = [json.loads((folder / name / "summary.json").read_text()) for name in "za"]
    assert [record["settings"]["affine"] for record in records] == ["none", "auto"]


def test_workers_do_not_use_more_threads_than_they_were_given(cohort, summary):
    folder, _, _ = cohort
    assert {row["threads"] for row in summary(folder) if row["status"] == "done"} == {"1"}
    assert {pool.environment(2)[name] for name in pool.THREAD_VARIABLES} == {"2"}


def test_torch_and_itk_are_told_how_many_threads_to_use():
    import SimpleITK as sitk
    import torch

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    runs.limit_threads(2)
    assert torch.get_num_threads() == sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 2
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def test_progress_is_told_as_pairs_are_finished(cohort):
    _, _, heard = cohort
    finished = [progress for progress in heard if progress.row is not None]
    assert [p.done + p.failed for p in finished] == [1, 2, 3, 4]
    assert finished[-1].share == 1
    assert {p.row["name"] for p in finished} == {"z", "bad", "y", "a"}


@pytest.mark.usefixtures("here")
def test_a_second_run_does_only_what_is_missing(table, row, tmp_path, quick, tree, summary):
    path = table(row("a"), row("b", moving="broken.nrrd"))
    runs.run_cohort(path, tmp_path / "out", quick, report=False)
    before = tree(tmp_path / "out" / "a")
    path = table(row("new"), row("a"), row("b"))
    outcome = runs.run_cohort(path, tmp_path / "out", quick, report=False)
    assert [row["status"] for row in summary(tmp_path / "out")] == ["done"] * 3
    assert [row["kept"] for row in outcome.rows] == [False, True, False]
    assert tree(tmp_path / "out" / "a") == before
    runs.run_cohort(path, tmp_path / "out", quick, report=False, overwrite=True)
    assert tree(tmp_path / "out" / "a") != before


@pytest.mark.usefixtures("here")
def test_results_of_another_input_are_never_taken_for_those_of_this_one(
    table, row, tmp_path, quick, tree
):
    path = table(row("a"))
    runs.run_cohort(path, tmp_path / "out", quick, report=False)
    before = tree(tmp_path / "out" / "a")
    (tmp_path / "moving.nrrd").write_bytes((tmp_path / "labels.nrrd").read_bytes())
    (told,) = runs.run_cohort(path, tmp_path / "out", quick, report=False).rows
    assert told["status"] == "failed"
    assert "was made with another moving. Delete it" in told["error"]
    assert tree(tmp_path / "out" / "a") == before


@pytest.mark.usefixtures("here")
def test_a_folder_that_has_lost_a_file_is_not_taken_for_whole(table, row, tmp_path, quick):
    runs.run_cohort(table(row("a")), tmp_path / "out", quick, report=False)
    (tmp_path / "out" / "a" / "mask.nrrd").unlink()
    (tmp_path / "out" / "b").mkdir(parents=True)
    (tmp_path / "out" / "b" / "notes.txt").write_text("mine")
    path = table(row("a"), row("b"))
    rows = runs.run_cohort(path, tmp_path / "out", quick, report=False).rows
    assert "lacks files" in rows[0]["error"]
    assert "holds files already" in rows[1]["error"]
    assert (tmp_path / "out" / "b" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("settings", "options", "fragment"),
    [
        ({"smoothness": 2.0}, {}, "smoothness None there, 2.0 now"),
        ({}, {"ending": ".mha"}, "format None there, '.mha' now"),
    ],
)
def test_other_settings_need_another_folder(
    table, row, tmp_path, quick, settings, options, fragment, monkeypatch
):
    path = table(row("a"))
    monkeypatch.setattr(pool, "work_here", lambda *_, **__: (n for n in ()))
    runs.run_cohort(path, tmp_path / "out", quick, report=False)
    again = {"report": False, **options}
    with pytest.raises(InputError, match=fragment):
        runs.plan_cohort(path, tmp_path / "out", quick | settings, **again)
    runs.plan_cohort(path, tmp_path / "out", quick | settings, overwrite=True, **again)
    # The number of threads is no such setting.
    runs.plan_cohort(path, tmp_path / "out", quick | {"threads": 1}, report=False)


def test_what_cannot_work_is_said_before_anything_is_written(table, row, tmp_path, quick, tree):
    path = table(row("a"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(ArgumentError, match="smoothness"):
        runs.plan_cohort(path, tmp_path / "out", quick | {"smoothness": -1})
    with pytest.raises(ArgumentError, match="model must be"):
        runs.plan_cohort(path, tmp_path / "out", quick | {"model": "none"})
    with pytest.raises(InputError, match="holds files, but no cohort"):
        runs.plan_cohort(path, tmp_path / "full", quick)
    with pytest.raises(InputError, match="is a file"):
        runs.plan_cohort(path, path, quick)
    assert tree(tmp_path) == before


def test_a_missing_file_fails_its_pair_alone_and_cells_are_no_formulas(
    table, row, tmp_path, quick, here, summary
):
    carried = {"dose": "-1.5", "note": "=1+1", "by": "+cmd|' /C calc'!A0", "@sum": "@SUM(A1)"}
    path = table(row("a", **carried), row("gone", moving="gone.nrrd", **carried))
    plan = runs.plan_cohort(path, tmp_path / "out", quick, report=False)
    assert any("line 3: moving" in note for note in plan.notes)
    plan.run()
    done, failed = summary(tmp_path / "out")
    assert (done["status"], failed["status"]) == ("done", "failed")
    assert "gone.nrrd" in failed["error"]
    assert "No such file" in failed["error"]
    found = [done[column] for column in ("dose", "note", "by", "'@sum")]
    assert found == ["-1.5", "'=1+1", "'+cmd|' /C calc'!A0", "'@SUM(A1)"]


def test_of_two_runs_in_one_folder_the_second_is_refused(table, row, tmp_path, quick, monkeypatch):
    path = table(row("a"))
    plan = runs.plan_cohort(path, tmp_path / "out", quick, report=False)

    def work(*_: object, **__: object) -> Iterator[tuple[int, dict]]:
        with pytest.raises(InputError, match="another run is at work"):
            plan.run()
        yield 0, {"status": "failed", "error": "one", "kept": False}

    monkeypatch.setattr(pool, "work_here", work)
    assert plan.run().count("failed") == 1


@pytest.mark.parametrize(
    ("asked", "there", "got", "remarks"),
    [
        ((None, None), 8, (3, 2), 0),  # three pairs
        ((None, None), 2, (2, 1), 0),
        ((1, None), 8, (1, 8), 0),
        ((None, 3), 8, (2, 3), 0),
        ((2, 2), 4, (2, 2), 0),
        ((8, None), 2, (2, 1), 1),
        ((2, 2), 3, (1, 2), 1),
        ((1, 9), 4, (1, 4), 1),
    ],
)
def test_processors_are_shared_and_never_oversubscribed(
    table, row, monkeypatch, asked, there, got, remarks
):
    pairs = runs.read_pairs(table(row("a"), row("b"), row("c")))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(planning, "cpus", lambda: there)
    workers, threads, notes = planning.share_processors(*asked, pairs)
    assert (workers, threads) == got
    assert workers * threads <= there
    assert len(notes) == remarks


@pytest.mark.parametrize(
    ("said", "asked", "got"),
    [
        ("1", (1, None), (1, 1)),
        ("2", (None, None), (3, 2)),
        ("2,4", (1, None), (1, 2)),
        ("1", (1, 4), (1, 4)),  # the option counts for more
        ("", (1, None), (1, 8)),
        ("many", (1, None), (1, 8)),
    ],
)
def test_a_worker_has_the_threads_that_the_environment_asks_for(
    table, row, monkeypatch, said, asked, got
):
    pairs = runs.read_pairs(table(row("a"), row("b"), row("c")))
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(planning, "cpus", lambda: 8)
    assert planning.share_processors(*asked, pairs)[:2] == got


def test_memory_limits_how_many_pairs_are_done_at_a_time(table, row, monkeypatch):
    from itk_ncr import images

    pairs = runs.read_pairs(table(row("a"), row("b"), row("c")))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(planning, "cpus", lambda: 8)
    monkeypatch.setattr(images, "available_memory", lambda: 800_000_000)
    assert planning.share_processors(None, None, pairs)[:2] == (2, 4)


def test_a_worker_that_is_killed_costs_no_pair(
    table, row, tmp_path, quick, summary, complete, kill_workers
):
    path = table(row("a"), row("b"))
    plan = runs.plan_cohort(path, tmp_path / "out", quick, report=False, workers=1)
    (tmp_path / "out").mkdir()
    killer = kill_workers(tmp_path / "out", times=1)
    outcome = plan.run()
    killer.join(1)
    assert not killer.is_alive()
    assert [row["status"] for row in summary(tmp_path / "out")] == ["done", "done"]
    assert all(complete(tmp_path / "out" / name) for name in "ab")
    assert visible(tmp_path / "out") == {"a", "b", "summary.csv", "cohort.json"}
    assert outcome.kept == 0


def test_a_pair_that_kills_its_worker_twice_is_a_failure(
    table, row, tmp_path, quick, summary, monkeypatch
):
    plan = runs.plan_cohort(table(row("a"), row("b")), tmp_path / "out", quick, report=False)
    deadly = "import os; print('[\"ready\", null]', flush=True); input(); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(pool, "_PROGRAM", deadly + "  # {path}")
    plan.run()
    told = summary(tmp_path / "out")
    assert [row["status"] for row in told] == ["failed", "failed"]
    assert told[0]["error"] == (
        "the process that registered it was ended by SIGKILL, perhaps for want of memory, twice"
    )
    assert visible(tmp_path / "out") == {"summary.csv", "cohort.json"}


def test_workers_that_do_not_start_end_the_run(table, row, tmp_path, quick, monkeypatch):
    path = table(row("a"), row("b"))
    plan = runs.plan_cohort(path, tmp_path / "out", quick, report=False)
    monkeypatch.setattr(pool, "_PROGRAM", "raise SystemExit('no library')  # {path}")
    with pytest.raises(WorkerError, match=r"do not start: one ended with status 1 \(no library\)"):
        plan.run()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_whole_pairs_and_can_go_on(
    table, row, tmp_path, quick, sent, complete, here
):
    import psutil

    path, out = table(*(row(name) for name in "abcd")), tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, str(path), "-o", str(out), "--workers", "1"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
        # Tests started in the background of a script ignore it, and so does this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not ((out / "a").exists() and list(out.glob(".itk-ncr-*/"))):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children()
        process.send_signal(sent)
        _, stderr = process.communicate(timeout=300)
        psutil.wait_procs(workers, timeout=30)
    finally:
        process.kill()
    assert not any(worker.is_running() for worker in workers)
    if sent == signal.SIGINT:
        assert not list(out.glob(".itk-ncr-*"))
    folders = [f for f in out.iterdir() if f.is_dir() and not f.name.startswith(".")]
    assert 1 <= len(folders) < 4
    assert all(complete(folder) for folder in folders)
    if sent == signal.SIGINT:
        assert process.returncode == 130
        last = stderr.splitlines()[-1]
        assert last.startswith("error: interrupted; ")
        assert last.endswith(" of 4 pairs are done, the same command resumes")
        assert "Traceback" not in stderr
    outcome = runs.run_cohort(path, out, quick, report=False)
    assert outcome.count("done") == 4
    assert outcome.kept == len(folders)
    assert visible(out) == {*"abcd", "summary.csv", "cohort.json"}


def test_the_page_is_drawn_from_the_rows_and_may_fail(table, row, tmp_path, quick, monkeypatch):
    from itk_ncr import evaluation

    path = table(row("a"))

    def work(*_: object, **__: object) -> Iterator[tuple[int, dict]]:
        yield 0, {"status": "failed", "error": "one", "kept": False}

    monkeypatch.setattr(pool, "work_here", work)
    drawn: list[object] = []
    monkeypatch.setattr(
        evaluation, "write_cohort_report", lambda *w, **m: drawn.append((w, m)), raising=False
    )
    runs.plan_cohort(path, tmp_path / "out", quick).run()
    (((place, rows), titled),) = drawn
    assert place == tmp_path / "out" / "cohort.html"
    assert rows[0]["name"] == "a"
    assert titled == {"title": "out"}
    monkeypatch.setattr(evaluation, "write_cohort_report", lambda *_, **__: 1 / 0)
    notes: list[str] = []
    outcome = runs.plan_cohort(path, tmp_path / "out", quick).run(note=notes.append)
    assert outcome.count("failed") == 1
    assert len(notes) == 1
    assert notes[0].startswith("cohort.html could not be drawn")


@pytest.mark.usefixtures("here")
def test_the_example_says_what_became_of_the_pairs(table, row, tmp_path, monkeypatch, capsys):
    example = Path(__file__).parents[2] / "examples" / "cohort.py"
    path = table(row("a"), row("b", moving="broken.nrrd"))
    monkeypatch.setattr(sys, "argv", ["cohort.py", str(path), str(tmp_path / "out")])
    runpy.run_path(str(example), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 2 pairs registered"
    assert lines[1].startswith("b: cannot read moving image")
    assert lines[2].startswith("a: distance 0.")
