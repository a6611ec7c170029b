"""Jobs of a cohort: one pair as plain data for another process, and its result row."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from itk_ncr.errors import InputError
from itk_ncr.files import fingerprint
from itk_ncr.runs.inputs import PairFiles
from itk_ncr.runs.memory import forget_peak_memory
from itk_ncr.runs.messages import reason
from itk_ncr.runs.outputs import RECORD
from itk_ncr.runs.record import read_record
from itk_ncr.runs.single import Progress, run_pair
from itk_ncr.runs.writing import Note

DONE, FAILED, WAITING = "done", "failed", "waiting"
Row = dict[str, Any]
"""What the summary says about a pair; JSON values."""


@dataclass(frozen=True)
class Job:
    """A pair, its folder and how to register it; words and numbers only.

    Attributes
    ----------
    files : mapping of str to str
        Absolute paths by the roles of :class:`PairFiles`.
    output : str
        Folder of the pair, absolute.
    settings : mapping
        Keywords of :func:`itk_ncr.register`.
    ending : str, optional
    report, overwrite : bool
        As for :func:`run_pair`.
    asked : mapping
        What the results depend on besides the files, as JSON values.
    """

    files: Mapping[str, str]
    output: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    ending: str | None = None
    report: bool = True
    overwrite: bool = False
    asked: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The job as JSON values; ``Job(**values)`` is the job again."""
        return asdict(self)


def run_job(job: Job, *, progress: Progress | None = None, note: Note = lambda _: None) -> Row:
    """Run a job unless its results exist; errors are reported in the row.

    It may be done twice, at the same time and by two machines: the folder then has the files of
    one of them.

    Returns
    -------
    dict
        ``status`` "done" with the figures, or "failed" with ``error``; ``kept``, whether nothing
        had to be done.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # each belongs into the record of its own pair
        warnings.showwarning = lambda *_, **__: None
        try:
            return _do(job, progress, note)
        except Exception as error:
            return failure(reason(error))


def _do(job: Job, progress: Progress | None, note: Note) -> Row:
    files = PairFiles(**{role: Path(path) for role, path in job.files.items()})
    folder = Path(job.output)
    asked = identity(job)
    if not job.overwrite:
        kept = _made_before(folder, asked)
        if kept is not None:
            return row_of(kept) | {"kept": True}
    forget_peak_memory()
    try:
        run = run_pair(
            files,
            folder,
            job.settings,
            ending=job.ending,
            report=job.report,
            overwrite=job.overwrite,
            extra={"job": asked},
            progress=progress,
            note=note,
        )
    except InputError:
        # Another worker may have been given the same job and finished it first.
        kept = None if job.overwrite else _made_before(folder, asked)
        if kept is None:
            raise
        return row_of(kept) | {"kept": True}
    return row_of(run.record) | {"kept": False}


def failure(why: str) -> Row:
    """The row of a pair that could not be registered."""
    return {"status": FAILED, "error": why, "kept": False}


def identity(job: Job) -> dict[str, Any]:
    """Identity of a result: contents of the inputs and settings."""
    inputs = {role: fingerprint(Path(path))["sha256"] for role, path in job.files.items()}
    return {"inputs": inputs, **job.asked}


def _made_before(folder: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Record of matching earlier results; None where there are none.

    Raises
    ------
    InputError
        If it holds something else.
    """
    record = read_record(folder / RECORD)
    if record is None:
        return None
    made, outputs = record.get("job"), record.get("outputs")
    if not (isinstance(made, dict) and isinstance(outputs, dict)):
        raise InputError(f"'{folder}' holds files that are not of this cohort. Move them away.")
    if made != asked:
        differs = [key for key in asked if made.get(key) != asked[key]]
        if differs == ["inputs"] and isinstance(made["inputs"], dict):
            roles = sorted({*asked["inputs"], *made["inputs"]})
            differs = [r for r in roles if made["inputs"].get(r) != asked["inputs"].get(r)]
        raise InputError(
            f"'{folder}' was made with another {' and '.join(differs).replace('_', ' ')}. "
            "Delete it to do the pair again, or do all pairs again with --overwrite."
        )
    if not all((folder / str(name)).is_file() for name in outputs.values()):
        raise InputError(f"'{folder}' lacks files that were written. Delete it to do them again.")
    return record


def row_of(record: dict[str, Any]) -> Row:
    """Summary row of a registered pair."""
    overlap = record.get("label_overlap") or {}
    return {
        "status": DONE,
        "error": "",
        "method": record.get("method"),
        "engine": record["engine"],
        "model": (record["model"] or {}).get("name"),
        **record["quality"],
        **_verdict(record.get("verdict") or {}),
        "label_jaccard_before": overlap.get("jaccard_before"),
        "label_jaccard": overlap.get("jaccard"),
        "peak_memory_megabytes": record["peak_memory_megabytes"],
        "threads": record["threads"],
        "warnings": len(record["warnings"]),
    }


def _verdict(verdict: Mapping[str, Any]) -> Row:
    return {
        "verdict": verdict.get("grade"),
        "verdict_alignment": verdict.get("alignment"),
        "verdict_mask": verdict.get("mask"),
        "verdict_why": verdict.get("sentence"),
    }
