"""The convolutions of NCR-Net as a graph of OpenVINO, arranged for few copies of large tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itk_ncr.networks.prepared import PreparedNCRNet, Weights

BLOCK = 2  # fine voxels per coarse one, along every axis
LANES = 16  # floats in a vector register of AVX-512


def maps_graph(
    network: PreparedNCRNet, shape: Sequence[int], scales: int, find_mask: bool, engine: Any
) -> Any:
    """:meth:`PreparedNCRNet.maps` for images of one shape, as an ``openvino.Model``.

    Against the traced network (96 x 112 x 96 voxels, width 4, one thread) .88 of the time: nothing
    is enlarged or joined at full resolution, and :func:`_paired` fills the vector registers.

    Parameters
    ----------
    network : PreparedNCRNet
        In float32.
    shape : (N, 1, *spatial)
        Multiples of 16.
    scales : int
    find_mask : bool
    engine : module
        ``openvino``.

    Returns
    -------
    openvino.Model
        Inputs fixed and moving; outputs the velocities, then the noncorrespondences, finest first.
    """
    ops = engine.opset8
    dimension = network.dimension
    ones, zeros = [1] * dimension, [0] * dimension

    def bordered(x: Any) -> Any:
        return ops.pad(x, [0, 0, *ones], [0, 0, *ones], "edge")

    def convolved(x: Any, layer: Weights, strides: Sequence[int] = ones) -> Any:
        weight = layer.weight.numpy()
        weight = weight.reshape(*weight.shape, *ones) if weight.ndim == 2 else weight
        constant = ops.constant(np.ascontiguousarray(weight))
        x = ops.convolution(x, constant, list(strides), zeros, zeros, ones)
        if layer.bias is None:
            return x
        return ops.add(x, ops.constant(layer.bias.numpy().reshape(1, -1, *ones)))

    def block(x: Any, first: Weights, second: Weights) -> Any:
        x = ops.relu(convolved(bordered(x), first))
        return ops.relu(convolved(bordered(x), second))

    def head(x: Any, layers: Sequence[Weights]) -> Any:
        return convolved(ops.relu(convolved(x, layers[0])), layers[1])

    def finest_mask(x: Any, second: Weights, layers: Sequence[Weights]) -> Any:
        """Two voxels of the last axis at a time; their places are the channels until the end."""
        x = ops.relu(convolved(bordered(x), _paired(second), [*ones[:-1], BLOCK]))
        x = head(x, [_twice(layer) for layer in layers])
        x = ops.transpose(x, [0, *range(2, dimension + 2), 1])
        return ops.reshape(x, list(shape), special_zero=False)

    fixed, moving = (ops.parameter(list(shape), np.float32, name=n) for n in ("fixed", "moving"))
    x, skips = ops.concat([moving, fixed], 1), []
    for number, weights in enumerate(network.encoder, 1):
        x = block(x, weights.first, weights.second)
        skips.append(x)
        if number < len(network.encoder):
            window = [2] * dimension
            x = ops.max_pool(x, window, ones, zeros, zeros, window).output(0)
    coarse = [skips.pop()] * 2
    velocities, masks = [], []
    for key, level in network.levels.items():
        skip, first = bordered(skips.pop()), 0
        for n in level.decoders if find_mask else [n for n in level.decoders if n == 0]:
            part = slice(first, first + level.middle[n])
            first += level.middle[n]
            shared = convolved(skip, Weights(level.skip.weight[part], level.skip.bias[part]))
            phases = convolved(bordered(coarse[n]), level.enlarged[str(n)])
            enlarged = ops.depth_to_space(phases, "blocks_first", BLOCK)
            x, second = ops.relu(ops.add(shared, enlarged)), level.second[str(n)]
            # The velocity's heads are one level above those of the mask.
            wanted = str(n) in level.heads and int(key) - (n == 0) < scales
            if n == 1 and int(key) == 0 and len(second.weight) < LANES:
                masks.append(ops.sigmoid(finest_mask(x, second, level.heads[str(n)])))
                continue
            coarse[n] = x = ops.relu(convolved(bordered(x), second))
            if wanted and n == 0:
                velocities.append(head(x, level.heads[str(n)]))
            elif wanted:
                masks.append(ops.sigmoid(head(x, level.heads[str(n)])))
    return engine.Model(velocities[::-1] + masks[::-1], [fixed, moving])


def _paired(layer: Weights) -> Weights:
    """One kernel, 4 wide, for the outputs at two neighbours on the last axis.

    Eight outputs (width 4) fill half of a vector register: with 16, 4 products are computed for
    every 3, in half of the instructions. For wider networks there is nothing to gain.
    """
    assert layer.bias is not None
    weight = torch.cat(
        [torch.nn.functional.pad(layer.weight, (place, 1 - place)) for place in range(BLOCK)]
    )
    return Weights(weight, layer.bias.repeat(BLOCK))


def _twice(layer: Weights) -> Weights:
    """A layer of single voxels, for two at a time."""
    assert layer.bias is not None
    matrix: Tensor = torch.block_diag(*[layer.weight] * BLOCK)
    return Weights(matrix, layer.bias.repeat(BLOCK))
