"""Replacement of a lesion by an estimate of the healthy tissue.

Registering a filled image needs no mask, and tools that know none (cortical surfaces, volumes of
regions) run on it. The filled region is synthetic: use it for tools, not for diagnosis.

References
----------
Nachev et al., "Enantiomorphic normalization of focally lesioned brains", NeuroImage 39, 2008,
doi:10.1016/j.neuroimage.2007.10.002 (``mirror``).

Where ours differs: the mirror image is brought onto the image by an affine and a deformable
registration that leave the lesion and its mirror image out, instead of by a rigid and an affine
one; the edge is 2 voxels wide, outside the mask, instead of a mask smoothed by 8 mm.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from itk_ncr.errors import ArgumentError, ImageValueError, ShapeError, require_choice
from itk_ncr.geometry import AffineMap
from itk_ncr.images import Image, ImageWarning, as_image, resample
from itk_ncr.preprocessing import normalise
from itk_ncr.registration.filling.blending import (
    BLEND_VOXELS,
    LEAST_RIM_CORRELATION,
    Surroundings,
    blended,
    match_on_rim,
    surroundings,
)
from itk_ncr.registration.pairwise import InstanceOptimization, torch_as_usual
from itk_ncr.registration.preparation import as_tensor, mask_on
from itk_ncr.registration.request import Abort, GivenMasks, Progress, Request
from itk_ncr.registration.result import RegistrationResult
from itk_ncr.registration.solver import dilate
from itk_ncr.registration.solver import fill as continued
from itk_ncr.settings import FILLS, RegistrationSettings

# Share of a lesion that may lie on its own mirror image, or opposite to nothing.
MOST_OVERLAP, MOST_OUTSIDE = 0.2, 0.2
# Correlation of an image with its mirror image, after the affine, below which it has no symmetry:
# over .8 for slices and volumes of brains.
LEAST_SYMMETRY = 0.4


@dataclass(frozen=True)
class Filling:
    """A filled image, and how it was filled.

    Attributes
    ----------
    image : Image
        On the grid and in the type of the original, which it equals from ``BLEND_VOXELS`` outside
        the lesion on.
    kind : str
        The row of ``FILLS`` that was used.
    warnings : tuple of str
        Why it is another one than was asked for, and what else should be known.
    """

    image: Image
    kind: str
    warnings: tuple[str, ...] = ()


class NoOtherSide(Exception):
    """Why an image cannot be filled from its other side."""


def fill_lesion(
    image: Any,
    lesion_mask: Any,
    kind: str = "smooth",
    *,
    partner: Any = None,
    threads: int | None = None,
    progress: Progress | None = None,
    abort: Abort | None = None,
) -> Image:
    """Replace a lesion by what its place may have looked like.

    Parameters
    ----------
    image : image
        Whatever :func:`itk_ncr.register` takes; scalar, 2D or 3D.
    lesion_mask : image
        Not 0 in the lesion, in the physical space of ``image``, on any grid.
    kind : "smooth", "partner" or "mirror"
        "smooth" continues the surroundings. "partner" takes the tissue from ``partner``, registered
        to the image. "mirror" takes it from the other side of the image itself; where the lesion
        lies on both sides or across the middle, or the image is not symmetric, it warns and falls
        back to ``partner`` if there is one, else to "smooth".
    partner : image, optional
        A healthy image of the same contrast, of any subject.
    threads : int, optional
        CPU threads.
    progress, abort : callable, optional
        As for :func:`itk_ncr.register`.

    Returns
    -------
    Image
        On the grid and in the type of ``image``. Voxels that are 3 or more outside the mask are
        unchanged.

    Raises
    ------
    ImageValueError
        If the mask is not binary, covers nothing of the image or all that it shows.
    ArgumentError
        If there is no such kind, or "partner" has no partner.

    Warns
    -----
    ImageWarning
        Where another kind was used than was asked for, or the fill does not fit its surroundings.
    """
    settings = RegistrationSettings(method="instance", mask="none", threads=threads)
    with torch_as_usual():
        done = filled(
            as_image(image, role="image"),
            as_image(lesion_mask, role="lesion mask"),
            kind,
            None if partner is None else as_image(partner, role="partner"),
            settings,
            progress=progress,
            abort=abort,
        )
    for warning in done.warnings:
        warnings.warn(warning, ImageWarning, stacklevel=2)
    return done.image


def filled(
    image: Image,
    lesion_mask: Image,
    kind: str,
    partner: Image | None,
    settings: RegistrationSettings,
    *,
    progress: Progress | None = None,
    abort: Abort | None = None,
) -> Filling:
    """Fill a lesion; see :func:`fill_lesion`. The settings are those of the registrations."""
    require_choice("kind", kind, FILLS)
    if kind == "partner" and partner is None:
        raise ArgumentError(
            "partner must be given with kind='partner'; got none. Give a healthy image of the same "
            "contrast, or use kind='mirror'."
        )
    lesion = _Lesion.of(image, lesion_mask)
    notes: tuple[str, ...] = ()
    if kind == "mirror":
        try:
            return mirror_filled(image, lesion_mask, settings, progress=progress, abort=abort)
        except NoOtherSide as reason:
            kind = "smooth" if partner is None else "partner"
            notes = (f"no mirror fill: {reason}; it was filled with kind={kind!r}.",)
    if kind == "partner" and partner is not None:
        run = InstanceOptimization(_unmasked(settings, image.dimension))
        request = Request(
            lesion.finite(), partner, GivenMasks(lesion.whole()), progress=progress, abort=abort
        )
        there = Image(np.ones(partner.grid.shape), partner.grid)
        done = _transplanted(lesion, run(request), there, "partner")
    else:
        done = Filling(lesion.with_fill(lesion.continued()), "smooth")
    return replace(done, warnings=(*notes, *done.warnings))


@dataclass(frozen=True)
class _Lesion:
    """An image and the lesion in it.

    Attributes
    ----------
    image : Image
    mask : ndarray of bool
        On the grid of the image, at least one voxel.
    values : ndarray of float32
        Of the image, its lowest value where it is not finite.
    foreground : ndarray of bool
        Where the image shows something, lesion included.
    around : Surroundings
    """

    image: Image
    mask: NDArray[np.bool_]
    values: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    around: Surroundings

    @classmethod
    def of(cls, image: Image, lesion_mask: Image) -> _Lesion:
        """Check and prepare."""
        if image.is_vector:
            raise ShapeError(f"image must be scalar; got {image.components} components.")
        if lesion_mask.is_vector or lesion_mask.dimension != image.dimension:
            raise ShapeError(
                f"lesion mask must be scalar with {image.dimension} axes like the image; got "
                f"{lesion_mask.components} components and {lesion_mask.dimension} axes."
            )
        require_binary(lesion_mask)
        mask = mask_on(lesion_mask, image.grid)
        shown = normalise(image.array, "image").foreground
        if not mask.any():
            raise ImageValueError(
                "lesion mask must cover part of the image; got no voxel of it. Check its space."
            )
        if not (shown & ~mask).any():
            raise ImageValueError(
                "lesion mask must leave part of what the image shows; got all of it masked. "
                "Check its polarity (1 = lesion)."
            )
        with np.errstate(over="ignore"):
            values = image.array.astype(np.float32)
        finite = np.isfinite(values)
        values = np.where(finite, values, values[finite].min())
        return cls(image, mask, values, shown | mask, surroundings(mask))

    def continued(self) -> NDArray[np.float32]:
        """The image with a smooth continuation of what surrounds the lesion."""
        mask = as_tensor(self.mask)
        grown = dilate(mask, BLEND_VOXELS)
        blank = mask if bool(grown.all()) else grown
        found: NDArray[np.float32] = continued(as_tensor(self.values), blank)[0, 0].numpy()
        return found

    def whole(self) -> Image:
        """The lesion, on the grid of the image."""
        return Image(self.mask.astype(np.uint8), self.image.grid)

    def finite(self) -> Image:
        """The image as it is registered."""
        return Image(self.values, self.image.grid)

    def with_fill(self, fill: NDArray[np.float32]) -> Image:
        """The image with a fill."""
        array = blended(self.image.array, fill, self.around.weight)
        return Image(array, self.image.grid)


def _unmasked(settings: RegistrationSettings, dimension: int) -> RegistrationSettings:
    """Settings for registering tissue of one contrast that finds no masks of its own."""
    preset = f"mri-{dimension}d" if settings.preset == "auto" else settings.preset
    return replace(settings, method="instance", engine="auto", mask="none", preset=preset)


def require_binary(mask: Image) -> None:
    """Raise an :class:`ImageValueError` unless a mask has one value besides 0."""
    values = mask.array.ravel()
    inside = values[values != 0]
    if inside.size and not (inside == inside[0]).all():
        finite = inside[np.isfinite(inside)]
        between = f"values from {finite.min():.4g} to {finite.max():.4g}" if finite.size else "NaN"
        if 0 < finite.size < inside.size:
            between += f", and {inside.size - finite.size} that are NaN or infinite"
        raise ImageValueError(
            f"lesion mask must be binary, one value besides 0; got {between}. "
            "Choose a label or a threshold first (itk-ncr segment)."
        )


def mirror_filled(
    image: Image,
    lesion_mask: Image,
    settings: RegistrationSettings,
    *,
    progress: Progress | None = None,
    abort: Abort | None = None,
) -> Filling:
    """Fill a lesion with tissue of the other side.

    Raises
    ------
    NoOtherSide
        If the image is not symmetric, or its other side is ill as well.
    """
    lesion = _Lesion.of(image, lesion_mask)
    run = InstanceOptimization(replace(_unmasked(settings, image.dimension), affine="auto"))
    grid = lesion.image.grid
    axis = _left_right_axis(grid.direction, lesion.image.dimension)
    flipped = Image(np.flip(lesion.values, axis), grid)
    mask = lesion.whole()
    mirrored_mask = Image(np.flip(mask.array, axis), grid)
    # First as if left and right were where the coordinates say; then from all starts.
    for start in (_onto_its_mirror_image(lesion, axis), None):
        masks = GivenMasks(mask, mirrored_mask)
        result = run(Request(lesion.finite(), flipped, masks, start, progress, abort))
        symmetry = _symmetry(lesion, result, flipped, mirrored_mask)
        if symmetry >= LEAST_SYMMETRY:
            break
    else:
        raise NoOtherSide(f"the image is not symmetric (correlation {symmetry:.2f})")
    opposite = result.resample(mirrored_mask, "nearest").array > 0
    overlap = float(opposite[lesion.mask].mean())
    if overlap > MOST_OVERLAP:
        raise NoOtherSide(
            f"{100 * overlap:.0f} % of the lesion lie on its mirror image, as of one across the "
            "middle or on both sides"
        )
    shown = np.flip(ndimage.binary_fill_holes(lesion.foreground), axis)
    there = result.resample(Image(shown.astype(np.uint8), grid), "nearest").array > 0
    outside = 1 - float(there[lesion.mask].mean())
    if outside > MOST_OUTSIDE:
        raise NoOtherSide(f"{100 * outside:.0f} % of the lesion have no tissue opposite")
    healthy = Image((mirrored_mask.array == 0).astype(np.float32), grid)
    return _transplanted(lesion, result, healthy, "mirror")


def _left_right_axis(direction: Any, dimension: int) -> int:
    """The array axis that lies closest to the physical x axis.

    Where the other side lies along another axis, the affine finds the half turn between both.
    """
    along_x = np.abs(np.asarray(direction, np.float64)[0])
    return dimension - 1 - int(np.argmax(along_x))


def _onto_its_mirror_image(lesion: _Lesion, axis: int) -> AffineMap:
    """The translation that brings the middle of the object onto that of the flipped one."""
    centre = np.argwhere(lesion.foreground).mean(0)
    step = lesion.image.grid.shape[axis] - 1 - 2 * centre[axis]
    column = lesion.image.grid.dimension - 1 - axis
    shift = step * np.asarray(lesion.image.grid.matrix)[:, column]
    identity = AffineMap.identity(lesion.image.grid.dimension)
    return replace(identity, translation=tuple(float(x) for x in shift))


def _symmetry(
    lesion: _Lesion, result: RegistrationResult, flipped: Image, mirrored_mask: Image
) -> float:
    """Correlation of the image with its mirror image after the affine, where both are healthy."""
    grid = lesion.image.grid
    seen = resample(flipped, grid, affine=result.affine).array
    shown = resample(result.foreground_moving, grid, affine=result.affine, mode="nearest").array > 0
    opposite = resample(mirrored_mask, grid, affine=result.affine, mode="nearest").array > 0
    ill = (lesion.around.weight > 0) | ndimage.binary_dilation(opposite, iterations=BLEND_VOXELS)
    healthy = lesion.foreground & shown & ~ill
    one, two = lesion.values[healthy], seen[healthy]
    if one.size < 2 or one.std() == 0 or two.std() == 0:
        return 0.0
    return float(np.corrcoef(one, two)[0, 1])


def _transplanted(lesion: _Lesion, result: RegistrationResult, source: Image, kind: str) -> Filling:
    """The moving image set into the lesion, a smooth continuation where it has nothing to give.

    Parameters
    ----------
    source : Image
        1 where the moving image may be used, on its grid.
    """
    warped = result.warped.array
    usable = result.resample(source).array > 0.5
    rim = lesion.around.rim & lesion.foreground & usable
    rim &= result.resample(result.foreground_moving, "nearest").array > 0
    match = match_on_rim(warped, lesion.values, rim)
    fill = match.gain * warped + match.offset
    needed = lesion.around.weight > 0
    if not usable[needed].all():
        fill = np.where(usable, fill, lesion.continued())
    fill = np.maximum(fill, lesion.values.min())
    notes = result.warnings
    if match.correlation < LEAST_RIM_CORRELATION:
        notes += (
            f"around the lesion the fill has a correlation of {match.correlation:.2f} with the "
            "image: check contrast and alignment.",
        )
    return Filling(lesion.with_fill(fill.astype(np.float32)), kind, notes)
