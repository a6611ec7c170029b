"""Registration by a trained network, refined by the per-pair solver."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from itk_ncr.checkpoints import ModelDescription, find_model, load_model, shipped_models
from itk_ncr.errors import ArgumentError, GeometryError, ShapeError
from itk_ncr.geometry import Grid, orientation_code
from itk_ncr.networks import prepare_for_inference
from itk_ncr.registration.orientation import Turn
from itk_ncr.registration.pairwise import register_pair, solver_settings, threads
from itk_ncr.registration.preparation import Preparation, WorkingPair, as_tensor
from itk_ncr.registration.request import Request
from itk_ncr.registration.result import ModelRecord, RegistrationResult
from itk_ncr.registration.solver import CONTRASTS, SOLVER_PRESETS, Start
from itk_ncr.settings import RegistrationSettings

# An image is this many times larger or smaller than what a network saw, along no axis: beyond, it
# shows something else, or its header is wrong.
EXTENT_RATIO = 3.0
# Estimated peak of a pass, in bytes per voxel of the network's grid and channel at full resolution:
# 81 to 107 were measured, in 2D and 3D, before networks were rearranged; less since.
BYTES_PER_WIDTH = 120
# oneDNN splits the sums of its convolutions by threads: the last bits may depend on their number. A
# pass of 96 x 112 x 96 voxels takes one thread .6 s with width 4 and 1.3 s with width 8.
PASS_THREADS = 1
MODELS_KEPT = 2


@dataclass(frozen=True)
class NetworkRegistration:
    """Registers a pair with a trained network, and refines the result by the per-pair solver.

    Attributes
    ----------
    settings : RegistrationSettings
        ``model`` or ``preset`` names the network.
    """

    settings: RegistrationSettings = field(default_factory=RegistrationSettings)

    def __call__(self, request: Request) -> RegistrationResult:
        """Register a pair.

        Raises
        ------
        ArgumentError
            If there is no such model, or neither model nor preset says which to take.
        ShapeError
            If the model is for another number of axes.
        GeometryError
            If the image is of quite another size than what the model was trained on.
        CheckpointError
            If the files of the model are damaged.
        """
        settings, fixed = self.settings, request.fixed
        stored = find_model(settings.model or _model_of_preset(settings.preset, fixed.grid))
        description = stored.description
        if description.dimension != fixed.dimension:
            raise ShapeError(
                f"model {description.name!r} must get {description.dimension}D images; got "
                f"{fixed.dimension}D. Choose another model."
            )
        reason = misfit(description, fixed.grid)
        if reason is not None:
            raise GeometryError(reason)
        if description.orientation is None and description.spacing_mm is not None:
            _say_that_orientation_is_unknown(description.name, stored.sha256)
        iterations = description.refine if settings.refine is None else settings.refine
        preset = settings.preset if settings.preset in SOLVER_PRESETS else description.preset
        if preset not in SOLVER_PRESETS:
            raise ArgumentError(
                f"preset of model {description.name!r} must be one of "
                f"{', '.join(SOLVER_PRESETS)}; got {preset!r}. Give a preset yourself."
            )
        result = register_pair(
            request,
            settings,
            solver_settings(settings, preset, fixed.dimension),
            guess=NetworkGuess(_network(stored.folder, stored.sha256), description),
            iterations=iterations,
        )
        record = ModelRecord(description.name, stored.sha256)
        notes = (*result.warnings, *_turned_picture(description, fixed.grid))
        return dataclasses.replace(result, engine="network", model=record, warnings=notes)


@dataclass(frozen=True)
class NetworkGuess:
    """One pass of a network, at the resolution and in the orientation it was trained with."""

    network: nn.Module
    description: ModelDescription
    tone: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda values: values

    def memory(self, fixed: Grid) -> int:
        """Estimated peak in bytes."""
        width = self.description.network_settings.get("width", 8)
        return int(network_grid(self.description, fixed).voxels * width * BYTES_PER_WIDTH)

    def __call__(self, images: Preparation, /) -> Start:
        """Velocity and, if the network models one, mask, on the network's grid as stored."""
        return next(self.passes(self.shown(images)))

    def shown(self, pair: Preparation) -> WorkingPair:
        """The images as input of the network: on its grid, and a head only inside the brain."""
        images = pair.on(network_grid(self.description, pair.request.fixed.grid))
        return images if pair.stripped is None else images.cut_out()

    def passes(self, images: WorkingPair) -> Iterator[Start]:
        """The guess, and then the one with the images swapped: of the moving image, aligned."""
        turn = Turn.towards(images.grid, self.description.orientation)
        directions = (
            lambda: (images.fixed, images.moving),
            lambda: (images.unmatched, images.matched_to_moving()),
        )
        for direction in directions:
            one, other = (turn.image(as_tensor(self.tone(v))) for v in direction())
            with torch.inference_mode(), threads(PASS_THREADS):
                prediction = self.network(one, other, scales=1)
            # Copies: what was made in inference mode cannot take part in a later descent.
            velocity = turn.field_back(prediction.velocity[0].clone())
            found = prediction.noncorrespondence
            yield Start(velocity, turn.image_back(found[0].clone()) if found else None)


