"""One-shot prediction on the CPU, from two prepared tensors to displacement and mask.

The straightforward version is plain torch: replicate padding, convolution, batch normalisation in
evaluation mode, ReLU, F.interpolate, and an exponential of 7 grid_sample steps at full resolution.
All run in turn in one process, so that a busy machine slows all; the ratios are those of the
medians of the CPU time. Prints a markdown table; exits with 1 if a bar is missed.

    python benchmarks/inference.py [--rounds 5] [--threads 1] [--json FILE]
"""

from __future__ import annotations

import os

# Waiting threads that spin would be counted as work; the runtime reads this once, before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itk_ncr.networks import build_network, prepare_for_inference
from itk_ncr.prediction import Prediction

SQUARINGS = 7
CASES = {
    "3D, n=4, 96x112x96": (3, 4, (96, 112, 96)),
    "3D, n=8, 96x112x96": (3, 8, (96, 112, 96)),
    "2D, n=8, 160x192": (2, 8, (160, 192)),
}
# How many times faster than straightforward torch, in CPU time, the published bars want it.
BARS = {
    ("3D, n=4, 96x112x96", "prepared"): 3.0,
}
WALL_BARS = {"3D, n=4, 96x112x96": 1.0, "2D, n=8, 160x192": 0.1}


class Straightforward:
    """What people write, with the weights of one of our networks."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()

    def __call__(self, fixed: Tensor, moving: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        pool = F.max_pool3d if fixed.ndim == 5 else F.max_pool2d
        x, features = torch.cat([moving, fixed], 1), []
        for level, block in enumerate(self.network.encoder.blocks):
            x = self.block(block, x if level == 0 else pool(x, 2))
            features.append(x)
        velocities = [self.enlarged(v) for v in self.decoder(self.network.registration, features)]
        logits = self.decoder(self.network.segmentation, features)
        return [self.exponential(v) for v in velocities], [x.sigmoid() for x in logits]

    @staticmethod
    def block(block: nn.Module, x: Tensor) -> Tensor:
        for layer in block:
            x = F.pad(x, (1,) * (2 * (x.ndim - 2)), mode="replicate")
            x = F.relu(layer.norm(layer.convolution(x)))
        return x

    @staticmethod
    def enlarged(x: Tensor) -> Tensor:
        mode = "trilinear" if x.ndim == 5 else "bilinear"
        return F.interpolate(x, scale_factor=2, mode=mode, align_corners=False)

    def decoder(self, decoder: nn.Module, features: list[Tensor]) -> list[Tensor]:
        x, found = features[-1], []
        skipped = len(decoder.levels) - len(decoder.heads)
        for number, (level, block) in enumerate(zip(decoder.levels, decoder.blocks, strict=True)):
            x = self.block(block, torch.cat([self.enlarged(x), features[level]], 1))
            if number >= skipped:
                found.append(decoder.heads[number - skipped](x))
        return found[::-1]

    @staticmethod
    def exponential(velocity: Tensor) -> Tensor:
        shape = velocity.shape[2:]
        axes = [torch.linspace(-1, 1, n) for n in shape]
        identity = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)[None]
        scale = torch.tensor([2 / (n - 1) for n in shape]).view(1, -1, *(1,) * len(shape))
        u = velocity / 2**SQUARINGS
        for _ in range(SQUARINGS):
            grid = identity + (u * scale).flip(1).movedim(1, -1)
            u = u + F.grid_sample(u, grid, padding_mode="border", align_corners=True)
        return u


@dataclass(frozen=True)
class Line:
    """One row of the table; times in milliseconds, differences in voxels and in probability."""

    case: str
    name: str
    cpu: float
    wall: float
    ratio: float
    bar: float | None
    displacement_error: float
    mask_error: float

    @property
    def verdict(self) -> str:
        return "" if self.bar is None else ("pass" if self.ratio >= self.bar else "MISSED")


def lively(dimension: int, width: int) -> nn.Module:
    """A network that moves by some tenths of a voxel; weights do not change how long it takes."""
    generator = torch.Generator().manual_seed(0)
    network = build_network("ncr-net", dimension=dimension, width=width).eval()
    for head in network.registration.heads:
        nn.init.normal_(head[-1].weight, std=0.5, generator=generator)
    return network


def contenders(network: nn.Module) -> dict[str, Callable[[Tensor, Tensor], object]]:
    return {
        "straightforward torch": Straightforward(network),
        "as trained": network,
        "prepared": prepare_for_inference(network),
        "prepared, bfloat16": prepare_for_inference(network, precision="bfloat16"),
    }


def measure(case: str, rounds: int) -> list[Line]:
    dimension, width, size = CASES[case]
    network = lively(dimension, width)
    generator = torch.Generator().manual_seed(1)
    pair = [torch.rand(1, 1, *size, generator=generator) for _ in range(2)]
    runs = contenders(network)
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    wall: dict[str, list[float]] = {name: [] for name in runs}
    results = {}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start, busy = time.perf_counter(), time.process_time()
            results[name] = run(*pair)
            if number > 0:  # The first is for warming up.
                cpu[name].append(time.process_time() - busy)
                wall[name].append(time.perf_counter() - start)
    wanted = results["as trained"]
    usual = statistics.median(cpu["straightforward torch"])
    lines = []
    for name in runs:
        found = results[name]
        if not isinstance(found, Prediction):
            found = Prediction((), tuple(found[0]), tuple(found[1]))
        time_used = statistics.median(cpu[name])
        lines.append(
            Line(
                case,
                name,
                time_used * 1e3,
                statistics.median(wall[name]) * 1e3,
                usual / time_used,
                BARS.get((case, name)),
                (found.displacement[0] - wanted.displacement[0]).abs().max().item(),
                (found.noncorrespondence[0] - wanted.noncorrespondence[0]).abs().max().item(),
            )
        )
        print(row(lines[-1]), flush=True)
    return lines


def row(x: Line) -> str:
    bar = "" if x.bar is None else f"{x.bar:g}x"
    return (
        f"| {x.case} | {x.name} | {x.cpu:.0f} | {x.wall:.0f} | **{x.ratio:.2f}x** | {bar} | "
        f"{x.verdict} | {x.displacement_error:.1e} | {x.mask_error:.1e} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {platform.machine()}, "
          f"{capability}, bars in seconds of wall time: {WALL_BARS}\n")  # fmt: skip
    print("| case | | CPU ms | wall ms | against torch | bar | | largest difference of u (voxel) | "
          "of S |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    with torch.inference_mode():
        lines = [x for case in arguments.cases for x in measure(case, arguments.rounds)]
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump([asdict(x) for x in lines], file, indent=1)
    return int(any(x.verdict == "MISSED" for x in lines))


if __name__ == "__main__":
    sys.exit(main())
