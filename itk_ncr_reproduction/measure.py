"""Measurement of one method on one case."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.data import surfaces
from itk_ncr.errors import NCRError
from itk_ncr.evaluation import (
    average_precision,
    detected,
    dice,
    expected_calibration_error,
    jaccard,
    jacobian_statistics,
    line_distance,
    split_by_lesion,
)
from itk_ncr.images import Image, resample
from itk_ncr.registration import RegistrationResult, register
from itk_ncr.segmentation import grow, oracle_seed
from itk_ncr_reproduction.cases import Case
from itk_ncr_reproduction.design import LESIONS
from itk_ncr_reproduction.methods import METHODS
from itk_ncr_reproduction.printed import SURFACES

Figures = dict[str, float | str | None]


def run(case: Case, key: str, model: Path | None, *, seed: int) -> RegistrationResult:
    """The result of a method on a case.

    The images of a case are aligned affinely already, so no method but "affine" aligns them again.
    """
    method = METHODS[key]
    options: dict[str, Any] = {"affine": "none", "seed": seed, "threads": 1, **method.options}
    if model is not None:
        options["model"] = model
    if method.preset:
        # The experiments are named after the solver's presets for them.
        options["preset"] = case.key.experiment
    return register(case.fixed, case.moving, **options)


def measure(case: Case, key: str, model: Path | None, *, seed: int) -> Figures:
    """Figures of one method on one case.

    Returns
    -------
    dict
        "failed" with the reason, and nothing else, where the method could not do it.
    """
    if not METHODS[key].registers:
        return _overlaps(case, case.moving_labels.array)
    begun, cpu = time.perf_counter(), time.process_time()
    try:
        result = run(case, key, model, seed=seed)
    except NCRError as error:
        return {"failed": str(error)}
    seconds = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    labels = carried_labels(case, result).array
    return {
        **seconds,
        **_overlaps(case, labels),
        **field_figures(result, case.fixed.array > 0),
        **mask_figures(result, case.lesion, case.fixed.array > 0, draw_of(case, seed)),
    }


def carried_labels(case: Case, result: RegistrationResult) -> Image:
    """The moving labels on the fixed grid.

    Layers of a retina go on beyond the edge of the scan, so its last columns are not cut off.
    """
    padding = "border" if case.key.experiment == "oct" else "fill"
    return resample(
        case.moving_labels,
        result.displacement.grid,
        displacement=result.displacement,
        mode="nearest",
        padding=padding,
    )


def _overlaps(case: Case, labels: NDArray) -> Figures:
    if case.key.experiment == "oct":
        return _surfaces(case, labels)
    values = {
        label: value
        for label, value in jaccard(case.fixed_labels, labels, (0,)).items()
        if label in case.counted
    }
    figures: Figures = {"jaccard": _mean(list(values.values()))}
    if case.lesion.any():
        split = split_by_lesion(values, case.fixed_labels, case.lesion)
        figures |= {"inside": _number(split.inside), "outside": _number(split.outside)}
    return figures


def _surfaces(case: Case, labels: NDArray) -> Figures:
    """Distances of the lines that bound the layers, in pixels."""
    figures: Figures = {}
    truth, found = surfaces(case.fixed_labels), surfaces(labels)
    for name in SURFACES:
        distance = line_distance(truth[name], found[name])
        figures[f"assd_{name}"] = _number(distance.average)
        figures[f"hd_{name}"] = _number(distance.hausdorff)
    return figures


def field_figures(result: RegistrationResult, shown: NDArray[np.bool_]) -> Figures:
    """Folding and volume change where something is shown, and the error of the inverse."""
    statistics = jacobian_statistics(result.jacobian.array, shown)
    return {
        "folding": statistics.folding_fraction,
        "jacobian": statistics.deviation_of_logarithm,
        "inverse": result.quality.inverse_error_mean_voxel,
    }


def mask_figures(
    result: RegistrationResult,
    lesion: NDArray[np.bool_],
    shown: NDArray[np.bool_],
    draw: np.random.Generator,
) -> Figures:
    """Figures of the mask against the lesion, of methods that find one."""
    if not result.finds_mask:
        return {}
    probability, mask = result.noncorrespondence.array, result.mask.array > 0
    figures: Figures = {"masked": float(mask[shown].mean())}
    if not lesion.any():
        return figures
    return figures | {
        "dice": dice(mask, lesion),
        "grown": dice(region_grown(probability, lesion, draw), lesion),
        "detected": float(detected(mask, lesion)),
        "precision": average_precision(probability, lesion, shown),
        "calibration": expected_calibration_error(probability, lesion, shown),
    }


def region_grown(
    probability: NDArray, lesion: NDArray[np.bool_], draw: np.random.Generator
) -> NDArray[np.bool_]:
    """The region of S around a voxel of the lesion that is drawn; empty if S misses the lesion."""
    start = oracle_seed(probability, lesion, draw)
    return np.zeros(lesion.shape, bool) if start is None else grow(probability, start)


def draw_of(case: Case, seed: int) -> np.random.Generator:
    """Random numbers of a case, the same for every method."""
    return np.random.default_rng([seed, case.key.pair, _version_number(case)])


def _version_number(case: Case) -> int:
    return LESIONS.index(case.key.version) if case.key.version in LESIONS else 0


def _number(value: float) -> float | None:
    """None instead of NaN, which JSON does not know."""
    return value if np.isfinite(value) else None


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
