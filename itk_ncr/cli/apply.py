"""``itk-ncr apply``: apply an earlier registration to images, label maps and points."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from itk_ncr import runs
from itk_ncr.cli import options
from itk_ncr.cli.console import note
from itk_ncr.errors import InputError
from itk_ncr.tables import cell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from itk_ncr.images import Image

_TABLES = (".csv", ".tsv", ".txt")
_TRANSFORMS = (".h5", ".hdf5", ".tfm", ".mat", ".xfm", ".txt")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("input", type=click.Path(path_type=Path))
@options.output_file("File to write; its ending says the format.")
@click.option("--inverse", is_flag=True, help="From the fixed to the moving image.")
@click.option(
    "--labels", is_flag=True, help="INPUT is a label map: nearest-neighbour interpolation."
)
@options.file(
    "--landmarks",
    "Table of corresponding points, row by row: prints the distances to the carried points.",
)
@click.option(
    "--fill",
    type=float,
    metavar="X",
    default=0.0,
    show_default=True,
    help="Value outside the image.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@options.quiet_option
def apply(
    run: Path,
    input: Path,
    output: Path,
    inverse: bool,
    labels: bool,
    landmarks: Path | None,
    fill: float,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Carry INPUT along the registration in RUN.

    RUN is a folder written by `itk-ncr register`. An image, a label map (--labels) or a table of
    points of the moving image comes out in the space of the fixed image; with --inverse it is the
    other way round. Images come out on the whole grid of that image.

    RUN may also be a single displacement field. Images are then drawn onto the grid of the field,
    and points go where its arrows point: x + d(x). (The arrows of `displacement` point from the
    fixed to the moving image; an image travels against them.)

    Points are a table (.csv, .tsv) with a heading: columns x, y (and z) in mm, LPS, as ITK has
    them; other columns are kept. With --landmarks the points are compared with corresponding ones
    of the image that they are carried to, as BraTS-Reg does: median error, and the fraction of
    points that are closer than before.
    """
    is_table = any(path.suffix.lower() in _TABLES for path in (input, output))
    if is_table and labels:
        raise click.UsageError("--labels is for images; points have none")
    if landmarks is not None and not is_table:
        raise click.UsageError("--landmarks is for a table of points; INPUT is an image")
    field_path = field_file(run, inverse, is_table)
    endings = _TABLES if is_table else runs.FORMATS + runs.PICTURES
    sources = [field_path, input, *([] if landmarks is None else [landmarks])]
    runs.require_writable(output, overwrite, sources, endings)
    found = ""
    if is_table:
        text, found = _carry_points(input, field_path, landmarks)
        runs.write_text(output, text)
    else:
        _carry_image(input, field_path, output, labels, fill)
    if not quiet:
        click.echo(click.format_filename(output))
        if found:
            click.echo(found)


def field_file(run: Path, inverse: bool = False, points: bool = False) -> Path:
    """File of the displacement field to use for images or for points."""
    if not run.exists():
        raise InputError(f"run '{run}' does not exist. Give a folder of `itk-ncr register`.")
    if not run.is_dir():
        if run.suffix.lower() in _TRANSFORMS:
            raise InputError(
                f"run '{run}' is a transform, which has no grid. Give the folder of "
                "`itk-ncr register`, or a displacement field."
            )
        if inverse:
            raise InputError(
                f"--inverse needs the folder of a run; '{run}' is one field. "
                "Give the folder, or the other field without --inverse."
            )
        return run
    name = "displacement_inverse" if inverse != points else "displacement"
    for ending in runs.FORMATS:
        if (run / f"{name}{ending}").is_file():
            return run / f"{name}{ending}"
    raise InputError(
        f"run '{run}' holds no {name} ({', '.join(runs.FORMATS)}). "
        "Give a folder written by `itk-ncr register`."
    )


