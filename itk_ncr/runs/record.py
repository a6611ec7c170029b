"""Content of ``summary.json``: inputs, settings, environment and figures of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.runs.machine import environment
from itk_ncr.runs.memory import peak_memory

if TYPE_CHECKING:
    from itk_ncr.geometry import AffineMap
    from itk_ncr.images import Image
    from itk_ncr.registration import RegistrationResult


def pair_record(
    sources: Mapping[str, Mapping[str, Any]], loaded: dict[str, Any], result: RegistrationResult
) -> dict[str, Any]:
    """All but the names of the outputs and the warnings.

    Parameters
    ----------
    sources : mapping
        Path and hash of the inputs that are files, by role.
    loaded : dict
        Every input by its role.
    result : RegistrationResult
    """
    import torch

    from itk_ncr.evaluation import brain_figures, summary

    inputs = {role: dict(sources.get(role) or in_memory(given)) for role, given in loaded.items()}
    for role, entry in inputs.items():
        if hasattr(loaded[role], "array"):
            entry |= _description(loaded[role])
    found = environment()
    record = {
        "tool": "itk-ncr register",
        "method": result.settings.method,
        **summary(result),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "inputs": inputs,
        "outputs": {},
        "seed": result.settings.seed,
        "threads": torch.get_num_threads(),
        "peak_memory_megabytes": peak_memory(),
        "versions": found["versions"],
        "kernels": found["kernels"],
        "platform": found["platform"],
    }
    if "fixed_labels" in loaded:
        record["label_overlap"] = _label_overlap(loaded, result)
    if brain := brain_figures(result, loaded.get("brain_mask"), loaded.get("moving_brain_mask")):
        record["brain"] = brain
    return record


def judged(
    record: dict[str, Any], loaded: dict[str, Any], result: RegistrationResult
) -> dict[str, Any]:
    """The record with what the images show and the verdict; warnings must be in it already."""
    from itk_ncr.evaluation import inspect, verdict_of

    fixed, moving = loaded["fixed"], loaded["moving"]
    inspection = inspect(fixed, moving, result)
    overlap = record.get("label_overlap")
    verdict = verdict_of(
        fixed,
        moving,
        result,
        overlaps=None if overlap is None else (overlap["jaccard_before"], overlap["jaccard"]),
        inspection=inspection,
        warnings=record["warnings"],
    )
    return record | {"inspection": inspection.as_dict(), "verdict": verdict.as_dict()}


def in_memory(given: Image | AffineMap) -> dict[str, Any]:
    """The entry of an input that is not a file, by which it is identified."""
    from itk_ncr.geometry import AffineMap

    if isinstance(given, AffineMap):
        return {"path": None, "matrix": given.homogeneous.tolist()}
    return {"path": None, "voxels_sha256": voxels_hash(given)}


def voxels_hash(image: Image) -> str:
    """Hash the values of an image, in array order.

    Parameters
    ----------
    image : Image
        Its grid does not count.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    return hashlib.sha256(image.array.data).hexdigest()


def as_json(record: dict[str, Any]) -> str:
    """The text of ``summary.json``; JSON has no NaN or infinity: they become null."""
    return json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_record(path: Path) -> dict[str, Any] | None:
    """Parsed ``summary.json``; None where it is missing or invalid."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _label_overlap(loaded: dict[str, Any], result: RegistrationResult) -> dict[str, Any]:
    """Overlap of the labels of both images on the fixed grid."""
    from itk_ncr.evaluation import jaccard, mean_jaccard
    from itk_ncr.images import resample

    grid = result.displacement.grid
    fixed = resample(loaded["fixed_labels"], grid, mode="nearest").array
    # Before: the affine alone, as for the distance of the images.
    before = resample(loaded["labels"], grid, affine=result.affine, mode="nearest").array
    after = result.resample(loaded["labels"], mode="nearest").array
    return {
        "jaccard_before": mean_jaccard(fixed, before),
        "jaccard": mean_jaccard(fixed, after),
        "jaccard_by_label": {str(k): v for k, v in jaccard(fixed, after).items()},
    }


def _description(image: Image) -> dict[str, Any]:
    import numpy as np

    return {
        "size": list(image.grid.size),
        "spacing_mm": list(image.grid.spacing),
        "pixel_type": str(image.array.dtype),
        "nan_count": int(image.array.size - np.isfinite(image.array).sum()),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not (abs(value) < float("inf")):
        return None
    return value
