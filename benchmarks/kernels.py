"""Compiled kernels compared with the usual torch loop, with performance bars.

Both run in turn in one process, so that a busy machine slows both; the ratio is that of the
medians of the CPU time. Prints a markdown table; exits with 1 if a bar is missed.

    python benchmarks/kernels.py [--quick] [--json FILE] [--threads 2]
"""

from __future__ import annotations

import os

# One OpenMP runtime serves torch and the kernels. Waiting threads that spin would be counted as
# work on a busy machine; the runtime reads this once, before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from itk_ncr import ops
from itk_ncr.ops import reference

SQUARINGS = 7


@dataclass(frozen=True)
class Line:
    """One row of the table; times in milliseconds, memory in MiB."""

    name: str
    bar: float | None
    ratio: float
    torch_cpu: float
    ours_cpu: float
    torch_wall: float
    ours_wall: float

    @property
    def verdict(self) -> str:
        return "" if self.bar is None else ("pass" if self.ratio >= self.bar else "MISSED")


def smooth_velocity(batch: int, shape: tuple[int, ...], peak: float) -> Tensor:
    """Velocity whose longest vector has `peak` voxels and whose gradient is about half of 1.

    That is what a registration's smoothness allows: determinants down to .5 or .6, folding is far.
    """
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(batch, len(shape), *(max(4, s // 24) for s in shape), generator=generator)
    v = reference.resize(coarse, shape)
    for _ in range(3):
        v = reference.box_sum(v, 4) / reference.box_sum(torch.ones_like(v), 4)
    return v / v.square().sum(1).amax().sqrt() * peak


class TorchLoop:
    """What people write: an identity grid, and grid_sample for every step."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        axes = [torch.linspace(-1, 1, s) for s in shape]
        self.identity = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)[None]
        sizes = torch.tensor([2 / (s - 1) for s in shape])
        self.scale = sizes.view(1, -1, *(1,) * len(shape))

    def warp(self, image: Tensor, u: Tensor) -> Tensor:
        grid = self.identity + (u * self.scale).flip(1).movedim(1, -1)
        return F.grid_sample(image, grid, padding_mode="border", align_corners=True)

    def exponential(self, velocity: Tensor) -> Tensor:
        d = velocity / 2**SQUARINGS
        for _ in range(SQUARINGS):
            d = d + self.warp(d, d)
        return d

    @staticmethod
    def jacobian(u: Tensor) -> Tensor:
        dimension = u.shape[1]
        rows = torch.stack(torch.gradient(u, dim=tuple(range(2, u.ndim))), -1)
        matrix = rows.movedim(1, -2) + torch.eye(dimension)
        return torch.linalg.det(matrix)


def compare(
    name: str,
    bar: float | None,
    usual: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
) -> Line:
    """Medians over `rounds` alternating runs."""
    times: dict[str, list[tuple[float, float]]] = {"usual": [], "ours": []}
    for number in range(rounds + 1):
        for key, run in (("usual", usual), ("ours", ours)):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if number > 0:  # The first is for warming up.
                times[key].append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu = {k: statistics.median(t[0] for t in v) * 1e3 for k, v in times.items()}
    wall = {k: statistics.median(t[1] for t in v) * 1e3 for k, v in times.items()}
    line = Line(name, bar, cpu["usual"] / cpu["ours"], cpu["usual"], cpu["ours"], wall["usual"],
                wall["ours"])  # fmt: skip
    print(row(line), flush=True)
    return line


def row(x: Line) -> str:
    bar = "" if x.bar is None else f"{x.bar:g}x"
    return (
        f"| {x.name} | {bar} | **{x.ratio:.1f}x** | {x.verdict} | {x.torch_cpu:.1f} | "
        f"{x.ours_cpu:.2f} | {x.torch_wall:.1f} | {x.ours_wall:.2f} |"
    )


def gradient(output: Tensor, wanted: tuple[Tensor, ...], by: Tensor | None = None) -> None:
    torch.autograd.grad(output, wanted, by)


def exponentials(label: str, batch: int, shape: tuple[int, ...], bars: tuple, rounds: int) -> list:
    loop, v = TorchLoop(shape), smooth_velocity(batch, shape, 9.0)
    by, w = torch.randn_like(v), v.clone().requires_grad_()
    return [
        compare(f"exp {label}, forward", bars[0], lambda: loop.exponential(v),
                lambda: ops.exponential(v, SQUARINGS), rounds),
        compare(f"exp {label}, + backward", bars[1],
                lambda: gradient(loop.exponential(w), (w,), by),
                lambda: gradient(ops.exponential(w, SQUARINGS), (w,), by), max(2, rounds // 2)),
    ]  # fmt: skip


def warps(label: str, shape: tuple[int, ...], rounds: int) -> list[Line]:
    loop = TorchLoop(shape)
    u = ops.exponential(smooth_velocity(1, shape, 9.0), SQUARINGS)
    image = reference.box_sum(torch.rand(1, 1, *shape), 1)
    by = torch.randn_like(image)
    ug, ig = u.clone().requires_grad_(), image.clone().requires_grad_()

    return [
        compare(f"warp {label}, forward", 9, lambda: loop.warp(image, u),
                lambda: ops.warp(image, u), rounds),
        compare(f"warp {label}, + backward to field", 11,
                lambda: gradient(loop.warp(image, ug), (ug,), by),
                lambda: gradient(ops.warp(image, ug), (ug,), by), rounds),
        compare(f"warp {label}, + backward to field and image", 6,
                lambda: gradient(loop.warp(ig, ug), (ig, ug), by),
                lambda: gradient(ops.warp(ig, ug), (ig, ug), by), rounds),
        compare(f"Jacobian {label} (torch.gradient, linalg.det)", 17, lambda: loop.jacobian(u),
                lambda: ops.jacobian_determinant(u), max(2, rounds // 3)),
        compare(f"Jacobian {label} (plain twin)", None, lambda: reference.jacobian_determinant(u),
                lambda: ops.jacobian_determinant(u), rounds),
    ]  # fmt: skip


def windows(label: str, shape: tuple[int, ...], rounds: int) -> list[Line]:
    image, fixed = torch.rand(1, 4, *shape), torch.rand(1, 1, *shape)
    coarse = smooth_velocity(1, tuple(s // 2 for s in shape), 5.0).requires_grad_()
    fine = torch.randn(1, 3, *shape)
    return [
        compare(f"box sum {label}, 4 channels, radius 3 (avg_pool3d)", None,
                lambda: F.avg_pool3d(image, 7, 1, 3, divisor_override=1),
                lambda: ops.box_sum(image, 3), rounds),
        compare(f"resize x2 to {label}, + backward (interpolate)", None,
                lambda: gradient(F.interpolate(coarse, shape, mode="trilinear",
                                               align_corners=True), (coarse,), fine),
                lambda: gradient(ops.resize(coarse, shape), (coarse,), fine), rounds),
        compare(f"total variation {label}, 20 steps (plain twin)", None,
                lambda: reference.total_variation_denoise(fixed, 0.1, 20),
                lambda: ops.total_variation_denoise(fixed, 0.1, 20), max(2, rounds // 3)),
    ]  # fmt: skip


PEAK = """
import resource, sys, torch
sys.path[:0] = {path!r}
from benchmark_kernels import *
torch.set_num_threads({threads})
shape = {shape}
v = torch.nn.functional.interpolate(
    smooth_velocity(1, (24, 24, 28), 9.0), shape, mode="trilinear", align_corners=True)
by = torch.randn_like(v)
loop = TorchLoop(shape)
small = smooth_velocity(1, (16, 16, 16), 2.0).requires_grad_()
# The first gradient with an explicit weight imports 30 MiB of torch.
gradient(ops.exponential(small, 7), (small,), small.detach())
gradient(TorchLoop((16, 16, 16)).exponential(small), (small,), small.detach())
def resident(key):
    with open("/proc/self/status") as status:
        return next(int(l.split()[1]) for l in status if l.startswith(key)) / 1024
import ctypes
ctypes.CDLL(None).malloc_trim(0)  # What the preparation freed must not be there for use.
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")
before = resident("VmRSS")
w = v.requires_grad_()
gradient({call}, (w,), by)
print(resident("VmHWM") - before)
"""


def peak_memory(shape: tuple[int, ...], call: str, threads: int) -> float:
    """MiB above the start that one forward and backward needs, in a process of its own."""
    here = os.path.dirname(os.path.abspath(__file__))
    script = PEAK.format(path=[], shape=shape, threads=threads, call=call).replace(
        "from benchmark_kernels import *",
        "import importlib.util as u\n"
        f"s = u.spec_from_file_location('k', {here + '/kernels.py'!r})\n"
        "k = u.module_from_spec(s); sys.modules['k'] = k; s.loader.exec_module(k)\n"
        "globals().update(vars(k))",
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def memory(shape: tuple[int, ...], threads: int) -> list[dict[str, object]]:
    usual = peak_memory(shape, "loop.exponential(w)", threads)
    lines = []
    for label, bar, call in (
        ("all fields kept", 0.4, "ops.exponential(w, 7)"),
        ("every second field kept", 0.3, "ops.exponential(w, 7, keep_every=2)"),
    ):
        ours = peak_memory(shape, call, threads)
        share = ours / usual
        verdict = "pass" if share <= bar else "MISSED"
        lines.append({"name": label, "bar": bar, "share": share, "verdict": verdict,
                      "torch_mib": usual, "ours_mib": ours})  # fmt: skip
        print(f"| {label} | {bar:g} | **{share:.2f}** | {verdict} | {usual:.0f} | {ours:.0f} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no large volume")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    info = ops.build_info()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, torch "
        f"{torch.__version__}, {arguments.threads} threads, kernels: {info['simd']}\n"
    )
    few, many = (3, 7) if arguments.quick else (9, 21)
    print("| | bar | CPU ratio | | torch CPU ms | ours | torch wall ms | ours |")
    print("|---|---|---|---|---|---|---|---|")
    small = (96, 96, 112)
    lines = exponentials("96x96x112", 1, small, (13, 11), few)
    if not arguments.quick:
        lines += exponentials("160x192x160", 1, (160, 192, 160), (13, 11), 3)
    lines += exponentials("48x56x48", 1, (48, 56, 48), (None, None), many)
    lines += exponentials("192x224, batch 8", 8, (192, 224), (8, 7.5), many)
    lines += exponentials("384x496", 1, (384, 496), (8, 7.5), many)
    lines += warps("96x96x112", small, many)
    lines += windows("96x112x96", (96, 112, 96), few)
    print("\n| peak memory, exp 96x96x112 + backward | bar | share | | torch MiB | ours |")
    print("|---|---|---|---|---|---|")
    peaks = memory(small, arguments.threads)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"build": info, "times": [asdict(x) for x in lines], "memory": peaks}, file,
                      indent=1)  # fmt: skip
    missed = [x.name for x in lines if x.verdict == "MISSED"]
    missed += [str(x["name"]) for x in peaks if x["verdict"] == "MISSED"]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