def _carry_image(input: Path, field_path: Path, output: Path, labels: bool, fill: float) -> None:
    import numpy as np

    from itk_ncr.errors import NCRError
    from itk_ncr.images import Image, read_displacement, read_image, resample, write_image

    image = read_image(input, role="label map" if labels else "image")
    if labels:
        image = runs.as_labels(image, input)
    field = read_displacement(field_path)
    runs.require_flat(output, field.dimension)
    try:
        carried = resample(
            image,
            field.grid,
            displacement=field,
            mode="nearest" if labels else "linear",
            fill_value=fill,
        )
    except NCRError as error:
        raise type(error)(f"{error} (image '{input}', displacement '{field_path}')") from error
    if not np.any(carried.array != fill) and np.any(image.array != fill):
        note(f"no voxel of '{input}' lies on the grid of '{field_path}': the output is all --fill")
    if output.suffix.lower() in runs.PICTURES and image.array.dtype.kind in "iu":
        # What was a picture becomes one again; interpolation does not leave its range.
        carried = Image(np.rint(carried.array).astype(image.array.dtype), carried.grid)
    write_image(carried, output)


@dataclass(frozen=True)
class _Table:
    """A table with points: its text by cells, and the points, shape (n, D), mm, LPS."""

    heading: list[str]
    rows: list[list[str]]
    delimiter: str
    columns: list[int]
    points: NDArray[np.float64]

    def moved(self, points: NDArray[np.float64]) -> str:
        """The text of the table with other points."""
        for row, point in zip(self.rows, points, strict=True):
            for column, value in zip(self.columns, point, strict=True):
                row[column] = f"{value:.6f}"
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator="\n")
        writer.writerow(map(cell, self.heading))
        writer.writerows(map(cell, row) for row in self.rows)
        return text.getvalue()


def _carry_points(input: Path, field_path: Path, landmarks: Path | None) -> tuple[str, str]:
    """The table with its mapped points, as text, and their fit to the landmarks, if given."""
    from itk_ncr.images import read_displacement, transform_points

    field = read_displacement(field_path)
    table = _read_points(input, field.dimension)
    found = "" if landmarks is None else _landmark_errors(table, landmarks, field)
    return table.moved(transform_points(table.points, field)), found


def _landmark_errors(table: _Table, landmarks: Path, field: Image) -> str:
    """One line: distances of the carried points to the landmarks."""
    import numpy as np

    from itk_ncr.evaluation import landmark_errors, robustness

    there = _read_points(landmarks, field.dimension).points
    if len(there) != len(table.points) or not len(there):
        raise InputError(
            f"landmarks '{landmarks}' must have a row for each of the {len(table.points)} points; "
            f"got {len(there)}. Give corresponding points in the same order."
        )
    before, after = (
        landmark_errors(table.points, there),
        landmark_errors(table.points, there, field),
    )
    return (
        f"landmarks: median error {np.median(after):.2f} mm, before {np.median(before):.2f} mm; "
        f"{robustness(before, after):.0%} are closer"
    )


def _read_points(path: Path, dimension: int) -> _Table:
    import numpy as np

    heading, rows, delimiter = _read_table(path)
    names = [name.strip().lower() for name in heading]
    wanted = ["x", "y", "z"][:dimension]
    missing = [name for name in wanted if names.count(name) != 1]
    needless = dimension == 2 and "z" in names
    if missing or needless:
        raise InputError(
            f"points '{path}' must have a heading with the columns {', '.join(wanted)}"
            f"{' and no z, because the run is 2D' * needless}; got "
            f"{', '.join(heading) or 'nothing'}. Name the columns; the unit is mm, LPS."
        )
    columns = [names.index(name) for name in wanted]
    points = np.empty((len(rows), dimension))
    for number, (line, row) in enumerate(rows):
        shown = repr(delimiter.join(row))
        if len(row) != len(heading):
            raise InputError(
                f"points '{path}' must have {len(heading)} cells in a line, as its heading; got "
                f"{shown} in line {line}. Correct the line."
            )
        try:
            points[number] = [float(row[column]) for column in columns]
        except ValueError:
            raise InputError(
                f"points '{path}' must hold numbers; got {shown} in line {line}. "
                "Write decimal points, not commas."
            ) from None
        if not np.isfinite(points[number]).all():
            raise InputError(
                f"points '{path}' must be finite; got {shown} in line {line}. Remove the line."
            )
    return _Table(heading, [row for _, row in rows], delimiter, columns, points)


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Heading, rows that are not empty with their lines, and the character between columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read points '{path}': {error.strerror}") from error
    except UnicodeDecodeError:
        raise InputError(f"cannot read points '{path}': it is not text (UTF-8)") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise InputError(f"cannot read points '{path}': line {reader.line_num}: {error}") from None
    return (rows[0][1], rows[1:], delimiter) if rows else ([], [], ",")
