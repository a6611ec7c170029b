"""Plausibility checks of inputs: inverted or misplaced masks, images far apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image

# A lesion mask that takes more of the object than this is more likely inverted.
MOST_MASKED = 0.5


def doubts_about_share(
    role: str, image: str, masked: NDArray[np.bool_], shown: NDArray[np.bool_]
) -> list[str]:
    """Warn if a lesion mask covers most of the object.

    Parameters
    ----------
    role, image : str
        What the mask and its image are called, "lesion mask" and "fixed image".
    masked, shown : ndarray of bool
        On one grid.
    """
    objects = int(np.count_nonzero(shown))
    share = np.count_nonzero(masked & shown) / objects if objects else 0.0
    if share <= MOST_MASKED:
        return []
    return [
        f"{role} covers {100 * share:.1f} % of the object in the {image}, which is ignored there "
        "(1 = ignore). Is the mask inverted, or one of what to use (roi_mask)?"
    ]


def doubts_about_place(role: str, image: str, mask: Grid, grid: Grid) -> list[str]:
    """Warn if a mask has as many voxels as its image, but another position.

    A mask may have any grid, of another resolution or orientation; but one that was drawn on an
    image has its size, and where it has it and lies elsewhere, a program has lost its header.
    """
    distance = _distance(mask, grid)
    if mask.size != grid.size or distance <= max(grid.spacing):
        return []
    return [
        f"{role} has the size of the {image}, {'x'.join(map(str, grid.size))}, but lies "
        f"{distance:.3g} mm from it. It was used where its header says; was its origin, spacing or "
        "direction lost?"
    ]


def doubts_about_values(role: str, mask: Image) -> list[str]:
    """Warn if a mask holds other numbers than a mask or a label map has: 0, 1, 2 and so on."""
    values = mask.array
    strange = ~(np.isfinite(values) & (values >= 0) & (values == np.round(values)))
    if not strange.any():
        return []
    example = values[strange][0]
    return [
        f"{role} has values that are no whole number, negative or NaN, such as {example:.4g}, in "
        f"{100 * strange.mean():.2g} % of its voxels. All but 0 and NaN counted as 1; is it a "
        "probability? Cut it at a threshold first (itk-ncr segment)."
    ]


def doubts_about_motion(found: AffineMap, fixed: Grid) -> list[str]:
    """Warn if an alignment moved one image farther than to the edge of the other."""
    centre = fixed.corners().mean(0)
    motion = float(np.linalg.norm(found(centre) - centre))
    across = float(np.linalg.norm(np.multiply(fixed.size, fixed.spacing)))
    if motion <= across / 2:
        return []
    return [
        f"the images lie {motion:.0f} mm apart by their headers, and were brought together over "
        f"this distance (the fixed image is {across:.0f} mm across). Check the origins, and look "
        "at the result."
    ]


def _distance(one: Grid, other: Grid) -> float:
    """The farthest that a corner of one grid is from all corners of the other, mm.

    0 for grids of one place that differ in orientation only.
    """
    gaps = np.linalg.norm(one.corners()[:, None] - other.corners()[None], axis=-1)
    return float(max(gaps.min(0).max(), gaps.min(1).max()))


def doubts_about_places(
    lesion: Image | None,
    moving_lesion: Image | None,
    roi: Image | None,
    moving_roi: Image | None,
    fixed: Grid,
    moving: Grid,
) -> list[str]:
    """:func:`doubts_about_place` and :func:`doubts_about_values` of all masks that were given."""
    given = (
        ("lesion mask", lesion, "fixed image", fixed),
        ("moving lesion mask", moving_lesion, "moving image", moving),
        ("ROI or brain mask", roi, "fixed image", fixed),
        ("moving ROI or brain mask", moving_roi, "moving image", moving),
    )
    return [
        doubt
        for role, mask, image, grid in given
        if mask is not None
        for doubt in doubts_about_place(role, image, mask.grid, grid)
        + doubts_about_values(role, mask)
    ]
