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

    A step that makes a voxel worse is not taken; half of it is tried next. Where the map folds
    there is no inverse: the best value found is kept, and :func:`inverse_consistency` measures its
    error. Outside the grid, u takes its border value.

    Parameters
    ----------
    displacement : Tensor, shape (N, D, *spatial)
        Displacement u, in voxels.
    iterations : int
        Maximum number of iterations.
    tolerance : float
        Largest error at which to stop, in voxels.

    Returns
    -------
    Tensor, shape (N, D, *spatial)
        Inverse displacement v, in voxels.

    Raises
    ------
    ShapeError
        If ``displacement`` is not (N, D, *spatial) with D = 2 or 3.

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
