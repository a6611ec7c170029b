"""The whole reproduction: train, measure, write; resumable."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from itk_ncr.data import data_hash
from itk_ncr.errors import ArgumentError, TrainingError
from itk_ncr.files import holds_files, replacing, sole_run
from itk_ncr.processes import end_with_spawning_process
from itk_ncr.training import code_version
from itk_ncr_reproduction.cases import (
    CaseKey,
    brains_of,
    case_keys,
    load_case,
    published_pairs,
)
from itk_ncr_reproduction.design import (
    FIGURES,
    TABLES,
    Design,
    Experiment,
)
from itk_ncr_reproduction.measure import Figures, measure
from itk_ncr_reproduction.methods import METHODS
from itk_ncr_reproduction.models import is_trained, model_folder, model_of, train
from itk_ncr_reproduction.sources import lesion_masks, require_data

RECORD = "manifest.json"
WORK = "work"
Progress = Callable[[float, str], None]
Task = TypeVar("Task")
# A training counts as this many measured cases for the progress bar.
TRAINING_WEIGHT = 15


@dataclass(frozen=True)
class Measured:
    """One case with the figures of every method."""

    key: CaseKey
    figures: dict[str, Figures]


@dataclass(frozen=True)
class Reproduction:
    """All measurements and their origin.

    Attributes
    ----------
    design : Design
    data : Path
    output : Path
        Where the tables go; models and measurements lie in its folder ``work``.
    measured : tuple of Measured
    record : dict
        The content of ``manifest.json``.
    """

    design: Design
    data: Path
    output: Path
    measured: tuple[Measured, ...]
    record: dict[str, Any]

    def model(self, experiment: str, key: str, fold: int) -> Path | None:
        """The model that a method uses; None where it uses none."""
        return model_of(self.output / WORK, experiment, key, fold)


def plan_text(
    data: Path, chosen: Design, tables: tuple[int, ...], figures: tuple[int, ...]
) -> list[tuple[str, str]]:
    """What a reproduction will do, as pairs of a title and a text."""
    lines = [("budget", f"{chosen.budget}, seed {chosen.seed}")]
    folds = ", ".join(map(str, chosen.used_folds))
    lines.append(
        ("folds", f"{folds} of {chosen.dealing.folds}, {chosen.dealing.patients} patients")
    )
    for experiment in chosen.needed(tables, figures):
        keys = [k for f in chosen.used_folds for k in case_keys(data, chosen, experiment, f)]
        trained = len(experiment.variants) * len(chosen.used_folds)
        lines.append(
            (
                experiment.name,
                f"{trained} networks of {experiment.settings.steps} steps x "
                f"{experiment.settings.batch} pairs; {len(keys)} test pairs, "
                f"{len(experiment.rows)} methods",
            )
        )
    return lines


def reproduce(
    data: Path,
    output: Path,
    chosen: Design,
    *,
    tables: tuple[int, ...] = TABLES,
    figures: tuple[int, ...] = FIGURES,
    workers: int = 2,
    device: str = "cpu",
    command: str = "",
    progress: Progress | None = None,
) -> Reproduction:
    """Run the missing trainings and measurements.

    Parameters
    ----------
    data : Path
        The data folder, see ``docs/reproduction.md``.
    output : Path
        Made if it does not exist; resumed if it holds this reproduction.
    chosen : Design
        See :func:`design`.
    tables, figures : tuple of int
        Of the paper.
    workers : int
        Processes of one thread each.
    device : str
        Of the trainings.
    command : str
        For the record.
    progress : callable, optional
        ``progress(share, text)``.

    Raises
    ------
    ArgumentError
        If an argument is outside its range, or ``output`` holds another reproduction.
    InputError
        If another run is at work in ``output``.
    TrainingError
        If a worker dies; the same call resumes.
    """
    _require(tables, TABLES, "tables")
    _require(figures, FIGURES, "figures")
    if workers < 1:
        raise ArgumentError(f"workers must be at least 1; got {workers}. One per core is usual.")
    require_data(data)
    data = data.resolve()
    with sole_run(output):
        return _reproduce(data, output, chosen, tables, figures, workers, device, command, progress)


def _reproduce(
    data: Path,
    output: Path,
    chosen: Design,
    tables: tuple[int, ...],
    figures: tuple[int, ...],
    workers: int,
    device: str,
    command: str,
    progress: Progress | None,
) -> Reproduction:
    record = _begin(data, output, chosen, command)
    experiments = chosen.needed(tables, figures)
    trainings = [
        _Training(data, output / WORK, chosen, experiment, variant, fold, device)
        for experiment in experiments
        for variant in experiment.variants
        for fold in chosen.used_folds
    ]
    measurements = [
        measurement
        for experiment in experiments
        for fold in chosen.used_folds
        for measurement in _measurements(data, output / WORK, chosen, experiment, fold)
    ]
    share = _Share(progress, TRAINING_WEIGHT * len(trainings) + len(measurements))
    done = sum(is_trained(t.folder) for t in trainings)
    share.add(TRAINING_WEIGHT * done, f"{done} networks trained before")
    with _single_threads(), _pool(workers) as pool:
        for training in _run(pool, [t for t in trainings if not is_trained(t.folder)], _train):
            share.add(TRAINING_WEIGHT, f"trained {training.folder.name}")
        for measurement in _run(pool, measurements, _measure):
            share.add(1, f"measured {measurement.key.name}")
    found = tuple(Measured(m.key, json.loads(m.file.read_text())) for m in measurements)
    return Reproduction(chosen, data, output, found, record)


@dataclass(frozen=True)
class _Training:
    data: Path
    work: Path
    design: Design
    experiment: Experiment
    variant: str
    fold: int
    device: str

    @property
    def folder(self) -> Path:
        return model_folder(self.work, self.experiment.name, self.variant, self.fold)


@dataclass(frozen=True)
class _Measurement:
    data: Path
    work: Path
    design: Design
    key: CaseKey
    rows: tuple[str, ...]

    @property
    def file(self) -> Path:
        return self.work / "measurements" / f"{self.key.name}.json"


def _train(task: _Training) -> None:
    """In a worker."""
    train(
        task.data,
        task.work,
        task.design,
        task.experiment,
        task.variant,
        task.fold,
        device=task.device,
    )


def _measure(task: _Measurement) -> None:
    """In a worker: the methods that have not been measured on this case yet."""
    there: dict[str, Figures] = {}
    if task.file.is_file():
        there = json.loads(task.file.read_text())
    missing = [row for row in task.rows if row not in there or "failed" in there[row]]
    if not missing:
        return
    case = load_case(task.data, task.design, task.key)
    for row in missing:
        model = model_of(task.work, task.key.experiment, row, task.key.fold)
        there[row] = measure(case, row, model, seed=task.design.seed)
    task.file.parent.mkdir(parents=True, exist_ok=True)
    ordered = {row: there[row] for row in METHODS if row in there}
    write_text(task.file, json.dumps(ordered, indent=1, allow_nan=False) + "\n")


def _measurements(
    data: Path, work: Path, chosen: Design, experiment: Experiment, fold: int
) -> list[_Measurement]:
    """The cases of a fold, each with all methods or with those of the stricter protocol only."""
    keys = case_keys(data, chosen, experiment, fold)
    published = published_pairs(experiment, keys)
    return [
        _Measurement(
            data,
            work,
            chosen,
            key,
            experiment.rows if key.pair in published else experiment.strict_rows,
        )
        for key in keys
    ]


def _run(
    pool: ProcessPoolExecutor, tasks: Iterable[Task], work: Callable[[Task], None]
) -> Iterator[Task]:
    """Tasks as they are finished."""
    futures: dict[Future[None], Task] = {pool.submit(work, task): task for task in tasks}
    try:
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BrokenProcessPool as error:
        raise TrainingError(
            "workers must live until their work is done; one was killed, perhaps for want of "
            "memory. Give the same command again to go on, with fewer workers if it happens again."
        ) from error
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes that leave Ctrl-C to their parent, who ends them."""
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker
    )
    try:
        yield pool
    except BaseException:
        # What they have not finished is done again; a training goes on from its last state.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    end_with_spawning_process()
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


