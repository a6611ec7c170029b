"""Building blocks of the networks, in 2D and 3D."""

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
HALF_TYPES = (torch.bfloat16, torch.float16)
# Fewer than a vector register holds make channels last slow.
FEW_CHANNELS = 4


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

    def forward(self, x: Tensor) -> Tensor:
        """Channels are mixed, voxel by voxel."""
        if not self.training or x.is_cuda or x.dtype != torch.float32:
            whole: Tensor = super().forward(x)
            return whole
        # Channels last, each voxel is a line of a matrix. With one thread torch's convolution goes
        # another way, with copies: a 3D step (n=4, 96 x 112 x 96) took 1.73 s instead of 1.65.
        x = x.movedim(1, -1)
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                x = functional.linear(x, layer.weight.flatten(1), layer.bias)
            else:
                x = layer(x)
        return x.movedim(-1, 1)

    def start_at(self, value: float, spread: float | None = None) -> None:
        """Initialise the output around one value; with ``spread``, this close to it everywhere.

        A sigmoid follows the mask's head, and below it only features that raise the logit can learn
        to: with weights near 0 they all die while the mask of healthy tissue falls.
        """
        last = self[-1]
        assert isinstance(last, nn.Conv2d | nn.Conv3d)
        assert last.bias is not None
        if spread is not None:
            draw_weights(last.weight, spread)
        nn.init.constant_(last.bias, value)


def draw_weights(weight: Tensor, spread: float) -> None:
    """Fill a weight from a normal distribution; on the meta device, which has no values, nothing.

    There ``nn.init.normal_`` would import torch's compiler, which takes seconds.
    """
    if not weight.is_meta:
        nn.init.normal_(weight, std=spread)


class _Double(torch.autograd.Function):
    """Linear enlargement by 2; its adjoint works axis by axis.

    That of torch took 75 ms instead of 15 for 16 channels of 96 x 112 x 96, channels last, where
    the gradient is a part of a larger one (as behind every ``cat``).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        del ctx
        return _doubled(x)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        del ctx
        # Three roundings to half precision would be two too many.
        kept = gradient.float() if gradient.dtype in HALF_TYPES else gradient
        for axis in range(2, gradient.ndim):
            size = gradient.shape[axis] // 2
            pairs = kept.unflatten(axis, (size, 2))
            even, odd = pairs.unbind(axis + 1)
            kept = torch.add(even, odd).mul_(0.75)
            kept.narrow(axis, 0, size - 1).add_(even.narrow(axis, 1, size - 1), alpha=0.25)
            kept.narrow(axis, 1, size - 1).add_(odd.narrow(axis, 0, size - 1), alpha=0.25)
            kept.select(axis, 0).add_(even.select(axis, 0), alpha=0.25)
            kept.select(axis, size - 1).add_(odd.select(axis, size - 1), alpha=0.25)
        return kept.to(gradient.dtype)


def double(x: Tensor, mode: str | None = None) -> Tensor:
    """Enlarge every spatial axis by 2; voxels are halved, so no corner voxel keeps its centre."""
    if mode == "nearest":
        return functional.interpolate(x, scale_factor=2, mode="nearest")
    # On CUDA torch's own is one kernel.
    if mode is None and torch.is_grad_enabled() and x.requires_grad and not x.is_cuda:
        doubled: Tensor = _Double.apply(x)
        return doubled
    return _doubled(x, mode)


def _doubled(x: Tensor, mode: str | None = None) -> Tensor:
    if x.shape[1] < FEW_CHANNELS:
        x = x.contiguous()  # 12 ms instead of 23 for a velocity, 48 x 56 x 48
    return functional.interpolate(
        x, scale_factor=2, mode=mode or MODES[x.ndim - 2], align_corners=False
    )


def halve(x: Tensor) -> Tensor:
    """Mean over blocks of 2 voxels per axis: the inverse geometry of :func:`double`.

    Parameters
    ----------
    x : Tensor, shape (N, C, *spatial)
        An odd size has a smaller block at its end.

    Returns
    -------
    Tensor, shape (N, C, *spatial / 2, rounded up)
        The means.
    """
    pooling: Any = functional.avg_pool2d if x.ndim == 4 else functional.avg_pool3d
    pooled: Tensor = pooling(x, 2, ceil_mode=True, count_include_pad=False)
    return pooled
