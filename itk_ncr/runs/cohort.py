"""Cohorts: registration of many pairs with one summary."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itk_ncr.errors import InputError
from itk_ncr.files import holds_files, sole_run
from itk_ncr.runs.job import DONE, FAILED, WAITING, Job, Row
from itk_ncr.runs.messages import reason
from itk_ncr.runs.outputs import RECORD, OutputFolder, remove_unfinished, write_text
from itk_ncr.runs.record import read_record
from itk_ncr.runs.single import Note
from itk_ncr.runs.table import CohortPair
from itk_ncr.tables import cell

TOOL = "itk-ncr batch"
SUMMARY, PAGE, MARK = "summary.csv", "cohort.html", "cohort.json"
OWN_FILES = (SUMMARY, PAGE, MARK, RECORD)
OWN_COLUMNS = (
    "name", "fixed", "moving", "status", "error", "method", "engine", "model",
    "distance_before", "distance_outside", "masked_fraction", "masked_fraction_moving",
    "minimum_jacobian", "folding_fraction", "inverse_error_mean_voxel", "inverse_error_max_voxel",
    "overlap_fraction", "affine_determinant",
    "verdict", "verdict_alignment", "verdict_mask", "verdict_why",
    "label_jaccard_before", "label_jaccard", "iterations", "seconds",
    "peak_memory_megabytes", "threads", "warnings", "folder",
)  # fmt: skip
BETWEEN_WRITINGS = 2.0  # seconds


@dataclass(frozen=True)
class CohortProgress:
    """Progress of a cohort.

    Attributes
    ----------
    pairs : int
        All pairs.
    done : int
        Registered pairs, in this run or before.
    kept : int
        Pairs registered before this run.
    failed : int
        Pairs that failed.
    share : float
        Fraction of the work done, in [0, 1].
    seconds_left : float or None
        None: not known yet.
    row : dict or None
        The pair that has just been finished, as in the summary.
    """

    pairs: int
    done: int
    kept: int
    failed: int
    share: float
    seconds_left: float | None
    row: Row | None


@dataclass(frozen=True)
class Cohort:
    """Outcome of a cohort."""

    rows: tuple[Row, ...]
    """One per pair in the order of the table, with the columns of ``summary.csv``, and ``kept``:
    whether its results were there already."""

    def count(self, status: str) -> int:
        """Number of pairs of a status.

        Parameters
        ----------
        status : str
            "done", "failed" or "waiting".

        Returns
        -------
        int
            Their number.
        """
        return sum(row["status"] == status for row in self.rows)

    @property
    def kept(self) -> int:
        """Pairs whose results were there already."""
        return sum(row["kept"] for row in self.rows)


@dataclass(frozen=True)
class CohortPlan:
    """A checked cohort, ready to run; see :func:`plan_cohort`.

    Attributes
    ----------
    pairs : tuple of CohortPair
        Pairs of the table.
    jobs : tuple of Job
        One per pair.
    output : Path
        Folder of the cohort.
    mark : mapping
        Content of ``cohort.json``.
    report : bool
        Whether pages are drawn.
    workers, threads : int
        Processes, and threads of each.
    scheduler : str or None
        Address of a Dask scheduler.
    notes : tuple of str
        Remarks, one line each.
    """

    pairs: tuple[CohortPair, ...]
    jobs: tuple[Job, ...]
    output: Path
    mark: Mapping[str, Any]
    report: bool
    workers: int
    threads: int
    scheduler: str | None = None
    notes: tuple[str, ...] = ()

    def summary(self) -> list[tuple[str, str]]:
        """Description of the plan."""
        there = sum(read_record(Path(job.output) / RECORD) is not None for job in self.jobs)
        carried = ", ".join(self.pairs[0].carried)
        where = self.scheduler or (
            f"{self.workers} process{'es' * (self.workers > 1)} of {self.threads} "
            f"thread{'s' * (self.threads > 1)}"
        )
        return [
            ("pairs", f"{len(self.pairs)}, {there} with results already"),
            ("settings", json.dumps(self.mark["settings"], sort_keys=True)[1:-1] or "as usual"),
            ("work", where),
            *([("carried", carried)] if carried else []),
            *(("note", note) for note in self.notes),
            ("output", str(self.output)),
        ]

    def run(
        self,
        listener: Callable[[CohortProgress], None] = lambda _: None,
        *,
        note: Note = lambda _: None,
    ) -> Cohort:
        """Register the pairs that are not done yet; a pair that fails does not stop the others.

        Parameters
        ----------
        listener : callable
            Called with a :class:`CohortProgress` during the work and after every pair.
        note : callable
            Called with remarks, one line each.

        Returns
        -------
        Cohort
            One row per pair.

        Raises
        ------
        InputError
            If another run is at work in the folder.
        WorkerError
            If the processes cannot be started or the scheduler cannot be reached.
        """
        with sole_run(self.output):
            write_text(self.output / MARK, json.dumps(self.mark, indent=2, sort_keys=True) + "\n")
            books = _Books(self)
            books.write()
            try:
                with contextlib.closing(self._work(books.seen(listener), note)) as finished:
                    for number, row in finished:
                        listener(books.enter(number, row))
            finally:
                books.write()
            if self.scheduler is not None:
                # What workers that died had begun, and those that do what another one has done.
                for folder in {Path(job.output) for job in self.jobs} | {self.output}:
                    remove_unfinished(folder)
            if self.report:
                _draw(self.output / PAGE, books.rows, self.output.resolve().name, note)
            return Cohort(tuple(books.rows))

    def _work(self, seen: Callable[[int, float], None], note: Note) -> Generator[tuple[int, Row]]:
        said: set[str] = set()

        def once(text: str) -> None:  # every pair has the same remark about a missing package
            if text not in said:
                said.add(text)
                note(text)

        for text in self.notes:
            once(text)
        if self.scheduler is not None:
            from itk_ncr.runs.cluster import work_on_cluster

            return work_on_cluster(self.jobs, self.scheduler, note=once)
        from itk_ncr.runs.pool import work_here

        return work_here(
            self.jobs, workers=self.workers, threads=self.threads, seen=seen, note=once
        )


@dataclass
class _Books:
    """Rows of a cohort with progress and remaining time."""

    plan: CohortPlan
    rows: list[Row] = field(init=False)
    shares: dict[int, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    written: float = 0.0

    def __post_init__(self) -> None:
        self.rows = [
            {
                "name": pair.name,
                **pair.carried,
                "fixed": str(pair.files.fixed),
                "moving": str(pair.files.moving),
                "status": WAITING,
                "kept": False,
                "folder": pair.name,
            }
            for pair in self.plan.pairs
        ]

    def enter(self, number: int, row: Row) -> CohortProgress:
        self.shares[number] = 1.0
        self.rows[number] |= row
        if time.monotonic() - self.written > BETWEEN_WRITINGS:
            self.write()
        return self.progress(self.rows[number])

    def seen(self, listener: Callable[[CohortProgress], None]) -> Callable[[int, float], None]:
        def listen(number: int, share: float) -> None:
            self.shares[number] = share
            listener(self.progress(None))

        return listen

    def progress(self, row: Row | None) -> CohortProgress:
        states = [row["status"] for row in self.rows]
        share = sum(self.shares.values()) / len(self.rows)
        # What was there already took no time, and says nothing about the rest.
        kept = sum(row["kept"] for row in self.rows)
        worked = sum(self.shares.values()) - kept
        seconds = time.monotonic() - self.began
        left = (len(self.rows) - sum(self.shares.values())) * seconds / worked if worked else None
        return CohortProgress(
            len(states), states.count(DONE), kept, states.count(FAILED), share, left, row
        )

    def write(self) -> None:
        self.written = time.monotonic()
        carried = dict.fromkeys(column for pair in self.plan.pairs for column in pair.carried)
        write_rows(self.plan.output / SUMMARY, self.rows, tuple(carried))


def write_rows(path: Path, rows: Iterable[Row], carried: Sequence[str] = ()) -> None:
    """Write ``summary.csv``: one line per pair, what the table said besides after the name."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text,
        [OWN_COLUMNS[0], *carried, *OWN_COLUMNS[1:]],
        lineterminator="\n",
        extrasaction="ignore",
    )
    writer.writerow({name: cell(name) for name in writer.fieldnames})
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


