"""From what a method found on the working grid to a result in the spaces of both images."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.fields import invert_displacement, resize_velocity
from itk_ncr.geometry import Grid
from itk_ncr.images import Image, map_values, resample
from itk_ncr.ops import exponential_pair, warp
from itk_ncr.registration.full_resolution import FullResolution, deferred
from itk_ncr.registration.preparation import Aligned
from itk_ncr.registration.result import Quality, RegistrationResult, masked_share
from itk_ncr.registration.solver import InstanceSettings, Pair, Solution
from itk_ncr.settings import RegistrationSettings

# A registration that masks more of the foreground than this has more likely failed.
SUSPICIOUS_SHARE = 0.35
# Fewer folds show nowhere: twelve voxels of a head of 1.2 million.
FOLDING_WARNED = 1e-5


@dataclass(frozen=True)
class Found:
    """What a method found out about a pair.

    Attributes
    ----------
    displacement, inverse : Tensor, shape (1, D, *spatial of the working grid)
        In voxels of the working grid, without the affine.
    probability, probability_moving : Tensor, shape (1, 1, *spatial of the working grid)
        Noncorrespondence in fixed and in (affinely aligned) moving space.
    distances : pair of float
        Of the images before and after.
    iterations : int
    remedy : str
        What to do against folds.
    finds_masks : bool
        Whether the masks were found; else they were given.
    """

    displacement: Tensor
    inverse: Tensor
    probability: Tensor
    probability_moving: Tensor
    distances: tuple[float, float]
    iterations: int
    remedy: str
    finds_masks: bool


@torch.no_grad()
def make_result(
    settings: RegistrationSettings,
    solver: InstanceSettings,
    prepared: Aligned,
    working: Grid,
    pair: Pair,
    solution: Solution,
    started: float,
    predicted: Tensor | None = None,
) -> RegistrationResult:
    """Fields at full resolution, masks in both spaces, figures: of a velocity and a mask.

    Parameters
    ----------
    settings : RegistrationSettings
    solver : InstanceSettings
    prepared : Aligned
    working : Grid
        Of the pair.
    pair : Pair
    solution : Solution
    started : float
        ``time.perf_counter()`` at the beginning.
    predicted : Tensor, shape (1, 1, *spatial), optional
        Noncorrespondence of the fixed image on the working grid, from somebody who knows.
    """
    u, u_inverse = exponential_pair(resize_velocity(solution.velocity, working.shape))
    there, back, distances = _probabilities(
        settings, solver, pair, solution, u, u_inverse, predicted
    )
    iterations = len(solution.energies)
    found = Found(u, u_inverse, there, back, distances, iterations, "raise smoothness", True)
    return _result(settings, prepared, working, found, started)


@torch.no_grad()
def result_of_displacement(
    settings: RegistrationSettings,
    solver: InstanceSettings,
    prepared: Aligned,
    working: Grid,
    pair: Pair,
    displacement: Tensor,
    inverse: Tensor | None,
    iterations: int,
    started: float,
    found: Tensor | None = None,
) -> RegistrationResult:
    """The same of a displacement and what its method found, besides the masks that were given.

    Parameters
    ----------
    displacement, inverse : Tensor, shape (1, D, *spatial)
        In voxels of the working grid; without an inverse it is found by a fixed-point iteration.
    iterations : int
    found : Tensor, shape (1, 1, *spatial), optional
        Noncorrespondence of the fixed image by the method; default: it finds none.
    """
    if inverse is None:
        inverse = invert_displacement(displacement)
    there, back, distances = _probabilities(
        settings, solver, pair, None, displacement, inverse, found
    )
    finds = found is not None
    remedy = "the way back is wrong there"
    parts = Found(displacement, inverse, there, back, distances, iterations, remedy, finds)
    result = _result(settings, prepared, working, parts, started)
    if finds:
        return result
    # What was given is certain; only resampling made it less so.
    certain, certain_moving = (
        map_values(image, lambda values: values >= 0.5, np.float32)
        for image in (result.noncorrespondence, result.noncorrespondence_moving)
    )
    result = replace(result, noncorrespondence=certain, noncorrespondence_moving=certain_moving)
    return result.with_threshold(settings.mask_threshold)


def _result(
    settings: RegistrationSettings, prepared: Aligned, working: Grid, found: Found, started: float
) -> RegistrationResult:
    fixed, moving, affine = prepared.fixed, prepared.moving, prepared.affine
    full = FullResolution(
        found.displacement, found.inverse, working, fixed.grid, moving.grid, affine
    )
    on_fixed = resample(_image(found.probability, working), fixed.grid, defer=deferred(fixed.grid))
    on_moving = resample(
        _image(found.probability_moving, working),
        moving.grid,
        affine=affine.inverse(),
        defer=deferred(moving.grid),
    )
    displacement = full.displacement()
    warped = resample(
        _finite(moving), fixed.grid, displacement=displacement, defer=deferred(fixed.grid)
    )
    foreground = _byte(prepared.fixed_foreground, fixed.grid)
    foreground_moving = _byte(prepared.moving_foreground, moving.grid)
    determinant = full.determinant()
    regularity = full.regularity(determinant, prepared.fixed_foreground)
    masked = masked_share(on_fixed, foreground, settings.mask_threshold)
    masked_moving = masked_share(on_moving, foreground_moving, settings.mask_threshold)
    if found.finds_masks and masked > SUSPICIOUS_SHARE:
        prepared.warnings.append(
            f"{100 * masked:.0f} % of the fixed foreground found no partner: check the alignment, "
            "the contrast, or raise mask_price."
        )
    if regularity.folding_fraction > FOLDING_WARNED:
        share = 100 * regularity.folding_fraction
        prepared.warnings.append(f"{share:.3g} % of the fixed foreground folds; {found.remedy}.")
    volume_change = float(np.linalg.det(np.asarray(affine.matrix)))
    quality = Quality(
        distance_before=found.distances[0],
        distance_outside=found.distances[1],
        masked_fraction=masked,
        masked_fraction_moving=masked_moving,
        minimum_jacobian=regularity.minimum_jacobian,
        folding_fraction=regularity.folding_fraction,
        inverse_error_mean_voxel=regularity.inverse_error_mean_voxel,
        inverse_error_max_voxel=regularity.inverse_error_max_voxel,
        overlap_fraction=prepared.overlap,
        affine_determinant=volume_change,
        iterations=found.iterations,
        seconds=time.perf_counter() - started,
    )
    return RegistrationResult(
        displacement=displacement,
        displacement_inverse=full.displacement_inverse(),
        deformation=full.deformation(),
        warped=map_values(warped, lambda values: values, np.float32),
        noncorrespondence=on_fixed,
        noncorrespondence_moving=on_moving,
        jacobian=full.jacobian(determinant),
        inverse_error=full.inverse_error(),
        foreground=foreground,
        foreground_moving=foreground_moving,
        affine=affine,
        quality=quality,
        mask_threshold=settings.mask_threshold,
        warnings=tuple(prepared.warnings),
        notes=tuple(prepared.notes),
        settings=settings,
        working_deformation=full.working_deformation(),
        working_deformation_inverse=full.working_deformation_inverse(),
        finds_mask=found.finds_masks and settings.mask == "auto",
    )


def _probabilities(
    settings: RegistrationSettings,
    solver: InstanceSettings,
    pair: Pair,
    solution: Solution | None,
    u: Tensor,
    u_inverse: Tensor,
    predicted: Tensor | None = None,
) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """Noncorrespondence in fixed and in (affinely aligned) moving space; distances."""
    functional = solver.functional
    if solution is not None and solution.path:
        there, back = solver.masks.probabilities(
            pair, solution.path, functional, u, u_inverse, solution.support
        )
    else:
        there, back = torch.zeros_like(pair.fixed), torch.zeros_like(pair.fixed)
    if predicted is not None:
        # A network has learnt what lesions look like; the evidence knows what it has never seen.
        there = torch.maximum(there, predicted)
        back = torch.maximum(back, warp(predicted, u_inverse))
    for known, forth in ((pair.known, True), (pair.known_moving, False)):
        if known is not None:
            carried = warp(known, u_inverse if forth else u)
            there = torch.maximum(there, known if forth else carried)
            back = torch.maximum(back, carried if forth else known)
    fixed, moving = functional.features(pair.fixed), functional.features(pair.moving)
    before = functional.distance_to(fixed, foreground=pair.foreground)(moving)
    kept = (there <= settings.mask_threshold).to(there.dtype)
    outside = pair.foreground * kept
    if not outside.any():
        return there, back, (float(before), float(before))
    after = functional.distance_to(fixed, kept, foreground=outside)(warp(moving, u))
    return there, back, (float(before), float(after))


def _byte(mask: NDArray[np.bool_], grid: Grid) -> Image:
    return Image(mask.view(np.uint8), grid)


def _finite(image: Image) -> Image:
    """The image with its lowest value where it is NaN or infinite."""
    finite = np.isfinite(image.array)
    if finite.all():
        return image
    return Image(np.where(finite, image.array, image.array[finite].min()), image.grid)


def _image(tensor: Tensor, grid: Grid) -> Image:
    return Image(tensor[0, 0].numpy(), grid)
