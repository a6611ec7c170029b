"""Image-based figures of a registration that the verdict needs.

Lengths and volumes are in shares of the object, whose unit is the radius of the ball (disc) of its
size: some 70 mm for a brain. So heads, brains and retinas are judged alike, in mm or in pixels.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from itk_ncr.evaluation.contrast import Match
from itk_ncr.evaluation.windows import as_compared
from itk_ncr.fields import smooth
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, map_values, resample
from itk_ncr.ops import resize
from itk_ncr.registration import RegistrationResult
from itk_ncr.registration.preparation import seen_from, to_grid, working_grid
from itk_ncr.registration.solver import dilate
from itk_ncr.segmentation import components, fill_holes

# Larger images are reduced: a lesion of 2 ml still has some hundred voxels of a head.
VOXELS = 500_000
# Residual and volume change are averaged with a Gaussian of this share of the object's radius:
# 3.5 mm in a brain. A residual over 4 voxels, of 1 to 8, separated real lesions best.
BLUR = 0.05
# Depth of the rim of the object: 7 mm of a brain, the scalp of a head.
RIM = 0.1
# Residual that no healthy tissue shows, in units of the mean over the object.
RESIDUAL_RATIO = 3.0
# Volume changes beyond this factor, after the averaging, are extreme.
EXTREME = 2.5
# Volume changes beyond this factor in a single voxel are strong.
STRETCH = 5.0
# Points of the object from which its rotation is estimated, about.
POINTS = 20_000
# Grey levels of a correlation ratio.
LEVELS = 32


@dataclass(frozen=True)
class Inspection:
    """Image-based figures of a registration; NaN where there is nothing to measure.

    Shares are of the fixed object, or of the mask where that is said.
    """

    affine_determinant: float
    """Volume of the moving image per volume of the fixed one under the affine."""
    affine_stretch: float
    """Largest over smallest stretching of the affine; 1 for a similarity."""
    rotation: float
    """Rotation of the object as a whole by the deformation, after the affine, degrees."""
    containment: float
    """Fraction of the smaller of both objects that lies in the other after the affine."""
    correlation: float
    """Of the fixed and the warped image outside the mask."""
    correlation_ratio: float
    """Fraction of the fixed variance there that any function of the warped image explains."""
    mask_at_border: float
    """Fraction of the mask at the border of the field of view, of either image."""
    mask_at_surface: float
    """Fraction of the mask in the rim of the object, or outside of it."""
    surface: float
    """Fraction of the object that is its rim."""
    mask_outside_brain: float
    """Fraction of the mask outside the brain mask, where one was given."""
    residual_left: float
    """Largest region outside the mask whose residual no healthy tissue shows."""
    extreme_change: float
    """Largest region outside the mask that shrinks or grows extremely."""
    stretched: float
    """Fraction of the object whose volume changes more than fivefold by the deformation alone."""

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return dataclasses.asdict(self)


def inspect(
    fixed: Image, moving: Image, result: RegistrationResult, brain_mask: Image | None = None
) -> Inspection:
    """Measure the image-based figures of a registration.

    Parameters
    ----------
    fixed, moving : Image, scalar
        The pair, as registered.
    result : RegistrationResult
        Its registration.
    brain_mask : Image, optional
        Brain of the fixed image, 1 is brain.

    Returns
    -------
    Inspection
        The figures; NaN where one does not apply.
    """
    view = _View.of(fixed, moving, result)
    matrix = np.asarray(result.affine.matrix)
    stretches = np.linalg.svd(matrix, compute_uv=False)
    mask = view.mask & view.object
    outside = math.nan
    if brain_mask is not None:
        brain = to_grid(_binary(brain_mask, fixed.grid), view.grid) > 0.5
        outside = _share(view.mask & ~brain, view.mask)
    return Inspection(
        affine_determinant=float(np.linalg.det(matrix)),
        affine_stretch=float(stretches[0] / stretches[-1]),
        rotation=_rotation(result),
        containment=_share(
            view.object & view.moving_object,
            min(view.object, view.moving_object, key=np.count_nonzero),
        ),
        correlation=view.match.correlation if view.compared.any() else math.nan,
        correlation_ratio=_correlation_ratio(view.after[view.compared], view.fixed[view.compared]),
        mask_at_border=_share(mask & view.border, mask),
        mask_at_surface=_share(view.mask & (view.rim | ~view.object), view.mask),
        surface=_share(view.rim, view.object),
        mask_outside_brain=outside,
        residual_left=view.largest(view.residual > RESIDUAL_RATIO),
        extreme_change=view.largest(np.abs(view.volume_change) > math.log(EXTREME)),
        stretched=_share(view.stretched, view.object),
    )


@dataclass(frozen=True)
class _View:
    """Both images and the result on one grid of limited size."""

    grid: Grid
    fixed: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    mask: NDArray[np.bool_]
    determinant: NDArray[np.float32]
    """Without the affine."""
    object: NDArray[np.bool_]
    """What the fixed image shows, holes filled."""
    moving_object: NDArray[np.bool_]
    """What the moving image shows, under the affine."""
    inside: NDArray[np.bool_]
    """Where the moving image has voxels, under the affine."""

    @classmethod
    def of(cls, fixed: Image, moving: Image, result: RegistrationResult) -> _View:
        grid = working_grid(fixed.grid, VOXELS)
        affine = float(np.linalg.det(np.asarray(result.affine.matrix)))
        shown, shown_moving = result.foreground, result.foreground_moving
        seen = seen_from(_float(shown_moving), grid, result.affine) > 0.5
        fixed, moving, warped = as_compared(fixed, moving, result.warped)
        return cls(
            grid,
            to_grid(_finite(fixed), grid),
            seen_from(_finite(moving), grid, result.affine),
            to_grid(_finite(warped), grid),
            to_grid(_float(result.mask), grid) > 0.5,
            np.asarray(resample(result.jacobian, grid).array / affine, np.float32),
            fill_holes(to_grid(_float(shown), grid) > 0.5),
            fill_holes(seen),
            _inside(moving.grid, grid, result.affine),
        )

    @cached_property
    def compared(self) -> NDArray[np.bool_]:
        """Voxels in which both images are compared."""
        return self.object & self.inside & ~self.mask

    @cached_property
    def match(self) -> Match:
        """Grey values of the warped image as those of the fixed one."""
        return Match.of(self.after[self.compared], self.fixed[self.compared])

    @cached_property
    def radius(self) -> float:
        """Radius of the ball or disc of the object's size, mm."""
        voxels = max(int(np.count_nonzero(self.object)), 1)
        size = voxels * float(np.prod(self.grid.spacing))
        if self.grid.dimension == 2:
            return math.sqrt(size / math.pi)
        return float((0.75 * size / math.pi) ** (1 / 3))

    @cached_property
    def rim(self) -> NDArray[np.bool_]:
        """The outermost layer of the object."""
        return self.object & self._grown(~self.object)

    @cached_property
    def border(self) -> NDArray[np.bool_]:
        """The outermost voxels of the field of view, or where the moving image ends."""
        edge = ~self.inside
        for axis, length in enumerate(edge.shape):
            if length > 4:
                np.moveaxis(edge, axis, 0)[[0, -1]] = True
        return edge | self._grown(~self.inside, 1)

    @cached_property
    def residual(self) -> NDArray[np.float32]:
        """Blurred absolute difference to the fixed image, in units of its mean where compared."""
        match = self.match
        difference = np.abs(match.slope * self.after + match.offset - self.fixed)
        blurred = self._blurred(difference)
        usual = float(np.mean(blurred[self.compared])) if self.compared.any() else 0.0
        return blurred / np.float32(usual or 1.0)

    @property
    def stretched(self) -> NDArray[np.bool_]:
        """Voxels whose volume changes more than fivefold."""
        return (self.determinant < 1 / STRETCH) | (self.determinant > STRETCH)

    @cached_property
    def volume_change(self) -> NDArray[np.float32]:
        """Blurred logarithm of the determinant."""
        return self._blurred(np.log(np.maximum(self.determinant, np.float32(1e-3))))

    def largest(self, region: NDArray[np.bool_]) -> float:
        """Fraction of the object that the largest part of a region takes, outside the mask."""
        labels, count = components(region & self.compared)
        if not count:
            return 0.0
        sizes = np.bincount(labels.ravel())[1:]
        return float(sizes.max() / np.count_nonzero(self.object))

    def _blurred(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean over the compared voxels around, with Gaussian weights; 0 elsewhere."""
        sigma = [BLUR * self.radius / h for h in self.grid.spacing[::-1]]
        where = torch.from_numpy(self.compared.astype(np.float32))[None, None]
        values = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None, None]
        total, weight = (smooth(t, sigma) for t in (values * where, where))
        mean: NDArray[np.float32] = (where * total / weight.clamp(min=1e-3))[0, 0].numpy()
        return mean

    def _grown(self, mask: NDArray[np.bool_], voxels: int | None = None) -> NDArray[np.bool_]:
        tensor = torch.from_numpy(mask.astype(np.float32))[None, None]
        if voxels is not None:
            return np.asarray(dilate(tensor, voxels)[0, 0].numpy() > 0)
        # On voxels of one size, so that a cube of voxels is one of space.
        step = max(self.grid.spacing)
        shape = tuple(
            max(1, round((n - 1) * h / step) + 1)
            for n, h in zip(self.grid.shape, self.grid.spacing[::-1], strict=True)
        )
        grown = dilate(
            (resize(tensor, shape) > 0.5).float(), max(1, round(RIM * self.radius / step))
        )
        return np.asarray(resize(grown, self.grid.shape)[0, 0].numpy() > 0.5)


def _rotation(result: RegistrationResult) -> float:
    """Angle of the rotation in the affine map that is nearest to the deformation, degrees."""
    deformation = result.transform_deformation
    grid = deformation.grid
    compared = to_grid(_float(result.foreground), grid) * (1 - to_grid(_float(result.mask), grid))
    places = np.flatnonzero(compared > 0.5)
    places = places[:: max(1, places.size // POINTS)]
    if places.size <= grid.dimension:
        return math.nan
    points = grid.points().reshape(-1, grid.dimension)[places]
    moved = points + np.asarray(deformation.array).reshape(-1, grid.dimension)[places]
    points, moved = (p - p.mean(0) for p in (points, moved))
    left, _, right = np.linalg.svd(np.linalg.lstsq(points, moved, rcond=None)[0])
    turn = left @ right
    # The trace is 1 + 2 cos in 3D and 2 cos in 2D.
    cosine = (np.trace(turn) - (grid.dimension - 2)) / 2
    return math.degrees(math.acos(min(1.0, max(-1.0, float(cosine)))))


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    count = np.count_nonzero(whole)
    return float(np.count_nonzero(part & whole) / count) if count else math.nan


def _correlation_ratio(source: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    """Fraction of the target's variance that is between classes of equal source values."""
    if source.size < 2 or not target.std() > 0:
        return math.nan
    edges = np.unique(np.quantile(source, np.linspace(0, 1, LEVELS + 1)[1:-1]))
    level = np.searchsorted(edges, source, side="right")
    count = np.bincount(level, minlength=LEVELS)
    mean = np.bincount(level, target, LEVELS) / np.maximum(count, 1)
    between = (count * (mean - float(target.mean())) ** 2).sum() / source.size
    return float(between / target.var())


def _inside(moving: Grid, grid: Grid, affine: AffineMap) -> NDArray[np.bool_]:
    """Overlap of a grid with another one, under an affine."""
    inside = np.empty(grid.shape, bool)
    last = np.asarray(moving.size) - 0.5
    for row in range(grid.shape[0]):
        index = moving.continuous_index(affine(grid.points(row, row + 1)))
        inside[row] = np.logical_and(index >= -0.5, index < last).all(-1).reshape(inside[row].shape)
    return inside


def _float(image: Image) -> Image:
    return map_values(image, lambda values: values > 0, np.float32)


def _binary(mask: Image, grid: Grid) -> Image:
    on_grid = mask if mask.grid.equals(grid) else resample(mask, grid, mode="nearest")
    return _float(on_grid)


def _finite(image: Image) -> Image:
    array = np.asarray(image.array, np.float32)
    finite = np.isfinite(array)
    return Image(array if finite.all() else np.where(finite, array, np.float32(0)), image.grid)
