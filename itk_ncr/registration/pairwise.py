"""Registers one image pair by the per-pair solver, from scratch or from an initial guess."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from itk_ncr.geometry import Grid
from itk_ncr.images import Image, resample
from itk_ncr.images.memory import require_memory, return_memory
from itk_ncr.ops import release_memory, resize, warp
from itk_ncr.registration.full_resolution import deferred
from itk_ncr.registration.preparation import (
    AFFINE_SHARE,
    Preparation,
    as_tensor,
    mask_on,
    require_pair,
    working_grid,
)
from itk_ncr.registration.request import Request
from itk_ncr.registration.result import ModelRecord, RegistrationResult
from itk_ncr.registration.results import Deformation, deformation_of, make_result
from itk_ncr.registration.solver import (
    InstanceSettings,
    Pair,
    Solution,
    Start,
    Support,
    displacement_deviation,
    fill,
    refine,
    solve,
    solver_preset,
)
from itk_ncr.settings import RegistrationSettings

# Estimated peak per voxel of the fixed, the moving and the working grid, in bytes: 0.69 GB where
# all three are 96 x 112 x 96; the whole process, torch included, was measured there at 1.05 GB.
FIXED_BYTES, MOVING_BYTES, WORKING_BYTES = 160, 60, 450
# The same of grids whose fields are deferred: 1.5 GB for two images of 512 x 512 x 120 voxels, of
# which 0.2 GB are Python and torch and 0.5 GB the working grid.
DEFERRED_BYTES = 30
# Shares of the work, for the progress: a guess, then the solver; the rest goes into the result.
GUESS_SHARE, SOLVER_SHARE = 0.15, 0.75
# Share that is done when the result is there, and only its uncertainty is missing.
RESULT_SHARE = 0.95


class Guess(Protocol):
    """Brings a first velocity and mask for a pair: a network."""

    def memory(self, fixed: Grid) -> int:
        """Bytes it will need."""
        ...

    def __call__(self, images: Preparation, /) -> Start:
        """The guess; its grid has the extent of the fixed one."""
        ...


class Opinion(Protocol):
    """Estimates the noncorrespondence of a pair without registering it."""

    def __call__(self, images: Preparation, /) -> tuple[Support, ModelRecord] | None:
        """Log-odds in favour for both images, on a grid with the extent of the fixed one."""
        ...


@dataclass(frozen=True)
class InstanceOptimization:
    """Registers a pair by optimising its own velocity and mask; no network is trained."""

    settings: RegistrationSettings = field(default_factory=RegistrationSettings)
    opinion: Opinion | None = None

    def __call__(self, request: Request) -> RegistrationResult:
        """Register a pair."""
        settings = self.settings
        solver = solver_settings(settings, settings.preset, request.fixed.dimension)
        return register_pair(request, settings, solver, opinion=self.opinion)


def solver_settings(
    settings: RegistrationSettings, preset: str, dimension: int
) -> InstanceSettings:
    """The solver's settings of a preset, with the factors of the user."""
    return solver_preset(preset, dimension).scaled(
        smoothness=settings.smoothness, mask_price=settings.mask_price
    )


def register_pair(
    request: Request,
    settings: RegistrationSettings,
    solver: InstanceSettings,
    *,
    guess: Guess | None = None,
    iterations: int = 0,
    opinion: Opinion | None = None,
) -> RegistrationResult:
    """Prepare, start from a guess if there is one, solve, and bring the results home.

    Parameters
    ----------
    request : Request
    settings : RegistrationSettings
    solver : InstanceSettings
    guess : callable, optional
        Brings a start; default: the solver begins from scratch.
    iterations : int
        Of refinement after a guess; 0 takes the guess as it is.
    opinion : callable, optional
        A second opinion on the mask, where there is no guess.
    """
    started = time.perf_counter()
    fixed = request.fixed.grid
    require_pair(request)
    working = working_grid(fixed, settings.working_voxels)
    require_memory(
        image_bytes(fixed, request.moving.grid)
        + max(working.voxels * WORKING_BYTES, 0 if guess is None else guess.memory(fixed)),
        "registration",
        "Use images of lower resolution or a smaller working_voxels.",
    )

    with threads(settings.threads), _memory_given_back():
        request.report(0.0, "preparing")
        request.check()
        images = Preparation(request, settings)
        if settings.preset == "auto":
            settings, solver = _recognised(settings, solver, images, guess is None)
        pair = images.pair(working)
        find_mask = settings.mask == "auto"
        predicted: Tensor | None = None
        model: ModelRecord | None = None
        if guess is None:
            said = opinion(images) if opinion is not None and find_mask else None
            support = None
            if said is not None:
                (here, there), model = said
                working_shape = tuple(pair.fixed.shape[2:])
                support = resize(here, working_shape), resize(there, working_shape)
            images.release()
            solution = solve(
                pair,
                solver,
                find_mask=find_mask,
                support=support,
                progress=lambda share, text: request.report(
                    AFFINE_SHARE + SOLVER_SHARE * share, text
                ),
                abort=request.abort,
            )
        else:
            request.report(AFFINE_SHARE, "network")
            request.check()
            start = guess(images)
            images.release()
            begun = AFFINE_SHARE + GUESS_SHARE
            left = SOLVER_SHARE - GUESS_SHARE
            request.report(begun, "network")
            predicted = _predicted(start, pair, settings)
            if iterations > 0:
                solution = refine(
                    pair,
                    solver,
                    start,
                    iterations,
                    find_mask=find_mask,
                    progress=lambda share, text: request.report(begun + left * share, text),
                    abort=request.abort,
                )
            else:
                solution = _as_guessed(start, pair)
        request.check()
        request.report(AFFINE_SHARE + SOLVER_SHARE, "writing fields")
        deformation = deformation_of(solution, working, predicted)
        result = make_result(
            settings, solver, images, pair, working, deformation, started, solution
        )
        if settings.uncertainty_runs:
            request.report(RESULT_SHARE, "uncertainty")
            deviation = _deviation(request, settings, solver, pair, working, deformation, result)
            result = replace(result, displacement_std=deviation)
    request.report(1.0, "done")
    return result if model is None else replace(result, model=model)


