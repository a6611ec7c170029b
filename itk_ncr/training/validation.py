"""Validation during training; logged, never used to choose weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from itk_ncr.data import Source, collate
from itk_ncr.losses import Functional
from itk_ncr.ops import warp
from itk_ncr.training.streams import generator_of

STREAM = 2


@dataclass(frozen=True)
class Validation:
    """Validation pairs, evaluated at regular intervals.

    Attributes
    ----------
    source : Source
    every : int
        Steps from one look to the next; the last step is followed by one, too.
    pairs : int
        At most this many, evenly spread over the source and the same each time.
    """

    source: Source
    every: int = 500
    pairs: int = 16

    def due(self, step: int, steps: int) -> bool:
        """Whether validation is due after a number of steps.

        Parameters
        ----------
        step, steps : int
            Steps done, and all.

        Returns
        -------
        bool
            True at every ``every``-th step and at the last.
        """
        return step % self.every == 0 or step == steps

    def __call__(
        self, network: nn.Module, functional: Functional, *, masks: bool, seed: int
    ) -> dict[str, float]:
        """Mean distance of the moved to the fixed image, and mean Jaccard index of the labels.

        The network is left as it was; nothing random is drawn from the training's streams.
        """
        was_training = network.training
        network.eval()
        device = next(network.parameters()).device
        distances, overlaps = [], []
        count = min(self.pairs, len(self.source))
        with torch.no_grad():
            for number in range(count):
                index = number * len(self.source) // count
                sample = self.source.sample(index, generator_of(seed, index, STREAM))
                batch = collate([sample]).to(device)
                found = network(batch.fixed, batch.moving, scales=1, find_mask=masks)
                displacement = found.displacement[0]
                mask = found.noncorrespondence[0] if found.noncorrespondence else None
                moved = warp(functional.features(batch.moving), displacement)
                seen = functional.features(batch.fixed)
                value = functional(moved, seen, found.velocity[0], mask)
                distances.append(float(value.distance))
                if batch.fixed_labels is not None and batch.moving_labels is not None:
                    labels = warp(batch.moving_labels[:, None], displacement, mode="nearest")
                    overlaps.append(mean_jaccard(labels[:, 0], batch.fixed_labels))
        network.train(was_training)
        figures = {"validation_distance": _mean(distances)}
        known = [overlap for overlap in overlaps if math.isfinite(overlap)]
        return figures | ({"validation_jaccard": _mean(known)} if known else {})


def mean_jaccard(first: Tensor, second: Tensor) -> float:
    """Intersection over union, mean over the labels of ``second`` but 0; NaN if it has none."""
    labels = torch.unique(second)
    labels = labels[labels > 0]
    overlaps = []
    for label in labels:
        one, two = first == label, second == label
        overlaps.append(float((one & two).sum() / (one | two).sum()))
    return _mean(overlaps)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
