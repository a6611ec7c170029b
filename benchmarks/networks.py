"""CPU time of the networks compared with NCR-Net: prediction of a pair, one training step.

    python benchmarks/networks.py [--rounds 5] [--threads 1] [--width 8]

All run in turn in one process, so that a busy machine slows all; ratios are those of the medians of
the CPU time. A pair: from two prepared tensors to displacement and mask, prepared for inference. A
step: forward at all scales and backward, without loss and data. Random weights; exits with 1 if the
pyramid needs more time than NCR-Net.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from itk_ncr.networks import build_network, prepare_for_inference
from itk_ncr.prediction import Prediction

NETWORKS = ("ncr-net", "ncr-pyramid")
# Grid and batch of a training, as of the brain models.
CASES = {"2D, 192 x 160": (2, (192, 160), 4), "3D, 48 x 56 x 48": (3, (48, 56, 48), 1)}


def seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def pair(network: nn.Module, fixed: Tensor, moving: Tensor) -> Callable[[], object]:
    """One prediction at the finest scale."""
    prepared = prepare_for_inference(network)

    def work() -> Prediction:
        with torch.inference_mode():
            found: Prediction = prepared(fixed[:1], moving[:1], scales=1)
        return found

    return work


def step(network: nn.Module, fixed: Tensor, moving: Tensor) -> Callable[[], object]:
    """Forward and backward of a batch."""

    def work() -> None:
        found = network.train()(fixed, moving)
        sum(t.square().mean() for t in (*found.displacement, *found.noncorrespondence)).backward()

    return work


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| | NCR-Net, s | pyramid, s | ratio |\n|---|---|---|---|")
    slow = False
    for case, (dimension, shape, batch) in CASES.items():
        fixed, moving = torch.rand(2, batch, 1, *shape, generator=torch.Generator().manual_seed(0))
        for what, prepare in (("a pair", pair), (f"a step, {batch} pairs", step)):
            works = {
                name: prepare(
                    build_network(
                        name, dimension=dimension, width=options.width, integration="half"
                    ),
                    fixed,
                    moving,
                )
                for name in NETWORKS
            }
            times: dict[str, list[float]] = {name: [] for name in NETWORKS}
            for number in range(options.rounds + 1):
                for name, work in works.items():
                    spent = seconds(work)
                    if number:  # the first call allocates
                        times[name].append(spent)
            plain, ours = (statistics.median(times[name]) for name in NETWORKS)
            slow |= ours > plain
            print(f"| {case}, {what} | {plain:.3f} | {ours:.3f} | {ours / plain:.2f} |", flush=True)
    sys.exit(slow)


if __name__ == "__main__":
    main()