def _deviation(
    request: Request,
    settings: RegistrationSettings,
    solver: InstanceSettings,
    pair: Pair,
    working: Grid,
    deformation: Deformation,
    result: RegistrationResult,
) -> Image:
    """Standard deviation of the displacement in mm, on the fixed grid."""
    masked = pair.suspecting(as_tensor(mask_on(result.mask, working)))
    to_moving = np.asarray(result.affine.matrix) @ np.asarray(working.direction)
    # Columns in the order of array axes.
    to_mm = torch.from_numpy((to_moving * working.spacing)[:, ::-1].astype(np.float32))
    found = displacement_deviation(
        masked,
        solver,
        warp(pair.moving, deformation.displacement),
        to_mm,
        settings.uncertainty_runs,
        torch.Generator().manual_seed(settings.seed),
        progress=lambda share, _: request.report(
            RESULT_SHARE + (1 - RESULT_SHARE) * share, "uncertainty"
        ),
        abort=request.abort,
    )
    on_working = Image(found[0, 0].numpy(), working)
    grid = request.fixed.grid
    return resample(on_working, grid, defer=deferred(grid))


def image_bytes(fixed: Grid, moving: Grid) -> int:
    """Estimated peak memory of the outputs on the grids of both images."""
    parts = ((fixed, FIXED_BYTES), (moving, MOVING_BYTES))
    return sum(grid.voxels * (DEFERRED_BYTES if deferred(grid) else kept) for grid, kept in parts)


def _recognised(
    settings: RegistrationSettings, solver: InstanceSettings, images: Preparation, alone: bool
) -> tuple[RegistrationSettings, InstanceSettings]:
    """Settings adapted to the content of the images, with a note; else the given ones."""
    if images.layered and alone:
        preset = "oct"
        images.notes.append(
            "images look like B-scans of a retina: preset 'oct' is used. Name another preset if "
            "they are not."
        )
    elif images.contrasts == "two" and alone:
        preset = "multimodal"
        compared = (
            "self-similarity is compared instead of intensity"
            if images.request.fixed.dimension == 3
            else "their local correlation is compared, whatever its sign"
        )
        images.notes.append(
            f"images show tissue in different contrasts: {compared} (preset 'multimodal')."
        )
    elif images.contrasts == "two":
        images.warnings.append(
            "images seem to show tissue in different contrasts, which the network may not know: "
            "compare with preset 'multimodal' and engine 'instance'."
        )
        return settings, solver
    else:
        return settings, solver
    settings = replace(settings, preset=preset)
    return settings, solver_settings(settings, preset, images.request.fixed.dimension)


def _predicted(start: Start, pair: Pair, settings: RegistrationSettings) -> Tensor | None:
    """The noncorrespondence of a guess on the grid of the pair; None where it models none."""
    if start.noncorrespondence is None or settings.mask == "none":
        return None
    there = resize(start.noncorrespondence, tuple(pair.fixed.shape[2:]))
    # Odds divided by the price, as those of the solver's masks are.
    return there / (there + settings.mask_price * (1 - there))


def _as_guessed(start: Start, pair: Pair) -> Solution:
    """A guess as the solution."""
    velocity = start.velocity
    if pair.known is not None:
        # The network was not told: what it makes of a known lesion is no motion of tissue.
        velocity = fill(velocity, resize(pair.known, tuple(velocity.shape[2:])))
    return Solution(velocity, ())


@contextmanager
def _memory_given_back() -> Iterator[None]:
    """Return pooled memory of the kernels to the system at the end of the block."""
    try:
        yield
    finally:
        release_memory()
        return_memory()


@contextmanager
def torch_as_usual() -> Iterator[None]:
    """Gradients, and new tensors on the CPU, for a block, whatever the caller has set."""
    on_cpu = torch.get_default_device().type == "cpu"
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        nullcontext() if on_cpu else torch.device("cpu"),
    ):
        yield


_threads_lock = Lock()
_threads_depth = 0
_usual_threads = 1


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Torch's number of threads for the length of a block; None leaves it.

    The number is that of the process: of blocks in several threads the last to end restores what
    was before the first.
    """
    global _threads_depth, _usual_threads
    with _threads_lock:
        before = torch.get_num_threads()
        if _threads_depth == 0:
            _usual_threads = before
        _threads_depth += 1
        if number is not None:
            torch.set_num_threads(number)
    try:
        yield
    finally:
        with _threads_lock:
            _threads_depth -= 1
            torch.set_num_threads(before if _threads_depth else _usual_threads)
