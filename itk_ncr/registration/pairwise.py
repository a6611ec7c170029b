"""Instance optimisation of one pair: from two images in space to a result in their spaces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.errors import GeometryError, ImageValueError, RegistrationAborted, ShapeError
from itk_ncr.fields import (
    downsample,
    inverse_consistency,
    jacobian_statistics,
    reduced_shape,
    resize_velocity,
)
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, inverse_physical_displacement, physical_displacement, resample
from itk_ncr.images.memory import require_memory
from itk_ncr.ops import exponential_pair, jacobian_determinant, release_memory, warp
from itk_ncr.preprocessing import Normalised, match_histogram, normalise
from itk_ncr.registration.affine import AffineSettings, align, overlap
from itk_ncr.registration.instance import (
    InstanceSettings,
    Pair,
    Solution,
    distance_to,
    evidence_map,
    features,
    solve,
)
from itk_ncr.registration.masking import MaskStep, noncorrespondence_probability, snap_to_edges
from itk_ncr.registration.presets import solver_preset
from itk_ncr.registration.result import Quality, RegistrationResult, masked_share
from itk_ncr.registration.settings import Abort, Progress, RegistrationSettings

# Estimated peak per voxel of the fixed, the moving and the working grid, in bytes: 0.69 GB where
# all three are 96 x 112 x 96; the whole process, torch included, was measured there at 1.05 GB.
FIXED_BYTES, MOVING_BYTES, WORKING_BYTES = 160, 60, 450
# A registration that masks more of the foreground than this has more likely failed.
SUSPICIOUS_SHARE = 0.35
# Less of the fixed image inside the moving one than this is no overlap.
LEAST_OVERLAP = 0.02
# Shares of the work, for the progress: affine, solver, and the rest.
AFFINE_SHARE, SOLVER_SHARE = 0.15, 0.75


@dataclass(frozen=True)
class InstanceOptimization:
    """Registers a pair by optimising its own velocity and mask; nothing is learnt beforehand."""

    settings: RegistrationSettings = field(default_factory=RegistrationSettings)

    def __call__(
        self,
        fixed: Image,
        moving: Image,
        *,
        lesion_mask: Image | None = None,
        moving_lesion_mask: Image | None = None,
        roi_mask: Image | None = None,
        initial_transform: AffineMap | None = None,
        progress: Progress | None = None,
        abort: Abort | None = None,
    ) -> RegistrationResult:
        """Register ``moving`` to ``fixed``; the arguments are those of ``itk_ncr.register``."""
        started = time.perf_counter()
        report = progress or _tell_nobody
        _require_pair(fixed, moving, lesion_mask, moving_lesion_mask, roi_mask)
        working = working_grid(fixed.grid, self.settings.working_voxels)
        require_memory(
            fixed.grid.voxels * FIXED_BYTES
            + moving.grid.voxels * MOVING_BYTES
            + working.voxels * WORKING_BYTES,
            "registration",
            "Use images of lower resolution or a smaller working_voxels.",
        )

        def check() -> None:
            if abort is not None and abort():
                raise RegistrationAborted("registration was stopped by its abort callback.")

        with _threads(self.settings.threads):
            report(0.0, "preparing")
            check()
            pair = _Prepared(
                fixed, moving, working, self.settings, check, report, initial_transform
            )
            masks = pair.masks(lesion_mask, moving_lesion_mask, roi_mask)
            settings = self.solver_settings(fixed.dimension)
            solution = solve(
                masks,
                settings,
                find_mask=self.settings.mask == "auto",
                progress=lambda share, text: report(AFFINE_SHARE + SOLVER_SHARE * share, text),
                abort=abort,
            )
            check()
            report(AFFINE_SHARE + SOLVER_SHARE, "writing fields")
            result = _result(self.settings, settings, pair, masks, solution, started)
        report(1.0, "done")
        return result

    def solver_settings(self, dimension: int) -> InstanceSettings:
        """The solver's settings, with the two knobs of the user turned."""
        preset = solver_preset(self.settings.preset, dimension)
        return replace(
            preset,
            alpha=preset.alpha * self.settings.smoothness,
            gradient_smoothing=preset.gradient_smoothing * self.settings.smoothness**0.5,
            price=preset.price * self.settings.mask_price,
            perimeter=preset.perimeter * self.settings.mask_price,
        )


