"""HTML report of one registration."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from itk_ncr.evaluation.contrast import jacobian_limit, sampled
from itk_ncr.evaluation.inspection import inspect
from itk_ncr.evaluation.metrics import (
    average_precision,
    detected,
    dice,
    jaccard,
    labels_touching,
    surface_distance,
)
from itk_ncr.evaluation.report.checks import finite
from itk_ncr.evaluation.report.page import Page, make_page
from itk_ncr.evaluation.report.sprites import BITS, Tiles, sheets, stacks
from itk_ncr.evaluation.report.verdict import is_multimodal, judge
from itk_ncr.evaluation.report.wording import (
    citations,
    command_line,
    mask_regions,
    methods,
    volume,
)
from itk_ncr.evaluation.scene import AnyResult, Scene
from itk_ncr.evaluation.summary import brain_rows, summary
from itk_ncr.images import Image, resample
from itk_ncr.registration import RegistrationResult

# ColorBrewer's RdBu, for volumes; a scale with a dark middle, on which a residual glows.
_JACOBIAN_COLOURS = [
    *("#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7"),
    *("#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"),
]
_RESIDUAL_COLOURS = [
    *("#b5f1ff", "#3fa7f0", "#1b4f8f", "#14202e", "#101214"),
    *("#2e1d12", "#8f4a14", "#f08c2e", "#ffe9b0"),
]
_FIGURES = (
    ("distance_before", "distance after the affine", ".4g", ""),
    ("distance_outside", "distance after registration, outside the mask", ".4g", ""),
    ("masked_fraction", "fixed object without correspondence", ".2%", ""),
    ("masked_fraction_moving", "moving object without correspondence", ".2%", ""),
    ("minimum_jacobian", "smallest Jacobian determinant, without the affine", ".3f", ""),
    ("folding_fraction", "voxels that fold", ".3%", ""),
    ("inverse_error_mean_voxel", "inverse error, mean", ".4f", " voxel"),
    ("inverse_error_max_voxel", "inverse error, largest", ".3f", " voxel"),
    ("overlap_fraction", "fixed object that lies in the moving image", ".1%", ""),
    ("affine_determinant", "volume change of the affine", ".3f", ""),
    ("iterations", "iterations", ".0f", ""),
    ("seconds", "time without reading files", ".1f", " s"),
)


def write_pair_report(
    path: str | os.PathLike[str],
    fixed: Image,
    moving: Image,
    result: AnyResult,
    *,
    record: Mapping[str, Any] | None = None,
    lesion_mask: Image | None = None,
    truth: Image | None = None,
    labels: tuple[Image, Image] | None = None,
) -> None:
    """Write the page of a registration: one HTML file that needs no other and no network.

    Parameters
    ----------
    path : path
        HTML file to write.
    fixed, moving, result, record, lesion_mask, truth, labels
        As for :func:`pair_page`.

    Raises
    ------
    ImageWriteError
        If the page cannot be written; nothing is left behind.
    """
    page = pair_page(
        fixed, moving, result, record=record, lesion_mask=lesion_mask, truth=truth, labels=labels
    )
    page.save(path)


def pair_page(
    fixed: Image,
    moving: Image,
    result: AnyResult,
    *,
    record: Mapping[str, Any] | None = None,
    lesion_mask: Image | None = None,
    truth: Image | None = None,
    labels: tuple[Image, Image] | None = None,
) -> Page:
    """The page of a registration: images, masks, figures and a verdict.

    Parameters
    ----------
    fixed, moving : Image, scalar
        The pair, as registered.
    result : RegistrationResult or StoredRegistration
        Its registration.
    record : mapping, optional
        Description of the run, as in ``summary.json``. Default: made from ``result``, which must be
        a RegistrationResult then.
    lesion_mask : Image, optional
        Input of the run, in fixed space; not 0 is inside.
    truth : Image, optional
        True region without correspondence, in fixed space; not 0 is inside.
    labels : tuple of Image, optional
        Label maps of the fixed and of the moving image.

    Returns
    -------
    Page
        The document.
    """
    record = summary(cast("RegistrationResult", result)) if record is None else dict(record)
    given = {
        name: image
        for name, image in (("lesion", lesion_mask), ("truth", truth))
        if image is not None
    }
    scene = Scene.of(fixed, moving, result, given)
    shown = stacks(scene)
    overlaps = None if labels is None else _overlaps(fixed, result, labels)
    quality = record.get("quality") or {}
    warnings = [str(text) for text in record.get("warnings") or []]
    seen = record.get("inspection")
    if seen is None and isinstance(result, RegistrationResult):
        seen = inspect(fixed, moving, result).as_dict()
    verdict = judge(
        quality,
        warnings,
        None if overlaps is None else (overlaps["before"], overlaps["after"]),
        None if truth is None else dice(result.mask.array, _on_fixed(truth, fixed).array),
        seen,
        dimension=fixed.dimension,
        multimodal=is_multimodal(record.get("settings") or {}),
    )
    inputs = record.get("inputs") or {}
    regions = mask_regions(result)
    return make_page(
        "pair.html",
        ("drawing.js", "plane.js", "viewer.js"),
        title=_title(inputs),
        verdict=verdict,
        warnings=warnings,
        notes=[str(text) for text in record.get("notes") or []],
        names={role: _name(inputs, role) for role in ("fixed", "moving")},
        figures=[
            *_figures(quality),
            ("volume without correspondence", f"{regions['volume']}, regions: {regions['count']}"),
            *brain_rows(record.get("brain") or {}),
        ],
        regions=regions,
        command=command_line(record),
        methods=methods(record),
        citations=citations(record),
        residual=_residual(scene),
        mask_source=_mask_source(record, lesion_mask is not None),
        truth=None if truth is None else _truth(fixed, result, truth),
        overlaps=overlaps,
        provenance=provenance(record),
        scene=_drawn(scene, shown),
        remarks=_remarks(scene, shown),
    )


def _name(inputs: Mapping[str, Any], role: str) -> str:
    path = (inputs.get(role) or {}).get("path")
    return PurePath(str(path)).name if path else f"{role} image"


def _title(inputs: Mapping[str, Any]) -> str:
    return f"{_name(inputs, 'moving')} → {_name(inputs, 'fixed')}"


def _figures(quality: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, name, form, unit in _FIGURES:
        if key in quality:
            value = finite(quality[key])
            rows.append((name, "no number" if value is None else f"{value:{form}}{unit}"))
    return rows


def _residual(scene: Scene) -> dict[str, Any]:
    """Mean absolute differences in shares of the grey window, before and after, in S and not."""
    low, high = scene.fixed_window

    def mean(residual: NDArray, where: NDArray) -> str:
        values = residual[where]
        return f"{np.abs(values).mean() / (high - low):.1%}" if values.size else "–"

    return {
        "alike": scene.match.alike,
        "correlation": f"{scene.match.correlation:.2f}",
        "rows": [
            (name, mean(scene.residual_before, where), mean(scene.residual_after, where))
            for name, where in (
                ("outside S", scene.shown & ~scene.mask),
                ("inside S", scene.shown & scene.mask),
            )
        ],
    }


def _mask_source(record: Mapping[str, Any], lesion_given: bool) -> str:
    """One sentence on the origin of S."""
    settings = record.get("settings") or {}
    model = (record.get("model") or {}).get("name")
    if settings.get("mask") == "none":
        found = "S is what was given: the run did not look for anything itself."
        return found if lesion_given else "The run did not look for S (mask none)."
    found = "S was found by the registration"
    if model and record.get("engine") == "instance":
        found += f", with the network {model} as second opinion,"
    elif model:
        found = f"S was found by the network {model}"
    lesion = " and holds the given lesion mask" if lesion_given else " without a given mask"
    threshold = finite(record.get("mask_threshold"))
    cut = "" if threshold is None else f"; it is cut at a probability of {threshold:g}"
    return f"{found}{lesion}{cut}."


def _overlaps(fixed: Image, result: AnyResult, labels: tuple[Image, Image]) -> dict[str, Any]:
    """Overlap of every label after the affine and after the registration."""
    target, source = labels
    grid = fixed.grid
    target = _on_fixed(target, fixed)
    before = jaccard(target.array, resample(source, grid, result.affine, mode="nearest").array)
    carried = resample(source, grid, displacement=result.displacement, mode="nearest")
    after = jaccard(target.array, carried.array)
    touching = labels_touching(target.array, result.mask.array)
    rows = [
        {"label": label, "before": before[label], "after": value, "touching": label in touching}
        for label, value in after.items()
    ]

    def mean(key: str, touches: bool | None = None) -> float:
        values = [row[key] for row in rows if touches in (None, row["touching"])]
        return float(np.mean(values)) if values else math.nan

    groups = [
        {
            "name": name,
            "count": sum(touches in (None, row["touching"]) for row in rows),
            "before": mean("before", touches),
            "after": mean("after", touches),
        }
        for name, touches in (
            ("all labels", None),
            ("not touching S", False),
            ("touching S", True),
        )
    ]
    return {
        "before": mean("before"),
        "after": mean("after"),
        "groups": [group for group in groups if group["count"]],
        "rows": sorted(rows, key=lambda row: row["after"] - row["before"]),
    }


def _on_fixed(labels: Image, fixed: Image) -> Image:
    same = labels.grid.equals(fixed.grid)
    return labels if same else resample(labels, fixed.grid, mode="nearest")


def _truth(fixed: Image, result: AnyResult, truth: Image) -> list[tuple[str, str]]:
    """S against the truth."""
    grid = fixed.grid
    mask, lesion = result.mask.array > 0, _on_fixed(truth, fixed).array > 0
    distance = surface_distance(mask, lesion, grid.spacing[::-1])
    return [
        ("Dice", f"{dice(mask, lesion):.3f}"),
        ("found", "yes" if detected(mask, lesion) else "no"),
        (
            "average precision of the probability",
            f"{average_precision(result.noncorrespondence.array, lesion):.3f}",
        ),
        ("average distance of the surfaces", f"{distance.average:.2f} mm"),
        ("95th percentile of the distances", f"{distance.percentile_95:.2f} mm"),
        ("volume of S, of the truth", f"{volume(mask.sum(), grid)}, {volume(lesion.sum(), grid)}"),
    ]


def provenance(record: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The remaining entries of the record, as groups of names and values."""
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    single: list[tuple[str, str]] = []
    for key, value in record.items():
        if key in ("quality", "inspection", "verdict", "warnings", "notes", "notice"):
            continue
        if isinstance(value, Mapping) and value:
            groups.append((_spoken(key), list(_flat(value))))
        elif value is not None and value != {}:
            single.append((_spoken(key), _text(value)))
    return ([("run", single)] if single else []) + groups


