"""Overlap of warped and fixed labels."""

from __future__ import annotations

from torch import Tensor

from itk_ncr.losses.weighting import total
from itk_ncr.ops.checks import require_same_shape


def dice(moved: Tensor, fixed: Tensor, *, per_class: bool = False, smooth: float = 1e-5) -> Tensor:
    r"""Soft Dice overlap.

    .. math:: \frac{2 \sum_{c,x} a b + s}{\sum_{c,x} (a + b) + s}

    Parameters
    ----------
    moved, fixed : Tensor, shape (N, C, *spatial)
        One channel per class, in [0, 1].
    per_class : bool
        Sum over the voxels only. Default: pooled over classes as published, so that large
        structures weigh more.
    smooth : float
        Term s of the formula; with it, two empty masks overlap perfectly.

    Returns
    -------
    Tensor, shape (N,), or (N, C) per class
        1 for equal binary labels, 0 (but for s) for labels that never meet.

    Raises
    ------
    ShapeError
        If the labels differ in shape.
    """
    require_same_shape(fixed=fixed, moved=moved)
    shape = fixed.shape[:2]
    if per_class:
        moved, fixed = (labels.flatten(0, 1).unsqueeze(1) for labels in (moved, fixed))
    overlap = (2 * total(moved * fixed) + smooth) / (total(moved) + total(fixed) + smooth)
    return overlap.view(shape) if per_class else overlap
