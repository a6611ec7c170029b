"""Preparation of a pair: common intensity scale, affine alignment, common grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.errors import GeometryError, ImageValueError, ShapeError
from itk_ncr.fields import reduced_shape
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, resample
from itk_ncr.ops import resize
from itk_ncr.preprocessing import (
    ScaledImage,
    common_window,
    is_layered,
    match_histogram,
    normalise,
)
from itk_ncr.registration.affine import AffineSettings, Alignment, View, align, overlap
from itk_ncr.registration.plausibility import (
    doubts_about_motion,
    doubts_about_places,
    doubts_about_share,
)
from itk_ncr.registration.reduction import reduced
from itk_ncr.registration.request import Request
from itk_ncr.registration.solver import Pair
from itk_ncr.settings import RegistrationSettings

# Less of the fixed image inside the moving one than this is no overlap.
LEAST_OVERLAP = 0.02
# Below this share of the fixed foreground, that so little was compared is worth a warning.
GOOD_OVERLAP = 0.5
# Images whose extents differ by more are hardly of one object: a spacing in metres, as a rule.
STRANGE_EXTENT = 20
# Share of the work that is done when the images are aligned, for the progress.
AFFINE_SHARE = 0.15


@dataclass(frozen=True)
class WorkingPair:
    """Both images on one grid.

    Attributes
    ----------
    grid : Grid
    fixed, moving : ndarray, float32
        On the scale of ``preprocessing``; the moving one seen through the affine, and with the
        intensities of the fixed one.
    foreground : ndarray of bool
        Where either shows something, or both where one is stripped, and both have voxels.
    inside : ndarray of bool
        Where the moving image has voxels.
    unmatched : ndarray, float32
        The moving image with its own intensities.
    """

    grid: Grid
    fixed: NDArray[np.float32]
    moving: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    unmatched: NDArray[np.float32]

    def cut_out(self) -> WorkingPair:
        """The same with nothing outside the foreground."""
        fixed, moving, unmatched = (
            values * self.foreground for values in (self.fixed, self.moving, self.unmatched)
        )
        return replace(self, fixed=fixed, moving=moving, unmatched=unmatched)

    def matched_to_moving(self) -> NDArray[np.float32]:
        """The fixed image with the intensities of the moving one, for the opposite direction."""
        shown = self.foreground
        return match_histogram(self.fixed, self.unmatched, shown, shown)[0]


class Preparation:
    """Both images on one scale of intensity, aligned by an affine, each on its own grid.

    Attributes
    ----------
    affine : AffineMap
        Fixed to moving points, mm, LPS.
    stripped : "fixed", "moving" or None
        The image that shows only part of what surrounds it in the other one, such as a brain
        without its head. The images are compared only where it shows something.
    layered : bool
        Whether both are 2D and show flat layers, as B-scans of a retina do; False where a preset
        was named.
    contrasts : "one" or "two"
        Whether the images show tissue in the same intensities, as far as the affine could tell.
    overlap : float
        Share of the fixed foreground that the affine carries into the moving image.
    outside : float
        Intensity of the warped image where the moving image has no voxels.
    warnings : list of str
    """

    def __init__(self, request: Request, settings: RegistrationSettings) -> None:
        self.request = request
        fixed, moving, masks = request.fixed, request.moving, request.masks
        self.warnings: list[str] = []
        self.notes: list[str] = []
        larger = _extent(moving) / _extent(fixed)
        if not 1 / STRANGE_EXTENT < larger < STRANGE_EXTENT:
            self.warnings.append(
                f"moving image is {larger:.3g} times as large as the fixed image: are both "
                "spacings in mm?"
            )
        self.fixed_scaled = self._scaled(fixed, "fixed image")
        self.moving_scaled = self._scaled(moving, "moving image")
        self._use_one_window()
        self.fixed_foreground = self.fixed_scaled.foreground
        self.moving_foreground = self.moving_scaled.foreground
        self.layered = settings.preset == "auto" and all(
            is_layered(scaled.values, scaled.foreground)
            for scaled in (self.fixed_scaled, self.moving_scaled)
        )
        preset = "oct" if self.layered else settings.preset
        if settings.affine == "auto":
            request.report(0.01, "affine")
            found = align(
                _view(fixed, self.fixed_scaled, masks.lesion, masks.roi),
                _view(moving, self.moving_scaled, masks.moving_lesion, masks.moving_roi),
                start=request.initial,
                settings=_affine_settings(preset),
                check=request.check,
            )
        else:
            found = Alignment(request.initial or AffineMap.identity(fixed.dimension))
        self.affine, self.stripped, self.contrasts = found.affine, found.stripped, found.contrasts
        if settings.affine == "auto" and request.initial is None:
            self.warnings += doubts_about_motion(self.affine, fixed.grid)
        request.report(AFFINE_SHARE, "affine")
        self._check_overlap(settings)
        if self.stripped is not None:
            whole = "moving" if self.stripped == "fixed" else "fixed"
            self.notes.append(
                f"{self.stripped} image shows only part of what the {whole} image shows, as a "
                "brain without its head does: they were compared only there."
            )

    def _check_overlap(self, settings: RegistrationSettings) -> None:
        """Measure the overlap; raise where there is none, warn where there is little."""
        fixed, moving = self.request.fixed.grid, self.request.moving.grid
        self.overlap = overlap(self.affine, fixed, moving, self.fixed_scaled.foreground)
        of_grid = overlap(self.affine, fixed, moving)
        if max(self.overlap, of_grid) < LEAST_OVERLAP:
            advice = (
                "No alignment was found: check that both show the same, or give a first transform"
                if settings.affine == "auto"
                else "Check origin and direction, or let it be aligned (affine 'auto')"
            )
            raise GeometryError(
                "moving image must overlap the fixed image in physical space; got "
                f"{100 * of_grid:.1f} % overlap. {' '.join([*self.warnings, advice])}."
            )
        if self.overlap < GOOD_OVERLAP:
            self.warnings.append(
                f"moving image covers only {100 * self.overlap:.0f} % of what the fixed image "
                "shows: nothing was compared outside."
            )

    def on(self, grid: Grid) -> WorkingPair:
        """Both images on a grid of the extent of the fixed one; the moving one through the affine.

        What a network was trained on is made here too.
        """
        fixed, moving = self.request.fixed, self.request.moving
        fixed_values = to_grid(Image(self.fixed_scaled.values, fixed.grid), grid)
        seen = seen_from(Image(self.moving_scaled.values, moving.grid), grid, self.affine)
        moving_foreground = Image(self.moving_foreground.view(np.uint8), moving.grid)
        whole = Image(np.ones(moving.grid.shape, np.uint8), moving.grid)
        inside = resample(whole, grid, affine=self.affine, mode="nearest").array > 0
        fixed_foreground = Image(self.fixed_foreground.view(np.uint8), fixed.grid)
        fixed_shows = to_grid(fixed_foreground, grid) > 0.5
        moving_shows = seen_from(moving_foreground, grid, self.affine) > 0.5
        shown = {"fixed": fixed_shows, "moving": moving_shows}
        if self.stripped is not None:
            fixed_shows = moving_shows = shown[self.stripped]
        matched, _ = match_histogram(seen, fixed_values, moving_shows & inside, fixed_shows)
        foreground = (fixed_shows | moving_shows) & inside
        return WorkingPair(grid, fixed_values, matched, foreground, inside, seen)

    def release(self) -> None:
        """Forget the scaled images: no :meth:`on` any more. The foregrounds stay."""
        del self.fixed_scaled, self.moving_scaled

    def _scaled(self, image: Image, name: str) -> ScaledImage:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite here
            bad = int(np.count_nonzero(~np.isfinite(image.array.astype(np.float32, copy=False))))
        if bad:
            self.warnings.append(f"{name} has {bad} NaN or infinite voxels; they are background.")
        return normalise(image.array, name)

    def _use_one_window(self) -> None:
        """Compare two CT images in one window, and say which."""
        one, other = self.fixed_scaled.window, self.moving_scaled.window
        if one is not None and other is not None:
            name = common_window(one, other)
            if one.name != name:
                self.fixed_scaled = normalise(self.request.fixed.array, window=name)
            if other.name != name:
                self.moving_scaled = normalise(self.request.moving.array, window=name)
        for image, scaled in (("fixed", self.fixed_scaled), ("moving", self.moving_scaled)):
            if scaled.window is not None:
                self.notes.append(f"{image} image {scaled.window.note}")
        # Where the moving image has no voxels there is air: 0 is water.
        self.outside = 0.0 if other is None else other.air

    def in_regions(self, images: WorkingPair) -> NDArray[np.bool_]:
        """The foreground of images on a grid within the regions of interest of both."""
        given, foreground = self.request.masks, images.foreground
        for image, roi, affine in (
            ("fixed", given.roi, None),
            ("moving", given.moving_roi, self.affine),
        ):
            if roi is None:
                continue
            used = mask_on(roi, images.grid, affine)
            if not used.any():
                name = "ROI or brain mask" if image == "fixed" else "moving ROI or brain mask"
                raise ImageValueError(
                    f"{name} must cover part of the {image} image; got no voxel of it. "
                    "Check its polarity (1 = use) and its space."
                )
            foreground = foreground & used
        return foreground

    def pair(self, grid: Grid) -> Pair:
        """The pair for the solver, with the masks of the caller."""
        request, given, images = self.request, self.request.masks, self.on(grid)
        lesion, moving_lesion = given.lesion, given.moving_lesion
        self.warnings += doubts_about_places(*given.all(), request.fixed.grid, request.moving.grid)
        foreground = self.in_regions(images)
        known = None if lesion is None else mask_on(lesion, grid)
        if known is not None:
            if not known.any():
                self.warnings.append("lesion mask covers no voxel of the fixed image.")
            elif not (foreground & ~known).any():
                raise ImageValueError(
                    "lesion mask must leave part of the fixed image; got all of it masked. "
                    "Check its polarity (1 = ignore)."
                )
            self.warnings += doubts_about_share("lesion mask", "fixed image", known, foreground)
        known_moving = None
        if moving_lesion is not None:
            known_moving = mask_on(moving_lesion, grid, self.affine)
            if not known_moving.any():
                self.warnings.append("moving lesion mask covers no voxel of the moving image.")
            self.warnings += doubts_about_share(
                "moving lesion mask", "moving image", known_moving, foreground
            )
        if not foreground.any():
            raise ImageValueError(
                "images must have some foreground in common; got none. Check the masks."
            )
        return Pair(
            as_tensor(images.fixed),
            as_tensor(images.moving),
            as_tensor(foreground),
            None if known is None else as_tensor(known),
            None if known_moving is None else as_tensor(known_moving),
            grid.spacing[::-1],
            outside=None if images.inside.all() else as_tensor(~images.inside),
        )


def _view(image: Image, scaled: ScaledImage, lesion: Image | None, roi: Image | None) -> View:
    """An image as input of the affine; an empty mask is reported later, by the pair."""
    allowed = None
    if roi is not None:
        allowed = mask_on(roi, image.grid)
    if lesion is not None:
        healthy = ~mask_on(lesion, image.grid)
        allowed = healthy if allowed is None else allowed & healthy
    if allowed is not None and not (allowed & scaled.foreground).any():
        allowed = None
    return View(Image(scaled.values, image.grid), scaled.foreground, allowed)


def _affine_settings(preset: str) -> AffineSettings:
    """Settings of the affine for a preset."""
    contrasts = {"auto": "auto", "multimodal": "two"}.get(preset, "one")
    # Across an OCT B-scan the layers lie flat or tilted, never sheared.
    return AffineSettings(contrasts, shear=preset != "oct")


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


def _extent(image: Image) -> float:
    """Length of the diagonal, mm."""
    return float(np.linalg.norm(np.multiply(image.grid.size, image.grid.spacing)))


def to_grid(image: Image, grid: Grid) -> NDArray[np.float32]:
    """An image on another grid with the same ends; smoothed first along axes that get coarser."""
    coarser = [min(n, m) for n, m in zip(image.grid.shape, grid.shape, strict=True)]
    return resize(reduced(image, coarser), grid.shape)[0, 0].numpy()


def seen_from(moving: Image, grid: Grid, affine: AffineMap) -> NDArray[np.float32]:
    """The moving image through the affine; a finer one is reduced first, against aliasing."""
    fine = np.asarray(moving.grid.spacing)[::-1]
    size = np.abs(np.linalg.det(np.asarray(affine.matrix))) ** (1 / grid.dimension)
    wanted = min(grid.spacing) * size
    shape = reduced_shape(moving.grid.shape, [max(1.0, wanted / h) for h in fine], minimum=2)
    if shape != moving.grid.shape:
        moving = Image(to_grid(moving, moving.grid.resized(shape)), moving.grid.resized(shape))
    array = resample(moving, grid, affine=affine).array
    return array.astype(np.float32, copy=False)


def mask_on(mask: Image, grid: Grid, affine: AffineMap | None = None) -> NDArray[np.bool_]:
    """A mask of any grid on another one, by physical coordinates."""
    binary = Image((np.nan_to_num(mask.array) != 0).astype(np.float32), mask.grid)
    coverage = (
        resample(binary, grid) if affine is None else Image(seen_from(binary, grid, affine), grid)
    )
    return coverage.array >= 0.5


def require_pair(request: Request) -> None:
    """Raise a :class:`ShapeError` unless all images are scalar and have the same axes."""
    fixed, moving = request.fixed, request.moving
    for name, image in (("fixed image", fixed), ("moving image", moving)):
        if image.is_vector:
            raise ShapeError(f"{name} must be scalar; got {image.components} components.")
    for other in (moving, *request.masks.all()):
        if other is not None and other.dimension != fixed.dimension:
            raise ShapeError(
                f"images and masks must have the {fixed.dimension} axes of the fixed image; "
                f"got one with {other.dimension}."
            )


def as_tensor(array: NDArray[np.generic]) -> Tensor:
    """A scalar array as a tensor, (1, 1, *spatial), float32, copied."""
    return torch.from_numpy(np.array(array, np.float32, order="C"))[None, None]
