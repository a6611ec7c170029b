"""``itk-ncr report``: rebuild the report of an earlier run or cohort."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import note
from itk_ncr.errors import InputError

if TYPE_CHECKING:
    from itk_ncr.images import Image

SUMMARY = "summary.csv"
PAGES = {"pair": "report.html", "cohort": "cohort.html"}
_FILE = click.Path(path_type=Path)


@click.command(short_help="Rebuild the report of a run or of a cohort.")
@click.argument("run", type=_FILE)
@click.option(
    "--truth",
    type=_FILE,
    metavar="FILE",
    help="Ground truth of the regions without counterpart (1), in fixed space.",
)
@click.option(
    "--lesion-mask",
    type=_FILE,
    metavar="FILE",
    help="Mask to draw, in fixed space. Default: that of the run.",
)
@click.option(
    "--labels",
    type=(_FILE, _FILE),
    metavar="FIXED MOVING",
    help="Label maps of both images. Default: those of the run.",
)
@click.option("--fixed", type=_FILE, metavar="FILE", help="Present path of the fixed image.")
@click.option("--moving", type=_FILE, metavar="FILE", help="Present path of the moving image.")
@click.option(
    "-o", "--output", type=_FILE, metavar="FILE", help="Page to write (.html). Default: in RUN."
)
@click.option("--overwrite", is_flag=True, help="Replace FILE of -o if it exists.")
@options.quiet_option
def report(
    run: Path,
    truth: Path | None,
    lesion_mask: Path | None,
    labels: tuple[Path, Path] | None,
    fixed: Path | None,
    moving: Path | None,
    output: Path | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Make the page of RUN, a folder written by `itk-ncr register` or `itk-ncr batch`.

    The page is one self-contained HTML file: images before and after registration,
    masks, deformation, figures, a verdict. It replaces report.html (cohort.html) in RUN, or goes
    where -o says. For the page of a pair the images of the run must be unchanged.
    """
    given = {"--truth": truth, "--lesion-mask": lesion_mask, "--labels": labels}
    given |= {"--fixed": fixed, "--moving": moving}
    kind = _kind(run)
    page = output or run / PAGES[kind]
    sources = [truth, lesion_mask, fixed, moving, *(labels or ())]
    runs.require_writable(page, overwrite or output is None, sources, (".html", ".htm"))
    if kind == "cohort":
        unused = [name for name, value in given.items() if value is not None]
        if unused:
            raise InputError(
                f"{unused[0]} is for the page of one pair; '{run}' is a cohort. "
                "Give the folder of one of its pairs."
            )
        from itk_ncr.evaluation import write_cohort_report

        write_cohort_report(page, _rows(run / SUMMARY), title=run.resolve().name)
    else:
        _write_pair(run, page, truth, lesion_mask, labels, {"fixed": fixed, "moving": moving})
    if not quiet:
        click.echo(click.format_filename(page))


def _kind(run: Path) -> str:
    if not run.is_dir():
        what = "is not a folder" if run.exists() else "does not exist"
        raise InputError(f"run '{run}' {what}. Give a folder of `itk-ncr register`.")
    if (run / SUMMARY).is_file():
        return "cohort"
    if (run / runs.RECORD).is_file():
        return "pair"
    raise InputError(
        f"run '{run}' holds neither {runs.RECORD} nor {SUMMARY}. "
        "Give a folder written by `itk-ncr register` or `itk-ncr batch`."
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, restkey="", restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read '{path}': {error}") from error
    if rows and "status" not in rows[0]:
        raise InputError(f"'{path}' has no column status: it is not a summary of `itk-ncr batch`.")
    return rows


def _record(run: Path) -> dict[str, Any]:
    path = run / runs.RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read '{path}': {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("inputs"), dict):
        raise InputError(f"'{path}' is not a record of `itk-ncr register`. Register again.")
    return record


def _write_pair(
    run: Path,
    page: Path,
    truth: Path | None,
    lesion_mask: Path | None,
    labels: tuple[Path, Path] | None,
    moved: Mapping[str, Path | None],
) -> None:
    from itk_ncr.evaluation import write_pair_report
    from itk_ncr.evaluation.report import StoredRegistration
    from itk_ncr.images import read_image

    record = _record(run)
    fixed, moving = (_input_image(record, role, moved[role]) for role in ("fixed", "moving"))
    given = {
        "truth": truth,
        "lesion mask": lesion_mask or _extra(record, "lesion_mask"),
    }
    masks: dict[str, Image | None] = {
        role: None if path is None else read_image(path, role) for role, path in given.items()
    }
    maps = labels or (_extra(record, "fixed_labels"), _extra(record, "labels"))
    read = [
        None if path is None else runs.as_labels(read_image(path, "labels"), path) for path in maps
    ]
    for role, image in [*masks.items(), *(("labels", image) for image in read)]:
        if image is not None and image.dimension != fixed.dimension:
            raise InputError(f"{role} must be {fixed.dimension}D; got {image.dimension}D.")
    write_pair_report(
        page,
        fixed,
        moving,
        StoredRegistration.read(run, record),
        record=record,
        lesion_mask=masks["lesion mask"],
        truth=masks["truth"],
        labels=None if read[0] is None or read[1] is None else (read[0], read[1]),
    )


def _input_image(record: Mapping[str, Any], role: str, now: Path | None) -> Image:
    """The fixed or moving image of the run, if unchanged since."""
    from itk_ncr.images import read_image

    entry = record["inputs"].get(role)
    known = entry.get("voxels_sha256") if isinstance(entry, dict) else None
    if known is None:
        return read_image(_input(record, role, now), f"{role} image")
    if now is None:
        raise InputError(
            f"the {role} image of the run was not a file: it was registered from memory in Python. "
            f"Write it to one and give that with --{role}."
        )
    image = read_image(now, f"{role} image")
    if runs.voxels_hash(image) != known:
        raise InputError(
            f"{role} image '{now}' is not the one that was registered: its values or their type "
            "differ. Register again, or give the original image."
        )
    return image


def _input(record: Mapping[str, Any], role: str, now: Path | None) -> Path:
    """An image of the run, if unchanged since."""
    entry = record["inputs"].get(role)
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise InputError(f"the record names no {role} image. Register again.")
    path = now or Path(entry["path"])
    if not path.exists():
        raise InputError(
            f"{role} image '{path}' of the run does not exist. "
            f"Give its present path with --{role}, or call from the folder of the run."
        )
    if runs.fingerprint(path)["sha256"] != entry.get("sha256"):
        raise InputError(
            f"{role} image '{path}' is not the one that was registered: its content has changed. "
            "Register again, or give the original file."
        )
    return path


def _extra(record: Mapping[str, Any], role: str) -> Path | None:
    """A mask or label map of the run; None if it was not given or its file does not exist."""
    entry = record["inputs"].get(role)
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return None
    path = Path(entry["path"])
    spoken = role.replace("_", " ")
    if not path.exists():
        note(f"{spoken} '{path}' of the run does not exist: the page is made without it")
        return None
    if runs.fingerprint(path)["sha256"] != entry.get("sha256"):
        note(f"{spoken} '{path}' has changed since the run: the page is made without it")
        return None
    return path