def working_grid(grid: Grid, most_voxels: int) -> Grid:
    """The grid that a pair is solved on: the fixed one, or a coarser one with the same ends."""
    factor = 1.0
    shape = grid.shape
    smallest = min(grid.spacing)
    while int(np.prod(shape, dtype=np.int64)) > most_voxels:
        factor *= 1.02
        factors = [max(1.0, factor * smallest / h) for h in grid.spacing[::-1]]
        shape = reduced_shape(grid.shape, factors, minimum=8)
    return grid if shape == grid.shape else grid.resized(shape)


class _Prepared:
    """Both images on one scale of intensity, aligned by an affine, on the working grid."""

    def __init__(
        self,
        fixed: Image,
        moving: Image,
        working: Grid,
        settings: RegistrationSettings,
        check: Callable[[], None],
        report: Progress,
        initial: AffineMap | None,
    ) -> None:
        self.fixed, self.moving, self.working = fixed, moving, working
        self.warnings: list[str] = []
        self.fixed_scaled = self._scaled(fixed, "fixed image")
        self.moving_scaled = self._scaled(moving, "moving image")
        scaled_fixed = Image(self.fixed_scaled.values, fixed.grid)
        scaled_moving = Image(self.moving_scaled.values, moving.grid)
        if settings.affine == "auto":
            report(0.01, "affine")
            similarity = "mind" if settings.preset == "multimodal" else "ncc-centred"
            self.affine = align(
                scaled_fixed,
                scaled_moving,
                start=initial,
                settings=AffineSettings(similarity),
                check=check,
            )
        else:
            self.affine = initial or AffineMap.identity(fixed.dimension)
        report(AFFINE_SHARE, "affine")
        self.overlap = overlap(self.affine, fixed.grid, moving.grid)
        if self.overlap < LEAST_OVERLAP:
            raise GeometryError(
                "moving image must overlap the fixed image in physical space; got "
                f"{100 * self.overlap:.1f} % overlap. Check origin and direction, or use "
                "affine='auto'."
            )
        self.fixed_on_grid = to_working(scaled_fixed, working)
        seen = _seen_from(scaled_moving, working, self.affine)
        foreground = Image(self.moving_scaled.foreground.astype(np.float32), moving.grid)
        inside = Image(np.ones(moving.grid.shape, np.float32), moving.grid)
        self.inside = resample(inside, working, affine=self.affine, mode="nearest").array > 0
        fixed_foreground = Image(self.fixed_scaled.foreground.astype(np.float32), fixed.grid)
        self.fixed_foreground = to_working(fixed_foreground, working) > 0.5
        self.moving_foreground = _seen_from(foreground, working, self.affine) > 0.5
        self.moving_on_grid, self.matched = match_histogram(
            seen, self.fixed_on_grid, self.moving_foreground & self.inside, self.fixed_foreground
        )

    def _scaled(self, image: Image, name: str) -> Normalised:
        bad = image.array.size - int(np.count_nonzero(np.isfinite(image.array)))
        if bad:
            self.warnings.append(f"{name} has {bad} NaN or infinite voxels; they are background.")
        return normalise(image.array, name)

    def masks(self, lesion: Image | None, moving_lesion: Image | None, roi: Image | None) -> Pair:
        """The pair for the solver, with what the caller knows about it."""
        foreground = (self.fixed_foreground | self.moving_foreground) & self.inside
        if roi is not None:
            used = _mask_on(roi, self.working)
            if not used.any():
                raise ImageValueError(
                    "ROI mask must cover part of the fixed image; got no voxel of it. "
                    "Check its polarity (1 = use) and its space."
                )
            foreground &= used
        known = None if lesion is None else _mask_on(lesion, self.working)
        if known is not None:
            if not known.any():
                self.warnings.append("lesion mask covers no voxel of the fixed image.")
            elif not (foreground & ~known).any():
                raise ImageValueError(
                    "lesion mask must leave part of the fixed image; got all of it masked. "
                    "Check its polarity (1 = ignore)."
                )
        known_moving = None
        if moving_lesion is not None:
            known_moving = _mask_on(moving_lesion, self.working, self.affine)
            if not known_moving.any():
                self.warnings.append("moving lesion mask covers no voxel of the moving image.")
        if not foreground.any():
            raise ImageValueError(
                "images must have some foreground in common; got none. Check the masks."
            )
        return Pair(
            _tensor(self.fixed_on_grid),
            _tensor(self.moving_on_grid),
            _tensor(foreground),
            None if known is None else _tensor(known),
            None if known_moving is None else _tensor(known_moving),
            self.working.spacing[::-1],
        )


