"""Registration of real patients not used for tuning: one row per case, with its verdict.

    python benchmarks/real.py DIR [--only NAME]... [--json FILE] [--overlays FOLDER]

DIR holds the images that ``CASES`` names: strokes, tumours, whole heads, retinas. Every case is
registered as a user would, with the options in its row and nothing else. No truth is needed: the
last column says what is right, as seen by eye or with other tools. --overlays writes a picture of
each case with the outline of the mask. A case whose files are missing is skipped.
"""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

import itk_ncr
from itk_ncr.errors import NCRError
from itk_ncr.evaluation import verdict_of
from itk_ncr.evaluation.contrast import Window, scaled
from itk_ncr.evaluation.scene import Scene

OVERLAY_COLUMNS = 8


@dataclass(frozen=True)
class Case:
    """One pair, how it is registered, and what a person expects of it."""

    name: str
    fixed: str
    moving: str
    right: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def spoken_options(self) -> str:
        """The options as on the command line."""
        return " ".join(f"{k} {v}" for k, v in self.options.items()) or "defaults"


MULTIMODAL = {"preset": "multimodal"}
CASES = (
    Case("stroke", "st2z.nii.gz", "cit2z.nii.gz", "left perisylvian lesion, 30 to 150 ml"),
    Case("stroke-noisy-air", "st2.nii.gz", "cit2.nii.gz", "as stroke, Dice of the masks >= .9"),
    Case("stroke-moving", "cit2z.nii.gz", "st2z.nii.gz", "the same lesion, in the moving image"),
    Case("tumour", "b00_2z.nii.gz", "b01_2z.nii.gz", "necrosis behind the left ventricle"),
    Case("stripped-whole", "st2z.nii.gz", "mni2.nii.gz", "determinant about 1.9, lesion found"),
    Case("whole-stripped", "mni2.nii.gz", "st2z.nii.gz", "determinant about 0.53, lesion found"),
    Case("t2-t1", "clT2_2.nii.gz", "mni2.nii.gz", "as with multimodal"),
    Case("t2-t1-multimodal", "clT2_2.nii.gz", "mni2.nii.gz", "right", MULTIMODAL),
    Case("glioma-t1c-mni", "glioma_t1c.nii.gz", "mni2.nii.gz", "determinant about 1.2, <= 15 %"),
    Case("glioma-t2-mni", "glioma_t2.nii.gz", "mni2.nii.gz", "as with multimodal"),
    Case("glioma-t2-mni-multimodal", "glioma_t2.nii.gz", "mni2.nii.gz", "right", MULTIMODAL),
    Case("glioma-t1c-t2", "glioma_t1c.nii.gz", "glioma_t2.nii.gz", "rigid, determinant about 1"),
    Case("oct", "oct2_23.png", "oct1_23.png", "layers meet, or --preset oct is suggested"),
    Case(
        "oct-preset", "oct2_23.png", "oct1_23.png", "layers meet, mask is fluid", {"preset": "oct"}
    ),
    Case("itself-stroke", "st2z.nii.gz", "st2z.nii.gz", "Good, nothing masked"),
    Case("itself-whole-head", "mni2.nii.gz", "mni2.nii.gz", "Good, nothing masked"),
)
COLUMNS = (
    ("case", "{name}"),
    ("fixed <- moving", "{pair}"),
    ("options", "{options}"),
    ("mask", "{mask}"),
    ("moving mask", "{moving_mask}"),
    ("masked, %", "{masked_percent:.1f}"),
    ("determinant", "{determinant:.3f}"),
    ("distance before", "{distance_before:.4g}"),
    ("after", "{distance_after:.4g}"),
    ("min. Jacobian", "{minimum_jacobian:.3f}"),
    ("folding, %", "{folding_percent:.2g}"),
    ("warnings", "{warning_count}"),
    ("verdict", "{verdict}"),
    ("CPU s", "{cpu_seconds:.1f}"),
    ("right is", "{right}"),
)


