"""Inversion of displacement fields."""

from __future__ import annotations

import torch
from torch import Tensor

from itk_ncr.fields.regularity import vector_length
from itk_ncr.ops import compose
from itk_ncr.ops.checks import require_field

# A smooth map is undone to a hundredth of a voxel in some ten iterations; the rest is for voxels
# where the map is steep and the step had to be halved.
ITERATIONS, TOLERANCE_VOXEL = 60, 0.01


@torch.no_grad()
def invert_displacement(
    displacement: Tensor, *, iterations: int = ITERATIONS, tolerance: float = TOLERANCE_VOXEL
) -> Tensor:
    r"""Find v with ``v(p) + u(p + v(p)) = 0`` by a fixed-point iteration.

    Where a step makes a voxel worse it is not taken, and half of it is tried next. Where the map
    folds there is no inverse: the best value that was seen stays, and :func:`inverse_consistency`
    tells how good it is. Outside the grid u is taken to go on as at the border.

    Parameters
    ----------
    displacement : Tensor, shape (N, D, *spatial)
        u, in voxels.
    iterations : int
        At most this many.
    tolerance : float
        Largest error in voxels that is good enough to stop.

    Returns
    -------
    Tensor, shape (N, D, *spatial)
        v, in voxels.

    Raises
    ------
    ShapeError
        If ``displacement`` is none.

    References
    ----------
    Chen et al., "A simple fixed-point approach to invert a deformation field", Med Phys 35, 2008,
    doi:10.1118/1.2816107.
    """
    require_field(displacement, "displacement")
    inverse = torch.zeros_like(displacement)
    error = displacement
    length = vector_length(error)
    step = torch.ones_like(length)
    for _ in range(iterations):
        if length.max() <= tolerance:
            break
        tried = inverse - step * error
        missed = compose(displacement, tried)
        how_far = vector_length(missed)
        better = how_far < length
        inverse = torch.where(better, tried, inverse)
        error = torch.where(better, missed, error)
        length = torch.where(better, how_far, length)
        step = torch.where(better, step, step / 2)
    return inverse
