"""Makes a result in the spaces of both images from a deformation of the working grid."""

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
from itk_ncr.registration.preparation import Preparation
from itk_ncr.registration.quality import Quality, masked_share
from itk_ncr.registration.result import RegistrationResult
from itk_ncr.registration.solver import InstanceSettings, Pair, Solution
from itk_ncr.settings import RegistrationSettings

# A registration that masks more of the foreground than this has more likely failed: right masks of
# large phantoms had up to 9.8 %, of patients 4.6 %; half a head that was cut away had 30.2 %.
SUSPICIOUS_SHARE = 0.25
# Fewer folds show nowhere: twelve voxels of a head of 1.2 million.
FOLDING_WARNED = 1e-5


@dataclass(frozen=True)
class Deformation:
    """Output of a method on the working grid, without the affine.

    Attributes
    ----------
    displacement : Tensor, shape (1, D, *spatial)
        In voxels: ``moved(p) = moving(p + displacement(p))``.
    inverse : Tensor, same shape, optional
        What undoes it, where the method knows; else it is found by a fixed-point
        iteration.
    iterations : int
    noncorrespondence : Tensor, shape (1, 1, *spatial), optional
        Probability that a fixed voxel has no partner, where the method finds it.
    warnings : tuple of str
        What the reader should know before trusting it.
    """

    displacement: Tensor
    inverse: Tensor | None
    iterations: int
    noncorrespondence: Tensor | None = None
    warnings: tuple[str, ...] = ()


@torch.no_grad()
def deformation_of(
    solution: Solution, working: Grid, predicted: Tensor | None = None
) -> Deformation:
    """The deformation of a solved velocity, on the working grid."""
    u, u_inverse = exponential_pair(resize_velocity(solution.velocity, working.shape))
    return Deformation(u, u_inverse, len(solution.energies), predicted)


@torch.no_grad()
def make_result(
    settings: RegistrationSettings,
    solver: InstanceSettings,
    images: Preparation,
    pair: Pair,
    working: Grid,
    deformation: Deformation,
    started: float,
    solution: Solution | None = None,
) -> RegistrationResult:
    """Fields at full resolution, masks in both spaces, and figures.

    Parameters
    ----------
    settings : RegistrationSettings
    solver : InstanceSettings
    images : Preparation
    pair : Pair
    working : Grid
        Of the pair.
    deformation : Deformation
    started : float
        ``time.perf_counter()`` at the beginning.
    solution : Solution, optional
        Where it is of our solver: masks are then found with its path.
    """
    request, affine = images.request, images.affine
    fixed, moving = request.fixed, request.moving
    u, u_inverse = deformation.displacement, deformation.inverse
    if u_inverse is None:
        u_inverse = invert_displacement(u)
    there, back, distances = _probabilities(
        settings, solver, pair, solution, u, u_inverse, deformation.noncorrespondence
    )
    finds_masks = solution is not None or deformation.noncorrespondence is not None
    full = FullResolution(u, u_inverse, working, fixed.grid, moving.grid, affine)
    on_fixed = resample(_image(there, working), fixed.grid, defer=deferred(fixed.grid))
    on_moving = resample(
        _image(back, working),
        moving.grid,
        affine=affine.inverse(),
        defer=deferred(moving.grid),
    )
    displacement = full.displacement()
    warped = resample(
        _finite(moving),
        fixed.grid,
        displacement=displacement,
        fill_value=images.outside,
        defer=deferred(fixed.grid),
    )
    foreground = _byte(images.fixed_foreground, fixed.grid)
    foreground_moving = _byte(images.moving_foreground, moving.grid)
    determinant = full.determinant()
    regularity = full.regularity(determinant, images.fixed_foreground)
    masked = masked_share(on_fixed, foreground, settings.mask_threshold)
    masked_moving = masked_share(on_moving, foreground_moving, settings.mask_threshold)
    if finds_masks and masked > SUSPICIOUS_SHARE:
        images.warnings.append(
            f"{100 * masked:.0f} % of the fixed foreground found no partner: check the alignment, "
            "the contrast, or raise mask_price."
        )
    if regularity.folding_fraction > FOLDING_WARNED:
        share = 100 * regularity.folding_fraction
        remedy = "the way back is wrong there" if solution is None else "raise smoothness"
        images.warnings.append(f"{share:.3g} % of the fixed foreground folds; {remedy}.")
    volume_change = float(np.linalg.det(np.asarray(affine.matrix)))
    quality = Quality(
        distance_before=distances[0],
        distance_outside=distances[1],
        masked_fraction=masked,
        masked_fraction_moving=masked_moving,
        minimum_jacobian=regularity.minimum_jacobian,
        folding_fraction=regularity.folding_fraction,
        inverse_error_mean_voxel=regularity.inverse_error_mean_voxel,
        inverse_error_max_voxel=regularity.inverse_error_max_voxel,
        overlap_fraction=images.overlap,
        affine_determinant=volume_change,
        iterations=deformation.iterations,
        seconds=time.perf_counter() - started,
    )
    result = RegistrationResult(
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
        warnings=tuple(images.warnings),
        notes=tuple(images.notes),
        settings=settings,
        working_deformation=full.working_deformation(),
        working_deformation_inverse=full.working_deformation_inverse(),
        finds_mask=finds_masks and settings.mask == "auto",
    )
    if finds_masks:
        return result
    # What was given is certain; only resampling made it less so.
    certain, certain_moving = (
        map_values(image, lambda values: values >= 0.5, np.float32)
        for image in (on_fixed, on_moving)
    )
    result = replace(result, noncorrespondence=certain, noncorrespondence_moving=certain_moving)
    return result.with_threshold(settings.mask_threshold)


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
