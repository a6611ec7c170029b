"""Second opinion on the mask: the shipped network, where the images fit it.

The per-pair solver knows two images and nothing else; a network has seen what lesions look like,
also those that a deformation can explain. So where both images look like what a shipped model was
trained on, T1 brains without skull, its mask is one hypothesis besides the solver's own evidence.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from itk_ncr.geometry import Grid
from itk_ncr.registration.network import shipped_guess
from itk_ncr.registration.preparation import Preparation
from itk_ncr.registration.result import ModelRecord
from itk_ncr.registration.solver import Support

CONTRAST = "brain-t1"
# Size of a brain without skull: litres, and in 2D the area of its larger axial sections in cm^2.
# Brains on the grid of a template, which is larger than life, have 2 litres; heads 2.8 and more.
BRAIN_SIZE = {2: (60.0, 320.0), 3: (0.7, 2.6)}
# Whole heads, with or without neck, in litres; a trunk has more.
HEAD_SIZE = (2.6, 7.0)
UNIT_MM = {2: 10.0, 3: 100.0}
# Grid on which the outline is measured, mm.
MEASURED_MM = 3.0
# Depths below the surface in mm: cortex and outer fluid, white matter; in a T1 image without skull
# the second is brighter by this factor (T1: 1.3 to 3.5, FLAIR: 1 to 1.2, T2: 0.9 to 1).
OUTER_MM, INNER_MM = (0.0, 5.0), (8.0, 18.0)
RISE = 1.22
# A network is sure of much that it has never seen: this many log-odds it may add at most. Chosen on
# two real pairs, whose own evidence in the lesion had medians of -4.5 and -2.8, and a phantom that
# made the network mask healthy tissue, where the median was -5.8.
LARGEST_SUPPORT = 4.5
# Times its log-odds, by the number of axes. The network of slices is more often right than its
# probabilities say: eight validation pairs with lesion L1 had a Dice of .65 with 1, .77 with 1.6,
# .86 with 2.5 and .87 with 3, and 0, 0, .06 and .12 % of the healthy brain masked.
SUPPORT_GAIN = {2: 2.5, 3: 1.0}
# Darker images are brightened until the upper quartile of their tissue is the first; then they are
# cut at the last. A guess, not fitted: 12 training volumes have quartiles of 0.76 to 0.81 and
# maxima of 1.05 to 1.14.
HEALTHY_BULK, LEAST_TISSUE, BRIGHTEST = 0.68, 0.05, 1.2


def network_opinion(aligned: Preparation) -> tuple[Support, ModelRecord] | None:
    """Log-odds of noncorrespondence by a shipped network, as far as they speak for it.

    None where the images do not look like what a shipped model was trained on. Of heads only
    what lies in the regions of interest is looked at; two heads without any get a note.

    Parameters
    ----------
    aligned : Preparation

    Returns
    -------
    pair of Tensor, shape (1, 1, *spatial)
        Of the fixed image and of the moving one as aligned, at least 0 and at most
        ``LARGEST_SUPPORT``; the grid has the extent of the fixed one.
    ModelRecord
        Of the model.
    """
    shipped = shipped_guess(CONTRAST, aligned.request.fixed.grid)
    whole = aligned.stripped is None and _are_t1_brains(aligned)
    within = not whole and (aligned.stripped is not None or _has_regions(aligned))
    if not whole and not within and _are_heads(aligned):
        aligned.notes.append(
            "images are as large as whole heads: scalp, face and neck may be masked, and no "
            "network looks for lesions. If the brain is what counts, give a brain mask of each "
            "(--brain-mask, --moving-brain-mask)."
        )
    if shipped is None or not (whole or within):
        return None
    guess = replace(shipped.guess, tone=_as_trained)
    images = guess.shown(aligned)
    if within:
        images = replace(images, foreground=aligned.in_regions(images)).cut_out()
        if not all(
            looks_like_t1_brain(values, images.foreground, images.grid)
            for values in (images.fixed, images.moving)
        ):
            return None
    # The network finds what the fixed image shows and the moving one lacks: so it is asked twice.
    here, there = guess.passes(images)
    if here.noncorrespondence is None or there.noncorrespondence is None:
        return None
    support = _log_odds(here.noncorrespondence), _log_odds(there.noncorrespondence)
    return support, shipped.record


def _are_heads(aligned: Preparation) -> bool:
    """Whether both images are as large as whole heads."""
    low, high = HEAD_SIZE
    return aligned.request.fixed.dimension == 3 and all(
        low < _size(scaled.foreground, image.grid) < high
        for scaled, image in (
            (aligned.fixed_scaled, aligned.request.fixed),
            (aligned.moving_scaled, aligned.request.moving),
        )
    )


def _has_regions(aligned: Preparation) -> bool:
    masks = aligned.request.masks
    return masks.roi is not None or masks.moving_roi is not None


def _log_odds(probability: Tensor) -> Tensor:
    gain = SUPPORT_GAIN[probability.ndim - 2]
    return torch.logit(probability, 1e-6).mul_(gain).clamp_(0, LARGEST_SUPPORT)


def _are_t1_brains(aligned: Preparation) -> bool:
    """Whether both whole images are, judged on their own grids."""
    return all(
        looks_like_t1_brain(scaled.values, scaled.foreground, image.grid)
        for scaled, image in (
            (aligned.fixed_scaled, aligned.request.fixed),
            (aligned.moving_scaled, aligned.request.moving),
        )
    )


def _as_trained(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intensities whose bulk lies where that of a healthy brain does; a bright lesion moves it."""
    bulk = float(np.quantile(values[values > LEAST_TISSUE], 0.75)) if values.any() else 0.0
    factor = max(1.0, HEALTHY_BULK / bulk) if bulk > 0 else 1.0
    return np.clip(values * np.float32(factor), 0, BRIGHTEST)


def _size(foreground: NDArray[np.bool_], grid: Grid) -> float:
    """Size of a foreground: its volume in litres, in 2D its area in cm^2."""
    unit = UNIT_MM[grid.dimension] ** grid.dimension
    return float(foreground.sum()) * math.prod(grid.spacing) / unit


def looks_like_t1_brain(
    values: NDArray[np.float32], foreground: NDArray[np.bool_], grid: Grid
) -> bool:
    """Whether an image has the size of a brain without skull, and is brighter inside than outside.

    Parameters
    ----------
    values : ndarray, float32
        On the scale of ``preprocessing``.
    foreground : ndarray of bool
    grid : Grid
        Of both.
    """
    size = _size(foreground, grid)
    low, high = BRAIN_SIZE[grid.dimension]
    if not low <= size <= high:
        return False
    steps = tuple(max(1, round(MEASURED_MM / h)) for h in grid.spacing[::-1])
    thinned = tuple(slice(None, None, step) for step in steps)
    spacing = [h * step for h, step in zip(grid.spacing[::-1], steps, strict=True)]
    inside = ndimage.binary_fill_holes(foreground[thinned])
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing)
    depth = depth[(slice(1, -1),) * grid.dimension]
    values = values[thinned]
    shells = [(depth > a) & (depth <= b) for a, b in (OUTER_MM, INNER_MM)]
    if not all(shell.any() for shell in shells):
        return False
    outer, inner = (float(np.median(values[shell])) for shell in shells)
    return inner > RISE * outer