@contextmanager
def _single_threads() -> Iterator[None]:
    """Processes that are started meanwhile use one thread each."""
    names = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Share:
    """Accumulates progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, max(total, 1), 0

    def add(self, number: int, text: str) -> None:
        self.done += number
        if self.progress is not None:
            self.progress(min(1.0, self.done / self.total), text)


def _begin(data: Path, output: Path, chosen: Design, command: str) -> dict[str, Any]:
    """The record of this reproduction, new or resumed."""
    wanted = {"design": chosen.as_dict(), "data_hash": _hash(data, chosen)}
    path = output / RECORD
    if path.is_file():
        record = _record(path)
        other = [name for name in wanted if record.get(name) != wanted[name]]
        if other:
            raise ArgumentError(
                f"output must be empty or hold this reproduction; '{output}' holds one with "
                f"another {other[0].replace('_', ' ')}. Choose a new folder."
            )
    elif holds_files(output):
        raise ArgumentError(
            f"output must be empty or hold this reproduction; '{output}' holds other files. "
            "Choose a new folder."
        )
    else:
        record = {**wanted, "command": command, "code_versions": []}
    version = code_version()
    if version not in record["code_versions"]:
        record["code_versions"].append(version)
    write_record(output, record)
    return record


def _record(path: Path) -> dict[str, Any]:
    """The record of an earlier reproduction, as far as it is one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"output must be empty or hold this reproduction; '{path}' cannot be read "
            f"({type(error).__name__}). Choose a new folder."
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("code_versions"), list):
        raise ArgumentError(
            f"output must be empty or hold this reproduction; '{path}' is not a record of one. "
            "Choose a new folder."
        )
    return record


def write_record(output: Path, record: dict[str, Any]) -> None:
    """Write ``manifest.json``."""
    write_text(output / RECORD, json.dumps(record, indent=1) + "\n")


def _hash(data: Path, chosen: Design) -> str:
    """Of all brains and lesion masks that are used."""
    total = hashlib.sha256()
    dimensions = {e.dimension for e in chosen.experiments if e.name != "oct"}
    for dimension in sorted(dimensions):
        total.update(data_hash(brains_of(data, dimension, chosen.dealing).manifest).encode())
    for file in sorted(lesion_masks(data).iterdir()):
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file atomically."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _require(numbers: tuple[int, ...], known: tuple[int, ...], name: str) -> None:
    odd = [n for n in numbers if n not in known]
    if odd:
        raise ArgumentError(
            f"{name} must be among {', '.join(map(str, known))}; got {', '.join(map(str, odd))}."
        )
