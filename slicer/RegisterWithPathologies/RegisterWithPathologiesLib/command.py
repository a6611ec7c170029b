"""Words of the command line, and what a finished run left to load; Python 3.9, nothing else.

Slicer keeps points in RAS, files and the command line in LPS: x and y change their sign.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "itk-ncr"
# Inputs of `itk-ncr register` besides the pair, by the name of their option.
MASKS = ("lesion-mask", "moving-lesion-mask", "roi-mask", "brain-mask", "moving-brain-mask")
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


class RunError(RuntimeError):
    """The program is not there, failed, or left no result; the text is for the user."""


@dataclass(frozen=True)
class Results:
    """Files of a finished run, by what Slicer loads them as.

    Attributes
    ----------
    warped : Path
        Volume: moving on the grid of fixed.
    mask : Path or None
        Labels on the grid of fixed: 1 where it has no counterpart.
    transform : Path
        ITK transform from fixed to moving points. Slicer takes it as "from parent": the moving
        volume under it lies on the fixed one.
    displacement : Path
        The same map as a field, mm, LPS, on the grid of fixed.
    report : Path or None
        Page to open in a browser.
    verdict : str
        One line.
    warnings : tuple of str
    """

    warped: Path
    mask: Path | None
    transform: Path
    displacement: Path
    report: Path | None
    verdict: str
    warnings: tuple[str, ...]


def turned(point: Sequence[float]) -> tuple[float, float, float]:
    """A point of RAS in LPS, or of LPS in RAS."""
    x, y, z = point
    return (-x, -y, z)


def program(given: str, python: str | None = None) -> list[str]:
    """The words that start the program.

    Parameters
    ----------
    given : str
        Path of the program as the user gave it; empty to look for it.
    python : str, optional
        A Python in which the package is installed, for want of the program.

    Raises
    ------
    RunError
        If there is none.
    """
    if given:
        found = shutil.which(given)
        if found is None:
            raise RunError(f"program must be that of itk_ncr; there is no '{given}'. Correct it.")
        return [found]
    found = shutil.which(PROGRAM)
    if found is not None:
        return [found]
    if python is not None:
        return [python, "-m", "itk_ncr"]
    raise RunError(
        f"program {PROGRAM} was not found. Install it (pip install itk_ncr), or give its path."
    )


def register_words(
    fixed: os.PathLike[str] | str,
    moving: os.PathLike[str] | str,
    output: os.PathLike[str] | str,
    masks: Mapping[str, os.PathLike[str] | str] | None = None,
    settings: Mapping[str, object] | None = None,
) -> list[str]:
    """Arguments of ``itk-ncr register``.

    Parameters
    ----------
    fixed, moving, output : path
    masks : mapping of str to path, optional
        By the names of ``MASKS``.
    settings : mapping, optional
        Options by name, without the leading dashes; those that are None or "" are left out.
    """
    words = ["register", os.fspath(fixed), os.fspath(moving), "--output", os.fspath(output)]
    for name, path in (masks or {}).items():
        if name not in MASKS:
            raise RunError(f"mask must be one of {', '.join(MASKS)}; got {name}.")
        words += [f"--{name}", os.fspath(path)]
    for name, value in (settings or {}).items():
        if value is not None and value != "":
            words += [f"--{name}", str(value)]
    return words


def segment_words(
    folder: os.PathLike[str] | str,
    output: os.PathLike[str] | str,
    seeds_ras: Iterable[Sequence[float]],
    threshold: float = 0.5,
) -> list[str]:
    """Arguments of ``itk-ncr segment``: the mask of a run grown from points of Slicer."""
    words = ["segment", os.fspath(folder), "--output", os.fspath(output)]
    words += ["--threshold", f"{threshold:g}", "--overwrite"]
    for seed in seeds_ras:
        # One word: a negative number would be taken for an option.
        words.append("--seed=" + ",".join(repr(float(value)) for value in turned(seed)))
    return words


def failure(status: int, errors: str) -> str | None:
    """What to tell the user of a run that ended; None if it ended well."""
    if status == 0:
        return None
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("error:")]
    return (told or lines or [f"the program ended with status {status}"])[-1]


def results(folder: os.PathLike[str] | str) -> Results:
    """The files of a finished run.

    Raises
    ------
    RunError
        If the folder holds no complete run.
    """
    place = Path(folder)
    try:
        record = json.loads((place / "summary.json").read_text(encoding="utf-8"))
        verdict = record["verdict"]
        line = f"{verdict['grade']}: {verdict['sentence']}"
        warnings = tuple(str(text) for text in record.get("warnings", ()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"folder '{place}' holds no complete run ({error}). Run it again.") from None
    report = place / "report.html"
    return Results(
        warped=_needed(place, "warped"),
        mask=_image(place, "mask"),
        transform=_existing(place / "transform.h5"),
        displacement=_needed(place, "displacement"),
        report=report if report.is_file() else None,
        verdict=line,
        warnings=warnings,
    )


def _image(folder: Path, name: str) -> Path | None:
    return next(
        (folder / f"{name}{e}" for e in IMAGE_ENDINGS if (folder / f"{name}{e}").is_file()), None
    )


def _needed(folder: Path, name: str) -> Path:
    return _existing(_image(folder, name) or folder / f"{name}{IMAGE_ENDINGS[0]}")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RunError(f"run must have left '{path}'; it is not there. Run it again.")
    return path
