"""Description of a run in words: its command, methods for a paper, regions of the mask."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.settings import SETTINGS

if TYPE_CHECKING:
    from itk_ncr.evaluation.scene import AnyResult

MOST_REGIONS = 12
CITATIONS = (
    'J. Andresen, T. Kepp, J. Ehrhardt, C. von der Burchard, J. Roider, H. Handels, "Deep '
    "learning-based simultaneous registration and unsupervised non-correspondence segmentation of "
    'medical images with pathologies", Int J CARS 17, 699-710, 2022, '
    "doi:10.1007/s11548-022-02577-4.",
    "itk_ncr, registration of images with pathologies{version} [software].",
)
# Inputs that are options of `itk-ncr register`; their role is the name of the option.
_OPTIONAL = (
    *("lesion_mask", "moving_lesion_mask", "roi_mask", "moving_roi_mask", "brain_mask"),
    *("moving_brain_mask", "labels", "fixed_labels", "affine", "initial_transform"),
)


def volume(voxels: float, grid: Any) -> str:
    """Volume of some voxels in mL; in 2D their area in mm²."""
    size = float(voxels) * float(np.prod(grid.spacing))
    return f"{size / 1000:.2f} mL" if grid.dimension == 3 else f"{size:.1f} mm²"


def mask_regions(result: AnyResult) -> dict[str, Any]:
    """The connected regions of the mask, largest first.

    Parameters
    ----------
    result : RegistrationResult or StoredRegistration
        Its mask and probability are read; neighbours share a face.

    Returns
    -------
    dict
        "volume" in words, "count", "rows" (volume, share, centre in mm, LPS, mean probability) of
        the largest regions, and "left", the number of others.
    """
    from scipy import ndimage

    grid = result.mask.grid
    inside = result.mask.array > 0
    regions, count = ndimage.label(inside)
    if not count:
        return {"volume": volume(0, grid), "count": 0, "rows": [], "left": 0}
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[:MOST_REGIONS] + 1
    centres = ndimage.center_of_mass(inside, regions, largest)
    probability = ndimage.mean(result.noncorrespondence.array, regions, largest)
    rows = [
        (
            volume(sizes[region - 1], grid),
            f"{sizes[region - 1] / sizes.sum():.0%}",
            _place(np.asarray(centre), grid),
            f"{mean:.2f}",
        )
        for region, centre, mean in zip(largest, centres, probability, strict=True)
    ]
    total = volume(sizes.sum(), grid)
    return {"volume": total, "count": count, "rows": rows, "left": count - len(rows)}


def _place(index: NDArray, grid: Any) -> str:
    """A place in mm, for an index in array order."""
    point = np.asarray(grid.matrix) @ index[::-1] + np.asarray(grid.origin)
    return "  ".join(f"{value:.0f}" for value in point)


def command_line(record: Mapping[str, Any]) -> str | None:
    """The command that does a run again; None where its images were no files.

    Parameters
    ----------
    record : mapping
        As in ``summary.json``. Settings at their default are left out.
    """
    inputs = record.get("inputs") or {}
    paths = {role: (entry or {}).get("path") for role, entry in inputs.items()}
    if not (paths.get("fixed") and paths.get("moving")):
        return None
    if any(path is None for path in paths.values()):
        return None
    words = ["itk-ncr", "register", str(paths["fixed"]), str(paths["moving"]), "-o", "out"]
    for role in _OPTIONAL:
        if paths.get(role):
            words += [_option(role), str(paths[role])]
    for name, value in (record.get("settings") or {}).items():
        setting = SETTINGS.get(name)
        if setting is None or paths.get(name) or value in (setting.default, None):
            continue
        if isinstance(value, Mapping):
            words += [
                word for pair in value.items() for word in ("--option", "{}={}".format(*pair))
            ]
        else:
            words += [_option(name), f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def methods(record: Mapping[str, Any]) -> str:
    """Some sentences for the methods section of a paper.

    Parameters
    ----------
    record : mapping
        As in ``summary.json``.
    """
    settings = record.get("settings") or {}
    method, engine = settings.get("method", "ncr"), record.get("engine")
    version = _version(record)
    inputs = record.get("inputs") or {}
    sentences = []
    if method in ("ncr", "network", "instance"):
        sentences.append(
            f"Images were registered with itk_ncr{version}, which estimates a diffeomorphism, the "
            "exponential of a stationary velocity field, together with the region that has no "
            "counterpart in the other image, after Andresen et al. (2022)."
        )
        model = (record.get("model") or {}).get("name")
        if model and engine == "network":
            sentences.append(f"The network {model} gave the initial estimate.")
        elif model:
            sentences.append(f"The network {model} gave a second opinion on that region.")
        if settings.get("mask") == "none":
            sentences.append("The search for that region was switched off.")
        elif record.get("mask_threshold") is not None:
            sentences.append(f"Its probability was cut at {record['mask_threshold']:g}.")
    else:
        sentences.append(f"Images were registered with the method {method} of itk_ncr{version}.")
    if settings.get("affine") == "auto":
        sentences.append("An affine registration of the whole images came first.")
    given = [role.replace("_", " ") for role in inputs if role.endswith("_mask")]
    if given:
        sentences.append(f"Given were: {', '.join(given)}.")
    odd = [
        f"{name.replace('_', ' ')} {settings[name]:g}"
        for name in ("smoothness", "mask_price")
        if isinstance(settings.get(name), (int, float)) and settings[name] != SETTINGS[name].default
    ]
    sentences.append(
        f"Settings were the defaults but for {' and '.join(odd)}."
        if odd
        else "Weights were the defaults."
    )
    return " ".join(sentences)


def citations(record: Mapping[str, Any]) -> list[str]:
    """What to cite, the paper first.

    Parameters
    ----------
    record : mapping
        As in ``summary.json``.
    """
    return [text.format(version=_version(record)) for text in CITATIONS]


def _version(record: Mapping[str, Any]) -> str:
    version = (record.get("versions") or {}).get("itk_ncr")
    return f" {version}" if version else ""
