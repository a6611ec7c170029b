"""Group level of a BIDS dataset: table, page and frequency maps of all participants."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from itk_ncr.errors import InputError
from itk_ncr.runs.bids.derivatives import COHORT, ENDING, GROUP
from itk_ncr.runs.bids.query import NAME, entities_of, is_ours
from itk_ncr.runs.cohort import PAGE, SUMMARY, write_rows
from itk_ncr.runs.job import Row, row_of
from itk_ncr.runs.outputs import RECORD
from itk_ncr.runs.record import read_record

if TYPE_CHECKING:
    from itk_ncr.images import Image


@dataclass(frozen=True)
class BidsGroup:
    """Output of :func:`summarise_bids`.

    Attributes
    ----------
    rows : tuple of dict
        Rows of the table.
    page : Path
        The page.
    maps : tuple of Path
        The group maps.
    """

    rows: tuple[Row, ...]
    page: Path
    maps: tuple[Path, ...]


def summarise_bids(output: str | os.PathLike[str], *, space: str | None = None) -> BidsGroup:
    """Sum up all participants that are done: table, page, how often a voxel is masked.

    Parameters
    ----------
    output : path
        Folder of the derivatives.
    space : str, optional
        Name of the template. Default: the only one there is.

    Returns
    -------
    BidsGroup
        ``cohort/summary.csv`` and ``cohort/cohort.html`` of everything that is done, and in
        ``group`` the share of images in which each voxel of the template is masked: found
        (``desc-noncorrespondence``) and given (``label-lesion``).

    Raises
    ------
    InputError
        If nothing is done there.
    """
    from itk_ncr.evaluation import write_cohort_report
    from itk_ncr.images import write_image

    output = Path(output)
    if not is_ours(output):
        raise InputError(
            f"output '{output}' must hold derivatives of {NAME}; got none. "
            "Run the level participant first."
        )
    rows = []
    for path in sorted((output / COHORT).glob(f"*/{RECORD}")):
        if (record := read_record(path)) is not None and "quality" in record:
            inputs = {role: record["inputs"][role]["path"] for role in ("fixed", "moving")}
            known = {"name": path.parent.name, "folder": path.parent.name, "kept": True}
            rows.append({**known, **inputs, **row_of(record)})
    space = _only_space(output, space)
    write_rows(output / COHORT / SUMMARY, rows)
    page = output / COHORT / PAGE
    write_cohort_report(page, rows, title=output.resolve().name)
    maps = []
    for what in ("desc-noncorrespondence", "label-lesion"):
        masks = sorted(output.glob(f"sub-*/**/anat/*_space-{space}_{what}_mask{ENDING}"))
        if masks:
            (output / GROUP).mkdir(exist_ok=True)
            maps.append(output / GROUP / f"space-{space}_{what}_frequency{ENDING}")
            write_image(_frequency(masks), maps[-1])
    return BidsGroup(tuple(rows), page, tuple(maps))


def _only_space(output: Path, given: str | None) -> str:
    masks = output.glob(f"sub-*/**/anat/*_desc-noncorrespondence_mask{ENDING}")
    there = sorted({entities_of(path)[0].get("space", "") for path in masks} - {""})
    if given is not None and given not in there:
        raise InputError(f"name of the template must be one of {there}; got {given!r}.")
    if not there:
        raise InputError(
            f"output '{output}' must hold finished participants; got none. "
            "Run the level participant first."
        )
    if given is None and len(there) > 1:
        raise InputError(
            f"output '{output}' has several templates: {', '.join(there)}. Give --template-name."
        )
    return given or there[0]


def _frequency(masks: Sequence[Path]) -> Image:
    """Share of the masks that are set, by voxel."""
    import numpy as np

    from itk_ncr.images import Image, read_image

    first = read_image(masks[0], "mask")
    total = np.zeros(first.array.shape, np.float32)
    for path in masks:
        mask = read_image(path, "mask")
        if not mask.grid.equals(first.grid):
            raise InputError(
                f"mask '{path}' must lie on the grid of '{masks[0]}'; it does not. Register all "
                "participants to one template."
            )
        total += mask.array > 0
    return Image(total / len(masks), first.grid)