@torch.no_grad()
def _result(
    settings: RegistrationSettings,
    solver: InstanceSettings,
    prepared: _Prepared,
    pair: Pair,
    solution: Solution,
    started: float,
) -> RegistrationResult:
    """Fields at full resolution, masks in both spaces, figures."""
    fixed, moving, affine = prepared.fixed, prepared.moving, prepared.affine
    working = prepared.working
    u, u_inverse = exponential_pair(resize_velocity(solution.velocity, working.shape))
    there = _probabilities(settings, solver, pair, solution.mask, u, u_inverse)
    probability, probability_moving, distances = there
    if working.shape != fixed.grid.shape:
        u, u_inverse = exponential_pair(resize_velocity(solution.velocity, fixed.grid.shape))
    back = affine.inverse()
    on_fixed = resample(_image(probability, working), fixed.grid)
    on_moving = resample(_image(probability_moving, working), moving.grid, affine=back)
    displacement = physical_displacement(u, fixed.grid, fixed.grid, affine)
    determinant = jacobian_determinant(u)
    statistics = jacobian_statistics(u)
    error = inverse_consistency(u, u_inverse)
    spacing = fixed.grid.spacing[::-1]
    error_mm = inverse_consistency(u, u_inverse, spacing=spacing)
    finite = np.nan_to_num(moving.array, nan=_low(moving), posinf=_low(moving), neginf=_low(moving))
    warped = resample(Image(finite, moving.grid), fixed.grid, displacement=displacement)
    foreground = _byte(prepared.fixed_scaled.foreground, fixed.grid)
    foreground_moving = _byte(prepared.moving_scaled.foreground, moving.grid)
    masked = masked_share(on_fixed, foreground, settings.mask_threshold)
    masked_moving = masked_share(on_moving, foreground_moving, settings.mask_threshold)
    if masked > SUSPICIOUS_SHARE:
        prepared.warnings.append(
            f"{100 * masked:.0f} % of the fixed foreground found no partner: check the alignment, "
            "the contrast, or raise mask_price."
        )
    folding = float(statistics.folding_fraction.max())
    if folding > 0:
        prepared.warnings.append(f"{100 * folding:.3g} % of the voxels fold; raise smoothness.")
    quality = Quality(
        distance_before=distances[0],
        distance_outside=distances[1],
        masked_fraction=masked,
        masked_fraction_moving=masked_moving,
        minimum_jacobian=float(statistics.minimum.min()),
        folding_fraction=folding,
        inverse_error_mean_voxel=float(error.double().mean()),
        inverse_error_max_voxel=float(error.max()),
        overlap_fraction=prepared.overlap,
        iterations=len(solution.energies),
        seconds=time.perf_counter() - started,
    )
    volume_change = float(np.linalg.det(np.asarray(affine.matrix)))
    return RegistrationResult(
        displacement=displacement,
        displacement_inverse=inverse_physical_displacement(
            u_inverse, fixed.grid, moving.grid, affine
        ),
        deformation=physical_displacement(u, fixed.grid, fixed.grid),
        warped=Image(warped.array.astype(np.float32, copy=False), fixed.grid),
        noncorrespondence=on_fixed,
        noncorrespondence_moving=on_moving,
        jacobian=_image(determinant * volume_change, fixed.grid),
        inverse_error=_image(error_mm, fixed.grid),
        foreground=foreground,
        foreground_moving=foreground_moving,
        affine=affine,
        quality=quality,
        mask_threshold=settings.mask_threshold,
        warnings=tuple(prepared.warnings),
        settings=settings,
    )


