"""A registration cropped to its object in a standard orientation, and its display planes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from itk_ncr.evaluation.contrast import Match, Window, bright, grey_window, sampled
from itk_ncr.evaluation.windows import as_compared
from itk_ncr.geometry import SIDES, AffineMap, Grid
from itk_ncr.images import Image, map_values, resample
from itk_ncr.registration.preparation import seen_from, to_grid, working_grid
from itk_ncr.segmentation import largest_component

# Larger images are reduced to this many voxels: a page and a picture show no more.
VOXELS = 4_000_000
# A reduced voxel that is a quarter full counts as masked, so that small masks stay.
COVERAGE = 0.25


class AnyResult(Protocol):
    """Interface of registrations that can be drawn: a result, or one read from files."""

    @property
    def warped(self) -> Image:
        """The moving image on the fixed grid."""

    @property
    def mask(self) -> Image:
        """1 where a fixed voxel has no partner."""

    @property
    def noncorrespondence(self) -> Image:
        """The probability of that."""

    @property
    def jacobian(self) -> Image:
        """Determinant of the map."""

    @property
    def displacement(self) -> Image:
        """The map, affine included; mm, LPS."""

    @property
    def deformation(self) -> Image:
        """The map without the affine; mm, LPS."""

    @property
    def transform_deformation(self) -> Image:
        """The same on the smallest grid that holds all of it."""

    @property
    def affine(self) -> AffineMap:
        """Fixed to moving points."""


@dataclass(frozen=True)
class Scene:
    """Arrays on the fixed grid, turned to (superior, posterior, left) in 3D, cut to the object."""

    fixed: NDArray
    before: NDArray
    after: NDArray
    mask: NDArray
    probability: NDArray
    jacobian: NDArray
    deformation: NDArray
    """mm, components (x, y, z) last, without the affine."""
    to_voxels: NDArray
    """Row a turns a vector in mm into voxels along axis a of these arrays."""
    spacing: tuple[float, ...]
    to_points: NDArray
    """Column a is the step in mm, LPS, of one voxel along axis a of these arrays."""
    corner: NDArray
    """Where voxel 0 of these arrays lies in mm, LPS."""
    given: dict[str, NDArray] = field(default_factory=dict)
    """Masks that were given, by name; bool."""
    reduced: tuple[int, ...] | None = None
    """Size (x, y, z) that the images were reduced to; None where they are as they were."""

    @classmethod
    def of(
        cls,
        fixed: Image,
        moving: Image,
        result: AnyResult,
        given: dict[str, Image] | None = None,
    ) -> Scene:
        """The scene of a pair and its result, with masks in fixed space by name."""
        grid = working_grid(fixed.grid, VOXELS)
        reduced = grid.shape != fixed.grid.shape
        order, flips = upright(grid)

        def turn(array: NDArray) -> NDArray:
            rest = tuple(range(len(order), array.ndim))
            return np.transpose(array, order + rest)[flips]

        rows = np.linalg.inv(grid.matrix)[::-1]  # of the array axes, as stored
        signs = [-1.0 if flip.step == -1 else 1.0 for flip in flips]
        whole = _reduced if reduced else _whole
        images = as_compared(fixed, moving, result.warped)
        scene = {name: turn(array) for name, array in whole(*images, result, grid)}
        masks = {
            name: turn(_mask(mask, grid, fixed.grid if reduced else None))
            for name, mask in (given or {}).items()
        }
        box = object_box(
            bright(scene["fixed"], grey_window(scene["fixed"])),
            bright(scene["after"], grey_window(scene["after"])),
            *masks.values(),
        )
        steps = grid.matrix[:, ::-1]  # of the array axes, as stored
        to_points = np.stack(
            [sign * steps[:, axis] for sign, axis in zip(signs, order, strict=True)], axis=1
        )
        last = np.asarray(grid.shape, dtype=np.float64) - 1
        first_index = [
            last[axis] if sign < 0 else 0.0 for sign, axis in zip(signs, order, strict=True)
        ]
        stored = np.zeros(grid.dimension)
        stored[list(order)] = first_index
        corner = np.asarray(grid.origin) + steps @ stored + to_points @ [b.start for b in box]
        return cls(
            **{name: array[box] for name, array in scene.items()},
            given={name: mask[box] for name, mask in masks.items()},
            reduced=grid.size if reduced else None,
            to_points=to_points,
            corner=corner,
            to_voxels=np.stack(
                [sign * rows[axis] for sign, axis in zip(signs, order, strict=True)]
            ),
            spacing=tuple(grid.spacing[::-1][axis] for axis in order),
        )

    @cached_property
    def fixed_window(self) -> Window:
        """Black and white of the fixed image."""
        return grey_window(self.fixed)

    @cached_property
    def moving_window(self) -> Window:
        """Black and white of the moving image, before and after."""
        return grey_window(self.after)

    @cached_property
    def shown(self) -> NDArray:
        """Voxels where any image is not dark: elsewhere an offset is no difference."""
        return (
            bright(self.fixed, self.fixed_window)
            | bright(self.before, self.moving_window)
            | bright(self.after, self.moving_window)
        )

    @cached_property
    def match(self) -> Match:
        """Grey values of the warped image as those of the fixed one, where both correspond."""
        after = sampled(self.after)
        inside = ~sampled(self.mask) & (after != 0) & sampled(self.shown)
        return Match.of(after[inside], sampled(self.fixed)[inside])

    @cached_property
    def residual_before(self) -> NDArray:
        """``before`` in grey values of the fixed image, minus the fixed image."""
        return self._residual(self.before)

    @cached_property
    def residual_after(self) -> NDArray:
        """The same for ``after``."""
        return self._residual(self.after)

    def _residual(self, image: NDArray) -> NDArray:
        difference = self.match.slope * image + self.match.offset - self.fixed
        difference[~self.shown] = 0.0
        return difference

    @cached_property
    def focus(self) -> tuple[int, ...]:
        """Intersection of the planes: middle of the largest masked region, else of the object."""
        region = largest_component(self.mask, self.probability)
        if not region.any():
            low, high = np.percentile(sampled(self.fixed), (50, 99.5))
            region = self.fixed > (low + high) / 2
        if not region.any():
            return tuple(n // 2 for n in region.shape)
        middle = []
        for axis, n in enumerate(region.shape):
            along = region.sum(tuple(other for other in range(region.ndim) if other != axis))
            middle.append(round(float(np.average(np.arange(n), weights=along))))
        return tuple(middle)

    def shift(self, axis: int) -> NDArray:
        """Deformation along an axis of these arrays in voxels."""
        # One component at a time: a product of matrices took 20 times as long, and the components
        # across the axis are mostly none of it.
        parts = (
            np.float32(weight) * self.deformation[..., component]
            for component, weight in enumerate(self.to_voxels[axis])
            if weight
        )
        return reduce(np.add, parts)

    def sides(self, axis: int) -> tuple[str, str]:
        """Letters of the patient's sides at the low and the high end of an axis; 2D has none."""
        return SIDES[2 - axis] if self.fixed.ndim == 3 else ("", "")

    @property
    def tilt(self) -> float:
        """Largest angle in degrees between an axis and the side it is named after; 0 in 2D."""
        if self.fixed.ndim == 2:
            return 0.0
        along = np.diag(self.to_points[::-1]) / np.linalg.norm(self.to_points, axis=0)
        return float(np.degrees(np.arccos(np.clip(along, -1, 1))).max())

    def carried(self, plane: Plane, axis: int) -> NDArray:
        """Voxel index along an axis of the mapped points of a plane.

        Its level lines are the lines of a grid drawn on the moving image, warped with it, motion
        through the plane included.
        """
        line = (-1,) + (1,) * (self.fixed.ndim - 1 - axis)
        start = np.broadcast_to(np.arange(self.fixed.shape[axis]).reshape(line), self.fixed.shape)
        return plane.cut(start) + plane.cut(self.deformation) @ self.to_voxels[axis]


