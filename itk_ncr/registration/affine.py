"""Affine pre-alignment: several starts, coarse to fine, on the whole images.

A lesion is left in: an affine has few degrees of freedom and all of the healthy tissue to decide
them, while a wrong mask can spoil it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image
from itk_ncr.losses import SIMILARITIES, total_double
from itk_ncr.ops import warp
from itk_ncr.registration.reduction import reduced

# Voxels of the fixed image at each level, coarsest first: the basin is wide where there are few.
LEVEL_VOXELS = (8_000, 60_000, 300_000)
ITERATIONS = (60, 60, 40)
# Length of the first and the last step of a level, in its voxels.
FIRST_STEP, LAST_STEP = 0.5, 0.05
# Rotations of the further starts; a basin reaches some 25 degrees to either side.
START_ANGLES_DEGREES = (-40.0, 40.0)
SCREENING_ITERATIONS = 25
# Starts that are carried on after screening.
SURVIVORS = 2
# Share of the fixed foreground that must stay inside the moving image.
LEAST_OVERLAP = 0.3
# A result must be closer than its start by this share of the distance.
ACCEPTANCE = 0.01


@dataclass(frozen=True)
class AffineSettings:
    """Settings of the pre-alignment.

    Attributes
    ----------
    similarity : str
        A row of ``SIMILARITIES``; "ncc-centred" for one contrast, "mind" for two.
    """

    similarity: str = "ncc-centred"


def align(
    fixed: Image,
    moving: Image,
    *,
    start: AffineMap | None = None,
    settings: AffineSettings | None = None,
    check: Callable[[], None] = lambda: None,
) -> AffineMap:
    """Find the affine map from fixed to moving points that makes two images alike.

    Parameters
    ----------
    fixed, moving : Image
        On a common scale with background 0, finite; see ``preprocessing.normalise``.
    start : AffineMap, optional
        The only start. Default: the physical coordinates as they are, the centres of mass on each
        other, and those with the moving image turned about each axis.
    settings : AffineSettings
    check : callable
        Called once per iteration; may raise to stop.

    Returns
    -------
    AffineMap
        Fixed to moving points, mm, LPS. The first start itself where nothing better was found.
    """
    similarity = (settings or AffineSettings()).similarity
    centre = _centre_of_mass(fixed)
    scale = max(_radius(fixed, centre), min(fixed.grid.spacing))  # a single voxel has no radius
    pyramid = [_Level(fixed, moving, voxels, similarity) for voxels in LEVEL_VOXELS]
    starts = [start] if start is not None else list(_starts(fixed, moving, centre))
    searches = [_Search(begin, centre, scale) for begin in starts]
    first = searches[0].snapshot()
    coarse = pyramid[0]
    if len(searches) > 1:
        for search in searches:
            search.descend(coarse, SCREENING_ITERATIONS, rigid=True, check=check)
        searches.sort(key=lambda search: coarse.distance(search.map()))
        searches = searches[:SURVIVORS]
    for search in searches:
        search.descend(coarse, ITERATIONS[0], rigid=True, check=check)
        search.descend(coarse, ITERATIONS[0], rigid=False, check=check)
    best = min(searches, key=lambda search: coarse.distance(search.map()))
    for level, iterations in zip(pyramid[1:], ITERATIONS[1:], strict=True):
        best.descend(level, iterations, rigid=False, check=check)
    fine = pyramid[-1]
    if fine.distance(best.map()) > (1 - ACCEPTANCE) * fine.distance(first):
        return first
    found = best.map()
    # Noise can be matched best where hardly anything is left to match.
    before, after = (overlap(a, fixed.grid, moving.grid) for a in (first, found))
    return first if after < LEAST_OVERLAP * before else found


def overlap(affine: AffineMap, fixed: Grid, moving: Grid) -> float:
    """Share of the fixed grid's voxel centres that the map carries into the moving image."""
    shape = tuple(min(n, 32) for n in fixed.shape)
    index = moving.continuous_index(affine(fixed.resized(shape).points()))
    inside = (index >= -0.5) & (index < np.asarray(moving.size) - 0.5)
    return float(inside.all(-1).mean())


