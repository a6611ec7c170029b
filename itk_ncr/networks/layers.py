"""The blocks of the networks: 2D and 3D by one definition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
MODES = {2: "bilinear", 3: "trilinear"}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class _RepeatBorder(torch.autograd.Function):
    """Padding by the border values, one voxel; its adjoint adds slabs instead of scattering."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        del ctx
        return functional.pad(x, (1,) * (2 * (x.ndim - 2)), mode="replicate")

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        del ctx
        for axis in range(2, gradient.ndim):
            size = gradient.shape[axis] - 2
            inner = gradient.narrow(axis, 1, size)
            # The first axis copies: the incoming gradient belongs to others.
            inner = inner.clone() if axis == 2 else inner
            inner.select(axis, 0).add_(gradient.select(axis, 0))
            inner.select(axis, size - 1).add_(gradient.select(axis, size + 1))
            gradient = inner
        return gradient


def repeat_border(x: Tensor) -> Tensor:
    """Pad every spatial axis by one voxel with the value at its border.

    Parameters
    ----------
    x : Tensor, shape (N, C, *spatial)

    Returns
    -------
    Tensor, shape (N, C, *(spatial + 2))
    """
    if torch.is_grad_enabled() and x.requires_grad and not torch.jit.is_scripting():
        padded: Tensor = _RepeatBorder.apply(x)
        return padded
    return functional.pad(x, (1,) * (2 * (x.ndim - 2)), mode="replicate")


class Convolution(nn.Module):
    """3 x 3 (x 3) convolution that repeats the border, batch normalisation, ReLU."""

    def __init__(self, dimension: int, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.convolution = CONVOLUTIONS[dimension](inputs, outputs, 3, bias=bias)
        self.norm = BATCH_NORMS[dimension](outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the spatial size."""
        return functional.relu(self.norm(self.convolution(repeat_border(x))), inplace=True)


class Block(nn.Sequential):
    """Two convolutions: ``inputs -> middle -> outputs`` channels."""

    def __init__(
        self, dimension: int, inputs: int, middle: int, outputs: int, *, last_bias: bool = False
    ) -> None:
        super().__init__(
            Convolution(dimension, inputs, middle),
            Convolution(dimension, middle, outputs, bias=last_bias),
        )


class Head(nn.Sequential):
    """Two 1 x 1 (x 1) convolutions with a ReLU between: ``inputs -> inputs / 2 -> outputs``."""

    def __init__(self, dimension: int, inputs: int, outputs: int) -> None:
        convolution = CONVOLUTIONS[dimension]
        super().__init__(
            convolution(inputs, inputs // 2, 1),
            nn.ReLU(inplace=True),
            convolution(inputs // 2, outputs, 1),
        )

    def start_at(self, value: float, spread: float = 1e-5) -> None:
        """Set the last layer so that the output begins near one value everywhere."""
        last = self[-1]
        assert isinstance(last, nn.Conv2d | nn.Conv3d)
        assert last.bias is not None
        nn.init.normal_(last.weight, std=spread)
        nn.init.constant_(last.bias, value)


def double(x: Tensor, mode: str | None = None) -> Tensor:
    """Enlarge every spatial axis by 2; voxels are halved, so no corner voxel keeps its centre."""
    if mode == "nearest":
        return functional.interpolate(x, scale_factor=2, mode="nearest")
    return functional.interpolate(
        x, scale_factor=2, mode=mode or MODES[x.ndim - 2], align_corners=False
    )


def halve(x: Tensor) -> Tensor:
    """Mean over blocks of 2 voxels per axis: the inverse geometry of :func:`double`."""
    pooling: Any = functional.avg_pool2d if x.ndim == 4 else functional.avg_pool3d
    pooled: Tensor = pooling(x, 2, ceil_mode=True, count_include_pad=False)
    return pooled
