"""``itk-ncr register``: a pair of images in, everything that was found out about it in a folder."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itk_ncr.cli import outputs
from itk_ncr.cli.console import InputError, heard_warnings, note, progress_bar
from itk_ncr.cli.threads import limit_threads

if TYPE_CHECKING:
    from itk_ncr.images import Image
    from itk_ncr.registration import RegistrationResult

# Named here so that the help need not import the solver; a test holds them to its table.
PRESETS = ("auto", "brain-t1", "oct", "mri-3d", "mri-2d", "multimodal")
ENGINES = ("auto", "network", "instance")
_TRANSFORMS = ("affine", "initial_transform")
_POSITIVE = click.FloatRange(min=0, min_open=True)


@dataclass(frozen=True)
class _Paths:
    """The files of a run, by the role they play; None where there is none."""

    fixed: Path
    moving: Path
    lesion_mask: Path | None
    moving_lesion_mask: Path | None
    roi_mask: Path | None
    labels: Path | None
    affine: Path | None
    initial_transform: Path | None

    def given(self) -> dict[str, Path]:
        return {role: path for role, path in vars(self).items() if path is not None}


def _file(name: str, help: str) -> Any:
    return click.option(name, type=click.Path(path_type=Path), metavar="FILE", help=help)


@click.command()
@click.argument("fixed", type=click.Path(path_type=Path))
@click.argument("moving", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder for the results; made if it does not exist.",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="auto",
    show_default=True,
    help="What the images show, or how to solve; auto goes by the number of axes.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="Begin with a trained network, or solve the pair alone; auto takes the network where "
    "--model or --preset names one that fits.",
)
@click.option(
    "--model",
    metavar="NAME|DIR",
    help="Network to begin with: see `itk-ncr models list`, or a folder of your own.",
)
@click.option(
    "--refine",
    type=click.IntRange(min=0),
    metavar="N",
    help="Iterations of the solver after the network; 0 takes the network as it is.",
)
@_file("--lesion-mask", "Mask in the space of FIXED: 1 where it has no counterpart (1 = ignore).")
@_file("--moving-lesion-mask", "The same for MOVING, in its space.")
@_file("--roi-mask", "Mask in the space of FIXED: 1 where to compare the images (1 = use).")
@_file("--labels", "Label map in the space of MOVING, to be carried onto FIXED.")
@click.option(
    "--affine",
    default="auto",
    show_default=True,
    metavar="auto|none|FILE",
    help="Align first, trust the headers, or take an affine transform (fixed to moving) from FILE.",
)
@_file("--initial-transform", "Affine transform (fixed to moving) that --affine auto starts from.")
@click.option(
    "--smoothness",
    type=_POSITIVE,
    default=1.0,
    show_default=True,
    help="Stiffness of the deformation; 2 is twice as stiff.",
)
@click.option(
    "--mask-price",
    type=_POSITIVE,
    default=1.0,
    show_default=True,
    help="Price of calling a voxel without counterpart; larger means smaller masks.",
)
@click.option(
    "--mask",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="Find what has no counterpart, or register as usual.",
)
@click.option(
    "--mask-threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Probability above which a voxel is in the mask.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads; results do not change."
)
@click.option(
    "--working-voxels",
    type=click.IntRange(min=4096),
    metavar="N",
    help="Solve larger images on a coarser grid of so many voxels.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")
@click.option(
    "--format",
    "ending",
    type=click.Choice([e.lstrip(".") for e in outputs.FORMATS]),
    help="Format of the images written. Default: that of FIXED; NIfTI for DICOM.",
)
@click.option(
    "--report/--no-report", default=True, show_default=True, help="Draw overview.png as well."
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier run in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and warnings.")
def register(
    fixed: Path,
    moving: Path,
    output: Path,
    lesion_mask: Path | None,
    moving_lesion_mask: Path | None,
    roi_mask: Path | None,
    labels: Path | None,
    affine: str,
    initial_transform: Path | None,
    ending: str | None,
    report: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    threads: int | None,
    working_voxels: int | None,
    **settings: Any,
) -> None:
    """Register MOVING to FIXED and write the results to a folder.

    \b
    warped                MOVING on the grid of FIXED
    displacement          mm, LPS, on FIXED: warped(x) = MOVING(x + displacement(x))
    displacement_inverse  the way back, on the grid of MOVING
    mask, mask_moving     1 where FIXED (MOVING) has no counterpart in the other image
    mask_probability      the probability of that, on FIXED
    jacobian              determinant of x -> x + displacement(x)
    labels                the label map of --labels on FIXED
    transform.h5          the same map for ITK, SimpleITK, ANTs and 3D Slicer
    summary.json          settings, versions, hashes, figures of quality, warnings
    overview.png          all of it at a glance (needs matplotlib)

    The files appear together when everything is done, or not at all. A folder that holds files is
    refused without --overwrite; with it, the files of an earlier run are replaced, others stay.
    """  # noqa: D301
    affine_file = None if affine in ("auto", "none") else Path(affine)
    paths = _Paths(
        fixed,
        moving,
        lesion_mask,
        moving_lesion_mask,
        roi_mask,
        labels,
        affine_file,
        initial_transform,
    )
    folder = outputs.OutputFolder(output, overwrite, paths.given().values())
    suffix = f".{ending}" if ending else outputs.format_for(fixed)
    if working_voxels is not None:  # its default stands in the settings, once
        settings["working_voxels"] = working_voxels
    with progress_bar("register", quiet or as_json) as progress, heard_warnings() as heard:
        progress(0.0, "reading")
        loaded = _read(paths)
        if threads is not None:
            limit_threads(threads)
        with folder.staged() as stage:
            from itk_ncr import registration
            from itk_ncr.errors import NCRError

            try:
                result = registration.register(
                    loaded["fixed"],
                    loaded["moving"],
                    affine=loaded.get("affine", affine),
                    lesion_mask=loaded.get("lesion_mask"),
                    moving_lesion_mask=loaded.get("moving_lesion_mask"),
                    roi_mask=loaded.get("roi_mask"),
                    initial_transform=loaded.get("initial_transform"),
                    threads=threads,
                    progress=lambda fraction, text: progress(0.03 + 0.87 * fraction, text),
                    **settings,
                )
            except NCRError as error:
                # The solver knows images, not files; the person at the terminal knows files.
                raise type(error)(f"{error} (fixed '{fixed}', moving '{moving}')") from error
            for warning in result.warnings:
                warnings.warn(warning, stacklevel=2)
            progress(0.9, "writing")
            written = _write(stage, output, suffix, loaded, result)
            if report:
                progress(0.95, "drawing")
                written |= _draw(stage, loaded, result)
            record = _record(paths, loaded, result, written) | {"warnings": heard}
            text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            outputs.write_text(stage / outputs.RECORD, text)
    if as_json:
        click.echo(text, nl=False)
    elif not quiet:
        _print(output, result)


def _read(paths: _Paths) -> dict[str, Any]:
    """Every input by its role."""
    from itk_ncr.cli.inputs import as_labels
    from itk_ncr.images import read_affine, read_image

    loaded: dict[str, Any] = {}
    for role, path in paths.given().items():
        if role in _TRANSFORMS:
            loaded[role] = read_affine(path, loaded["fixed"].dimension, _spoken(role))
        else:
            loaded[role] = read_image(path, _spoken(role))
            found, wanted = loaded[role].dimension, loaded["fixed"].dimension
            if found != wanted:
                raise InputError(
                    f"{_spoken(role)} '{path}' must be {wanted}D like the fixed image; it is "
                    f"{found}D. Give a {wanted}D image."
                )
    if "labels" in loaded:
        loaded["labels"] = as_labels(loaded["labels"], paths.labels)
    return loaded


def _spoken(role: str) -> str:
    return f"{role} image" if role in ("fixed", "moving") else role.replace("_", " ")


def _write(
    stage: Path, output: Path, suffix: str, loaded: dict[str, Any], result: RegistrationResult
) -> dict[str, str]:
    """Write the images and the transform; what was written, by the name of what it is."""
    from itk_ncr.errors import ImageWriteError
    from itk_ncr.images import write_image, write_transform

    images = {
        "warped": result.warped,
        "displacement": result.displacement,
        "displacement_inverse": result.displacement_inverse,
        "mask": result.mask,
        "mask_probability": result.noncorrespondence,
        "mask_moving": result.mask_moving,
        "jacobian": result.jacobian,
    }
    if "labels" in loaded:
        images["labels"] = result.resample(loaded["labels"], mode="nearest")
    try:
        for name, image in images.items():
            write_image(image, stage / f"{name}{suffix}")
        write_transform(stage / "transform.h5", result.affine, result.deformation)
    except ImageWriteError as error:  # the hidden folder is not what the person asked for
        raise ImageWriteError(str(error).replace(str(stage), str(output))) from error
    return {name: f"{name}{suffix}" for name in images} | {"transform": "transform.h5"}


def _draw(stage: Path, loaded: dict[str, Any], result: RegistrationResult) -> dict[str, str]:
    """Draw the overview; a picture that fails is no reason to lose the registration."""
    from itk_ncr.errors import MissingDependencyError
    from itk_ncr.evaluation.overview import overview

    try:
        overview(loaded["fixed"], loaded["moving"], result, stage / "overview.png")
    except MissingDependencyError as error:
        note(str(error))
        return {}
    except Exception as error:
        note(f"overview.png could not be drawn ({type(error).__name__}: {error})")
        with contextlib.suppress(OSError):
            (stage / "overview.png").unlink()
        return {}
    return {"overview": "overview.png"}


def _record(
    paths: _Paths, loaded: dict[str, Any], result: RegistrationResult, written: dict[str, str]
) -> dict[str, Any]:
    """Everything another person needs to repeat the run and to judge it."""
    import torch

    from itk_ncr.cli.environment import environment
    from itk_ncr.evaluation import summary

    inputs = {role: outputs.fingerprint(path) for role, path in paths.given().items()}
    for role, entry in inputs.items():
        if role not in _TRANSFORMS:
            entry |= _description(loaded[role])
    found = environment()
    record = {
        "tool": "itk-ncr register",
        **summary(result),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "inputs": inputs,
        "outputs": {**written, "summary": outputs.RECORD},
        "seed": result.settings.seed,
        "threads": torch.get_num_threads(),
        "peak_memory_megabytes": _peak_memory(),
        "versions": found["versions"],
        "kernels": found["kernels"],
        "platform": found["platform"],
    }
    return _without_nan(record)


def _description(image: Image) -> dict[str, Any]:
    import numpy as np

    return {
        "size": list(image.grid.size),
        "spacing_mm": list(image.grid.spacing),
        "pixel_type": str(image.array.dtype),
        "nan_count": int(image.array.size - np.isfinite(image.array).sum()),
    }


def _without_nan(value: Any) -> Any:
    """JSON has no NaN or infinity; they become null."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    if isinstance(value, float) and not (abs(value) < float("inf")):
        return None
    return value


def _peak_memory() -> float | None:
    """Largest resident memory of this process so far, in 10^6 bytes."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def _print(output: Path, result: RegistrationResult) -> None:
    from itk_ncr.evaluation import NOTICE, figures

    for name, text in figures(result):
        click.echo(f"{name:<18} {text}")
    click.echo(f"{'results in':<18} {click.format_filename(output)} ({NOTICE})")