def figures(case: Case, folder: Path, overlays: Path | None) -> dict[str, Any]:
    """Register one case and collect its row."""
    fixed, moving = (itk_ncr.read_image(folder / name) for name in (case.fixed, case.moving))
    begun = time.process_time()
    result = itk_ncr.register(fixed, moving, **case.options)
    cpu = time.process_time() - begun
    quality = result.quality
    verdict = verdict_of(fixed, moving, result)
    if overlays is not None:
        draw(Scene.of(fixed, moving, result), overlays / f"{case.name}.png", case.name)
    return {
        "name": case.name,
        "pair": f"{_stem(case.fixed)} <- {_stem(case.moving)}",
        "options": case.spoken_options,
        "right": case.right,
        "mask": _amount(result.mask),
        "moving_mask": _amount(result.mask_moving),
        "masked_percent": 100 * quality.masked_fraction,
        "determinant": float(np.linalg.det(np.asarray(result.affine.matrix))),
        "distance_before": quality.distance_before,
        "distance_after": quality.distance_outside,
        "minimum_jacobian": quality.minimum_jacobian,
        "folding_percent": 100 * quality.folding_fraction,
        "warning_count": len(result.warnings),
        "warnings": list(result.warnings),
        "notes": list(result.notes),
        "verdict": verdict.word,
        "remarks": [dataclasses.asdict(check) for check in verdict.remarks],
        "quality": quality.as_dict(),
        "cpu_seconds": cpu,
    }


def draw(scene: Scene, path: Path, name: str) -> None:
    """Slices of the fixed image, the affinely aligned and the warped one; the mask as outline."""
    from matplotlib.figure import Figure

    rows = (
        ("fixed, mask", scene.fixed, scene.fixed_window),
        ("affine only", scene.before, scene.moving_window),
        ("warped", scene.after, scene.moving_window),
    )
    flat = scene.fixed.ndim == 2
    positions = [None] if flat else _positions(scene)
    height, width = scene.fixed.shape[-2:]
    aspect = scene.spacing[-2] / scene.spacing[-1]
    # Slices of a volume run along a row, one row an image; flat images stand side by side.
    shape = (1, len(rows)) if flat else (len(rows), len(positions))
    cell = 6.0 if flat else 2.4
    size = (cell * shape[1], shape[0] * cell * aspect * height / width)
    figure = Figure(figsize=size, facecolor="black", dpi=100)
    for index, (title, array, window) in enumerate(rows):
        for column, position in enumerate(positions):
            axes = figure.add_subplot(*shape, index * len(positions) + column + 1)
            _draw_slice(axes, scene, array, window, position, aspect)
            if column == 0:
                axes.set_title(f"{name}: {title}", color="w", fontsize=8, pad=1, loc="left")
    figure.subplots_adjust(0, 0, 1, 0.97, 0.01, 0.06)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="black")


def _draw_slice(
    axes: Any, scene: Scene, array: np.ndarray, window: Window, position: int | None, aspect: float
) -> None:
    where = ... if position is None else position
    axes.imshow(scaled(array[where], window), cmap="gray", vmin=0, vmax=1, aspect=aspect)
    mask = scene.mask[where]
    if mask.any() and not mask.all():
        axes.contour(mask.astype(float), levels=[0.5], colors=["#ff6000"], linewidths=0.8)
    axes.set_axis_off()


def _positions(scene: Scene) -> list[int]:
    """Axial slices spread over the object; the outermost eighths show little."""
    depth = scene.fixed.shape[0]
    spread = np.linspace(depth / 8, depth * 7 / 8, OVERLAY_COLUMNS).round().astype(int)
    return list(dict.fromkeys(int(min(p, depth - 1)) for p in spread))


def _amount(mask: itk_ncr.Image) -> str:
    """Size of a mask in the unit that suits it."""
    voxels = int(np.count_nonzero(mask.array))
    if mask.dimension == 2:
        return f"{voxels} px"
    return f"{voxels * float(np.prod(mask.grid.spacing)) / 1000:.1f} ml"


def _stem(name: str) -> str:
    return name.split(".")[0]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", multiple=True, type=click.Choice([case.name for case in CASES]))
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write every figure here.")
@click.option("--overlays", type=click.Path(path_type=Path), help="Folder for pictures to look at.")
def main(folder: Path, only: tuple[str, ...], as_json: Path | None, overlays: Path | None) -> None:
    """Register the cases and print the table."""
    warnings.simplefilter("ignore")  # they are counted
    click.echo(f"| {' | '.join(heading for heading, _ in COLUMNS)} |")
    click.echo("|---" * len(COLUMNS) + "|")
    rows = []
    for case in CASES:
        if only and case.name not in only:
            continue
        missing = [n for n in (case.fixed, case.moving) if not (folder / n).is_file()]
        if missing:
            click.echo(f"skipped {case.name}: {', '.join(missing)} is not in {folder}", err=True)
            continue
        try:
            row = figures(case, folder, overlays)
        except NCRError as error:
            rows.append({"name": case.name, "error": str(error)})
            click.echo(f"| {case.name} | {type(error).__name__}: {error} |")
            continue
        rows.append(row)
        click.echo(f"| {' | '.join(form.format(**row) for _, form in COLUMNS)} |")
    if as_json is not None:
        as_json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
