"""Time of a training step compared with a plain implementation, with performance bars.

Each version runs in a process of its own, for one of them keeps freed memory; they take turns, so
that a busy machine slows all; ratios are those of the medians of the CPU time of whole steps
(network, loss, gradient, Adam). Before, the plain network gets the weights of ours and has to give
the same loss. Prints a markdown table; exits with 1 if a bar is missed.

    python benchmarks/training.py [--rounds 5] [--json FILE] [--threads 1]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itk_ncr import ops
from itk_ncr.data import Batch, Sample, collate
from itk_ncr.losses import PRESETS
from itk_ncr.networks import build_network
from itk_ncr.prediction import Prediction
from itk_ncr.training import Objective, Training, TrainingSettings, objective

SQUARINGS = 7
# Loss of the plain against ours with the same weights: sums run in another order, and the number
# of squarings differs.
SAME_LOSS = 1e-3


@dataclass(frozen=True)
class Case:
    """What is trained, and what the straightforward version of it leaves out."""

    name: str
    dimension: int
    width: int
    shape: tuple[int, ...]
    batch: int
    bar: float
    plain_is_fused: bool

    def settings(self, precision: str = "float32", integration: str = "half") -> TrainingSettings:
        return TrainingSettings(
            self.dimension,
            variant="ncr-b",
            functional=PRESETS[f"mri-{self.dimension}d"],
            network_settings={"width": self.width, "integration": integration},
            batch=self.batch,
            precision=precision,
        )


CASES = (
    Case("3D n=4, 96 x 112 x 96, batch 1", 3, 4, (96, 112, 96), 1, 0.4, False),
    Case("2D n=8, 192 x 224, batch 8", 2, 8, (192, 224), 8, 1.0, True),
)


class Pairs:
    """Smooth random images, with one label."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return 1000

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        del index
        coarse = torch.rand(2, 1, *(max(2, n // 12) for n in self.shape), generator=generator)
        fixed, moving = ops.resize(coarse, self.shape).unbind(0)
        labels = [(image[0] > 0.5).to(torch.uint8) for image in (fixed, moving)]
        return Sample("random", fixed, moving, *labels)


class PlainConvolution(nn.Sequential):
    def __init__(self, dimension: int, inputs: int, outputs: int, *, bias: bool = False) -> None:
        convolution = nn.Conv2d if dimension == 2 else nn.Conv3d
        norm = nn.BatchNorm2d if dimension == 2 else nn.BatchNorm3d
        super().__init__(
            convolution(inputs, outputs, 3, padding=1, padding_mode="replicate", bias=bias),
            norm(outputs),
            nn.ReLU(inplace=True),
        )


class PlainDecoder(nn.Module):
    def __init__(self, dimension: int, width: int, outputs: int, finest: int) -> None:
        super().__init__()
        point = nn.Conv2d if dimension == 2 else nn.Conv3d
        joined = {3: (24, 16, 8), 2: (12, 8, 6), 1: (8, 6, 4), 0: (5, 4, 2)}
        self.levels = list(range(3, finest - 1, -1))
        channels = [[width * n for n in joined[level]] for level in self.levels]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                PlainConvolution(dimension, a, b),
                PlainConvolution(dimension, b, c, bias=level == 0),
            )
            for level, (a, b, c) in zip(self.levels, channels, strict=True)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(point(c, c // 2, 1), nn.ReLU(), point(c // 2, outputs, 1))
            for *_, c in channels[-3:]
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        x, found = features[-1], []
        for level, block in zip(self.levels, self.blocks, strict=True):
            x = block(torch.cat([enlarged(x), features[level]], 1))
            if level <= self.levels[-3]:
                found.append(self.heads[len(found)](x))
        return found[::-1]


class PlainNet(nn.Module):
    """NCR-Net as one would write it down: torch's own padding, full-resolution integration."""

    def __init__(self, dimension: int, width: int, fused: bool) -> None:
        super().__init__()
        widths = [2, *(width * 2**level for level in range(5))]
        self.encoder = nn.ModuleList(
            nn.Sequential(PlainConvolution(dimension, a, b), PlainConvolution(dimension, b, b))
            for a, b in pairwise(widths)
        )
        self.registration = PlainDecoder(dimension, width, dimension, finest=1)
        self.segmentation = PlainDecoder(dimension, width, 1, finest=0)
        self.exponential = ops.exponential if fused else plain_exponential
        if fused:
            formats = {2: torch.channels_last, 3: torch.channels_last_3d}
            self.to(memory_format=formats[dimension])

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        pool = F.max_pool2d if fixed.ndim == 4 else F.max_pool3d
        features = []
        for level, block in enumerate(self.encoder):
            before = pool(features[-1], 2) if level else torch.cat([moving, fixed], 1)
            features.append(block(before))
        velocities = [enlarged(v).contiguous() for v in self.registration(features)]
        return Prediction(
            tuple(velocities),
            tuple(self.exponential(v) for v in velocities),
            tuple(s.sigmoid().contiguous() for s in self.segmentation(features)),
        )


def enlarged(x: Tensor) -> Tensor:
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return F.interpolate(x, scale_factor=2, mode=mode, align_corners=False)


def plain_warp(image: Tensor, displacement: Tensor) -> Tensor:
    shape = displacement.shape[2:]
    axes = [torch.linspace(-1, 1, n) for n in shape]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)[None]
    scale = torch.tensor([2 / (n - 1) for n in shape]).view(1, -1, *(1,) * len(shape))
    grid = identity + (displacement * scale).flip(1).movedim(1, -1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=True)


def plain_exponential(velocity: Tensor) -> Tensor:
    displacement = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        displacement = displacement + plain_warp(displacement, displacement)
    return displacement


def plain_step(case: Case) -> Callable[[Batch], float]:
    """The straightforward step; in this process the objective warps as it does."""
    network = PlainNet(case.dimension, case.width, case.plain_is_fused)
    ours = start(build_network("ncr-net", dimension=case.dimension, width=case.width))
    weights = zip(network.state_dict(), ours.state_dict().values(), strict=True)
    network.load_state_dict(dict(weights))
    if not case.plain_is_fused:
        objective.warp = plain_warp  # type: ignore[attr-defined]
    loss_of = Objective(case.settings())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        total = loss_of(network(batch.fixed, batch.moving), batch, torch.Generator())["total"]
        total.backward()
        optimizer.step()
        return float(total.detach())

    return step


def our_step(case: Case, precision: str, integration: str) -> Callable[[Batch], float]:
    """The step of the training loop."""
    from itk_ncr.training.memory import keep_freed_memory

    keep_freed_memory()
    settings = case.settings(precision, integration)
    training = Training(settings, Pairs(case.shape), Path(tempfile.mkdtemp()))
    start(training.network)
    return lambda batch: training._one_step([batch])["total"]


def start(network: nn.Module) -> nn.Module:
    """Weights that all versions share; heads that move something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
            else:
                parameter.fill_(0.5)
    return network


VERSIONS: dict[str, Callable[[Case], Callable[[Batch], float]]] = {
    "plain": plain_step,
    "ours, full integration": lambda case: our_step(case, "float32", "full"),
    "ours": lambda case: our_step(case, "float32", "half"),
    "ours, bfloat16": lambda case: our_step(case, "bfloat16", "half"),
}


def work(case: Case, version: str, threads: int, line: Connection) -> None:
    """A process: one step per word that comes, its loss and CPU seconds back."""
    torch.set_num_threads(threads)
    pairs = Pairs(case.shape)
    batch = collate([pairs.sample(i, torch.Generator().manual_seed(i)) for i in range(case.batch)])
    step = VERSIONS[version](case)
    while line.recv():
        begun, wall = time.process_time(), time.perf_counter()
        loss = step(batch)
        line.send((loss, time.process_time() - begun, time.perf_counter() - wall))


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    case: str
    version: str
    cpu_seconds: float
    wall_seconds: float
    ratio: float
    bar: float | None

    @property
    def verdict(self) -> str:
        return "" if self.bar is None else ("met" if self.ratio <= self.bar else "MISSED")


def measure(case: Case, rounds: int, threads: int) -> list[Line]:
    """Let the versions take turns; the first step of each only warms up and shows its loss."""
    context = get_context("spawn")
    lines: dict[str, Connection] = {}
    processes = []
    for version in VERSIONS:
        lines[version], theirs = context.Pipe()
        processes.append(context.Process(target=work, args=(case, version, threads, theirs)))
        processes[-1].start()
    taken: dict[str, list[tuple[float, float, float]]] = {version: [] for version in VERSIONS}
    for _ in range(rounds + 1):
        for version, line in lines.items():
            line.send(True)
            taken[version].append(line.recv())
    for line, process in zip(lines.values(), processes, strict=True):
        line.send(False)
        process.join()
    first = {version: times[0][0] for version, times in taken.items()}
    difference = abs(first["ours, full integration"] - first["plain"]) / abs(first["plain"])
    if difference > SAME_LOSS:
        raise SystemExit(f"error: the versions do not compute the same: {first}")
    medians = {v: statistics.median(t[1] for t in times[1:]) for v, times in taken.items()}
    return [
        Line(
            case.name,
            version,
            medians[version],
            statistics.median(t[2] for t in times[1:]),
            medians[version] / medians["plain"],
            case.bar if version == "ours" else None,
        )
        for version, times in taken.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print("| step | version | CPU s | wall s | of plain | bar | |\n|---|---|---|---|---|---|---|")
    lines = []
    for case in CASES:
        for line in measure(case, options.rounds, options.threads):
            bar = "-" if line.bar is None else f"<= {line.bar:g}"
            print(
                f"| {line.case} | {line.version} | {line.cpu_seconds:.2f} | {line.wall_seconds:.2f}"
                f" | {line.ratio:.2f} | {bar} | {line.verdict} |",
                flush=True,
            )
            lines.append(line)
    if options.json:
        options.json.write_text(json.dumps([asdict(line) for line in lines], indent=2))
    sys.exit(any(line.verdict == "MISSED" for line in lines))


if __name__ == "__main__":
    main()