def _flat(value: Mapping[str, Any], before: str = "") -> Any:
    for key, entry in value.items():
        name = f"{before}{_spoken(str(key))}"
        if isinstance(entry, Mapping):
            yield from _flat(entry, f"{name}: ")
        else:
            yield name, _text(entry)


def _spoken(key: str) -> str:
    return key.replace("_", " ")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return "  ".join(
            f"[{_text(v)}]" if isinstance(v, (list, tuple)) else _text(v) for v in value
        )
    return str(value)


def _drawn(scene: Scene, shown: list[Tiles]) -> dict[str, Any]:
    """Data for the page's script."""
    match, (low, high), (dark, light) = scene.match, scene.fixed_window, scene.moving_window
    outside = sampled(scene.shown & ~scene.mask)
    before = np.abs(sampled(scene.residual_before)[outside])
    limit = float(np.percentile(before, 99)) / (high - low) if before.size else 0.0
    return {
        "bits": BITS,
        "given": [name for name in ("lesion", "truth") if name in scene.given],
        "masked": bool(scene.mask.any()),
        "folded": bool((~(scene.jacobian > 0)).any()),
        "alike": match.alike,
        # Grey values 0 to 255 of the page: fixed ~ slope * moving + offset.
        "slope": match.slope * (light - dark) / (high - low),
        "offset": 255 * (match.slope * dark + match.offset - low) / (high - low),
        # Black and white of the pictures, in the intensities of the images.
        "windows": {"fixed": [float(low), float(high)], "moving": [float(dark), float(light)]},
        "residual_limit": limit or 1.0,
        "residual_colours": _RESIDUAL_COLOURS,
        "jacobian_limit": jacobian_limit(scene.jacobian),
        "jacobian_colours": _JACOBIAN_COLOURS,
        "corner": scene.corner.tolist(),
        "to_points": scene.to_points.tolist(),
        "planes": sheets(scene, shown),
    }


