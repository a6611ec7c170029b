"""Uncertainty of a model against its error: spread of the passes and true error.

Takes a model trained with dropout (`itk-ncr train IMAGES --preset synthetic-2d --dropout 0.2 ...`)
and pairs of known displacement, made of the patients of the split "test". Prints Spearman's rank
correlation of the spread over passes with the end-point error of their mean, over the voxels of the
object; exits with 1 if that of all voxels or of the median pair is not above .3, or if anything is
uncertain with dropout off.

    python benchmarks/uncertainty.py images.csv MODEL [--pairs 40] [--passes 30]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import spearmanr

from itk_ncr.checkpoints import find_model, load_model
from itk_ncr.data import read_manifest
from itk_ncr.networks import predict_with_uncertainty
from itk_ncr.training import recipe

BAR = 0.3
SEED = 1_000_000


def correlation(spread: np.ndarray, error: np.ndarray) -> float:
    return float(spearmanr(spread, error).statistic)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", help="CSV with a split; 2D")
    parser.add_argument("model", help="name or folder")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--passes", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network, description = load_model(find_model(arguments.model).folder)
    sampling = replace(recipe("synthetic-2d", "small").sampling, lesions=0.0)
    source = sampling.source(read_manifest(arguments.images), "test")
    spreads, errors, single, before, largest, seconds = [], [], [], [], 0.0, []
    for number in range(arguments.pairs):
        sample = source.sample(number, torch.Generator().manual_seed(SEED + number))
        assert sample.displacement is not None
        pair = sample.fixed[None], sample.moving[None]
        inside = sample.fixed[0] > 0
        generator = torch.Generator().manual_seed(number)
        start = time.process_time()
        found = predict_with_uncertainty(
            network, *pair, generator=generator, passes=arguments.passes
        )
        seconds.append(time.process_time() - start)
        with torch.inference_mode():
            plain = network(*pair, scales=1).displacement[0]
        error = (found.displacement[0] - sample.displacement).norm(dim=0)[inside]
        spreads.append(found.displacement_std[0, 0][inside].numpy())
        errors.append(error.numpy())
        single.append(float((plain[0] - sample.displacement).norm(dim=0)[inside].mean()))
        before.append(float(sample.displacement.norm(dim=0)[inside].mean()))
        if number == 0:
            rates = network.registration.dropout
            network.registration.dropout = 0.0
            off = predict_with_uncertainty(network, *pair, generator=generator, passes=3)
            network.registration.dropout = rates
            largest = float(off.displacement_std.max())
    each = [correlation(s, e) for s, e in zip(spreads, errors, strict=True)]
    spread, error = np.concatenate(spreads), np.concatenate(errors)
    pooled = correlation(spread, error)
    sure = spread <= np.median(spread)
    least = spread >= np.quantile(spread, 0.9)
    print(f"model {description.name}: {description.training['recipe']}\n"
          f"{arguments.pairs} pairs, {arguments.passes} passes, "
          f"{np.median(seconds):.2f} s of the processor per pair\n")  # fmt: skip
    print("| | |\n|---|---|")
    for name, text in (
        ("correlation, all voxels", f"{pooled:.2f}"),
        ("correlation, median pair (least, most)",
         f"{np.median(each):.2f} ({min(each):.2f}, {max(each):.2f})"),
        ("pairs above .3", f"{sum(e > BAR for e in each)} of {len(each)}"),
        ("mean error before, of one pass, of the mean of passes",
         f"{np.mean(before):.2f}, {np.mean(single):.2f}, "
         f"{np.mean([e.mean() for e in errors]):.2f} voxel"),
        ("mean error of the surer half, of the least sure tenth",
         f"{error[sure].mean():.2f}, {error[least].mean():.2f} voxel"),
        ("mean spread", f"{spread.mean():.2f} voxel"),
        ("largest spread with dropout off", f"{largest:g} voxel"),
    ):  # fmt: skip
        print(f"| {name} | {text} |")
    return int(min(pooled, float(np.median(each))) <= BAR or largest > 0)


if __name__ == "__main__":
    sys.exit(main())
