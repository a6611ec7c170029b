"""Rigid spatial transformer network for coarse alignment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from itk_ncr.errors import ArgumentError
from itk_ncr.networks.grids import require_pairs
from itk_ncr.networks.layers import CONVOLUTIONS
from itk_ncr.ops import warp

WIDTHS = (16, 32, 64, 64)
SMOOTHING = 4.0  # voxel, standard deviation
SHRINKING = 4
LARGEST_ANGLE = 0.3  # rad, for an output of 1
LARGEST_SHIFT = 0.25  # of the size of the image, for an output of 1
PASSES = 3


@dataclass(frozen=True)
class RigidPrediction:
    """A rigid motion of the voxels of the fixed image.

    Attributes
    ----------
    angles : Tensor, shape (N, 1) in 2D, (N, 3) in 3D
        Rotation vector in rad: about the origin from the first to the second axis, in 3D about the
        three axes.
    shift : Tensor, shape (N, D)
        Of the centre, in voxels along the array axes.
    matrix : Tensor, shape (N, D, D + 1)
        Position in moving = ``matrix[:, :, :D] @ position + matrix[:, :, D]``, in voxels.
    displacement : Tensor, shape (N, D, *spatial)
        In voxels: ``moved = warp(moving, displacement)``.
    """

    angles: Tensor
    shift: Tensor
    matrix: Tensor
    displacement: Tensor


class RigidTransformer(nn.Module):
    """Convolutional network for the parameters of a rigid motion, on a smoothed, smaller pair.

    Starts at the identity. Not in ``NETWORKS``: it has no velocity.

    Parameters
    ----------
    dimension : int
        2: an angle and two shifts; 3: three angles, three shifts.

    Notes
    -----
    The pair comes with the coordinates of its voxels as further channels: the mean over the image
    in front of the last layer would otherwise not know where a feature was.

    References
    ----------
    Jaderberg et al., NIPS 2015, arXiv:1506.02025; Liu et al. (coordinates), NeurIPS 2018,
    arXiv:1807.03247.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        if dimension not in (2, 3):
            raise ArgumentError(f"dimension must be 2 or 3; got {dimension}.")
        self.dimension = dimension
        self.settings: dict[str, Any] = {}
        self.turns = dimension * (dimension - 1) // 2
        inputs = (2 + dimension, *WIDTHS[:-1])
        self.features = nn.ModuleList(
            CONVOLUTIONS[dimension](before, after, 3, stride=2, padding=1)
            for before, after in zip(inputs, WIDTHS, strict=True)
        )
        self.parameters_head = nn.Linear(WIDTHS[-1], self.turns + dimension)
        nn.init.zeros_(self.parameters_head.weight)
        nn.init.zeros_(self.parameters_head.bias)

    def forward(
        self,
        fixed: Tensor,
        moving: Tensor,
        *,
        spacing: Sequence[float] | None = None,
        passes: int = PASSES,
    ) -> RigidPrediction:
        """Predict for a batch of pairs.

        Parameters
        ----------
        fixed, moving : Tensor, shape (N, 1, *spatial)
            On the scale of ``preprocessing.normalise``.
        spacing : sequence of float, optional
            Voxel size per array axis, in any unit, so that a rotation is one in space. Default: 1.
        passes : int
            Number of passes; from the second on, the network sees the moving image as moved so far.

        Returns
        -------
        RigidPrediction
            The motion after the last pass.

        Raises
        ------
        ShapeError
            If the images do not fit.
        ArgumentError
            If the spacing does not, or there are no passes.
        """
        if passes < 1:
            raise ArgumentError(f"passes must be at least 1; got {passes}. Use {PASSES}.")
        return list(islice(self.refinements(fixed, moving, spacing=spacing), passes))[-1]

    def refinements(
        self, fixed: Tensor, moving: Tensor, *, spacing: Sequence[float] | None = None
    ) -> Iterator[RigidPrediction]:
        """Predict with a growing number of passes; gradients flow through the last pass only.

        Parameters
        ----------
        fixed, moving, spacing
            As for :meth:`forward`.

        Yields
        ------
        RigidPrediction
            The motion after one pass, two passes, and so on without end.

        Raises
        ------
        ShapeError, ArgumentError
            As :meth:`forward`.
        """
        require_pairs(fixed, moving, self.dimension)
        spacing = tuple(spacing) if spacing is not None else (1.0,) * self.dimension
        if len(spacing) != self.dimension or not all(0 < s < float("inf") for s in spacing):
            raise ArgumentError(
                f"spacing must be {self.dimension} positive numbers; got {spacing}. "
                "Give it in the order of the array axes."
            )
        size = fixed.shape[2:]
        units = [LARGEST_ANGLE] * self.turns + [LARGEST_SHIFT * n for n in size]
        target, seen = smoothed_and_shrunk(fixed), moving
        parameters = fixed.new_zeros(len(fixed), len(units))
        while True:
            raw = self._correction(target, smoothed_and_shrunk(seen))
            parameters = parameters.detach() + raw * raw.new_tensor(units)
            angles, shift = parameters.split([self.turns, self.dimension], 1)
            found = rigid_motion(angles, shift, size, spacing)
            yield found
            seen = warp(moving, found.displacement.detach())

    def _correction(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Remaining angles and shift, in units of their ranges; (N, parameters)."""
        x = torch.cat([moving, fixed], 1)
        x = torch.cat([x, _coordinates(x).expand(len(x), -1, *x.shape[2:])], 1)
        for layer in self.features:
            x = functional.relu(layer(x))
        raw: Tensor = self.parameters_head(x.flatten(2).mean(2))
        return raw


def rigid_motion(
    angles: Tensor, shift: Tensor, size: Sequence[int], spacing: Sequence[float]
) -> RigidPrediction:
    """A rotation about the centre of the image and a shift, as matrix and as displacement.

    Parameters
    ----------
    angles : Tensor, shape (N, 1) or (N, 3)
        In rad, see :class:`RigidPrediction`.
    shift : Tensor, shape (N, D)
        In voxels.
    size, spacing : sequence
        Of the array axes.
    """
    dimension = shift.shape[1]
    generator = angles.new_zeros(len(angles), dimension, dimension)
    pairs = [(0, 1)] if dimension == 2 else [(1, 2), (2, 0), (0, 1)]
    for number, (a, b) in enumerate(pairs):
        generator[:, a, b] = -angles[:, number]
        generator[:, b, a] = angles[:, number]
    scale = angles.new_tensor(list(spacing))
    rotation = torch.linalg.matrix_exp(generator) * scale / scale[:, None]
    centre = (angles.new_tensor(list(size)) - 1) / 2
    # Of the difference to the identity, so that no motion is none to the last bit.
    change = rotation - torch.eye(dimension, dtype=angles.dtype, device=angles.device)
    offset = shift - change @ centre
    axes = [torch.arange(n, dtype=angles.dtype, device=angles.device) for n in size]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1) - centre[:, None]
    displacement = change @ positions + shift[:, :, None]
    matrix = torch.cat([rotation, offset[:, :, None]], 2)
    return RigidPrediction(
        angles, shift, matrix, displacement.reshape(len(angles), dimension, *size)
    )


def smoothed_and_shrunk(x: Tensor) -> Tensor:
    """Gaussian of 4 voxels, every fourth voxel; an axis below 8 voxels keeps its size."""
    reach = int(3 * SMOOTHING)
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = (-0.5 * (offsets / SMOOTHING).square()).exp()
    kernel = kernel / kernel.sum()
    for axis in range(2, x.ndim):
        step = SHRINKING if x.shape[axis] >= 2 * SHRINKING else 1
        lines = x.movedim(axis, -1)
        shape = lines.shape
        lines = functional.pad(lines.reshape(-1, 1, shape[-1]), (reach, reach), mode="replicate")
        # The first centre kept is the one that leaves as much at both ends.
        start = (shape[-1] - 1) % step // 2
        found = functional.conv1d(lines[..., start:], kernel.view(1, 1, -1), stride=step)
        x = found.reshape(*shape[:-1], -1).movedim(-1, axis)
    return x


def _coordinates(like: Tensor) -> Tensor:
    """From -1 to 1 along every axis, shape (1, D, *spatial)."""
    axes = [
        torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device)
        if n > 1
        else like.new_zeros(1)
        for n in like.shape[2:]
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
