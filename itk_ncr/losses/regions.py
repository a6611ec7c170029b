r"""Volume and perimeter of a mask, as means over the voxels.

``perimeter(S) * N`` is the length (2D) or the area (3D) of the boundary, in voxels, for the first
three forms; the released form counts edge voxels instead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from itk_ncr.errors import ArgumentError, ShapeError, require_choice
from itk_ncr.fields import vector_length
from itk_ncr.losses.weighting import extent, mean_over, require_weight, total
from itk_ncr.ops.checks import require_same_shape


def volume(noncorrespondence: Tensor, *, foreground: Tensor | None = None) -> Tensor:
    """Mean of the mask: the fraction of voxels that are masked.

    Parameters
    ----------
    noncorrespondence : Tensor, shape (N, 1, *spatial)
        Probability in [0, 1].
    foreground : Tensor, shape (N, 1, *spatial), optional
        Voxels over which the mean is taken, with weights >= 0. Default: all.

    Returns
    -------
    Tensor, shape (N,)
        Fraction in [0, 1].

    Raises
    ------
    ShapeError
        If the mask has several channels, or the foreground is not on its grid.
    """
    _require_mask(noncorrespondence)
    require_weight("foreground", foreground, noncorrespondence)
    return mean_over(noncorrespondence, foreground)


def perimeter(
    noncorrespondence: Tensor,
    form: str = "tv",
    *,
    sobel3d: str = "correct",
    foreground: Tensor | None = None,
) -> Tensor:
    r"""Mean length of the gradient of a mask, (N,).

    Parameters
    ----------
    noncorrespondence : Tensor, shape (N, 1, *spatial), in [0, 1]
    form : str
        ``"tv"``: total variation, upwind differences; a binary disc or ball of radius r has
        :math:`2\pi r` or :math:`4\pi r^2` within 10 % (measured: 2 to 8 % too much).
        ``"faces"``: sum of the differences along the axes: what the mask step minimises. It counts
        the faces between masked and unmasked voxels, so a disc gets 4 / pi and a ball 1.5 times its
        boundary.
        ``"sobel"``: length of the Sobel gradient, divided by 8 in 2D and 32 in 3D so that a ramp of
        slope 1 has length 1; within 3 % for discs, and blurred over two voxels.
        ``"released"``: :math:`\tanh(g^2)` of undivided Sobel filters without the rim, as in the
        code published with the paper. On sharp edges it saturates, and has no gradient.
    sobel3d : "correct", "released" or "paper"
        Kernels of the released form in 3D. A wrong sign made one ("released") or two ("paper", the
        state when the paper appeared) of them sum to 4, so that a constant mask has a perimeter.
    foreground : Tensor, shape (N, 1, *spatial), optional
        Voxels over which the mean is taken. Default: all; ``"released"`` takes all but the rim, and
        accepts no foreground.

    Returns
    -------
    Tensor, shape (N,)
        Length per voxel, >= 0, in 1 / voxel.

    Raises
    ------
    ArgumentError
        If ``form`` or ``sobel3d`` is unknown, or ``foreground`` is given to the released form.
    ShapeError
        If the mask is not one channel, or too small for the released form (3 voxels an axis).

    References
    ----------
    Upwind total variation: Chambolle, Levine, Lucier, SIAM J. Imaging Sci. 4, 2011,
    doi:10.1137/090752754. Released form: Andresen et al., doi:10.1007/s11548-022-02577-4.
    """
    _require_mask(noncorrespondence)
    require_weight("foreground", foreground, noncorrespondence)
    if form == "released":
        if foreground is not None:
            raise ArgumentError(
                "foreground must be left out with the released perimeter; got a tensor. "
                'Use form="sobel" or "tv".'
            )
        return _released(noncorrespondence, sobel3d)
    require_choice("form", form, (*LENGTHS, "released"))
    return mean_over(LENGTHS[form](noncorrespondence), foreground)


def _upwind_length(mask: Tensor) -> Tensor:
    """Length of the drops from a voxel to its lower neighbours, on both sides of every axis."""
    drops = []
    for axis in range(2, mask.ndim):
        rise = mask.diff(dim=axis)
        none = torch.zeros_like(mask.narrow(axis, 0, 1))
        drops += [torch.cat([-rise, none], axis), torch.cat([none, rise], axis)]
    return vector_length(torch.cat(drops, dim=1).clamp_min(0))


def _faces(mask: Tensor) -> Tensor:
    """Sum of the magnitudes of the forward differences along all axes."""
    length = torch.zeros_like(mask)
    for axis in range(2, mask.ndim):
        none = torch.zeros_like(mask.narrow(axis, 0, 1))
        length = length + torch.cat([mask.diff(dim=axis), none], axis).abs()
    return length


def _sobel_length(mask: Tensor) -> Tensor:
    axes = mask.ndim - 2
    gain = 2.0 * 4.0 ** (axes - 1)
    padded = pad(mask, (1,) * (2 * axes), mode="replicate")
    slopes = [_sobel(padded, axis) for axis in range(2, mask.ndim)]
    return vector_length(torch.cat(slopes, dim=1)) / gain


def _released(mask: Tensor, sobel3d: str) -> Tensor:
    axes = mask.ndim - 2
    if min(mask.shape[2:]) < 3:
        raise ShapeError(
            f"noncorrespondence must have 3 voxels or more per axis for the released perimeter; "
            f'got {tuple(mask.shape[2:])}. Use form="sobel".'
        )
    require_choice("sobel3d", sobel3d, WRONG_KERNELS)
    wrong = WRONG_KERNELS[sobel3d] if axes == 3 else ()
    energy = torch.zeros((), dtype=mask.dtype, device=mask.device)
    for axis in range(2, mask.ndim):
        slope = _sobel(mask, axis)
        if axis in wrong:
            slope = slope + 4 * _wrong_entry(mask, axis)
        energy = energy + slope.square()
    edges = torch.tanh(energy)
    return total(edges) / extent(edges, None)


def _sobel(mask: Tensor, axis: int) -> Tensor:
    """Undivided Sobel filter along ``axis`` where it fits; gain 8 in 2D and 32 in 3D."""
    for other in range(2, mask.ndim):
        size = mask.shape[other] - 2
        before, here, after = (mask.narrow(other, start, size) for start in range(3))
        mask = after - before if other == axis else before + 2 * here + after
    return mask


def _wrong_entry(mask: Tensor, axis: int) -> Tensor:
    """Value under an entry that is -2 in the Sobel kernel and was +2 in the released one.

    Published is only that the sum of the kernel is 4; so one entry of size 2 has the wrong sign.
    Which of them is our choice: the first in memory order.
    """
    centre = next(other for other in range(2, mask.ndim) if other != axis)
    for other in range(2, mask.ndim):
        mask = mask.narrow(other, 1 if other == centre else 0, mask.shape[other] - 2)
    return mask


def _require_mask(mask: Tensor) -> None:
    require_same_shape(noncorrespondence=mask)
    if mask.shape[1] != 1:
        raise ShapeError(
            f"noncorrespondence must have one channel; got {tuple(mask.shape)}. "
            "Give the probability of one mask."
        )


LENGTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "tv": _upwind_length,
    "faces": _faces,
    "sobel": _sobel_length,
}

# Axes (of the tensor) whose 3D kernel has a wrong sign: x is the last one.
WRONG_KERNELS: dict[str, tuple[int, ...]] = {"correct": (), "released": (3,), "paper": (3, 4)}
