"""Summary of a registration in numbers and words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from itk_ncr.images import Image
    from itk_ncr.registration import RegistrationResult

PARTS = {
    "inside": "in the brain",
    "outside": "outside the brain",
    "moving_brain": "in the moving brain",
}
# What every page and terminal says about use.
NOTICE = "research use only; not for diagnosis or treatment"


def summary(result: RegistrationResult) -> dict[str, Any]:
    """Figures of a result, ready for JSON."""
    model = result.model
    return {
        "engine": result.engine,
        "model": None if model is None else {"name": model.name, "sha256": model.sha256},
        "settings": result.settings.as_dict(),
        "mask_threshold": result.mask_threshold,
        "quality": result.quality.as_dict(),
        "uncertainty": uncertainty_figures(result),
        "affine": {
            "from": "fixed points",
            "to": "moving points",
            "unit": "mm, LPS",
            "matrix": np.asarray(result.affine.matrix).tolist(),
            "translation": np.asarray(result.affine.translation).tolist(),
        },
        "warnings": list(result.warnings),
        "notes": list(result.notes),
        "notice": NOTICE,
    }


def uncertainty_figures(result: RegistrationResult) -> dict[str, float] | None:
    """Uncertainty of displacement and mask over the fixed foreground; None if it was not computed.

    Parameters
    ----------
    result : RegistrationResult

    Returns
    -------
    dict or None
        "runs"; mean and 95th percentile of the deviation of the displacement, mm; mean entropy of
        the mask, nats.
    """
    if result.displacement_std is None:
        return None
    shown = result.foreground.array > 0
    deviation = result.displacement_std.array[shown]
    return {
        "runs": result.settings.uncertainty_runs,
        "displacement_std_mean_mm": float(deviation.mean()),
        "displacement_std_95_mm": float(np.percentile(deviation, 95)),
        "mask_entropy_mean": float(result.entropy.array[shown].mean()),
    }


def figures(
    result: RegistrationResult,
    overlap: Mapping[str, float | None] | None = None,
    brain: Mapping[str, Mapping[str, float]] | None = None,
) -> list[tuple[str, str]]:
    """The main figures of a result as text.

    Parameters
    ----------
    result : RegistrationResult
        Its ``quality`` is shown.
    overlap : mapping, optional
        Mean Jaccard of the labels, "jaccard_before" (by the affine alone) and "jaccard".
    brain : mapping, optional
        Return value of :func:`brain_figures`.

    Returns
    -------
    list of (str, str)
        Name and value, in the order to show.
    """
    quality = result.quality
    labels = []
    before, after = (overlap or {}).get("jaccard_before"), (overlap or {}).get("jaccard")
    if before is not None and after is not None:
        labels = [("labels, Jaccard", f"{before:.3f} -> {after:.3f}")]
    return [
        ("distance", f"{quality.distance_before:.4g} -> {quality.distance_outside:.4g}"),
        *labels,
        ("no correspondence", f"{quality.masked_fraction:.2%} of the fixed object"),
        *brain_rows(brain or {}),
        ("smallest Jacobian", f"{quality.minimum_jacobian:.3f}"),
        ("folding", f"{quality.folding_fraction:.3%}"),
        (
            "inverse error",
            f"{quality.inverse_error_mean_voxel:.4f} voxel "
            f"(largest {quality.inverse_error_max_voxel:.3f})",
        ),
        *_uncertainty_row(result),
        ("field of view", f"{quality.overlap_fraction:.1%} shared"),
        ("affine volume", f"x {quality.affine_determinant:.3f}"),
        ("engine", _engine(result)),
        ("time", f"{quality.seconds:.1f} s, {quality.iterations} iterations"),
    ]


def _uncertainty_row(result: RegistrationResult) -> list[tuple[str, str]]:
    found = uncertainty_figures(result)
    if found is None:
        return []
    text = f"{found['displacement_std_mean_mm']:.2f} mm on average, "
    return [("uncertainty", text + f"95 % below {found['displacement_std_95_mm']:.2f} mm")]


def _engine(result: RegistrationResult) -> str:
    """Engine that registered, and the network that contributed."""
    if result.model is None:
        return result.engine
    if result.engine == "network":
        return f"network {result.model.name}"
    return f"{result.engine}; second opinion on the mask by {result.model.name}"


def brain_rows(brain: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    """Figures of :func:`brain_figures` in words, one row for each part."""
    rows = []
    for part, found in brain.items():
        unit = "ml" if "masked_ml" in found else "cm2"
        text = f"{found[f'masked_{unit}']:.1f} {unit} masked, {found['masked_fraction']:.2%}"
        if "folding_fraction" in found:
            text += f"; folding {found['folding_fraction']:.3%}"
        rows.append((PARTS[part], text))
    return rows


def brain_figures(
    result: RegistrationResult, brain: Image | None = None, moving_brain: Image | None = None
) -> dict[str, dict[str, float]]:
    """Figures of a result inside and outside the brain.

    Parameters
    ----------
    result : RegistrationResult
    brain, moving_brain : Image, optional
        Not 0 in the brain; each in the space of its image.

    Returns
    -------
    dict of dict
        "inside" and "outside" of the fixed foreground, "moving_brain" of the moving image, as far
        as masks are given: "masked_fraction", "masked_ml" ("masked_cm2" in 2D); of the fixed image
        "minimum_jacobian" and "folding_fraction" too, NaN and 0 where there is no voxel.
    """
    found: dict[str, dict[str, float]] = {}
    if brain is not None:
        there = _on(brain, result.mask)
        shown = result.foreground.array > 0
        found["inside"] = _part(result.mask, there, result.jacobian.array)
        found["outside"] = _part(result.mask, shown & ~there, result.jacobian.array)
    if moving_brain is not None:
        found["moving_brain"] = _part(result.mask_moving, _on(moving_brain, result.mask_moving))
    return found


def _on(mask: Image, like: Image) -> NDArray[np.bool_]:
    from itk_ncr.registration.preparation import mask_on

    return mask_on(mask, like.grid)


def _part(
    mask: Image, part: NDArray[np.bool_], jacobian: NDArray[np.float32] | None = None
) -> dict[str, float]:
    """Figures of the voxels of a part."""
    masked = int(((mask.array > 0) & part).sum())
    unit, millimetres = ("ml", 1000.0) if mask.dimension == 3 else ("cm2", 100.0)
    found = {
        "masked_fraction": masked / max(int(part.sum()), 1),
        f"masked_{unit}": masked * math.prod(mask.grid.spacing) / millimetres,
    }
    if jacobian is not None:
        values = jacobian[part]
        found["minimum_jacobian"] = float(values.min()) if values.size else float("nan")
        found["folding_fraction"] = float((values <= 0).mean()) if values.size else 0.0
    return found