def _probabilities(
    settings: RegistrationSettings,
    solver: InstanceSettings,
    pair: Pair,
    mask: Tensor,
    u: Tensor,
    u_inverse: Tensor,
) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """Noncorrespondence in fixed and in (affinely aligned) moving space; distances."""
    fixed, moving = features(solver, pair.fixed), features(solver, pair.moving)
    moved = warp(moving, u)
    correspondence = 1 - mask
    there, back = torch.zeros_like(mask), torch.zeros_like(mask)
    if settings.mask == "auto":
        evidence = evidence_map(solver, moved, fixed, pair.foreground, correspondence)
        there = _probability(solver, evidence, pair.fixed)
        seen = warp(pair.foreground, u_inverse, mode="nearest")
        unmasked = warp(correspondence, u_inverse)
        evidence = evidence_map(solver, warp(fixed, u_inverse), moving, seen, unmasked)
        back = _probability(solver, evidence, pair.moving)
    for known, forth in ((pair.known, True), (pair.known_moving, False)):
        if known is not None:
            carried = warp(known, u_inverse if forth else u)
            there = torch.maximum(there, known if forth else carried)
            back = torch.maximum(back, carried if forth else known)
    before = distance_to(solver, fixed, None, pair.foreground)(moving)
    kept = (there <= settings.mask_threshold).to(there.dtype)
    outside = pair.foreground * kept
    after = distance_to(solver, fixed, kept, outside)(moved) if outside.any() else before
    return there, back, (float(before), float(after))


def _probability(solver: InstanceSettings, evidence: Tensor, image: Tensor) -> Tensor:
    level_set = MaskStep(solver.perimeter).level_set_function(evidence)
    level_set = snap_to_edges(level_set, image, solver.price)
    return noncorrespondence_probability(level_set, solver.price)


def to_working(image: Image, grid: Grid) -> NDArray[np.float32]:
    """An image on a coarser grid with the same ends, smoothed first."""
    return downsample(_tensor(image.array), grid.shape)[0, 0].numpy()


def _seen_from(moving: Image, grid: Grid, affine: AffineMap) -> NDArray[np.float32]:
    """The moving image through the affine; a finer one is reduced first, against aliasing."""
    fine = np.asarray(moving.grid.spacing)[::-1]
    size = np.abs(np.linalg.det(np.asarray(affine.matrix))) ** (1 / grid.dimension)
    wanted = min(grid.spacing) * size
    shape = reduced_shape(moving.grid.shape, [max(1.0, wanted / h) for h in fine], minimum=2)
    if shape != moving.grid.shape:
        moving = Image(to_working(moving, moving.grid.resized(shape)), moving.grid.resized(shape))
    array = resample(moving, grid, affine=affine).array
    return array.astype(np.float32, copy=False)


def _mask_on(mask: Image, grid: Grid, affine: AffineMap | None = None) -> NDArray[np.bool_]:
    """A mask of any grid on the working grid, by physical coordinates."""
    binary = Image((np.nan_to_num(mask.array) != 0).astype(np.float32), mask.grid)
    coverage = (
        resample(binary, grid) if affine is None else Image(_seen_from(binary, grid, affine), grid)
    )
    return coverage.array >= 0.5


def _require_pair(fixed: Image, moving: Image, *masks: Image | None) -> None:
    for name, image in (("fixed image", fixed), ("moving image", moving)):
        if image.is_vector:
            raise ShapeError(f"{name} must be scalar; got {image.components} components.")
    for other in (moving, *masks):
        if other is not None and other.dimension != fixed.dimension:
            raise ShapeError(
                f"images and masks must have the {fixed.dimension} axes of the fixed image; "
                f"got one with {other.dimension}."
            )


def _tell_nobody(share: float, text: str) -> None:
    """The progress of a caller who did not ask."""
    del share, text


def _byte(mask: NDArray[np.bool_], grid: Grid) -> Image:
    return Image(mask.astype(np.uint8), grid)


def _low(image: Image) -> float:
    finite = image.array[np.isfinite(image.array)]
    return float(finite.min())


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32, order="C"))[None, None]


def _image(tensor: Tensor, grid: Grid) -> Image:
    return Image(tensor[0, 0].numpy(), grid)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Torch's number of threads for the length of a block; what the kernels pooled goes back."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        release_memory()