def _remarks(scene: Scene, shown: list[Tiles]) -> list[str]:
    """Remarks on the pictures."""
    three = scene.fixed.ndim == 3
    remarks = []
    if three:
        remarks.append(
            "Radiological convention: the patient's right is on the left of axial and coronal "
            "planes. Letters name the patient's sides (L left, R right, A anterior, P posterior, "
            "S superior, I inferior)."
        )
        if scene.tilt > 1:
            remarks.append(
                f"The image is tilted by up to {scene.tilt:.0f}° against the body's axes: the "
                "letters name the nearest side."
            )
    else:
        remarks.append("The image is shown as it is stored: first row at the top.")
    for stack in shown:
        name = {None: "The image is", 0: "Axial slices are", 1: "Coronal slices are"}.get(
            stack.across, "Sagittal slices are"
        )
        if stack.tile != stack.plane.shape:
            remarks.append(
                f"{name} shown with {stack.tile[1]} × {stack.tile[0]} of "
                f"{stack.plane.shape[1]} × {stack.plane.shape[0]} pixels."
            )
        if stack.step > 1:
            remarks.append(f"{name} every {_ordinal(stack.step)} of the image.")
    if scene.reduced is not None:
        remarks.append(
            f"Pictures and residuals are of the images reduced to "
            f"{' × '.join(map(str, scene.reduced))} voxels."
        )
    remarks.append(
        "The pictures are cut to the object and have 256 grey values; figures come from the full "
        "images."
    )
    return remarks


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")
