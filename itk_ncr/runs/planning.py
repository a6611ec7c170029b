"""Planning of cohorts: all checks before any registration."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from itk_ncr import __version__
from itk_ncr.errors import InputError, NCRError
from itk_ncr.runs.cohort import (
    MARK,
    OWN_COLUMNS,
    OWN_FILES,
    PAGE,
    SUMMARY,
    TOOL,
    Cohort,
    CohortPlan,
    require_cohort_folder,
)
from itk_ncr.runs.job import Job
from itk_ncr.runs.machine import cpus
from itk_ncr.runs.outputs import format_for
from itk_ncr.runs.table import CohortPair, read_pairs
from itk_ncr.runs.threads import threads_of_environment, usable_threads
from itk_ncr.tables import TOLD

# Estimated memory of a pair: that of `register_pair` where fixed, moving and working grid are
# alike, and of a process with torch: 1.05 GB were measured at 96 x 112 x 96.
PROCESS_BYTES, VOXEL_BYTES = 360_000_000, 670
# Files that are tried for the size of the largest image.
TRIED = 3


def plan_cohort(
    table: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: Mapping[str, Any] | None = None,
    *,
    ending: str | None = None,
    report: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
) -> CohortPlan:
    """Check a cohort: its table, its folder, its settings, and the resources of the machine.

    Parameters
    ----------
    table : path
        CSV with one pair per line, see :func:`read_pairs`.
    output : path
        Folder for ``NAME/`` of each pair, ``summary.csv``, ``cohort.html`` and ``cohort.json``.
    settings : mapping, optional
        Keywords of :func:`itk_ncr.register` that are words and numbers, for all pairs. "threads"
        is the number per pair; default: ``OMP_NUM_THREADS`` where it is set, else all processors,
        divided among the workers.
    ending : str, optional
        One of ``FORMATS``. Default: that of each fixed image.
    report : bool
        Draw ``report.html`` and ``overview.png`` of each pair, and ``cohort.html``.
    overwrite : bool
        Register pairs again whose folders exist.
    workers : int, optional
        Number of processes. Default: as many as processors and memory allow.
    scheduler : str, optional
        Address of a Dask scheduler to run the pairs on instead.

    Returns
    -------
    CohortPlan
        Nothing is written yet.

    Raises
    ------
    InputError
        If the table or the folder cannot be used; all faults of the table are reported together.
    ArgumentError
        If a setting is outside its range.
    """
    table, output = Path(table), Path(output)
    pairs = read_pairs(table, reserved=(*OWN_FILES, *OWN_COLUMNS))
    plan = plan_pairs(
        pairs,
        output,
        settings,
        ending=ending,
        report=report,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
    )
    for name in (SUMMARY, PAGE, MARK):
        if (output / name).exists() and table.samefile(output / name):
            raise InputError(f"pairs '{table}' would be overwritten. Give another output folder.")
    return plan


def plan_pairs(
    pairs: Sequence[CohortPair],
    output: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    folder: Path | None = None,
    ending: str | None = None,
    report: bool = True,
    page: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
) -> CohortPlan:
    """Check a cohort whose pairs are known.

    Parameters and errors are those of :func:`plan_cohort`, and:

    Parameters
    ----------
    pairs : sequence of CohortPair
    folder : Path, optional
        Where the folders of the pairs are. Default: ``output``.
    page : bool
        Draw ``cohort.html``, if ``report`` is True.
    """
    settings = _settled(settings or {})
    changed, model = _changed(settings), _model(settings.get("model"))
    asked = {"settings": changed, "model": model}
    mark = {
        "tool": TOOL,
        "version": __version__,
        "settings": {**changed, **({"model": model} if model else {})},
        "format": ending,
    }
    require_cohort_folder(output, mark, overwrite)
    threads = settings.get("threads")
    notes: tuple[str, ...] = ()
    if scheduler is None:
        workers, threads, notes = share_processors(workers, threads, pairs)
        settings["threads"] = threads
    notes = (*_missing(pairs), *notes)
    place = folder or output
    jobs = tuple(
        _job(pair, place, settings, asked, ending=ending, report=report, overwrite=overwrite)
        for pair in pairs
    )
    return CohortPlan(
        tuple(pairs),
        jobs,
        output,
        mark,
        report and page,
        workers or 0,
        threads or 0,
        scheduler,
        notes,
    )


def _missing(pairs: Iterable[CohortPair]) -> tuple[str, ...]:
    """A remark on the pairs that will fail, if there are any."""
    faults = [text for pair in pairs for text in pair.missing]
    if not faults:
        return ()
    more = f"; and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
    return (f"pairs without all files will fail: {'; '.join(faults[:TOLD])}{more}.",)


def run_cohort(
    table: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Cohort:
    """Register the pairs of a table: :func:`plan_cohort`, then its ``run``.

    Parameters
    ----------
    table, output, settings, **options
        As for :func:`plan_cohort`.

    Returns
    -------
    Cohort
        One row per pair.

    Raises
    ------
    InputError, ArgumentError, WorkerError
        As :func:`plan_cohort` and :meth:`CohortPlan.run`.
    """
    return plan_cohort(table, output, settings, **options).run()


def share_processors(
    workers: int | None, threads: int | None, pairs: Iterable[CohortPair]
) -> tuple[int, int, tuple[str, ...]]:
    """Processes, and threads of each, never more than there are processors; and remarks."""
    pairs, there = list(pairs), cpus()
    notes = []
    if threads is None:
        threads = threads_of_environment()
    if threads is not None:
        threads, remark = usable_threads(threads, there)
        notes += [remark] if remark else []
    most = there // (threads or 1)
    if workers is None:
        workers = min(most, _fitting(pairs))
    elif workers > most:
        each = f" of {threads} threads" if threads else ""
        notes.append(f"{most} worker{'s' * (most > 1)}{each}, for there are {there} processors.")
        workers = most
    workers = max(1, min(workers, len(pairs)))
    return workers, threads or max(1, there // workers), tuple(notes)


def _fitting(pairs: list[CohortPair]) -> int:
    """Number of the largest pairs that fit into the free memory."""
    from itk_ncr.images import available_memory

    available = available_memory()
    if available is None:
        return len(pairs)
    files = {path for pair in pairs for path in (pair.files.fixed, pair.files.moving)}
    needed = PROCESS_BYTES + VOXEL_BYTES * _most_voxels(files)
    return max(1, available // needed)


def _most_voxels(files: Iterable[Path]) -> int:
    """Voxels of the file that is the largest on the disk; 0 where none can be read.

    One is read, and not the headers of all, because no header is trusted without its voxels.
    """
    from itk_ncr.images import read_image

    for path in sorted(files, key=_bytes, reverse=True)[:TRIED]:
        with contextlib.suppress(NCRError, OSError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # given when the pair is registered
            return read_image(path).grid.voxels
    return 0


def _bytes(path: Path) -> int:
    """Size of an image's files: of a header those beside it too, of a folder all."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        if path.suffix.lower() in (".hdr", ".mhd", ".nhdr"):
            beside = path.parent.glob(f"{escape(path.stem)}.*")
            return sum(file.stat().st_size for file in beside)
        return path.stat().st_size
    return 0


