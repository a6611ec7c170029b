"""A registration whose answer is known: a shift in mm; it counts its calls and can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from itk_ncr.errors import RegistrationAborted
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, resample
from itk_ncr.registration import Quality, RegistrationResult, RegistrationSettings

QUALITY = Quality(1.0, 0.5, 0.25, 0.125, 1.0, 0.0, 0.01, 0.02, 0.9, 12, 0.5)


class KnownShift:
    """Says that ``moving(x + affine_mm + deformation_mm)`` is the fixed image.

    The probability rises from 0 to 1 along the last array axis, for the moving image along the
    first.
    """

    def __init__(
        self,
        deformation_mm: tuple[float, ...] = (1.5, -2.0, 0.5),
        affine_mm: tuple[float, ...] = (-0.5, 1.0, 2.0),
    ) -> None:
        self.deformation_mm = np.array(deformation_mm)
        self.affine_mm = np.array(affine_mm)
        self.calls: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self.during: Callable[[], None] | None = None

    def __call__(self, fixed: Image, moving: Image, **options: Any) -> RegistrationResult:
        self.calls.append({"fixed": fixed, "moving": moving, **options})
        for step in range(4):
            options["progress"](step / 4, f"step {step}")
            if options["abort"]():
                raise RegistrationAborted("registration must run to its end; got aborted.")
        if self.during is not None:
            self.during()
        if self.error is not None:
            raise self.error
        dimension = fixed.grid.dimension
        deformation, affine = self.deformation_mm[:dimension], self.affine_mm[:dimension]
        displacement = constant_field(fixed.grid, deformation + affine)
        return RegistrationResult(
            displacement=displacement,
            displacement_inverse=constant_field(moving.grid, -deformation - affine),
            deformation=constant_field(fixed.grid, deformation),
            warped=resample(moving, fixed.grid, displacement=displacement),
            noncorrespondence=ramp(fixed.grid, axis=dimension - 1),
            noncorrespondence_moving=ramp(moving.grid, axis=0),
            jacobian=Image(np.full(fixed.grid.shape, 1.25, np.float32), fixed.grid),
            inverse_error=Image(np.full(fixed.grid.shape, 0.125, np.float32), fixed.grid),
            foreground=Image(np.ones(fixed.grid.shape, np.uint8), fixed.grid),
            foreground_moving=Image(np.ones(moving.grid.shape, np.uint8), moving.grid),
            affine=AffineMap(tuple(map(tuple, np.eye(dimension).tolist())), tuple(affine.tolist())),
            quality=QUALITY,
            mask_threshold=options["mask_threshold"],
            warnings=(),
            settings=RegistrationSettings(),
        )


def constant_field(grid: Grid, vector: np.ndarray) -> Image:
    return Image(np.tile(vector.astype(np.float32), (*grid.shape, 1)), grid)


def ramp(grid: Grid, axis: int) -> Image:
    values = np.linspace(0, 1, grid.shape[axis], dtype=np.float32)
    shape = [1] * grid.dimension
    shape[axis] = -1
    return Image(np.broadcast_to(values.reshape(shape), grid.shape).copy(), grid)


def oblique_grid(shape: tuple[int, ...], seed: int) -> Grid:
    """An anisotropic, rotated, left-handed grid centred near the origin of the world."""
    generator = np.random.default_rng(seed)
    dimension = len(shape)
    direction, _ = np.linalg.qr(np.eye(dimension) + 0.3 * generator.normal(size=(dimension,) * 2))
    direction[:, 0] *= -np.sign(np.linalg.det(direction))
    spacing = generator.uniform(0.7, 2.2, dimension)
    middle = direction @ (spacing * (np.array(shape[::-1]) - 1) / 2)
    origin = generator.uniform(-1, 1, dimension) - middle
    return Grid(shape[::-1], tuple(spacing), tuple(origin), tuple(map(tuple, direction)))


def smooth_image(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.float32) -> Image:
    """Waves between 0 and 100 on an oblique grid."""
    grid = oblique_grid(shape, seed)
    phase = grid.points() @ np.array([0.21, 0.16, 0.12])[: grid.dimension] + seed
    return Image((50 + 49 * np.sin(phase)).astype(dtype), grid)


FIXED_SHAPE, MOVING_SHAPE = (9, 11, 13), (12, 10, 7)


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def dimension(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def pair(dimension: int) -> tuple[Image, Image]:
    """A fixed and a moving image on different oblique grids of different sizes."""
    fixed = smooth_image(FIXED_SHAPE[-dimension:], seed=1)
    return fixed, smooth_image(MOVING_SHAPE[-dimension:], seed=2)


@pytest.fixture
def shift() -> KnownShift:
    return KnownShift()
