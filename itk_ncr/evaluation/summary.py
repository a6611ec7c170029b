"""What there is to say about a registration, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from itk_ncr.registration import RegistrationResult

NOTICE = "research use only; not for diagnosis or treatment"


def summary(result: RegistrationResult) -> dict[str, Any]:
    """What there is to say about a result in numbers, ready for JSON."""
    model = result.model
    return {
        "engine": result.engine,
        "model": None if model is None else {"name": model.name, "sha256": model.sha256},
        "settings": result.settings.as_dict(),
        "mask_threshold": result.mask_threshold,
        "quality": result.quality.as_dict(),
        "affine": {
            "from": "fixed points",
            "to": "moving points",
            "unit": "mm, LPS",
            "matrix": np.asarray(result.affine.matrix).tolist(),
            "translation": np.asarray(result.affine.translation).tolist(),
        },
        "warnings": list(result.warnings),
        "notice": NOTICE,
    }


def figures(
    result: RegistrationResult, overlap: Mapping[str, float | None] | None = None
) -> list[tuple[str, str]]:
    """The figures a person asks for first: what, and how much, in words.

    Parameters
    ----------
    result : RegistrationResult
    overlap : mapping, optional
        Mean Jaccard of the labels, "jaccard_before" (by the affine alone) and "jaccard".
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
        ("smallest Jacobian", f"{quality.minimum_jacobian:.3f}"),
        ("folding", f"{quality.folding_fraction:.3%}"),
        (
            "inverse error",
            f"{quality.inverse_error_mean_voxel:.4f} voxel "
            f"(largest {quality.inverse_error_max_voxel:.3f})",
        ),
        ("field of view", f"{quality.overlap_fraction:.1%} shared"),
        ("affine volume", f"x {quality.affine_determinant:.3f}"),
        ("engine", result.engine if result.model is None else f"network {result.model.name}"),
        ("time", f"{quality.seconds:.1f} s, {quality.iterations} iterations"),
    ]
