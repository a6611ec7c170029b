"""Position of training grids in space, for placing lesion masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.geometry import Grid


@dataclass(frozen=True)
class SlicePlane:
    """Position of the pixels of an axial 2D slice, in RAS mm.

    Attributes
    ----------
    first_mm : (float, float)
        Position of the first pixel: x (to the right of the subject) and y (to the front).
    step_mm : (float, float)
        Increase of x per column and of y per row.
    """

    first_mm: tuple[float, float]
    step_mm: tuple[float, float]


# Slices of 160 x 192 pixels of 1 mm around the origin of MNI space, anterior up, subject's left on
# the left: x = column - 79.5, y = 79 - row.
SLICE_PLANE = SlicePlane(first_mm=(-79.5, 79.0), step_mm=(1.0, -1.0))


@dataclass(frozen=True, eq=False)
class Placement:
    """An affine map from array indices to LPS millimetres.

    Attributes
    ----------
    matrix : ndarray, shape (3, D + 1)
        ``mm = matrix @ (index, 1)``, index in array order, mm as (x, y, z). For 2D images without a
        known height the plane lies at z = 0.
    dimension : int
        D.
    located : bool
        Whether the place in space is known; a 2D image has one only if its height is given.
    """

    matrix: NDArray[np.float64]
    located: bool = True

    @classmethod
    def of(
        cls, grid: Grid, *, slice_mm: float | None = None, plane: SlicePlane = SLICE_PLANE
    ) -> Placement:
        """The placement of a file's grid.

        Parameters
        ----------
        grid : Grid
            A 3D grid has a position of its own.
        slice_mm : float, optional
            Height of a 2D slice, RAS z in mm. Default: unknown; the slice is not located then.
        plane : SlicePlane
            Position of the pixels of a 2D slice.

        Returns
        -------
        Placement
            From array positions to mm.
        """
        if grid.dimension == 3:
            return cls(np.column_stack([grid.matrix[:, ::-1], grid.origin]))
        if slice_mm is None:
            row, column = grid.spacing[::-1]
            return cls(np.array([[0, column, 0], [row, 0, 0], [0, 0, 0.0]]), located=False)
        (x, y), (dx, dy) = plane.first_mm, plane.step_mm
        return cls(np.array([[0, -dx, -x], [-dy, 0, -y], [0, 0, slice_mm]]))

    @property
    def dimension(self) -> int:
        """Number of axes of the array."""
        return self.matrix.shape[1] - 1

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance of neighbouring voxels along each array axis."""
        return tuple(float(s) for s in np.linalg.norm(self.matrix[:, :-1], axis=0))

    def cropped(self, start: Sequence[int]) -> Placement:
        """The placement of a part of the array.

        Parameters
        ----------
        start : sequence of int
            First voxel of the part, in array order; negative: padded.

        Returns
        -------
        Placement
            That of the part.
        """
        matrix = self.matrix.copy()
        matrix[:, -1] += matrix[:, :-1] @ np.asarray(start, np.float64)
        return Placement(matrix, self.located)

    def stretched(self, steps: Sequence[float]) -> Placement:
        """The placement of a grid with the same first voxel and larger voxels.

        Parameters
        ----------
        steps : sequence of float
            Factor on the voxel size, in array order.

        Returns
        -------
        Placement
            That of the coarser grid.
        """
        matrix = self.matrix.copy()
        matrix[:, :-1] *= np.asarray(steps, np.float64)
        return Placement(matrix, self.located)
