"""Regularity of displacements: folding and inverse consistency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from itk_ncr.errors import ShapeError
from itk_ncr.fields.smoothing import per_axis
from itk_ncr.ops import compose, jacobian_determinant
from itk_ncr.ops.checks import require_field


def inverse_consistency(
    displacement: Tensor, inverse: Tensor, *, spacing: Sequence[float] | None = None
) -> Tensor:
    r"""Inverse-consistency error of every voxel.

    .. math:: e(p) = \| u(p) + u^{-}(p + u(p)) \|

    Parameters
    ----------
    displacement, inverse : Tensor, shape (N, D, *spatial)
        A displacement and what should undo it, in voxels of the same grid.
    spacing : D floats in array order, optional
        Voxel size; the error is then in its unit. Default: 1, an error in voxels.

    Returns
    -------
    Tensor, shape (N, 1, *spatial)
        Error, >= 0, in voxels or in the unit of ``spacing``.

    Raises
    ------
    ShapeError
        If the two differ in shape or are not displacements.
    """
    require_field(displacement, "displacement")
    if inverse.shape != displacement.shape:
        raise ShapeError(
            f"inverse must have the shape of displacement, {tuple(displacement.shape)}; "
            f"got {tuple(inverse.shape)}. Carry both to one grid first (resize_displacement)."
        )
    error = compose(inverse, displacement)
    if spacing is not None:
        steps = torch.tensor(
            per_axis("spacing", spacing, error), dtype=error.dtype, device=error.device
        )
        error = error * steps.view(1, -1, *(1,) * (error.ndim - 2))
    return vector_length(error)


def vector_length(field: Tensor) -> Tensor:
    """Euclidean length of every vector.

    Parameters
    ----------
    field : Tensor, shape (N, C, *spatial)
        Vectors, one component per channel.

    Returns
    -------
    Tensor, shape (N, 1, *spatial)
        Length, in the unit of ``field``. Its gradient is 0, not NaN, where the length is 0.
    """
    # Not torch's vector_norm: over a strided axis it takes 40 times as long (1 M voxels: 91 ms).
    squares = field.square().sum(1, keepdim=True)
    some = squares > 0
    return torch.where(some, torch.where(some, squares, 1.0).sqrt(), 0.0)


def folding_fraction(displacement: Tensor) -> Tensor:
    """Fraction of voxels whose Jacobian determinant is not positive.

    Parameters
    ----------
    displacement : Tensor, shape (N, D, *spatial)
        In voxels.

    Returns
    -------
    Tensor, shape (N,)
        Fraction in [0, 1].

    Raises
    ------
    ShapeError
        If ``displacement`` is not (N, D, *spatial) with D = 2 or 3.
    """
    determinant = jacobian_determinant(displacement)
    return (determinant <= 0).flatten(1).to(torch.float64).mean(1).to(displacement.dtype)