@dataclass(frozen=True)
class Plane:
    """A cut through the scene: ``cut(array)`` has rows from top to bottom."""

    cut: Callable[[NDArray], NDArray]
    axes: tuple[int, int]
    """Array axes of the rows and columns."""
    spacing: tuple[float, float]
    """mm between rows and between columns."""
    shape: tuple[int, int]

    @property
    def height(self) -> float:
        """In mm."""
        return self.shape[0] * self.spacing[0]

    @property
    def width(self) -> float:
        """In mm."""
        return self.shape[1] * self.spacing[1]


def _whole(
    fixed: Image, moving: Image, warped: Image, result: AnyResult, grid: Grid
) -> Iterator[tuple[str, NDArray]]:
    """The arrays of a scene by name, as they are."""
    yield "fixed", _finite(fixed.array)
    yield "before", _finite(resample(moving, grid, affine=result.affine).array)
    yield "after", _finite(warped.array)
    yield "mask", result.mask.array > 0
    yield "probability", result.noncorrespondence.array
    yield "jacobian", result.jacobian.array
    yield "deformation", result.deformation.array


def _reduced(
    fixed: Image, moving: Image, warped: Image, result: AnyResult, grid: Grid
) -> Iterator[tuple[str, NDArray]]:
    """The same on a coarser grid, one at a time."""

    def finite(image: Image) -> Image:
        return Image(_finite(image.array), image.grid)

    yield "fixed", to_grid(finite(fixed), grid)
    yield "before", seen_from(finite(moving), grid, result.affine)
    yield "after", to_grid(finite(warped), grid)
    yield "mask", _mask(result.mask, grid, fixed.grid)
    yield "probability", to_grid(result.noncorrespondence, grid)
    yield "jacobian", resample(result.jacobian, grid).array
    yield "deformation", resample(result.transform_deformation, grid).array


