"""NCR-Net rearranged for prediction: the same function, several times faster on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from itk_ncr.errors import ArgumentError, require_choice
from itk_ncr.networks.folding import fold, folded
from itk_ncr.networks.grids import full_precision, padded, predict, require_pairs
from itk_ncr.networks.layers import CHANNELS_LAST, Block, Convolution
from itk_ncr.networks.ncr import SCALES, Decoder, NCRNet
from itk_ncr.networks.slabs import RollingRows, bordered, empty, interior, repeat_inside, starts
from itk_ncr.prediction import Prediction

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What the linear enlargement by 2 and a 3-tap kernel are together: taps on the coarse grid (last
# axis but one) from taps on the fine one (last axis), for even and for odd fine voxels.
ENLARGED_TAPS = (
    ((0.75, 0.25, 0.0), (0.25, 0.75, 0.75), (0.0, 0.0, 0.25)),
    ((0.25, 0.0, 0.0), (0.75, 0.75, 0.25), (0.0, 0.25, 0.75)),
)
# Bytes of the largest tensor of a slab. Fresh memory costs a page fault per 4 KiB, and the C
# library returns blocks above 32 MiB to the system at once: a fifth of the time without slabs.
SLAB = 2**23


def prepare_for_inference(network: nn.Module, *, precision: str = "float32") -> nn.Module:
    """A network that predicts the same, faster: in evaluation mode, rearranged where we know how.

    Parameters
    ----------
    network : nn.Module
        A row of ``NETWORKS``; stays as it is. Of other networks than NCR-Net and RegNet only
        the normalisation is moved into the convolutions.
    precision : "float32" or "bfloat16"
        Of the convolutions of NCR-Net and RegNet. "bfloat16" is twice as fast where the processor
        has instructions for it (avx512_bf16, amx) and slower elsewhere. In five 2D pairs of brains
        that a trained model moves by 2.7 voxels it changed the displacement by .06 voxel on
        average and .9 at most, and the noncorrespondence by .0002 and .11.

    Returns
    -------
    nn.Module
        With the interface ``network(fixed, moving, scales=3)``; not for training.

    Raises
    ------
    ArgumentError
        If there is no such precision.
    """
    if isinstance(network, NCRNet):
        return PreparedNCRNet(network, precision)
    if precision != "float32":
        raise ArgumentError(
            f"precision must be float32 for a {type(network).__name__}; got {precision!r}."
        )
    return fold(network)


class PreparedNCRNet(nn.Module):
    """A trained :class:`NCRNet` for prediction only.

    Batch normalisation is in the convolutions. A convolution of ``cat(enlarged, skip)`` is the sum
    of two: that of the enlarged part runs on the coarse grid, with a set of kernels for every
    position of a fine voxel in a coarse one, so that nothing is enlarged or joined; that of the
    skip serves both decoders at once. Every block runs slab by slab along the first axis.

    Parameters
    ----------
    network : NCRNet
        Copied; stays as it is.
    precision : "float32" or "bfloat16"
        Of the convolutions.
    """

    def __init__(self, network: NCRNet, precision: str = "float32") -> None:
        super().__init__()
        require_choice("precision", precision, PRECISIONS)
        self.dimension, self.integration = network.dimension, network.integration
        self.settings: dict[str, Any] = dict(network.settings)
        self.precision = precision
        self.encoder: Any = nn.ModuleList(
            _EncoderBlock(*_layers(block)) for block in network.encoder.blocks
        )
        decoders = [network.registration]
        if network.segmentation is not None:
            decoders.append(network.segmentation)
        finest, coarsest = decoders[-1].levels[-1], decoders[0].levels[0]
        self.levels: Any = nn.ModuleDict(
            {str(level): _Level(decoders, level) for level in range(coarsest, finest - 1, -1)}
        )
        for module in self.modules():
            if isinstance(module, Weights):
                module.arrange(PRECISIONS[precision])
        self.eval().requires_grad_(False)

    def forward(
        self, fixed: Tensor, moving: Tensor, *, scales: int = SCALES, find_mask: bool = True
    ) -> Prediction:
        """As :meth:`NCRNet.forward`, without gradients."""
        with torch.no_grad():
            velocities, masks = self.maps(fixed, moving, scales, find_mask)
            return predict(velocities, masks, fixed, self.integration)

    def maps(
        self, fixed: Tensor, moving: Tensor, scales: int = SCALES, find_mask: bool = True
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As :meth:`NCRNet.maps`."""
        require_pairs(fixed, moving, self.dimension)
        if len(fixed) > 1 and self.dimension == 3:
            # A slab of one pair is a piece of memory, a slab of several is not.
            pairs = zip(fixed.split(1), moving.split(1), strict=True)
            singles = [self.maps(*pair, scales, find_mask) for pair in pairs]
            velocities, masks = (
                [torch.cat(parts) for parts in zip(*lists, strict=True)]
                for lists in zip(*singles, strict=True)
            )
            return velocities, masks
        x = padded(torch.cat([moving, fixed], 1)).to(PRECISIONS[self.precision])
        skips: list[Tensor] = []
        for number, block in enumerate(self.encoder, 1):
            skip, x = block(x, pool=number < len(self.encoder))
            skips.append(skip)
        coarse = [skips.pop()] * 2
        velocities, masks = [], []
        for key, level in self.levels.items():
            heads = {0: int(key) - 1 < scales, 1: find_mask and int(key) < scales}
            wanted = [n for n in level.decoders if n == 0 or find_mask]
            if not wanted:
                break
            found, said = level(coarse, skips.pop(), wanted, heads)
            for n, features in found.items():
                coarse[n] = features
            if 0 in said:
                velocities.append(full_precision(said[0]).contiguous())
            if 1 in said:
                masks.append(full_precision(said[1]).contiguous().sigmoid())
        return velocities[::-1], masks[::-1]


