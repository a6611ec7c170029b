"""A deformation found on the working grid, as fields on the grids of both images.

Nothing is made at full resolution before it is asked for where an image is large: see
:class:`itk_ncr.images.DeferredImage`. On a finer grid than the working one the fields are
interpolated linearly, as ITK does with the displacement field of ``transform.h5``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.fields import inverse_consistency
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import (
    DeferredImage,
    Image,
    Rows,
    inverse_physical_displacement,
    map_values,
    mover,
    physical_displacement,
    slabs,
)
from itk_ncr.ops import jacobian_determinant

# Images on grids of at most this many voxels are kept: all fields of such a pair take 0.25 GB.
KEPT_VOXELS = 4_000_000


def deferred(grid: Grid) -> bool:
    """Whether images on a grid are too large to be kept."""
    return grid.voxels > KEPT_VOXELS


@dataclass(frozen=True)
class Regularity:
    """Figures of a deformation over a region, by default the whole grid."""

    minimum_jacobian: float
    folding_fraction: float
    inverse_error_mean_voxel: float
    inverse_error_max_voxel: float


@dataclass(frozen=True)
class FullResolution:
    """The map ``x -> affine(x + M u(x))`` on the grids of both images.

    Attributes
    ----------
    u, u_inverse : Tensor, shape (1, D, *working.shape)
        In voxels of the working grid.
    working, fixed, moving : Grid
    affine : AffineMap
        Fixed to moving points.
    """

    u: Tensor
    u_inverse: Tensor
    working: Grid
    fixed: Grid
    moving: Grid
    affine: AffineMap

    def displacement(self) -> Image:
        """The map, affine included; mm, LPS, on the fixed grid."""
        defer = deferred(self.fixed)
        return physical_displacement(self.u, self.working, self.fixed, self.affine, defer=defer)

    def displacement_inverse(self) -> Image:
        """The way back; mm, LPS, on the moving grid."""
        return inverse_physical_displacement(
            self.u_inverse, self.working, self.moving, self.affine, defer=deferred(self.moving)
        )

    def deformation(self) -> Image:
        """The map without the affine; mm, LPS, on the fixed grid."""
        return physical_displacement(self.u, self.working, self.fixed, defer=deferred(self.fixed))

    def working_deformation(self) -> Image:
        """The same on the working grid."""
        return physical_displacement(self.u, self.working, self.working)

    def working_deformation_inverse(self) -> Image:
        """The way back after the inverse affine; mm, LPS, on the working grid."""
        return physical_displacement(self.u_inverse, self.working, self.working)

    def determinant(self) -> Image:
        """Determinant of the Jacobian of ``x -> x + M u(x)``, on the fixed grid."""
        return self._image(self._open_determinant)

    def jacobian(self, determinant: Image) -> Image:
        """The same with the affine's."""
        affine = float(np.linalg.det(np.asarray(self.affine.matrix)))
        return map_values(determinant, lambda values: values * np.float32(affine), np.float32)

    def inverse_error(self, *, voxels: bool = False) -> Image:
        """Length of ``phi^-1(phi(x)) - x`` in mm, or in voxels of the fixed grid."""
        if self._same:
            spacing = None if voxels else self.fixed.spacing[::-1]
            error = inverse_consistency(self.u, self.u_inverse, spacing=spacing)
            return Image(error[0, 0].numpy(), self.fixed)
        return self._image(lambda: self._open_inverse_error(voxels))

    def regularity(self, determinant: Image, region: NDArray[np.bool_]) -> Regularity:
        """Figures over a region of the fixed grid; over all of it where the region is empty."""
        everywhere = not region.any()
        determinants, errors = determinant.rows(), self.inverse_error(voxels=True).rows()
        minimum, folded, error_sum, error_max, count = np.inf, 0, 0.0, 0.0, 0
        for slab in slabs(self.fixed):
            where = np.ones_like(region[slab]) if everywhere else region[slab]
            if not where.any():
                continue
            values, lengths = determinants(slab)[where], errors(slab)[where]
            minimum = min(minimum, float(values.min()))
            folded += int(np.count_nonzero(~(values > 0)))
            error_sum += float(lengths.sum(dtype=np.float64))
            error_max = max(error_max, float(lengths.max()))
            count += values.size
        return Regularity(minimum, folded / count, error_sum / count, error_max)

    @property
    def _same(self) -> bool:
        """Whether the working grid is the fixed one."""
        return self.working.shape == self.fixed.shape

    def _image(self, open_rows: Callable[[], Rows]) -> Image:
        image = DeferredImage(self.fixed, np.float32, open_rows)
        return image if deferred(self.fixed) else image.kept()

    def _open_determinant(self) -> Rows:
        vectors = _Neighbouring(self._vectors(), self.fixed.shape[0])

        def rows(slab: slice) -> NDArray[np.float32]:
            field, inner = vectors(slab)
            determinant: NDArray[np.float32] = jacobian_determinant(field)[0, 0].numpy()
            return determinant[inner]

        return rows

    def _vectors(self) -> Callable[[slice], Tensor]:
        """Rows of u in voxels of the fixed grid, shape (1, D, rows, *fixed.shape[1:])."""
        if self._same:
            return lambda slab: self.u[:, :, slab]
        move = mover(self.u, self.working)
        to_voxels = np.linalg.inv(self.fixed.matrix)[::-1].T.copy()

        def rows(slab: slice) -> Tensor:
            points = self.fixed.points(slab.start, slab.stop)
            field = ((move(points) - points) @ to_voxels).astype(np.float32)
            return torch.from_numpy(np.ascontiguousarray(np.moveaxis(field, -1, 0)))[None]

        return rows

    def _open_inverse_error(self, voxels: bool) -> Rows:
        there = mover(self.u, self.working, "border")
        back = mover(self.u_inverse, self.working, "border")
        unit = np.linalg.inv(self.fixed.matrix).T if voxels else None

        def rows(slab: slice) -> NDArray[np.float32]:
            points = self.fixed.points(slab.start, slab.stop)
            missed = back(there(points)) - points
            if unit is not None:
                missed = missed @ unit
            return np.sqrt((missed * missed).sum(-1)).astype(np.float32)

        return rows


class _Neighbouring:
    """Rows of a field with one more on either side, where there is one; none is made twice."""

    def __init__(self, rows: Callable[[slice], Tensor], length: int) -> None:
        self.rows, self.length = rows, length
        self.held: Tensor | None = None
        self.first = self.last = 0

    def __call__(self, slab: slice) -> tuple[Tensor, slice]:
        """The rows of a slab and their neighbours, and where among them the slab is."""
        first, last = max(slab.start - 1, 0), min(slab.stop + 1, self.length)
        if self.held is not None and self.first <= first <= self.last < last:
            kept = self.held[:, :, first - self.first :]
            new = self.rows(slice(self.last, last))
            self.held = torch.cat([kept, new], 2)
        else:
            self.held = self.rows(slice(first, last))
        self.first, self.last = first, last
        return self.held, slice(slab.start - first, slab.stop - first)
