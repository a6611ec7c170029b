"""Sample points of both images, on which a candidate affine is scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.geometry import Grid
from itk_ncr.images import Image
from itk_ncr.ops import warp
from itk_ncr.registration.affine.geometry import Array, Pose, inverse_of, linear
from itk_ncr.registration.reduction import reduced

# A coarse voxel takes part where this share of it does.
LEAST_COVER = 0.5
# Of the values that are compared, what becomes 1.
BRIGHT_QUANTILE = 0.98


@dataclass(frozen=True)
class View:
    """One image as input of the affine.

    Attributes
    ----------
    values : Image
        On the scale of ``preprocessing``, finite, background 0.
    foreground : ndarray of bool, same shape
        Where the image shows something.
    allowed : ndarray of bool, same shape, optional
        Where it may be compared: not in a known lesion, inside a given region. Default: everywhere.
    """

    values: Image
    foreground: NDArray[np.bool_]
    allowed: NDArray[np.bool_] | None = None


class SampledImage:
    """One image at one resolution: its own points, and its values at any others.

    Parameters
    ----------
    view : View
    spacing : float
        Of the points, mm.
    margin : int
        Voxels of this resolution by which the points reach beyond the foreground: the outline is
        evidence, too.
    """

    def __init__(self, view: View, spacing: float, margin: int) -> None:
        self.grid, self.tensor = _coarser_view(view, spacing)
        grid, allowed = view.values.grid, view.allowed
        self.foreground = _coarse_mask(view.foreground, grid, spacing)
        self.allowed = None if allowed is None else _coarse_mask(allowed, grid, spacing)
        chosen = _grown(self.foreground, margin)
        if self.allowed is not None:
            chosen &= self.allowed
        if not chosen.any():
            chosen = np.ones_like(chosen)
        self.points: Array = np.ascontiguousarray(self.grid.points()[chosen].T)
        values = self.tensor[0, 0].numpy()[chosen].astype(np.float64)
        # Whatever is brightest, what may be compared spans the scale.
        brightest = float(np.quantile(values, BRIGHT_QUANTILE))
        if brightest > 0:
            self.tensor, values = self.tensor / brightest, values / brightest
        self.values: Array = values
        self._inverse = inverse_of(self.grid.matrix)
        self._origin = np.asarray(self.grid.origin)[:, None]
        self._size = np.asarray(self.grid.size)[:, None]

    def at(self, points: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Values (n,), slopes (D, n) per mm, and which points (D, n) may be compared here."""
        index = linear(self._inverse, points - self._origin)
        usable: NDArray[np.bool_] = self._covers(index)
        values, slopes = _interpolate(self.tensor, index)
        if self.allowed is not None:
            nearest = np.clip(np.floor(index + 0.5), 0, self._size - 1).astype(np.int64)
            usable &= self.allowed[tuple(nearest[::-1])]
        return values, linear(self._inverse.T, slopes), usable

    def _covers(self, index: Array) -> NDArray[np.bool_]:
        return np.asarray(((index >= -0.5) & (index < self._size - 0.5)).all(0))

    def shown(self) -> Array:
        """Points (D, n) of the foreground that may be compared."""
        chosen = self.foreground if self.allowed is None else self.foreground & self.allowed
        return np.ascontiguousarray(self.grid.points()[chosen].T)

    def shows(self, points: Array, margin: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which points (D, n) may be compared here, and which lie in the (grown) foreground."""
        index = linear(self._inverse, points - self._origin)
        usable: NDArray[np.bool_] = self._covers(index)
        nearest = np.clip(np.floor(index + 0.5), 0, self._size - 1).astype(np.int64)
        place = tuple(nearest[::-1])
        if self.allowed is not None:
            usable &= self.allowed[place]
        return usable, _grown(self.foreground, margin)[place]


def _grown(mask: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    """The mask, dilated along the axes a number of times."""
    for _ in range(margin):
        grown = mask.copy()
        for axis in range(mask.ndim):
            there, here = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
            there[1:] |= here[:-1]
            there[:-1] |= here[1:]
        mask = grown
    return mask


def _coarse_mask(mask: NDArray[np.bool_], grid: Grid, spacing: float) -> NDArray[np.bool_]:
    coarse = coarser(Image(mask.view(np.uint8), grid), spacing)[1]
    return np.asarray(coarse[0, 0].numpy() >= LEAST_COVER)


def _interpolate(image: Tensor, index: Array) -> tuple[Array, Array]:
    """Linear interpolation at indices (D, n), components (x, y, z), and its derivative."""
    dimension, count = index.shape
    # The kernel wants displacements on a grid. Single precision is enough where positions are
    # small, so the points fill a grid that is nearly a cube.
    side = max(1, int(np.ceil(count ** (1 / dimension))))
    shape = (side,) * dimension
    target = np.zeros((dimension, side**dimension))
    target[:, :count] = index[::-1]
    place = np.indices(shape, np.float64).reshape(dimension, -1)
    vectors = (target - place).astype(np.float32).reshape(1, dimension, *shape)
    displacement = torch.from_numpy(vectors).requires_grad_(True)
    values = warp(image, displacement)
    (slopes,) = torch.autograd.grad(values, displacement, torch.ones_like(values))
    flat = slopes[0].reshape(dimension, -1)[:, :count].double().numpy()
    return values.detach().reshape(-1)[:count].double().numpy(), np.ascontiguousarray(flat[::-1])


@dataclass(frozen=True)
class Matches:
    """Values of both images at the points that a pose brings together.

    Attributes
    ----------
    fixed, moving : ndarray (n,)
    slopes : ndarray (D, n)
        Change of the value that depends on the pose, per mm of motion in moving space.
    moves : ndarray (n,) of bool
        Whether that is the moving value; else the fixed one.
    weight : ndarray (n,)
        Adds up to 1; 0 where an image has no voxels.
    offsets : ndarray (D, n)
        From where the centre goes to the points, in moving space, mm.
    seen : tuple of float
        Share of the points of the fixed and of the moving image that have a partner.
    """

    fixed: Array
    moving: Array
    slopes: Array
    moves: NDArray[np.bool_]
    weight: Array
    offsets: Array
    seen: tuple[float, float]


class PointPair:
    """Both images at one resolution.

    Parameters
    ----------
    fixed, moving : View
    voxels : int
        About how many voxels the fixed image has at this resolution.
    margin : int
        As for :class:`SampledImage`.
    """

    def __init__(self, fixed: View, moving: View, voxels: int, margin: int = 1) -> None:
        grid = fixed.values.grid
        volume = float(np.prod(np.asarray(grid.size) * grid.spacing))
        spacing = (volume / voxels) ** (1 / grid.dimension)
        self.fixed, self.moving = (SampledImage(view, spacing, margin) for view in (fixed, moving))
        self.voxel = max(spacing, min(self.fixed.grid.spacing))

    def matches(
        self, pose: Pose, compared: str, trust: tuple[Array, Array] | None = None
    ) -> Matches:
        """What the pose brings together.

        Parameters
        ----------
        pose : Pose
        compared : "both", "fixed" or "moving"
            Whose points count.
        trust : pair of ndarray, optional
            Weights of the fixed and the moving points.
        """
        parts = []
        seen = [0.0, 0.0]
        if compared != "moving":
            there = pose.forward(self.fixed.points)
            values, slopes, inside = self.moving.at(there)
            weight = inside / len(inside) if trust is None else inside * trust[0] / len(inside)
            seen[0] = float(inside.mean())
            parts.append((self.fixed.values, values, slopes, there, weight))
        count = len(self.fixed.values) if parts else 0
        if compared != "fixed":
            values, slopes, inside = self.fixed.at(pose.backward(self.moving.points))
            slopes = -linear(inverse_of(pose.matrix).T, slopes)
            weight = inside / len(inside) if trust is None else inside * trust[1] / len(inside)
            seen[1] = float(inside.mean())
            parts.append((values, self.moving.values, slopes, self.moving.points, weight))
        fixed, moving, slopes, points, weight = (
            np.concatenate(part, -1) for part in zip(*parts, strict=True)
        )
        total = weight.sum()
        return Matches(
            fixed=fixed,
            moving=moving,
            slopes=slopes,
            moves=np.arange(len(weight)) < count,
            weight=weight / total if total > 0 else weight,
            offsets=points - pose.image[:, None],
            seen=(seen[0], seen[1]),
        )


def _coarser_view(view: View, spacing: float) -> tuple[Grid, Tensor]:
    """The values on a coarser grid, into which nothing blurs that may not be compared."""
    if view.allowed is None:
        return coarser(view.values, spacing)
    allowed = view.allowed.astype(np.float32)
    grid, values = coarser(Image(view.values.array * allowed, view.values.grid), spacing)
    _, cover = coarser(Image(allowed, view.values.grid), spacing)
    return grid, values / cover.clamp(min=0.05)


def coarser(image: Image, spacing: float) -> tuple[Grid, Tensor]:
    """The image on a grid of about the given spacing, never a finer one than its own."""
    shape = tuple(
        n if n == 1 else max(2, min(n, round((n - 1) * h / spacing) + 1))
        for n, h in zip(image.grid.shape, image.grid.spacing[::-1], strict=True)
    )
    return image.grid.resized(shape), reduced(image, shape)
