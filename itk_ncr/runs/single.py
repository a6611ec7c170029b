"""Registration of one pair of files into an output folder."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.errors import ArgumentError, InputError, NCRError, ShapeError, require_choice
from itk_ncr.files import fingerprint
from itk_ncr.runs.inputs import PairFiles
from itk_ncr.runs.labels import as_labels
from itk_ncr.runs.machine import cpus
from itk_ncr.runs.messages import heard_warnings
from itk_ncr.runs.outputs import FORMATS, OutputFolder, format_for
from itk_ncr.runs.threads import limit_threads, usable_threads
from itk_ncr.runs.writing import Note, names, write_results

if TYPE_CHECKING:
    from itk_ncr.images import Image
    from itk_ncr.registration import RegistrationResult

TRANSFORMS = ("affine", "initial_transform")
LABELS = ("labels", "fixed_labels")
Progress = Callable[[float, str], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairRun:
    """Return value of :func:`run_pair`.

    Attributes
    ----------
    record : dict
        Content of ``summary.json``.
    text : str
        ``summary.json`` as written.
    result : RegistrationResult
        The registration.
    """

    record: dict[str, Any]
    text: str
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
    """Register two files and write everything to a folder, as ``itk-ncr register`` does.

    The files of the folder appear together when everything is done, or not at all.

    Parameters
    ----------
    files : PairFiles
        Images, masks, labels and transforms of the pair.
    output : Path
        Folder; made if it does not exist.
    settings : mapping, optional
        Keywords of :func:`itk_ncr.register` that are words and numbers. "affine" is not used where
        ``files`` has one.
    ending : str, optional
        One of ``FORMATS``. Default: that of the fixed image, see :func:`format_for`.
    report : bool
        Draw ``report.html`` and ``overview.png`` as well. A failure to draw one is only noted.
    overwrite : bool
        Replace the files of an earlier run in the folder.
    extra : mapping, optional
        Further JSON entries for ``summary.json``.
    progress : callable, optional
        ``progress(share, text)`` with a share in [0, 1].
    note : callable, optional
        Called with remarks, one line each. Default: the log.

    Returns
    -------
    PairRun
        Record and result.

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
    folder.require_free(names(suffix))
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
            for recognised in result.notes:
                note(recognised)
            text = write_results(
                stage,
                output,
                suffix,
                loaded,
                result,
                sources={role: fingerprint(path) for role, path in files.given().items()},
                heard=heard,
                extra=extra,
                report=report,
                progress=report_progress,
                note=note,
            )
    return PairRun(json.loads(text), text, result)


def save_result(
    result: RegistrationResult,
    output: Path,
    *,
    labels: Any = None,
    fixed_labels: Any = None,
    ending: str | None = None,
    report: bool = True,
    overwrite: bool = False,
    note: Note = _log.info,
) -> Path:
    """Write a result of :func:`itk_ncr.register` as :func:`run_pair` writes its own.

    Parameters
    ----------
    result : RegistrationResult
        The registration.
    output : Path
        Folder; made if it does not exist.
    labels, fixed_labels, ending, report, overwrite
        As for :meth:`itk_ncr.RegistrationResult.save`.
    note : callable, optional
        Called with remarks, one line each. Default: the log.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError, ArgumentError, ImageWriteError
        As :meth:`itk_ncr.RegistrationResult.save`.
    """
    inputs = result.required_inputs()
    sources, loaded = dict(inputs.sources), dict(inputs.by_role())
    if fixed_labels is not None and labels is None:
        raise ArgumentError(
            "fixed_labels must come with labels of the moving image to compare them with. Add "
            "those, or leave these out."
        )
    for role, given in (("labels", labels), ("fixed_labels", fixed_labels)):
        if given is not None:
            loaded[role], source = _label_map(role, given, inputs.fixed.dimension)
            sources |= source
    paths = {role: Path(entry["path"]) for role, entry in sources.items()}
    suffix = ending_of(ending, paths.get("fixed"), inputs.fixed)
    folder = OutputFolder(output, overwrite, paths.values())
    folder.require_free(names(suffix))
    with folder.staged() as stage:
        write_results(
            stage,
            output,
            suffix,
            loaded,
            result,
            sources=sources,
            heard=list(result.warnings),
            report=report,
            note=note,
        )
    return output


def _label_map(role: str, given: Any, dimension: int) -> tuple[Image, dict[str, dict[str, Any]]]:
    """A label map and its source, from an image or a path."""
    from itk_ncr.images import as_image
    from itk_ncr.registration.inputs import path_of, sources_of

    image = as_labels(as_image(given, role=_spoken(role)), path_of(given))
    if image.dimension != dimension:
        raise ShapeError(
            f"{role} must be {dimension}D like the fixed image; got {image.dimension}D."
        )
    return image, sources_of({role: given})


def ending_of(asked: str | None, path: Path | None, fixed: Image) -> str:
    """Ending of the images to write: as asked, that of a file, or one that can hold the image.

    NIfTI has no 2D geometry of its own: a plane in memory goes to NRRD.

    Raises
    ------
    ArgumentError
        If what was asked for is not among ``FORMATS``.
    """
    if asked is not None:
        require_choice("ending", asked, FORMATS)
        return asked
    if path is not None:
        return format_for(path)
    return ".nii.gz" if fixed.dimension == 3 else ".nrrd"


def _unseen(_fraction: float, _text: str) -> None:
    """No-op progress callback."""


def _load_libraries() -> None:
    """Import the slow libraries first, so that their time is not attributed to other steps."""
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