def _settled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the absolute path of the model."""
    model = settings.get("model")
    if model is not None:
        from itk_ncr.checkpoints import named_folder

        if named_folder(str(model)) is None and os.path.isdir(model):
            return {**settings, "model": os.path.abspath(model)}
    return dict(settings)


def _changed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from their defaults and change the results.

    A later version with more settings still knows the folders of this one.
    """
    from itk_ncr.registration import RegistrationSettings

    usual = RegistrationSettings().as_dict()
    given = RegistrationSettings(**settings).as_dict()
    return {k: v for k, v in given.items() if v != usual[k] and k not in ("threads", "model")}


def _model(name: str | None) -> str | None:
    """SHA-256 of the weights that were asked for."""
    if name is None:
        return None
    from itk_ncr.checkpoints import find_model

    return find_model(name).sha256


def _job(
    pair: CohortPair,
    output: Path,
    settings: Mapping[str, Any],
    asked: Mapping[str, Any],
    *,
    ending: str | None,
    report: bool,
    overwrite: bool,
) -> Job:
    affine = {"affine": pair.affine} if pair.affine else {}
    return Job(
        files={role: os.path.abspath(path) for role, path in pair.files.given().items()},
        output=os.path.abspath(output / pair.name),
        settings={**settings, **affine},
        ending=ending,
        report=report,
        overwrite=overwrite,
        asked={
            **asked,
            "settings": {**asked["settings"], **affine},
            "format": ending or format_for(pair.files.fixed),
        },
    )
