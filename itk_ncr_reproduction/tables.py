"""Tables in the paper's own form, with what it prints beside what was measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.evaluation import Mark, best_rows
from itk_ncr_reproduction import printed
from itk_ncr_reproduction.cases import published_pairs
from itk_ncr_reproduction.design import LESIONS, VERSIONS
from itk_ncr_reproduction.methods import METHODS, NCR_VERSIONS, SLOTS
from itk_ncr_reproduction.run import Measured, Reproduction

NOTHING = Mark()


@dataclass(frozen=True)
class Column:
    """One column: a figure of the cases of one version.

    Attributes
    ----------
    title : str
    figure : str
        Name in the measurements.
    version : str
    higher_is_better : bool
    digits : int
    factor : float
        From the measured unit to the printed one.
    tested : bool
        Whether methods are compared in it.
    median : bool
        Shown instead of mean and standard deviation.
    """

    title: str
    figure: str
    version: str
    higher_is_better: bool = True
    digits: int = 3
    factor: float = 1.0
    tested: bool = True
    median: bool = False


@dataclass(frozen=True)
class Cell:
    """Mean and standard deviation over the cases, and whether it is significantly the best."""

    mean: float
    std: float
    count: int
    mark: Mark
    text: str


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    name : str
        For files and headings.
    title : str
    columns : tuple of Column
    rows : tuple of (str, tuple of (Cell or None))
        Key of the method and its cells.
    paper : mapping
        The paper's value of every column by method; methods without a row here stand below.
    notes : tuple of str
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    paper: Mapping[str, Sequence[float | None]]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table as Markdown: bold and * as in the paper, its own values in italics."""
        lines = [f"**{self.name}.** {self.title}", ""]
        lines.append(f"| | {' | '.join(c.title for c in self.columns)} |")
        lines.append("|---" * (len(self.columns) + 1) + "|")
        shown = set()
        for key, cells in self.rows:
            texts = ["" if cell is None else _marked(cell) for cell in cells]
            lines.append(f"| {METHODS[key].title} | {' | '.join(texts)} |")
            if key in self.paper:
                lines.append(self._of_the_paper(key, METHODS[key].title))
                shown.add(key)
        lines += [self._of_the_paper(key, key) for key in self.paper if key not in shown]
        lines += ["", *(f"{note}  " for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    def _of_the_paper(self, key: str, title: str) -> str:
        title = METHODS[key].title if key in METHODS else title
        cells = [
            "" if value is None else f"*{c.factor * value:.{c.digits}f}*"
            for value, c in zip(self.paper[key], self.columns, strict=True)
        ]
        return f"| *{title}, paper* | {' | '.join(cells)} |"

    def csv(self) -> str:
        """One row per method and column."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["table", "method", "column", "mean", "std", "pairs", "bold", "star", "paper"]
        )
        for key, cells in self.rows:
            for index, (column, cell) in enumerate(zip(self.columns, cells, strict=True)):
                own = self.paper.get(key, (None,) * len(self.columns))[index]
                known: list[float | bool | None] = [None] * 5
                if cell is not None:
                    known = [cell.mean, cell.std, cell.count, cell.mark.bold, cell.mark.star]
                writer.writerow([self.name, METHODS[key].title, column.title, *known, own])
        return text.getvalue()


def values_of(
    cases: Sequence[Measured], keys: Sequence[str], figure: str, version: str
) -> dict[str, NDArray[np.float64]]:
    """A figure of every method on the cases of a version, paired; NaN where there is none."""
    chosen = [case for case in cases if case.key.version == version]
    found = {}
    for key in keys:
        numbers = [case.figures.get(key, {}).get(figure) for case in chosen]
        found[key] = np.array([n if isinstance(n, (int, float)) else np.nan for n in numbers])
    return found


def make_table(
    name: str,
    title: str,
    cases: Sequence[Measured],
    keys: Sequence[str],
    columns: Sequence[Column],
    paper: Mapping[str, Sequence[float | None]] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Fill a table; methods that failed on a case are not compared in its column."""
    cells: dict[str, list[Cell | None]] = {key: [] for key in keys}
    for column in columns:
        values = values_of(cases, keys, column.figure, column.version)
        whole = {key: v for key, v in values.items() if len(v) and not np.isnan(v).any()}
        marks: Mapping[str, Mark] = {}
        if column.tested and len(whole) > 1:
            group = [key for key in NCR_VERSIONS if key in whole]
            marks = best_rows(whole, column.higher_is_better, group=group)
        for key in keys:
            cells[key].append(_cell(values[key], column, marks.get(key, NOTHING)))
    failed = _failures(cases, keys)
    rows = tuple((key, tuple(cells[key])) for key in keys)
    return Table(name, title, tuple(columns), rows, paper or {}, (*notes, *failed))


def tables_of(found: Reproduction, numbers: Sequence[int]) -> list[Table]:
    """The tables of the paper, and those that belong to them."""
    made: list[Table] = []
    there = {experiment.name for experiment in found.design.needed(numbers, ())}
    if 1 in numbers and "oct" in there:
        made.append(_table_1(found, cases_of(found, "oct")))
    if "mri-2d" in there:
        cases = cases_of(found, "mri-2d")
        if 2 in numbers:
            strict = cases_of(found, "mri-2d", strict=True)
            made += [_table_2(found, cases), _table_2_strict(found, strict), _split(found, cases)]
            made.append(_regularity("2c", "2D", found, "mri-2d", cases))
        if 3 in numbers:
            made.append(_table_3("3", "2D", found, "mri-2d", cases, printed.TABLE_3))
    if "mri-3d" in there:
        cases = cases_of(found, "mri-3d")
        if 3 in numbers:
            made.append(_table_3("3b", "3D", found, "mri-3d", cases, printed.TABLE_3_3D))
        if 4 in numbers:
            made += [_table_4(found, cases), _regularity("4b", "3D", found, "mri-3d", cases)]
    return made


def _table_1(found: Reproduction, cases: Sequence[Measured]) -> Table:
    columns = [
        Column(f"{name} {title}", f"{figure}_{name}", "none", higher_is_better=False)
        for name in printed.SURFACES
        for figure, title in (("assd", "ASSD"), ("hd", "HD"))
    ]
    paper = {
        key: [number for name in printed.SURFACES for number in row[name]]
        for key, row in printed.TABLE_1.items()
    }
    title = (
        f"Retinas: distance of surfaces after registration, pixels, mean (std) of {len(cases)} "
        "pairs of virtual patients. The paper's are of real patients: compare directions."
    )
    return make_table("Table 1", title, cases, found.design.experiment("oct").rows, columns, paper)


def _table_2(found: Reproduction, cases: Sequence[Measured]) -> Table:
    title = f"Brains in 2D: Jaccard index of labels, mean (std) of {_pairs(cases)} pairs."
    columns = [Column(version, "jaccard", version) for version in VERSIONS]
    rows = found.design.experiment("mri-2d").rows
    return make_table("Table 2", title, cases, rows, columns, printed.TABLE_2)


def _table_2_strict(found: Reproduction, cases: Sequence[Measured]) -> Table:
    title = (
        "The same where the moving image, too, is of a patient whom no training saw, "
        f"{_pairs(cases)} pairs."
    )
    columns = [Column(version, "jaccard", version) for version in VERSIONS]
    rows = found.design.experiment("mri-2d").strict_rows
    return make_table("Table 2, stricter", title, cases, rows, columns)


def _split(found: Reproduction, cases: Sequence[Measured]) -> Table:
    title = (
        f"Jaccard index of labels that touch the lesion (in) and of the others (out), "
        f"{_pairs(cases)} pairs."
    )
    columns = [
        Column(f"{version} {short}", figure, version)
        for version in LESIONS
        for figure, short in (("inside", "in"), ("outside", "out"))
    ]
    rows = found.design.experiment("mri-2d").rows
    return make_table("Table 2b", title, cases, rows, columns)


def _table_3(
    number: str,
    axes: str,
    found: Reproduction,
    experiment: str,
    cases: Sequence[Measured],
    paper: Mapping[str, tuple[Sequence[float | None], Sequence[float | None]]],
) -> Table:
    columns = [
        Column(f"{short} {version}", figure, version)
        for figure, short in (("dice", "TH"), ("grown", "RG"))
        for version in LESIONS
    ]
    columns += [
        Column(f"found {v}, %", "detected", v, digits=1, factor=100, tested=False) for v in LESIONS
    ]
    rows = [key for key in found.design.experiment(experiment).rows if METHODS[key].finds_mask]
    detection = printed.DETECTION_3D if axes == "3D" else (None,) * len(LESIONS)
    beside = {
        key: [*th, *rg, *(detection if key in METHODS else (None,) * len(LESIONS))]
        for key, (th, rg) in paper.items()
    }
    title = (
        f"Brains in {axes}: Dice coefficient of the lesion, threshold (TH) and region growing "
        f"from a true voxel (RG, assisted by the truth), {_pairs(cases)} pairs."
    )
    notes = [f"{slot}: not in this package yet." for slot in SLOTS[3] if slot in beside]
    return make_table(f"Table {number}", title, cases, rows, columns, beside, notes)


def _table_4(found: Reproduction, cases: Sequence[Measured]) -> Table:
    title = f"Brains in 3D: Jaccard index of labels, mean (std) of {_pairs(cases)} pairs."
    columns = [Column(version, "jaccard", version) for version in VERSIONS]
    rows = found.design.experiment("mri-3d").rows
    return make_table("Table 4", title, cases, rows, columns, printed.TABLE_4)


def _regularity(
    number: str, axes: str, found: Reproduction, experiment: str, cases: Sequence[Measured]
) -> Table:
    columns = [
        Column("folding, %", "folding", "none", False, 4, 100, tested=False),
        Column("std of ln J", "jacobian", "none", False, tested=False),
        Column("inverse error, voxels", "inverse", "none", False, tested=False),
        Column("masked, %", "masked", "none", False, 2, 100, tested=False),
        Column("CPU s per pair", "cpu", "none", False, 2, tested=False, median=True),
    ]
    rows = [k for k in found.design.experiment(experiment).rows if METHODS[k].registers]
    title = (
        f"Brains in {axes} without lesion: regularity, what is masked by mistake, and processor "
        "time (median)."
    )
    return make_table(f"Table {number}", title, cases, rows, columns)


def cases_of(found: Reproduction, experiment: str, *, strict: bool = False) -> list[Measured]:
    """The cases of a protocol."""
    of_experiment = [case for case in found.measured if case.key.experiment == experiment]
    chosen = []
    for fold in found.design.used_folds:
        here = [case for case in of_experiment if case.key.fold == fold]
        published = published_pairs(
            found.design.experiment(experiment), [case.key for case in here]
        )
        chosen += [
            case for case in here if (case.key.strict if strict else case.key.pair in published)
        ]
    return chosen


def _pairs(cases: Sequence[Measured]) -> int:
    return len({(case.key.fold, case.key.pair) for case in cases})


def _cell(values: NDArray[np.float64], column: Column, mark: Mark) -> Cell | None:
    known = values[~np.isnan(values)] * column.factor
    if not len(known):
        return None
    mean, std = float(known.mean()), float(known.std())
    shown = float(np.median(known)) if column.median else mean
    text = f"{shown:.{column.digits}f}"
    if column.tested:
        text += f" ({std:.{column.digits}f})"
    return Cell(mean, std, len(known), mark, text)


def _marked(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.mark.bold else cell.text
    return f"{text} \\*" if cell.mark.star else text


def _failures(cases: Sequence[Measured], keys: Sequence[str]) -> list[str]:
    """One line per method that could not do all cases: how many, and the first reason."""
    lines = []
    for key in keys:
        reasons = [
            str(case.figures[key]["failed"])
            for case in cases
            if "failed" in case.figures.get(key, {})
        ]
        if reasons:
            lines.append(
                f"{METHODS[key].title} failed on {len(reasons)} of {len(cases)}: {reasons[0]}"
            )
    return lines