class _Level:
    """Both images at one resolution, and their distance under a map."""

    def __init__(self, fixed: Image, moving: Image, voxels: int, similarity: str) -> None:
        spacing = (np.prod(np.asarray(fixed.grid.size) * fixed.grid.spacing) / voxels) ** (
            1 / fixed.dimension
        )
        self.fixed_grid, self.fixed = _coarser(fixed, float(spacing))
        self.moving_grid, self.moving = _coarser(moving, float(spacing))
        self.similarity = SIMILARITIES[similarity]
        self.voxel = max(float(spacing), min(self.fixed_grid.spacing))
        # From array positions (z, y, x) to points (x, y, z), and from moving points to indices.
        self.to_point = torch.from_numpy(self.fixed_grid.matrix[:, ::-1].copy())
        self.first_point = torch.tensor(self.fixed_grid.origin, dtype=torch.float64)
        inverse = np.linalg.inv(self.moving_grid.matrix)[::-1].copy()
        self.to_index = torch.from_numpy(inverse)
        self.origin = torch.tensor(self.moving_grid.origin, dtype=torch.float64)
        self.whole = torch.ones_like(self.moving)
        self.foreground = (self.fixed > 0.05).to(self.fixed.dtype)
        self.foreground_size = total_double(self.foreground).clamp(min=1)

    def loss(self, matrix: Tensor, translation: Tensor) -> Tensor:
        """Distance of the images under ``x -> matrix @ x + translation`` (float64, mm)."""
        slope = self.to_index @ matrix @ self.to_point
        first = self.to_index @ (matrix @ self.first_point + translation - self.origin)
        displacement = _LinearDisplacement.apply(slope, first, self.fixed)
        moved = warp(self.moving, displacement)
        with torch.no_grad():
            inside = warp(self.whole, displacement, padding="fill", fill_value=0.0)
            seen = total_double(inside * self.foreground) / self.foreground_size
            share = float(seen)
        distance = self.similarity(moved, self.fixed, inside)[0]
        if share < LEAST_OVERLAP:
            # An empty overlap explains everything; make it the worst of all maps.
            distance = distance + (LEAST_OVERLAP - share) / LEAST_OVERLAP
        return distance

    @torch.no_grad()
    def distance(self, affine: AffineMap) -> float:
        """The loss of a map, as a number."""
        matrix = torch.tensor(affine.matrix, dtype=torch.float64)
        return float(self.loss(matrix, torch.tensor(affine.translation, dtype=torch.float64)))


class _LinearDisplacement(torch.autograd.Function):
    """``p -> slope @ p + first - p`` over the voxels p of a grid.

    Its own backward adds up line by line: the sums of a matrix product would depend on the number
    of threads, and so would the map.
    """

    @staticmethod
    def forward(ctx: Any, slope: Tensor, first: Tensor, image: Tensor) -> Tensor:
        ctx.shape = shape = image.shape[2:]
        dimension = len(shape)
        slope = slope.detach() - torch.eye(dimension, dtype=slope.dtype)
        out = first.view(-1, *(1,) * dimension).expand(dimension, *shape)
        for axis in range(dimension):
            column = slope[:, axis].view(-1, *(1,) * dimension)
            out = out + column * _positions(shape, axis)
        return out.to(image.dtype)[None]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        gradient = gradient[0].double()
        first = _line_sums(gradient)
        columns = [
            _line_sums(gradient * _positions(ctx.shape, axis)) for axis in range(len(ctx.shape))
        ]
        return torch.stack(columns, 1), first, None


def _positions(shape: torch.Size, axis: int) -> Tensor:
    """The position along one axis, broadcast over a field of (D, *shape)."""
    return torch.arange(shape[axis], dtype=torch.float64).view(
        [-1 if a == axis else 1 for a in range(-1, len(shape))]
    )


def _line_sums(field: Tensor) -> Tensor:
    """Sum of every channel, one axis after the other."""
    while field.ndim > 1:
        field = field.sum(-1)
    return field


