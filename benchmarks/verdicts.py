"""Verdicts on good and on failed registrations: one row per case.

    python benchmarks/verdicts.py --real DIR --data DIR [--only NAME]... [--overlays FOLDER]

--real is the folder of ``benchmarks/real.py``, --data the one of ``benchmarks/registration.py``;
without one of them its cases are left out. The pairs of examples/data are always there. The cases
named "broken" are registrations that must not be called good; their column "expected" says which
part is at fault.
"""

from __future__ import annotations

import csv
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from phantoms import insert_lesion, large_lesions
from real import CASES, draw

import itk_ncr
from itk_ncr.evaluation import verdict_of
from itk_ncr.evaluation.scene import Scene
from itk_ncr.geometry import AffineMap

EXAMPLES = Path(__file__).parents[1] / "examples" / "data"
PHANTOM_PAIRS = 2
WHITE_MATTER, BRIGHT = 180.0, 250.0
Pair = tuple[itk_ncr.Image, itk_ncr.Image]


@dataclass(frozen=True)
class Trial:
    """One registration whose verdict is asked for."""

    name: str
    load: Callable[[], Pair]
    options: dict[str, Any] = field(default_factory=dict)
    expected: str = ""


def trials(real: Path | None, data: Path | None) -> Iterator[Trial]:
    """All registrations there are images for."""
    yield Trial("example T1, lesion", _files(EXAMPLES, "fixed_t1.nii.gz", "moving_t1.nii.gz"))
    flair = _files(EXAMPLES, "fixed_ms_flair.nii.gz", "moving_ms_flair.nii.gz")
    yield Trial("example MS FLAIR", flair)
    retina = _files(EXAMPLES, "oct_fixed.png", "oct_moving.png")
    yield Trial("example OCT", retina, {"preset": "oct"})
    if real is not None:
        for case in CASES:
            if all((real / name).is_file() for name in (case.fixed, case.moving)):
                yield Trial(case.name, _files(real, case.fixed, case.moving), case.options)
    if data is not None:
        yield from _brains(data)
        yield from _broken(data)


def _files(folder: Path, fixed: str, moving: str) -> Callable[[], Pair]:
    return lambda: (itk_ncr.read_image(folder / fixed), itk_ncr.read_image(folder / moving))


def _subjects(data: Path) -> list[str]:
    with open(data / "ixi_dlmuse" / "subjects.csv") as lines:
        return [row["id"] for row in csv.DictReader(lines) if row["split"] == "val"]


def _healthy(data: Path, index: int) -> Pair:
    one, two = _subjects(data)[index : index + 2]
    folder = data / "ixi_dlmuse" / "vol3d"
    fixed, moving = (itk_ncr.read_image(folder / f"{name}_t1.nii.gz") for name in (one, two))
    return fixed, moving


def _phantom(data: Path, index: int, bright: bool) -> Pair:
    """A validation pair with a large lesion in the fixed image, like fluid or brighter than it."""
    fixed, moving = _healthy(data, index)
    name = large_lesions(data, 30)[20 + index]
    lesion = itk_ncr.read_image(data / "stroke_lesions" / "masks" / f"{name}.nii.gz").array > 0
    ill, truth = insert_lesion(fixed.array, lesion, np.random.default_rng(index))
    if bright:
        ill = np.where(truth, BRIGHT, ill).astype(np.uint8)
    return itk_ncr.Image(ill, fixed.grid), moving


def _brains(data: Path) -> Iterator[Trial]:
    for index in range(PHANTOM_PAIRS):
        none = {"affine": "none"}
        yield Trial(f"healthy {index}", lambda i=index: _healthy(data, i), none, "both good")
        yield Trial(f"dark phantom {index}", lambda i=index: _phantom(data, i, False), none)
        yield Trial(f"bright phantom {index}", lambda i=index: _phantom(data, i, True), none)
    cheap = {"mask_price": 0.1, "affine": "none"}
    yield Trial("healthy 0, mask price 0.1", lambda: _healthy(data, 0), cheap, "both good")


def _broken(data: Path) -> Iterator[Trial]:
    def turned() -> Pair:
        fixed, moving = _healthy(data, 0)
        angle = np.radians(30)
        c, s = np.cos(angle), np.sin(angle)
        turn = AffineMap(((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 0.0))
        centre = np.asarray(fixed.grid.centre)
        turn = AffineMap(turn.matrix, tuple(centre - turn(centre)))
        return fixed, itk_ncr.images.resample(moving, moving.grid, affine=turn)

    def half() -> Pair:
        fixed, moving = _healthy(data, 0)
        values = moving.array.copy()
        values[:, :, : values.shape[2] // 2] = 0
        return fixed, itk_ncr.Image(values, moving.grid)

    def inverted() -> Pair:
        fixed, moving = _healthy(data, 0)
        values = np.where(moving.array > 0, 255 - moving.array, 0).astype(np.uint8)
        return fixed, itk_ncr.Image(values, moving.grid)

    def cropped() -> Pair:
        fixed, moving = _healthy(data, 0)
        start, stop = moving.grid.shape[0] // 2, moving.grid.shape[0]
        grid = moving.grid.cropped((start, 0, 0), (stop - start, *moving.grid.shape[1:]))
        return fixed, itk_ncr.Image(moving.array[start:stop], grid)

    none = {"affine": "none"}
    yield Trial("broken: turned by 30 degrees", turned, none, "alignment")
    yield Trial("broken: half of the other head", half, none, "mask")
    yield Trial("broken: half of the field of view", cropped, none, "alignment")
    one = {"preset": "mri-3d", **none}
    yield Trial("broken: two contrasts, one-contrast preset", inverted, one, "alignment")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--real", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", multiple=True, help="Cases whose name begins so.")
@click.option("--overlays", type=click.Path(path_type=Path), help="Folder for pictures to look at.")
def main(
    real: Path | None, data: Path | None, only: tuple[str, ...], overlays: Path | None
) -> None:
    """Register every case, judge it, and print the table."""
    warnings.simplefilter("ignore")
    click.echo("| case | masked | determinant | verdict | expected at fault | CPU s |")
    click.echo("|---|---|---|---|---|---|")
    for trial in trials(real, data):
        if only and not trial.name.startswith(only):
            continue
        fixed, moving = trial.load()
        begun = time.process_time()
        result = itk_ncr.register(fixed, moving, **trial.options)
        cpu = time.process_time() - begun
        found = verdict_of(fixed, moving, result)
        if overlays is not None:
            draw(Scene.of(fixed, moving, result), overlays / f"{trial.name}.png", trial.name)
        determinant = np.linalg.det(np.asarray(result.affine.matrix))
        click.echo(
            f"| {trial.name} | {result.quality.masked_fraction:.1%} | {determinant:.2f} | "
            f"{found.word}: {found.sentence} | {trial.expected} | {cpu:.0f} |"
        )


if __name__ == "__main__":
    main()