def _mask(mask: Image, grid: Grid, fine: Grid | None) -> NDArray[np.bool_]:
    """A mask on the grid of a scene; ``fine`` is the grid that it is reduced from."""
    on = grid if fine is None else fine
    if not mask.grid.equals(on):
        mask = resample(mask, on, mode="nearest")
    if fine is None:
        return np.asarray(mask.array > 0)
    coverage = to_grid(map_values(mask, lambda values: values > 0, np.float32), grid)
    return np.asarray(coverage > COVERAGE)


def upright(grid: Grid) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """Order of array axes and flips that bring a 3D array close to (superior, posterior, left)."""
    dimension = grid.dimension
    if dimension == 2:
        return (0, 1), (slice(None),) * 2
    weights = np.abs(np.asarray(grid.direction))
    index_axis = [0] * dimension
    for _ in range(dimension):
        patient, index = np.unravel_index(int(weights.argmax()), weights.shape)
        index_axis[int(patient)] = int(index)
        weights[patient, :] = weights[:, index] = -1
    order = tuple(dimension - 1 - index_axis[patient] for patient in reversed(range(dimension)))
    flips = tuple(
        slice(None, None, -1 if grid.direction[patient][index_axis[patient]] < 0 else 1)
        for patient in reversed(range(dimension))
    )
    return order, flips


def object_box(*masks: NDArray) -> tuple[slice, ...]:
    """Bounding box of all masks, with a margin."""
    inside = np.logical_or.reduce(masks)
    box = []
    for axis in range(inside.ndim):
        n = int(inside.shape[axis])
        along = np.flatnonzero(inside.any(tuple(a for a in range(inside.ndim) if a != axis)))
        margin = max(2, n // 24)
        first, last = (along[0], along[-1]) if along.size else (0, n - 1)
        box.append(slice(max(int(first) - margin, 0), int(last) + margin + 1))
    return tuple(box)


def planes(scene: Scene) -> list[Plane]:
    """The planes to show; of a 3D image with a thin axis only the one across it."""
    if scene.fixed.ndim == 2:
        return [plane_across(scene, None, 0)]
    meeting = scene.focus
    crossing = [plane_across(scene, axis, meeting[axis]) for axis in range(3)]
    if min(scene.fixed.shape) < 16:
        return [crossing[int(np.argmin(scene.fixed.shape))]]
    return crossing


def plane_across(scene: Scene, across: int | None, position: int) -> Plane:
    """The plane at a position along an axis; None: the whole 2D image."""
    # Coronal and sagittal planes have superior as their first axis: it shall point up.
    rows = slice(None, None, -1 if across in (1, 2) else 1)
    row_axis, column_axis = (axis for axis in range(scene.fixed.ndim) if axis != across)

    def cut(array: NDArray) -> NDArray:
        plane = array if across is None else array[(slice(None),) * across + (position,)]
        return plane[rows]

    return Plane(
        cut,
        (row_axis, column_axis),
        (scene.spacing[row_axis], scene.spacing[column_axis]),
        (scene.fixed.shape[row_axis], scene.fixed.shape[column_axis]),
    )


def _finite(array: NDArray) -> NDArray:
    """Values as float32, 0 for NaN."""
    array = np.asarray(array, dtype=np.float32)
    finite = np.isfinite(array)
    return array if finite.all() else np.where(finite, array, np.float32(0))
