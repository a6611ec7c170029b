"""Writing of a result: images, transforms, record, report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.errors import ImageWriteError, MissingDependencyError
from itk_ncr.runs.outputs import RECORD, write_text

if TYPE_CHECKING:
    from itk_ncr.images import Image
    from itk_ncr.registration import RegistrationResult

TRANSFORM, TRANSFORM_INVERSE = "transform.h5", "transform_inverse.h5"
OVERVIEW, PAGE = "overview.png", "report.html"
# Images to write: name of the file, attribute of the result; those of UNCERTAINTY where there is
# a deviation.
IMAGES = {
    "warped": "warped",
    "displacement": "displacement",
    "displacement_inverse": "displacement_inverse",
    "mask": "mask",
    "mask_probability": "noncorrespondence",
    "mask_moving": "mask_moving",
    "jacobian": "jacobian",
}
UNCERTAINTY = {"displacement_std": "displacement_std", "mask_entropy": "entropy"}
Note = Callable[[str], None]
_Progress = Callable[[float, str], None]


def names(suffix: str) -> list[str]:
    """Every file that may be written, but the record."""
    images = (f"{name}{suffix}" for name in (*IMAGES, *UNCERTAINTY, "labels"))
    return [*images, TRANSFORM, TRANSFORM_INVERSE, OVERVIEW, PAGE]


def write_results(
    stage: Path,
    output: Path,
    suffix: str,
    loaded: dict[str, Any],
    result: RegistrationResult,
    *,
    sources: Mapping[str, Mapping[str, Any]],
    heard: Sequence[str],
    note: Note,
    extra: Mapping[str, Any] | None = None,
    report: bool = True,
    progress: _Progress = lambda _fraction, _text: None,
) -> str:
    """Write everything about a result to a hidden folder.

    Parameters
    ----------
    stage : Path
        Where to write.
    output : Path
        Where it will be, for messages.
    suffix : str
        Ending of the images.
    loaded : dict
        Inputs by role: images, masks, label maps, affine maps.
    result : RegistrationResult
    sources : mapping
        Path and hash of the inputs that are files, by role.
    heard : sequence of str
        Warnings for the record; those given in the meantime may come to it.
    note : callable
        Called with a remark where a picture could not be drawn.
    extra : mapping, optional
        Further JSON entries for the record.
    report : bool
        Draw ``report.html`` and ``overview.png`` as well.
    progress : callable
        ``progress(share, text)``.

    Returns
    -------
    str
        The text of ``summary.json``.
    """
    from itk_ncr.runs.record import as_json, judged, pair_record

    progress(0.9, "writing")
    written = _write(stage, output, suffix, loaded, result)
    record = pair_record(sources, loaded, result) | {"warnings": heard}
    record = judged(record, loaded, result) | dict(extra or {})
    if report:
        progress(0.95, "drawing")
        written |= _draw(stage, loaded, result, record, note)
    record["outputs"] = {**written, "summary": RECORD}
    text = as_json(record)
    write_text(stage / RECORD, text)
    return text


def _write(
    stage: Path, output: Path, suffix: str, loaded: dict[str, Any], result: RegistrationResult
) -> dict[str, str]:
    """Write the images and the transforms; what was written, by the name of what it is."""
    from itk_ncr.images import write_image, write_transform

    def image(name: str) -> Image:  # one at a time: together they may not fit into memory
        if name == "labels":
            return result.resample(loaded["labels"], mode="nearest")
        made: Image = getattr(result, attributes[name])
        return made

    attributes = IMAGES if result.displacement_std is None else IMAGES | UNCERTAINTY
    kinds = [*attributes, *(["labels"] if "labels" in loaded else [])]
    try:
        for name in kinds:
            write_image(image(name), stage / f"{name}{suffix}")
        write_transform(stage / TRANSFORM, result.affine, result.transform_deformation)
        write_transform(stage / TRANSFORM_INVERSE, *result.transform_back, affine_first=True)
    except ImageWriteError as error:  # the hidden folder is not what the person asked for
        raise ImageWriteError(str(error).replace(str(stage), str(output))) from error
    transforms = {"transform": TRANSFORM, "transform_inverse": TRANSFORM_INVERSE}
    return {name: f"{name}{suffix}" for name in kinds} | transforms


def _draw(
    stage: Path,
    loaded: dict[str, Any],
    result: RegistrationResult,
    record: dict[str, Any],
    note: Note,
) -> dict[str, str]:
    """Draw report and overview; a failure does not lose the registration."""

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
