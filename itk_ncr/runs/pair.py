"""One pair of files: read, registered, and everything found out about it in a folder."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.errors import ImageWriteError, InputError, MissingDependencyError, NCRError
from itk_ncr.runs.inputs import PairFiles
from itk_ncr.runs.labels import as_labels
from itk_ncr.runs.machine import cpus
from itk_ncr.runs.messages import heard_warnings
from itk_ncr.runs.outputs import RECORD, OutputFolder, format_for, write_text
from itk_ncr.runs.threads import limit_threads, usable_threads

if TYPE_CHECKING:
    from itk_ncr.images import Image
    from itk_ncr.registration import RegistrationResult

TRANSFORMS = ("affine", "initial_transform")
LABELS = ("labels", "fixed_labels")
TRANSFORM, OVERVIEW, PAGE = "transform.h5", "overview.png", "report.html"
# What is written as images: name of the file, attribute of the result.
IMAGES = {
    "warped": "warped",
    "displacement": "displacement",
    "displacement_inverse": "displacement_inverse",
    "mask": "mask",
    "mask_probability": "noncorrespondence",
    "mask_moving": "mask_moving",
    "jacobian": "jacobian",
}
Progress = Callable[[float, str], None]
Note = Callable[[str], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairRun:
    """What :func:`run_pair` hands back."""

    record: dict[str, Any]
    """What stands in ``summary.json``."""
    text: str
    """``summary.json``, letter by letter."""
    result: RegistrationResult


def run_pair(
    files: PairFiles,
    output: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    ending: str | None = None,
    report: bool = True,
    overwrite: bool = False,
    extra: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    note: Note = _log.info,
) -> PairRun:
    """Register two files and write everything to a folder: what ``itk-ncr register`` does.

    The files of the folder appear together when everything is done, or not at all.

    Parameters
    ----------
    files : PairFiles
    output : Path
        Folder; made if it does not exist.
    settings : mapping, optional
        Keywords of :func:`itk_ncr.register` that are words and numbers. "affine" is not used where
        ``files`` has one.
    ending : str, optional
        One of ``FORMATS``. Default: that of the fixed image, see :func:`format_for`.
    report : bool
        Draw ``report.html`` and ``overview.png`` as well. One that fails costs a note, no more.
    overwrite : bool
        Replace the files of an earlier run in the folder.
    extra : mapping, optional
        Further JSON entries for ``summary.json``.
    progress : callable, optional
        ``progress(share, text)`` with the share done in [0, 1].
    note : callable, optional
        Gets remarks, one line each. Default: the log.

    Raises
    ------
    InputError
        If the folder cannot be written to, or an input is an output.
    ImageReadError, ImageWriteError
        If a file cannot be read or written.
    NCRError
        Whatever :func:`itk_ncr.register` raises, with the names of the files.
    """
    settings = dict(settings or {})
    report_progress = progress or _unseen
    folder = OutputFolder(output, overwrite, files.given().values())
    suffix = ending or format_for(files.fixed)
    images = (f"{name}{suffix}" for name in (*IMAGES, "labels"))
    folder.require_free([*images, TRANSFORM, OVERVIEW, PAGE])
    report_progress(0.0, "starting")
    _load_libraries()
    with heard_warnings() as heard:
        report_progress(0.0, "reading")
        loaded = _read(files)
        if settings.get("threads") is not None:
            settings["threads"], remark = usable_threads(settings["threads"], cpus())
            limit_threads(settings["threads"])
            if remark:
                note(remark)
        with folder.staged() as stage:
            result = _register(files, loaded, settings, report_progress)
            for warning in result.warnings:
                warnings.warn(warning, stacklevel=2)
            report_progress(0.9, "writing")
            written = _write(stage, output, suffix, loaded, result)
            from itk_ncr.runs.record import as_json, judged, pair_record

            record = pair_record(files, loaded, result) | {"warnings": heard}
            record = judged(record, loaded, result) | dict(extra or {})
            if report:
                report_progress(0.95, "drawing")
                written |= _draw(stage, loaded, result, record, note)
            record["outputs"] = {**written, "summary": RECORD}
            text = as_json(record)
            write_text(stage / RECORD, text)
    return PairRun(json.loads(text), text, result)


def _unseen(_fraction: float, _text: str) -> None:
    """Progress that nobody looks at."""


def _load_libraries() -> None:
    """Import what takes seconds, before anything else is said to take them."""
    from itk_ncr import images, registration  # noqa: F401


def _register(
    files: PairFiles,
    loaded: dict[str, Any],
    settings: dict[str, Any],
    progress: Progress,
) -> RegistrationResult:
    from itk_ncr import registration

    given = {role: loaded[role] for role in _GIVEN if role in loaded}
    try:
        return registration.register(
            loaded["fixed"],
            loaded["moving"],
            progress=lambda fraction, text: progress(0.03 + 0.87 * fraction, text),
            **{**settings, **given},
        )
    except NCRError as error:
        # The solver knows images, not files; the person at the terminal knows files.
        raise type(error)(f"{error} (fixed '{files.fixed}', moving '{files.moving}')") from error


_GIVEN = (
    *(
        side + kind
        for kind in ("lesion_mask", "roi_mask", "brain_mask")
        for side in ("", "moving_")
    ),
    *TRANSFORMS,
)


def _read(files: PairFiles) -> dict[str, Any]:
    """Every input by its role."""
    from itk_ncr.images import read_affine, read_image

    loaded: dict[str, Any] = {}
    for role, path in files.given().items():
        if role in TRANSFORMS:
            loaded[role] = read_affine(path, loaded["fixed"].dimension, _spoken(role))
        else:
            loaded[role] = read_image(path, _spoken(role))
            found, wanted = loaded[role].dimension, loaded["fixed"].dimension
            if found != wanted:
                raise InputError(
                    f"{_spoken(role)} '{path}' must be {wanted}D like the fixed image; it is "
                    f"{found}D. Give a {wanted}D image."
                )
    for role in LABELS:
        if role in loaded:
            loaded[role] = as_labels(loaded[role], files.given()[role])
    return loaded


def _spoken(role: str) -> str:
    return f"{role} image" if role in ("fixed", "moving") else role.replace("_", " ")


def _write(
    stage: Path, output: Path, suffix: str, loaded: dict[str, Any], result: RegistrationResult
) -> dict[str, str]:
    """Write the images and the transform; what was written, by the name of what it is."""
    from itk_ncr.images import write_image, write_transform

    def image(name: str) -> Image:  # one at a time: together they may not fit into memory
        if name == "labels":
            return result.resample(loaded["labels"], mode="nearest")
        made: Image = getattr(result, IMAGES[name])
        return made

    names = [*IMAGES, *(["labels"] if "labels" in loaded else [])]
    try:
        for name in names:
            write_image(image(name), stage / f"{name}{suffix}")
        write_transform(stage / TRANSFORM, result.affine, result.transform_deformation)
    except ImageWriteError as error:  # the hidden folder is not what the person asked for
        raise ImageWriteError(str(error).replace(str(stage), str(output))) from error
    return {name: f"{name}{suffix}" for name in names} | {"transform": TRANSFORM}


def _draw(
    stage: Path,
    loaded: dict[str, Any],
    result: RegistrationResult,
    record: dict[str, Any],
    note: Note,
) -> dict[str, str]:
    """Draw what people look at; a picture that fails is no reason to lose the registration."""

    def overview(path: Path) -> None:
        from itk_ncr.evaluation.overview import overview

        overview(loaded["fixed"], loaded["moving"], result, path)

    def page(path: Path) -> None:
        from itk_ncr.evaluation import write_pair_report

        maps = [loaded[role] for role in ("fixed_labels", "labels") if role in loaded]
        write_pair_report(
            path,
            loaded["fixed"],
            loaded["moving"],
            result,
            record=record,
            lesion_mask=loaded.get("lesion_mask"),
            labels=(maps[0], maps[1]) if len(maps) == 2 else None,
        )

    drawn = {}
    for kind, name, draw in (("report", PAGE, page), ("overview", OVERVIEW, overview)):
        try:
            draw(stage / name)
            drawn[kind] = name
        except Exception as error:
            if isinstance(error, MissingDependencyError):
                note(str(error))
            else:
                note(f"{name} could not be drawn ({type(error).__name__}: {error})")
            with contextlib.suppress(OSError):
                (stage / name).unlink()
    return drawn