class Weights(nn.Module):
    """A convolution that adds no border, or a linear layer."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def arrange(self, dtype: torch.dtype) -> None:
        """Set the type and the order in memory."""
        weight = self.weight.to(dtype)
        if weight.ndim > 2:
            weight = weight.contiguous(memory_format=CHANNELS_LAST[weight.ndim - 2])
        self.weight = weight
        self.bias = None if self.bias is None else self.bias.to(dtype)

    def forward(self, x: Tensor, outputs: int | None = None) -> Tensor:
        """Only the first ``outputs`` channels, where given."""
        weight = self.weight[:outputs]
        bias = None if self.bias is None else self.bias[:outputs]
        if weight.ndim == 2:
            return functional.linear(x, weight, bias)
        ones, zeros = [1] * (x.ndim - 2), [0] * (x.ndim - 2)
        if x.device.type == "cpu" and _has_onednn(x.dtype):
            # torch leaves small images to a loop of its own, four times slower.
            return torch.mkldnn_convolution(x, weight, bias, zeros, ones, ones, 1)
        plain: Any = functional.conv2d if x.ndim == 4 else functional.conv3d
        result: Tensor = plain(x, weight, bias)
        return result


class _EncoderBlock(nn.Module):
    def __init__(self, first: Convolution, second: Convolution) -> None:
        super().__init__()
        self.first, self.second = Weights(*folded(first)), Weights(*folded(second))

    def forward(self, x: Tensor, *, pool: bool) -> tuple[Tensor, Tensor]:
        """Features with a border, and optionally at half the size."""
        x = bordered(x)
        size = x.shape[2] - 2
        channels = len(self.second.weight)
        features = empty(x, channels, list(x.shape[2:]))
        pooled_rows: list[Tensor] = []
        rows = None
        for start, stop in _slabs(size, x, max(channels, x.shape[1])):
            fresh = self.first(x.narrow(2, start, stop - start + 2)).relu_()
            rows = rows or RollingRows(fresh, stop - start)
            rows.room(stop - start).copy_(fresh)
            at, ready = rows.close(stop - start, stop == size)
            part = self.second(ready).relu_()
            interior(features).narrow(2, at, part.shape[2]).copy_(part)
            if pool:
                pooled_rows.append(_halved(part, along_first=False))
        repeat_inside(features)
        if not pool:
            return features, features
        pooled = torch.cat(pooled_rows, 2) if len(pooled_rows) > 1 else pooled_rows[0]
        return features, _halved(pooled, along_first=True)


class _Level(nn.Module):
    """The blocks and heads of all decoders at one resolution."""

    def __init__(self, decoders: list[Decoder], level: int) -> None:
        super().__init__()
        self.decoders = [n for n, d in enumerate(decoders) if level in d.levels]
        self.middle: dict[int, int] = {}
        self.ends = {n for n in self.decoders if level == decoders[n].levels[-1]}
        skips, biases = [], []
        enlarged, second, heads = {}, {}, {}
        for n in self.decoders:
            position = decoders[n].levels.index(level)
            first, last = _layers(decoders[n].blocks[position])
            weight, bias = folded(first)
            # The encoder doubles its channels: at its end, two thirds come from below.
            inputs = weight.shape[1] * 2 // 3
            if position > 0:
                below = _layers(decoders[n].blocks[position - 1])[1]
                inputs = below.convolution.out_channels
            self.middle[n] = len(weight)
            enlarged[str(n)] = Weights(on_coarse_grid(weight[:, :inputs]), None)
            second[str(n)] = Weights(*folded(last))
            skips.append(weight[:, inputs:])
            biases.append(bias)
            head = position - (len(decoders[n].levels) - SCALES)
            if head >= 0:
                before, _, after = decoders[n].heads[head].children()
                heads[str(n)] = nn.ModuleList([_per_voxel(before), _per_voxel(after)])
        self.skip = Weights(torch.cat(skips), torch.cat(biases))
        self.enlarged: Any = nn.ModuleDict(enlarged)
        self.second: Any = nn.ModuleDict(second)
        self.heads: Any = nn.ModuleDict(heads)

    def forward(
        self, coarse: list[Tensor], skip: Tensor, wanted: list[int], heads: dict[int, bool]
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Features with a border and outputs of the heads, by number of the decoder."""
        fine = [n - 2 for n in skip.shape[2:]]
        outputs = sum(self.middle[n] for n in wanted)
        features: dict[int, Tensor] = {}
        said: dict[int, Tensor] = {}
        rows: dict[int, RollingRows] = {}
        for n in wanted:
            if n not in self.ends:
                channels = len(self.second[str(n)].weight)
                features[n] = empty(skip, channels, [size + 2 for size in fine])
            if heads[n] and str(n) in self.heads:
                said[n] = empty(skip, len(self.heads[str(n)][1].weight), fine)
        widest = 2 ** (skip.ndim - 2) * max(self.middle[n] for n in wanted)
        for start, stop in _slabs(fine[0] // 2, coarse[wanted[0]], widest):
            count = 2 * (stop - start)
            shared = self.skip(skip.narrow(2, 2 * start, count + 2), outputs)
            first = 0
            for n in wanted:
                phases = self.enlarged[str(n)](coarse[n].narrow(2, start, stop - start + 2))
                part = shared.narrow(1, first, self.middle[n])
                first += self.middle[n]
                if n not in rows:
                    rows[n] = RollingRows(part, count)
                _add_interleaved(phases, part, rows[n].room(count))
                at, ready = rows[n].close(count, stop == fine[0] // 2, activate=True)
                x = self.second[str(n)](ready).relu_()
                if n in features:
                    interior(features[n]).narrow(2, at, x.shape[2]).copy_(x)
                if n in said:
                    before, last = self.heads[str(n)]
                    x = last(before(x.movedim(1, -1)).relu_()).movedim(-1, 1)
                    said[n].narrow(2, at, x.shape[2]).copy_(x)
        return {n: repeat_inside(x) for n, x in features.items()}, said


def _has_onednn(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _slabs(size: int, like: Tensor, channels: int) -> Iterator[tuple[int, int]]:
    """First and last row of every slab; one for several samples, whose rows lie apart."""
    row = channels * like.element_size()
    for n in like.shape[3:]:
        row *= n
    step = size if len(like) > 1 or like.is_cuda else max(2, SLAB // row)
    return starts(size, step)


def _halved(x: Tensor, *, along_first: bool) -> Tensor:
    """Maximum over pairs along the first axis, or along the others."""
    pool: Any = functional.max_pool2d if x.ndim == 4 else functional.max_pool3d
    others = 1 if along_first else 2
    window = (2 if along_first else 1, *(others,) * (x.ndim - 3))
    result: Tensor = pool(x, window)
    return result


def _add_interleaved(phases: Tensor, skip: Tensor, out: Tensor) -> None:
    """Put the phases of the coarse voxels into their places and add the skip."""
    dimension, sizes = phases.ndim - 2, phases.shape[2:]
    fine = []
    for x in (skip, out):
        # Axes (N, z, phase, y, phase, x, phase, channel), without copying.
        x = x.movedim(1, -1)
        for axis, size in reversed(list(enumerate(sizes))):
            x = x.unflatten(axis + 1, (size, 2))
        fine.append(x)
    parts = phases.movedim(1, -1).unflatten(-1, (*(2,) * dimension, skip.shape[1]))
    order = [number for axis in range(dimension) for number in (1 + axis, 1 + dimension + axis)]
    torch.add(fine[0], parts.permute(0, *order, 1 + 2 * dimension), out=fine[1])


def _per_voxel(layer: nn.Module) -> Weights:
    """A linear layer instead of a convolution with one tap."""
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    assert layer.bias is not None
    return Weights(layer.weight.detach().flatten(1), layer.bias.detach().clone())


def _layers(block: nn.Module) -> tuple[Convolution, Convolution]:
    assert isinstance(block, Block)
    first, second = block
    assert isinstance(first, Convolution)
    assert isinstance(second, Convolution)
    return first, second


def on_coarse_grid(weight: Tensor) -> Tensor:
    """The kernels that do on the coarse grid what one does on the grid enlarged by 2.

    The border of the enlarged image is the enlarged border: repeating it commutes with enlarging.

    Parameters
    ----------
    weight : Tensor, shape (outputs, inputs, 3, ...)

    Returns
    -------
    Tensor, shape (2**D * outputs, inputs, 3, ...)
        The phases of the fine voxels are the slowest, z before y before x.
    """
    dimension = weight.ndim - 2
    taps = torch.tensor(ENLARGED_TAPS, dtype=torch.float64, device=weight.device)
    kernel = weight.double()
    for _ in range(dimension):
        # The first axis of taps goes; its phase and its coarse taps come last.
        kernel = torch.tensordot(kernel, taps, dims=([2], [2]))
    phases = [2 + 2 * axis for axis in range(dimension)]
    coarse = [3 + 2 * axis for axis in range(dimension)]
    kernel = kernel.permute(*phases, 0, 1, *coarse)
    return kernel.reshape(-1, *kernel.shape[dimension + 1 :]).to(weight.dtype)
