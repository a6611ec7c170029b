"""A table on the command line: what is said, what is written, and the exit status."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from itk_ncr.runs import pool
from itk_ncr.runs.job import run_job

QUICK = ["--affine", "none", "--mask", "none", "--no-report"]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the jobs in this process; tests/runs has what happens to others."""

    def work(jobs: list, **_: object) -> Iterator[tuple[int, dict]]:
        for number, job in enumerate(jobs):
            yield number, run_job(job)

    monkeypatch.setattr(pool, "work_here", work)


@pytest.fixture
def table(pair: tuple[Path, Path], tmp_path: Path) -> Callable[..., Path]:
    def write(*names: str, moving: Path = pair[1], **more: str) -> Path:
        with (tmp_path / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "fixed", "moving", *more])
            writer.writerows([name, pair[0], moving, *more.values()] for name in names)
        return tmp_path / "pairs.csv"

    return write


def broken(folder: Path) -> Path:
    (folder / "broken.nrrd").write_text("no image")
    return folder / "broken.nrrd"


def test_a_cohort_is_a_folder_per_pair_and_the_layout_is_that_of_register(
    table, run, tmp_path, registered
):
    result = run("batch", table("one", "two"), "-o", tmp_path / "out", *QUICK[:4])
    assert result.exit_code == 0, result.output
    assert "done       2 of 2\n" in result.stdout
    assert "research use only" in result.stdout
    names = {path.name for path in (tmp_path / "out" / "one").iterdir()}
    assert names == {path.name for path in registered.iterdir()} - {"labels.nrrd"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "one",
        "two",
        "summary.csv",
        "cohort.html",
        "cohort.json",
    }
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["one", "two"]
    again = run("batch", table("one", "two"), "-o", tmp_path / "out", *QUICK)
    assert "done       2 of 2, 2 of them before\n" in again.stdout
    assert again.stderr.splitlines()[0].startswith("one: there already")


def test_failures_are_listed_and_the_status_is_1(table, run, tmp_path):
    path = table("bad", "worse", moving=broken(tmp_path))
    result = run("batch", path, "-o", tmp_path / "out", *QUICK)
    assert result.exit_code == 1
    assert "failed     bad: cannot read moving image" in result.stdout
    assert result.stderr.splitlines()[-1] == (
        f"error: 2 of 2 pairs failed; '{tmp_path / 'out' / 'summary.csv'}' says why"
    )
    quiet = run("batch", path, "-o", tmp_path / "out", "-q", *QUICK)
    assert (quiet.exit_code, quiet.stdout, quiet.stderr.count("\n")) == (1, "", 1)


def test_json_is_a_line_per_pair(table, run, tmp_path):
    path = table("a", "b", moving=broken(tmp_path), group="x")
    result = run("batch", path, "-o", tmp_path / "out", "--json", *QUICK)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(r["name"], r["status"], r["group"]) for r in rows] == [
        ("a", "failed", "x"),
        ("b", "failed", "x"),
    ]
    assert result.stderr.count("\n") == 1


def test_a_dry_run_checks_and_writes_nothing(table, run, tmp_path, tree):
    path = table("a", "b", age="4")
    before = tree(tmp_path)
    words = ["-o", tmp_path / "out", "--dry-run", "--smoothness", 2, "--workers", 1, "--threads", 1]
    result = run("batch", path, *words)
    assert result.exit_code == 0, result.output
    told = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert told == {
        "pairs": "2, 0 with results already",
        "settings": '"smoothness": 2.0',
        "work": "1 process of 1 thread",
        "carried": "age",
        "output": str(tmp_path / "out"),
    }
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("names", "options", "fragment"),
    [
        (["../x"], [], "line 2: name '../x' holds characters that a folder's name cannot"),
        (["a", "A"], [], "2 pairs are called 'a'"),
        (["cohort.html"], [], "no pair can be called 'cohort.html'"),
        (["a"], ["--model", "missing"], "model must be"),
    ],
)
def test_what_cannot_work_is_one_line_and_status_2(
    table, run, tmp_path, tree, names, options, fragment
):
    path = table(*names)
    before = tree(tmp_path)
    result = run("batch", path, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert fragment in result.stderr
    assert tree(tmp_path) == before


def test_options_reach_every_pair(table, run, tmp_path):
    words = ["--method", "instance", "--smoothness", 2, "--seed", 5, "--format", "mha"]
    result = run("batch", table("a"), "-o", tmp_path / "out", "-q", *QUICK, *words)
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "out" / "a" / "summary.json").read_text())
    expected = {"method": "instance", "smoothness": 2, "seed": 5, "affine": "none", "mask": "none"}
    assert {name: told["settings"][name] for name in expected} == expected
    assert (tmp_path / "out" / "a" / "warped.mha").is_file()


def test_ctrl_c_says_what_is_done_and_how_to_go_on(table, run, tmp_path, monkeypatch):
    def work(jobs: list, **_: object) -> Iterator[tuple[int, dict]]:
        yield 0, {"status": "failed", "error": "one", "kept": False}
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "work_here", work)
    result = run("batch", table("a", "b"), "-o", tmp_path / "out", *QUICK)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == (
        "error: interrupted; 0 of 2 pairs are done, the same command resumes"
    )
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["failed", "waiting"]


def test_a_scheduler_needs_its_extra(table, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = ["-o", tmp_path / "out", "--scheduler", "tcp://nowhere:1", *QUICK]
    result = run("batch", table("a"), *words)
    assert result.exit_code == 1
    assert result.stderr == (
        "error: distributed must be installed for --scheduler; run: pip install 'itk_ncr[dask]'\n"
    )


def test_a_terminal_sees_how_long_it_will_take(table, run, tmp_path, monkeypatch):
    from itk_ncr.cli import batch
    from itk_ncr.runs import CohortProgress

    assert batch._standing(CohortProgress(40, 10, 2, 1, 0.3, 3725.2, None)) == (
        "11 of 40, 1 failed, 1:02:05 left"
    )
    assert batch._standing(CohortProgress(40, 0, 0, 0, 0.0, None, None)) == "0 of 40"
