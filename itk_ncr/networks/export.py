"""Export of networks to ONNX."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from itk_ncr.errors import ArgumentError, require_package
from itk_ncr.files import replacing
from itk_ncr.networks.folding import fold
from itk_ncr.networks.grids import POOLINGS
from itk_ncr.networks.ncr import SCALES, NCRNet
from itk_ncr.networks.pyramid import NCRPyramid

OPSET = 18
# Of every velocity inside an exported pyramid; enough for 16 voxels of its grid.
SQUARINGS = 7


class NetworkOutputs(nn.Module):
    """``maps`` as a flat tuple, velocities first, for images that need no padding.

    Exporters understand neither lists in lists nor channels last.
    """

    def __init__(
        self, network: NCRNet | NCRPyramid, scales: int = SCALES, find_mask: bool = True
    ) -> None:
        super().__init__()
        self.network, self.scales, self.find_mask = network, scales, find_mask

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, ...]:
        """Velocities at half the resolution of their scales, then noncorrespondences."""
        if isinstance(self.network, NCRPyramid):
            velocities, masks = self.network.maps(fixed, moving, self.scales, self.find_mask)
            return (*velocities, *masks)
        features = self.network.encoder(torch.cat([moving, fixed], 1))
        found = self.network.registration(features, self.scales)
        if self.network.segmentation is not None and self.find_mask:
            logits = self.network.segmentation(features, self.scales)
            found = found + [logit.sigmoid() for logit in logits]
        return tuple(found)

    @property
    def names(self) -> list[str]:
        """One name per output, scale 0 the finest."""
        masks = self.network.segmentation is not None and self.find_mask
        kinds = ["velocity", "noncorrespondence"] if masks else ["velocity"]
        return [f"{kind}_{scale}" for kind in kinds for scale in range(self.scales)]


class PaddedOutputs(nn.Module):
    """:class:`NetworkOutputs` for images of any size, which the graph pads as ``padded`` does."""

    def __init__(self, outputs: NetworkOutputs) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, ...]:
        """NetworkOutputs of :class:`NetworkOutputs`, on the padded grid."""
        maps: tuple[Tensor, ...] = self.outputs(_padded_in_graph(fixed), _padded_in_graph(moving))
        return maps


def _padded_in_graph(x: Tensor) -> Tensor:
    """``padded`` without a choice by the size, which a traced graph would keep for ever."""
    for axis in range(2, x.ndim):
        size = x.shape[axis]
        wanted = (size + 2**POOLINGS - 1) // 2**POOLINGS * 2**POOLINGS
        x = x.index_select(axis, torch.arange(wanted).clamp(max=size - 1))
    return x


def _warp_in_graph(image: Tensor, displacement: Tensor) -> Tensor:
    """The 2D warp by operators of ONNX."""
    height, width = image.shape[2], image.shape[3]
    rows = torch.arange(height).view(1, -1, 1) + displacement[:, 0]
    columns = torch.arange(width).view(1, 1, -1) + displacement[:, 1]
    # From voxels to -1 ... 1.
    places = torch.stack([columns * 2 / (width - 1) - 1, rows * 2 / (height - 1) - 1], -1)
    return functional.grid_sample(image, places, padding_mode="border", align_corners=True)


def _exponential_in_graph(velocity: Tensor) -> Tensor:
    """The 2D exponential, always with the same number of squarings."""
    displacement = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        displacement = displacement + _warp_in_graph(displacement, displacement)
    return displacement


def write_onnx(
    network: nn.Module, path: str | os.PathLike[str], *, size: tuple[int, ...] | None = None
) -> None:
    """Write a network as an ONNX file, up to its velocities and masks.

    Parameters
    ----------
    network : nn.Module
        NCR-Net, RegNet or a 2D pyramid.
    path : path
        Written completely or not at all.
    size : tuple of int, optional
        Spatial size of the images, multiples of 16. Default: any, and any number of pairs; the
        graph repeats the far borders up to the next multiples of 16.

    Raises
    ------
    ArgumentError
        If the network is another, or the size does not fit.
    MissingDependencyError
        If onnx is not installed.

    Notes
    -----
    The outputs are on the padded grid, whose first voxels are those of the images: cut off the rest
    at the very end. The file's metadata contain the multiple ("size_multiple"), the network and the
    dimension. Inputs "fixed" and "moving", (N, 1, *spatial), on the scale of
    ``preprocessing.normalise``; outputs "velocity_s", (N, D, ...), at half the resolution of scale
    s and in voxels of scale s, and "noncorrespondence_s", (N, 1, ...), at its resolution. Enlarge a
    velocity by 2 (linear, voxels halved) and exponentiate it for the displacement.
    """
    onnx = require_package("onnx", "ONNX files", "onnx")
    outputs = NetworkOutputs(_exportable(_known(network)))
    dimension = outputs.network.dimension
    step = 2**POOLINGS
    if size is not None:
        _require_size(size, dimension, step)
    example = torch.zeros(1, 1, *(size or (2 * step,) * dimension))
    with replacing(Path(path)) as temporary:
        _export(outputs, example, str(temporary), any_size=size is None)
        _add_metadata(
            onnx,
            temporary,
            {
                "network": _name(outputs.network),
                "dimension": str(dimension),
                "size_multiple": str(step),
                "padding": "repeated far borders, in the graph" if size is None else "none",
            },
        )


def _require_size(size: tuple[int, ...], dimension: int, step: int) -> None:
    """Check the fixed size of a file's images, and say which size would do."""
    shown = "x".join(map(str, size))
    if len(size) != dimension:
        raise ArgumentError(
            f"size must have {dimension} numbers, because the network is {dimension}D; got {shown}."
        )
    if any(n < step or n % step for n in size):
        padded = "x".join(str(max(1, -(-n // step)) * step) for n in size)
        raise ArgumentError(
            f"size must consist of multiples of {step}; got {shown}. Take {padded} and pad the "
            "images to it by repeating their far borders, or leave size out: the file then pads "
            "by itself."
        )


def _add_metadata(onnx: Any, path: Path, values: dict[str, str]) -> None:
    """Add entries to the metadata of an ONNX file."""
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {f"itk_ncr.{name}": v for name, v in values.items()})
    onnx.save(model, str(path))


def _axes(example: Tensor, names: Sequence[str]) -> dict[str, dict[int, str]]:
    """Names of the axes that may have any size; an output's sizes are not those of the images."""
    letters = "zyx"[5 - example.ndim :]
    spatial = {axis + 2: letter for axis, letter in enumerate(letters)}
    axes = {name: {0: "pairs", **spatial} for name in ("fixed", "moving")}
    own = {n: {0: "pairs", **{a: f"{n}_{letter}" for a, letter in spatial.items()}} for n in names}
    return axes | own


def _export(outputs: NetworkOutputs, example: Tensor, path: str, *, any_size: bool) -> None:
    with _quiet():
        # The exporter by tracing: the newer one needs a further package.
        torch.onnx.export(
            PaddedOutputs(outputs) if any_size else outputs,
            (example, example.clone()),
            path,
            input_names=["fixed", "moving"],
            output_names=outputs.names,
            opset_version=OPSET,
            dynamic_axes=_axes(example, outputs.names) if any_size else None,
            dynamo=False,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of the tracer about choices by the number of channels: it is fixed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def _known(network: nn.Module) -> NCRNet | NCRPyramid:
    if isinstance(network, NCRPyramid) and network.dimension != 2:
        raise ArgumentError(
            "network must be 2D where it is ncr-pyramid; got 3D. ONNX samples no volumes."
        )
    if not isinstance(network, NCRNet | NCRPyramid):
        raise ArgumentError(
            f"network must be ncr-net, regnet or ncr-pyramid; got {type(network).__name__}. "
            "Other networks cannot be written as ONNX."
        )
    return network


def _name(network: NCRNet | NCRPyramid) -> str:
    if isinstance(network, NCRPyramid):
        return "ncr-pyramid"
    return "ncr-net" if network.segmentation is not None else "regnet"


def _exportable(network: NCRNet | NCRPyramid) -> NCRNet | NCRPyramid:
    folded = fold(network)
    folded.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if isinstance(folded, NCRPyramid):
        folded.warp, folded.exponential = _warp_in_graph, _exponential_in_graph
    return folded
