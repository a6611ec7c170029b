"""Accuracy of a rigid transformer and of the classical alignment on test images.

Trains on the patients of the split "train", each image paired with itself: one of the two is turned
by up to 7 degrees, the moving one is shifted by up to a quarter of the height, both get another
contrast and other noise. Measures such pairs of the split "test", drawn once: the error of the
angle, and that of the shift of the centre. Prints a markdown table; exits with 1 if less than 95 %
of the pairs come within .5 degrees and 1 voxel.

    python benchmarks/rigid.py images.csv [--borders] [--steps 25000] [--weights FILE] [--pairs 200]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.checkpoints import read_state, write_state
from itk_ncr.data import AUGMENTATIONS, WithItself, read_manifest
from itk_ncr.geometry import Grid
from itk_ncr.images import Image
from itk_ncr.networks import RigidTransformer
from itk_ncr.registration.affine import View, align
from itk_ncr.training import RigidSettings, train_rigid

DEGREES, VOXELS, SHARE = 0.5, 1.0, 0.95
ONE_PASS, OURS = "transformer, one pass", "transformer"
SEED = 1_000_000  # of the measured pairs


@dataclass(frozen=True)
class Errors:
    """Of every pair: degrees, voxels, and seconds of the processor."""

    degrees: list[float]
    voxels: list[float]
    seconds: list[float]

    @property
    def recovered(self) -> float:
        """Share of the pairs within both bounds."""
        pairs = zip(self.degrees, self.voxels, strict=True)
        return float(np.mean([d <= DEGREES and v <= VOXELS for d, v in pairs]))

    def row(self, name: str) -> str:
        spread = [np.percentile(x, (50, 95)) for x in (self.degrees, self.voxels)]
        figures = " | ".join(f"{a:.2f} / {b:.2f}" for a, b in spread)
        seconds = np.median(self.seconds)
        return f"| {name} | {figures} | {100 * self.recovered:.1f} % | {seconds * 1e3:.0f} |"


def motion(displacement: Tensor) -> tuple[float, NDArray[np.float64]]:
    """Degrees of the nearest rotation and shift of the centre in voxels, of an affine field.

    Its shape is (2, rows, columns).
    """
    rows, columns = displacement.shape[1:]
    corners = displacement[:, :: rows - 1, :: columns - 1].double().numpy()
    along_rows = (corners[:, 1] - corners[:, 0]).mean(1) / (rows - 1)
    along_columns = (corners[:, :, 1] - corners[:, :, 0]).mean(1) / (columns - 1)
    matrix = np.stack([along_rows, along_columns], 1) + np.eye(2)
    angle = math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
    return math.degrees(angle), corners.mean((1, 2))


def classical(fixed: Tensor, moving: Tensor) -> Tensor:
    """The displacement that registrations start from."""
    grid = Grid.of_array(fixed.shape[1:])
    images = [Image(np.ascontiguousarray(x[0].numpy()), grid) for x in (fixed, moving)]
    affine = align(*(View(image, image.array > 0) for image in images)).affine
    points = grid.points()
    there = grid.continuous_index(affine(points)) - grid.continuous_index(points)
    return torch.from_numpy(np.moveaxis(there[..., ::-1], -1, 0).copy())


def measure(
    source: WithItself, network: RigidTransformer, pairs: int, with_classical: int
) -> dict[str, Errors]:
    found = {name: Errors([], [], []) for name in ("not aligned", ONE_PASS, OURS, "classical")}
    for number in range(pairs):
        generator = torch.Generator().manual_seed(SEED + number)
        sample = source.sample(number % len(source), generator)
        assert sample.displacement is not None
        angle, shift = motion(sample.displacement)
        for name, errors in found.items():
            if name == "classical" and number >= with_classical:
                continue
            start = time.process_time()
            if name in (ONE_PASS, OURS):
                options = {"passes": 1} if name == ONE_PASS else {}
                pair = sample.fixed[None], sample.moving[None]
                with torch.inference_mode():
                    displacement = network(*pair, **options).displacement[0]
            elif name == "classical":
                displacement = classical(sample.fixed, sample.moving)
            else:
                displacement = torch.zeros_like(sample.displacement)
            errors.seconds.append(time.process_time() - start)
            its_angle, its_shift = motion(displacement)
            errors.degrees.append(abs(its_angle - angle))
            errors.voxels.append(float(np.linalg.norm(its_shift - shift)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", help="CSV with a split; 2D")
    parser.add_argument("--borders", action="store_true", help="repeat them: no background around")
    parser.add_argument("--steps", type=int, default=RigidSettings.steps)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--classical", type=int, default=40, help="on the first so many pairs")
    parser.add_argument("--weights", type=Path, help="read from there, or written after training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    manifest = read_manifest(arguments.images)
    augmentation = replace(AUGMENTATIONS["rigid"], fill_outside=not arguments.borders)
    options = {"augmentation": augmentation, "match": False, "labels": False}
    if arguments.weights is not None and arguments.weights.exists():
        network = RigidTransformer(2).eval()
        network.load_state_dict(read_state(arguments.weights)[0])
    else:
        source = WithItself(manifest, "train", **options)
        print(f"{len(source)} images of {len(manifest.patients('train'))} patients", flush=True)
        start = time.process_time()
        network = train_rigid(
            source,
            RigidSettings(arguments.steps),
            progress=lambda step, error: (
                None if step % 200 else print(f"step {step}: {error:.2f} voxel", flush=True)
            ),
        )
        print(f"{time.process_time() - start:.0f} s of the processor\n")
        if arguments.weights is not None:
            write_state(arguments.weights, network.state_dict(), {"kind": "rigid"})
    source = WithItself(manifest, "test", **options)
    with torch.inference_mode():
        network(torch.zeros(1, 1, *source.shape), torch.zeros(1, 1, *source.shape))  # warms up
    found = measure(source, network, arguments.pairs, arguments.classical)
    print(f"{arguments.pairs} pairs of {len(manifest.patients('test'))} test patients, "
          f"{' x '.join(map(str, source.shape))}\n")  # fmt: skip
    print("| | degrees, median / 95 % | voxels, median / 95 % | recovered | CPU ms |\n"
          "|---|---|---|---|---|")  # fmt: skip
    for name, errors in found.items():
        if errors.degrees:
            print(errors.row(f"{name}, {len(errors.degrees)} pairs"))
    return int(found[OURS].recovered < SHARE)


if __name__ == "__main__":
    sys.exit(main())