class _Search:
    """Descent from one start: ``x -> R A0 (I + B) (x - c) + A0-image of c + t``, in mm.

    The rotation R and the strain B are in units of the radius of the object, so that a step of
    one moves its rim by a millimetre, as a step of one in t moves everything.
    """

    def __init__(self, start: AffineMap, centre: NDArray[np.float64], scale: float) -> None:
        self.matrix = torch.tensor(start.matrix, dtype=torch.float64)
        self.centre = torch.from_numpy(centre)
        self.image_of_centre = torch.from_numpy(start(centre))
        self.scale = scale
        dimension = len(centre)
        self.rotation = torch.zeros(dimension * (dimension - 1) // 2, dtype=torch.float64)
        self.translation = torch.zeros(dimension, dtype=torch.float64)
        self.strain = torch.zeros(dimension, dimension, dtype=torch.float64)

    def parts(self) -> tuple[Tensor, Tensor]:
        """Matrix and translation of the current map."""
        turn = torch.linalg.matrix_exp(_skew(self.rotation / self.scale, len(self.translation)))
        unit = torch.eye(len(self.translation), dtype=torch.float64)
        matrix = turn @ self.matrix @ (unit + self.strain / self.scale)
        return matrix, self.image_of_centre + self.translation - matrix @ self.centre

    def map(self) -> AffineMap:
        """The current map."""
        matrix, translation = (part.detach().numpy() for part in self.parts())
        return AffineMap(tuple(map(tuple, matrix)), tuple(translation))

    snapshot = map

    def descend(
        self, level: _Level, iterations: int, *, rigid: bool, check: Callable[[], None]
    ) -> None:
        """Move along the gradient in steps that shrink from half a voxel to a twentieth."""
        parameters = [self.rotation, self.translation] + ([] if rigid else [self.strain])
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimiser = torch.optim.Adam(parameters, betas=(0.8, 0.95))
        for iteration in range(iterations):
            check()
            share = iteration / max(iterations - 1, 1)
            length: float = level.voxel * FIRST_STEP * (LAST_STEP / FIRST_STEP) ** share
            for group in optimiser.param_groups:
                group["lr"] = length
            optimiser.zero_grad()
            level.loss(*self.parts()).backward()
            optimiser.step()
        for parameter in parameters:
            parameter.requires_grad_(False)


def _starts(fixed: Image, moving: Image, centre: NDArray[np.float64]) -> Iterator[AffineMap]:
    """Trust the header; then put the centres of mass on each other, turned or not."""
    dimension = fixed.dimension
    yield AffineMap.identity(dimension)
    target = _centre_of_mass(moving)
    turns = [np.zeros(dimension * (dimension - 1) // 2)]
    for axis in range(len(turns[0])):
        for angle in START_ANGLES_DEGREES:
            turn = np.zeros_like(turns[0])
            turn[axis] = math.radians(angle)
            turns.append(turn)
    for turn in turns:
        skew = _skew(torch.from_numpy(turn), dimension)
        matrix = torch.linalg.matrix_exp(skew).numpy()
        yield AffineMap(tuple(map(tuple, matrix)), tuple(target - matrix @ centre))


def _skew(rotation: Tensor, dimension: int) -> Tensor:
    """The skew-symmetric matrix of a rotation vector (3D) or angle (2D)."""
    zero = rotation.new_zeros(())
    if dimension == 2:
        (a,) = rotation
        return torch.stack([torch.stack([zero, -a]), torch.stack([a, zero])])
    a, b, c = rotation
    rows = [[zero, -c, b], [c, zero, -a], [-b, a, zero]]
    return torch.stack([torch.stack(row) for row in rows])


def _coarser(image: Image, spacing: float) -> tuple[Grid, Tensor]:
    """The image on a grid of about the given spacing, never a finer one than its own."""
    shape = tuple(
        n if n == 1 else max(2, min(n, round((n - 1) * h / spacing) + 1))
        for n, h in zip(image.grid.shape, image.grid.spacing[::-1], strict=True)
    )
    return image.grid.resized(shape), reduced(image, shape)


def _centre_of_mass(image: Image) -> NDArray[np.float64]:
    """Mean position of the intensity, mm."""
    points, weight = _mass(image)
    return (points * weight[:, None]).sum(0) / weight.sum()


def _radius(image: Image, centre: NDArray[np.float64]) -> float:
    """Root mean square distance of the intensity from its centre, mm."""
    points, weight = _mass(image)
    squares = ((points - centre) ** 2).sum(-1)
    return float(np.sqrt((squares * weight).sum() / weight.sum()))


def _mass(image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n, D) in mm and the intensity there, on a coarse grid."""
    extent = np.multiply(image.grid.size, image.grid.spacing).max()
    grid, tensor = _coarser(image, float(extent) / 32)
    weight = tensor.double().clamp(min=0).numpy().ravel()
    return grid.points().reshape(-1, image.dimension), weight