def _draw(path: Path, rows: list[Row], title: str, note: Note) -> None:
    """Write the report; a failure does not lose the cohort."""
    try:
        from itk_ncr.evaluation import write_cohort_report

        write_cohort_report(path, rows, title=title)
    except Exception as error:
        note(f"{path.name} could not be drawn: {reason(error)}")


def require_cohort_folder(output: Path, mark: Mapping[str, Any], overwrite: bool) -> None:
    """Check the folder of a cohort before any work is done.

    Raises
    ------
    InputError
        If it cannot be written to, holds something else, or a cohort with other settings.
    """
    OutputFolder(output, overwrite=True)
    before = read_record(output / MARK)
    if before is None or before.get("tool") != TOOL:
        if holds_files(output):
            raise InputError(
                f"output folder '{output}' holds files, but no cohort. Give another folder."
            )
        return
    there, now = ({**of.get("settings", {}), "format": of.get("format")} for of in (before, mark))
    differs = [
        f"{key} {there.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted({*there, *now})
        if there.get(key) != now.get(key)
    ]
    if differs and not overwrite:
        raise InputError(
            f"output folder '{output}' holds a cohort with other settings: {'; '.join(differs)} "
            "(None: as usual). Give another folder, or do all pairs again with --overwrite."
        )