@dataclass(frozen=True)
class ShippedGuess:
    """A guess by a model that comes with the package."""

    guess: NetworkGuess
    record: ModelRecord


def shipped_guess(contrast: str, grid: Grid) -> ShippedGuess | None:
    """The shipped model for a contrast, ready for images on a grid; None where there is none."""
    name, reason = suggested_model(contrast, grid)
    if name is None or reason is not None:
        return None
    stored = find_model(name)
    network = _network(stored.folder, stored.sha256)
    record = ModelRecord(stored.description.name, stored.sha256)
    return ShippedGuess(NetworkGuess(network, stored.description), record)


def _turned_picture(description: ModelDescription, grid: Grid) -> tuple[str, ...]:
    """Remark where a header turns an image for a model that was trained on pictures."""
    if description.spacing_mm is not None or description.dimension != 2:
        return ()
    turn = Turn.towards(grid, description.orientation)
    if turn == Turn.towards(Grid.of_array(grid.shape), None):
        return ()
    return (
        f"model {description.name!r} learnt from pictures, and the direction in the header of the "
        f"fixed image ({orientation_code(grid)}) turns it for the network. If it lies as a picture "
        "does already, give both images an identity direction.",
    )


@cache
def _say_that_orientation_is_unknown(name: str, sha256: str) -> None:
    """Warn once per model."""
    del sha256
    warnings.warn(
        f"model {name!r} does not record how its 2D training images were stored, because an "
        "earlier version trained it; images are shown to it with an identity direction. If the "
        "training images had another one, as 2D NIfTI files do, its results are wrong: give its "
        "`itk-ncr train` command again, which writes the finished model anew without training.",
        UserWarning,
        stacklevel=2,
    )


def network_grid(description: ModelDescription, grid: Grid) -> Grid:
    """The grid of a network's pass: ends and axes of the fixed grid, voxels as in training."""
    if description.spacing_mm is None:
        factor = (max(description.size) - 1) / max(max(grid.size) - 1, 1)
        shape = [round((n - 1) * factor) + 1 for n in grid.shape]
    else:
        turn = Turn.towards(grid, description.orientation)
        wanted = turn.sizes(description.spacing_mm)
        shape = [
            round((n - 1) * h / w) + 1
            for n, h, w in zip(grid.shape, grid.spacing[::-1], wanted, strict=True)
        ]
    return grid.resized(shape)


def misfit(description: ModelDescription, grid: Grid) -> str | None:
    """Why an image should not be given to a model, in a sentence; None where it should."""
    if description.spacing_mm is None:
        return None
    turn = Turn.towards(grid, description.orientation)
    sizes = zip(turn.sizes(description.size), turn.sizes(description.spacing_mm), strict=True)
    seen = [n * h for n, h in sizes]
    extent = [n * h for n, h in zip(grid.shape, grid.spacing[::-1], strict=True)]
    if all(s / EXTENT_RATIO <= e <= s * EXTENT_RATIO for s, e in zip(seen, extent, strict=True)):
        return None
    return (
        f"model {description.name!r} must get images of about {_millimetres(seen)}; got "
        f"{_millimetres(extent)}. Check the spacing, or use engine='instance'."
    )


def suggested_model(preset: str, grid: Grid) -> tuple[str | None, str | None]:
    """The shipped model for a contrast and a grid, or None; and why it should not be used."""
    if preset not in CONTRASTS:  # a row of the solver's says nothing about what the images show
        return None, None
    for name, description in shipped_models().items():
        if description.contrast == preset and description.dimension == grid.dimension:
            return name, misfit(description, grid)
    return None, None


def _model_of_preset(preset: str, grid: Grid) -> str:
    name, _ = suggested_model(preset, grid)
    if name is None:
        known = [
            f"{name} (preset {d.contrast!r}, {d.dimension}D)"
            for name, d in shipped_models().items()
        ]
        raise ArgumentError(
            "model must be given with engine='network', or the preset name what a shipped one was "
            f"trained on; got preset {preset!r} for {grid.dimension}D images. "
            f"There is: {', '.join(known) or 'none'}."
        )
    return name


@lru_cache(maxsize=MODELS_KEPT)
def _network(folder: Path, sha256: str) -> nn.Module:
    """The network in a folder; its digest is there for new weights to be loaded anew."""
    del sha256
    return prepare_for_inference(load_model(folder)[0])


def _millimetres(values: list[float]) -> str:
    """Lengths in array order as x, y(, z)."""
    return " x ".join(f"{value:.4g}" for value in reversed(values)) + " mm"
