"""The space in the middle of several images, without a reference image.

Maps from one chart (the grid of an image, or of a template) to every image are given. Their mean,
the affine parts averaged by their logarithms and the rest by its displacements, carries the chart
to the middle; the maps from there to the images are each map after the inverse of the mean. So the
chart drops out, but for the grid on which everything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from itk_ncr.errors import GeometryError
from itk_ncr.fields import invert_displacement
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, mover
from itk_ncr.images.resampling import Sampler
from itk_ncr.ops import jacobian_determinant

# Below this an imaginary part of a logarithm is rounding.
ROUNDING = 1e-6


@dataclass(frozen=True)
class ChartMap:
    """The map ``x -> affine(x + deformation(x))`` from the chart to one image.

    Attributes
    ----------
    affine : AffineMap
    deformation : Image, vector, mm, LPS, or None
        On the grid of the chart; None where there is none.
    """

    affine: AffineMap
    deformation: Image | None = None


@dataclass(frozen=True)
class CommonSpace:
    """The middle of several images and the maps from there to each of them.

    Attributes
    ----------
    grid : Grid
    affines : tuple of AffineMap
        Linear parts of the maps; their logarithms have the mean 0.
    displacements : tuple of Image, vector, mm, LPS
        The whole maps, on the grid.
    shift_mm : float
        Mean length of the mean displacement of the chart: how far it was from the middle, affine
        aside.
    """

    grid: Grid
    affines: tuple[AffineMap, ...]
    displacements: tuple[Image, ...]
    shift_mm: float

    def determinant(self, number: int) -> NDArray[np.float32]:
        """Determinant of the Jacobian of a map.

        Parameters
        ----------
        number : int
            Position of the image.

        Returns
        -------
        ndarray of float32, the shape of the grid
            Volume in the image per volume in the common space.
        """
        return map_determinant(self.displacements[number])


def common_space(chart: Grid, maps: Sequence[ChartMap]) -> CommonSpace:
    """The middle of the images that some maps lead to.

    Parameters
    ----------
    chart : Grid
    maps : sequence of ChartMap
        One per image.
    """
    mean = mean_affine([one.affine for one in maps])
    grid = _carried(chart, mean)
    fields = [one.deformation.array for one in maps if one.deformation is not None]
    shift = np.zeros((*chart.shape, chart.dimension)) + sum(fields) / len(maps)
    back = mover(invert_displacement(_voxels(shift, chart)), chart, "border")
    ends = grid.points().reshape(-1, chart.dimension)
    starts = back(mean.inverse()(ends))
    displacements = []
    for one in maps:
        target = starts
        if one.deformation is not None:
            target = starts + Sampler(one.deformation, "linear", "border")(starts)
        vectors = (one.affine(target) - ends).reshape(*grid.shape, -1)
        displacements.append(Image(vectors.astype(np.float32), grid))
    affines = tuple(one.affine.compose(mean.inverse()) for one in maps)
    length = float(np.linalg.norm(shift, axis=-1).mean())
    return CommonSpace(grid, affines, tuple(displacements), length)


def mean_affine(affines: Sequence[AffineMap]) -> AffineMap:
    """Mean of affine maps by their logarithms.

    Raises
    ------
    GeometryError
        If one has no logarithm: it mirrors, or turns by half a turn.
    """
    logarithms = []
    for affine in affines:
        found = linalg.logm(affine.homogeneous)
        if np.abs(np.imag(found)).max() > ROUNDING:
            raise GeometryError(
                "images must be less than half a turn apart, and none mirrored; got a linear map "
                f"with determinant {np.linalg.det(np.asarray(affine.matrix)):.3g}. Bring their "
                "headers in order first."
            )
        logarithms.append(np.real(found))
    return AffineMap.from_homogeneous(linalg.expm(np.mean(logarithms, axis=0)))


def map_determinant(displacement: Image) -> NDArray[np.float32]:
    """Determinant of the Jacobian of ``x -> x + displacement(x)``; shape of the grid."""
    voxels = _voxels(displacement.array, displacement.grid)
    determinant: NDArray[np.float32] = jacobian_determinant(voxels)[0, 0].numpy()
    return determinant


def _carried(grid: Grid, affine: AffineMap) -> Grid:
    """A grid moved by the rigid part of a map, its voxels larger or smaller by the rest."""
    matrix = np.asarray(affine.matrix)
    rotation, _ = linalg.polar(matrix)
    scale = abs(float(np.linalg.det(matrix))) ** (1 / grid.dimension)
    direction = rotation @ np.asarray(grid.direction)
    spacing = np.asarray(grid.spacing) * scale
    middle = (np.asarray(grid.size) - 1) / 2
    origin = affine(grid.centre) - (direction * spacing) @ middle
    return Grid(grid.size, tuple(spacing), tuple(origin), direction)


def _voxels(field: NDArray[np.floating], grid: Grid) -> Tensor:
    """A field in mm, (*shape, D), as voxels along the array axes, (1, D, *shape)."""
    index = field @ np.linalg.inv(grid.matrix).T
    ordered = np.moveaxis(index[..., ::-1], -1, 0).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(ordered))[None]
