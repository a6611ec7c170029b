"""Settings of a training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from itk_ncr.errors import ArgumentError, require_choice
from itk_ncr.losses import PRESETS, Functional
from itk_ncr.settings import ARCHITECTURES, PRECISIONS, SCHEDULES, VARIANTS

# Variants without a mask, and those trained without labels.
WITHOUT_MASK = ("regnet", "voxelmorph")
WITHOUT_LABELS = ("ncr-u", "voxelmorph")
LABELS = ("none", "foreground", "all")
# The cosine ends at this share of the first rate.
LAST_RATE = 0.01


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one training; with the images and the seed they determine the weights.

    Attributes
    ----------
    dimension : int
    variant : str
        "regnet": no mask. "ncr-b": mask from the start, with labels. "ncr-u": mask from the start,
        without labels. "ncr-s": two steps, first without, then with the mask. "voxelmorph": the
        rival's network, neither mask nor labels.
    functional : Functional
        Objective.
    mask_functional : Functional, optional
        Objective of the mask alone, where it differs from that of the velocity;
        neither then shapes the other's unknown.
    architecture : "ncr-net" or "ncr-pyramid"
        Network of every variant but "voxelmorph"; "ncr-net" is the paper's.
    network_settings : dict
        Width and the like.
    labels : "none", "foreground" or "all"
        What the overlap term sees: everything that is labelled, or every label ("ncr-u": none).
    most_labels : int
        At most this many labels per step, drawn anew.
    mask_supervision : float
        Weight of cross-entropy and Dice against known lesions; 0 trains without.
    displacement_supervision : float
        Weight of the mean squared error against known displacements, in voxels.
    steps : int
        Optimiser steps in all.
    batch, accumulate : int
        Pairs in a forward pass, and passes per step.
    learning_rate, decay, decays : float, float, int
        The rate starts there and is multiplied by ``decay`` at each of ``decays - 1`` equal
        intervals: ``rate * decay ** floor(decays * step / steps)``.
    schedule : "steps" or "cosine"
        "cosine" replaces these intervals: the rate falls along half a cosine to a hundredth.
    averaging : float
        Decay of the exponential moving average of the weights, such as 0.999, which is then the
        result of the training; 0 keeps the last weights.
    clip : float
        Largest norm of the gradient.
    first_part : float
        Fraction of the steps without mask, of "ncr-s".
    head_warm_up : int
        Steps at the start of the second part in which only the mask's decoder learns.
    seed : int
    precision : "float32" or "bfloat16"
        Of the convolutions.
    scales : int
        How many scales are predicted and summed.

    References
    ----------
    Andresen et al., Int J CARS 17, 2022, doi:10.1007/s11548-022-02577-4, for variants and defaults
    but for the decay of the learning rate, which it does not print: that of the authors' later
    trainings.
    """

    dimension: int
    variant: str = "ncr-s"
    functional: Functional = PRESETS["mri-2d"]
    mask_functional: Functional | None = None
    architecture: str = "ncr-net"
    network_settings: Mapping[str, Any] = field(default_factory=lambda: {"width": 8})
    labels: str = "foreground"
    most_labels: int = 32
    mask_supervision: float = 0.0
    displacement_supervision: float = 0.0
    steps: int = 5000
    batch: int = 4
    accumulate: int = 1
    learning_rate: float = 1e-4
    decay: float = 0.8
    decays: int = 10
    schedule: str = "steps"
    averaging: float = 0.0
    clip: float = 10.0
    first_part: float = 0.5
    head_warm_up: int = 0
    seed: int = 0
    precision: str = "float32"
    scales: int = 3

    def __post_init__(self) -> None:
        for name, choices in (
            ("dimension", (2, 3)),
            ("variant", VARIANTS),
            ("labels", LABELS),
            ("precision", PRECISIONS),
            ("architecture", ARCHITECTURES),
            ("schedule", SCHEDULES),
            ("scales", (1, 2, 3)),
        ):
            require_choice(name, getattr(self, name), choices)
        for name in ("steps", "batch", "accumulate", "decays", "most_labels"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("learning_rate", "decay", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ArgumentError(f"{name} must be positive; got {getattr(self, name)}.")
        for name in ("mask_supervision", "displacement_supervision", "head_warm_up"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ArgumentError(f"{name} must not be negative; got {getattr(self, name)}.")
        if self.variant == "voxelmorph" and self.architecture != "ncr-net":
            raise ArgumentError(
                "architecture must be ncr-net with variant voxelmorph, which is a network of its "
                f"own; got {self.architecture!r}. Leave one of them out."
            )
        if not 0 <= self.averaging < 1:
            raise ArgumentError(f"averaging must be in [0, 1); got {self.averaging}. Use 0.999.")
        if not 0 <= self.first_part <= 1:
            raise ArgumentError(f"first_part must lie in [0, 1]; got {self.first_part}.")
        of_mask = self.mask_functional
        if of_mask is not None and of_mask.descriptor != self.functional.descriptor:
            raise ArgumentError(
                f"mask_functional must have the descriptor of functional, "
                f"{self.functional.descriptor!r}; got {of_mask.descriptor!r}. Give both one."
            )
        if len(self.functional.level_weights) < self.scales:
            raise ArgumentError(
                f"functional must weigh {self.scales} scales; "
                f"got level_weights {self.functional.level_weights}."
            )

    @property
    def network(self) -> str:
        """The row of ``NETWORKS``."""
        if self.variant == "voxelmorph":
            return self.variant
        if self.variant == "regnet" and self.architecture == "ncr-net":
            return self.variant
        return self.architecture

    @property
    def all_network_settings(self) -> dict[str, Any]:
        """Arguments of ``build_network`` besides the name and the dimension."""
        without = self.architecture == "ncr-pyramid" and self.variant == "regnet"
        return {**self.network_settings, **({"segmentation": False} if without else {})}

    def masks_at(self, step: int) -> bool:
        """Whether the mask takes part in a step.

        Parameters
        ----------
        step : int
            Counted from 0.

        Returns
        -------
        bool
            False before ``first_masked_step`` of NCR-S, and always without a mask.
        """
        if self.variant == "ncr-s":
            return step >= self.first_masked_step
        return self.variant not in WITHOUT_MASK

    @property
    def first_masked_step(self) -> int:
        """First step of the second part of "ncr-s"."""
        return round(self.first_part * self.steps) if self.variant == "ncr-s" else 0

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step.

        Parameters
        ----------
        step : int
            Counted from 0.

        Returns
        -------
        float
            By the schedule.
        """
        if self.schedule == "cosine":
            fallen = 0.5 * (1 - math.cos(math.pi * step / self.steps))
            return self.learning_rate * (1 - (1 - LAST_RATE) * fallen)
        return self.learning_rate * self.decay ** (self.decays * step // self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        values = dataclasses.asdict(self)
        return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
