"""The C++ filters beside ITK's own and the extension; `make cxx` builds them and runs this file."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter

from itk_ncr import ops
from itk_ncr.geometry import Grid

BUILD = os.environ.get("NCR_CXX_BUILD")
pytestmark = pytest.mark.skipif(
    BUILD is None, reason="needs the C++ filters: make cxx builds them and runs this"
)

SHAPE, MOVING_SHAPE = (19, 23, 31), (17, 20, 25)
# Worst of all cases relative to the largest value: 2.3e-7 and 7.2e-15.
BOUNDS = {np.float32: 1e-6, np.float64: 5e-14}


@pytest.fixture(scope="module")
def cxx() -> ModuleType:
    found = list(Path(str(BUILD), "wrapping/itk").glob("_itk_cxx.*"))
    assert len(found) == 1, found
    spec = importlib.util.spec_from_file_location("_itk_cxx", found[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def exponential(cxx: ModuleType, dimension: int) -> Callable[..., Any]:
    return getattr(cxx, f"exponential_{dimension}d")


@pytest.fixture
def warp(cxx: ModuleType, dimension: int) -> Callable[..., Any]:
    return getattr(cxx, f"warp_{dimension}d")


@pytest.fixture(params=[np.float32, np.float64], ids=["float", "double"])
def real(request: pytest.FixtureRequest) -> type:
    return request.param


def oblique(shape: tuple[int, ...], degrees: float) -> Grid:
    """Anisotropic, rotated about all axes, left-handed, centred at a point of its own."""
    dimension = len(shape)
    direction = np.diag([-1.0] + [1.0] * (dimension - 1))
    for a in range(dimension - 1):
        turn = np.eye(dimension)
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn[a : a + 2, a : a + 2] = [[c, -s], [s, c]]
        direction = turn @ direction
    spacing = np.array([0.8, 1.3, 2.1])[:dimension]
    middle = direction @ (spacing * (np.array(shape[::-1]) - 1) / 2)
    return Grid(shape[::-1], tuple(spacing), tuple(np.arange(dimension) - middle), direction)


def smooth_velocity(shape: tuple[int, ...], real: type, seed: int = 0) -> np.ndarray:
    """Millimetres; components up to 6."""
    noise = np.random.default_rng(seed).normal(size=(len(shape), *shape))
    vectors = np.stack([gaussian_filter(n, 4, mode="nearest") for n in noise], -1)
    return (6 / np.abs(vectors).max() * vectors).astype(real)


def smooth_image(shape: tuple[int, ...], pixel: type) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(1).normal(size=shape), 2, mode="nearest")
    return (128 + 100 * noise / np.abs(noise).max()).astype(pixel)


@pytest.mark.parametrize("inverse", [False, True])
def test_the_exponential_is_that_of_itk_on_an_oblique_grid(exponential, dimension, real, inverse):
    shape = SHAPE[-dimension:]
    grid, velocity = oblique(shape, 25), smooth_velocity(shape, real)
    of_itk = exponential(True, velocity, grid, iterations=6, inverse=inverse)
    ours = exponential(False, velocity, grid, iterations=6, inverse=inverse)
    assert np.abs(ours - of_itk).max() <= BOUNDS[real] * np.abs(of_itk).max()
    # The direction counts: without it, and with the components in the order of the array.
    straight = Grid(grid.size, grid.spacing, grid.origin, np.eye(dimension))
    for wrong in (
        exponential(False, velocity, straight, iterations=6, inverse=inverse),
        exponential(False, velocity[..., ::-1].copy(), grid, iterations=6, inverse=inverse),
    ):
        assert np.abs(wrong - of_itk).max() > 0.3


def test_the_exponential_has_the_bits_of_the_extension(exponential, dimension, real):
    velocity = smooth_velocity(SHAPE[-dimension:], real)
    planes = np.ascontiguousarray(np.moveaxis(velocity[..., ::-1], -1, 0))
    expected = ops.exponential(torch.from_numpy(planes)[None])[0].numpy()
    found = exponential(False, velocity, Grid.of_array(SHAPE[-dimension:]))
    np.testing.assert_array_equal(found, np.moveaxis(expected, 0, -1)[..., ::-1])


def test_a_linear_velocity_gives_the_power_of_its_matrix(exponential, dimension, real):
    shape = SHAPE[-dimension:]
    grid = oblique(shape, 25)
    rate = np.array([[-0.3, 0.2, -0.1], [-0.25, -0.2, 0.1], [0.05, -0.1, -0.4]])
    rate = rate[:dimension, :dimension]
    offsets = grid.points() - grid.centre
    found = exponential(False, (offsets @ rate.T).astype(real), grid, iterations=6)
    # Linear interpolation is exact for it, wherever no path meets the border.
    power = np.linalg.matrix_power(np.eye(dimension) + rate / 64, 64)
    inner = tuple(slice(n // 4, n - n // 4) for n in shape)
    expected = offsets @ (power - np.eye(dimension)).T
    assert np.abs(found - expected)[inner].max() <= 10 * BOUNDS[real] * np.abs(expected).max()


def test_a_constant_velocity_is_its_own_exponential(exponential, dimension, real):
    shape = SHAPE[-dimension:]
    velocity = np.tile(np.array([3.5, -2.25, 4.0], real)[:dimension], (*shape, 1))
    for inverse, sign in ((False, 1), (True, -1)):
        found = exponential(False, velocity, oblique(shape, 25), inverse=inverse)
        np.testing.assert_allclose(found, sign * velocity, rtol=10 * BOUNDS[real])


def test_a_warp_is_that_of_itk_from_any_grid(warp, dimension, real):
    shape, moving_shape = SHAPE[-dimension:], MOVING_SHAPE[-dimension:]
    grid, moving_grid = oblique(shape, 25), oblique(moving_shape, -10)
    field, moving = smooth_velocity(shape, real), smooth_image(moving_shape, real)
    of_itk = warp(True, moving, moving_grid, field, grid, edge=7.5)
    ours = warp(False, moving, moving_grid, field, grid, edge=7.5)
    assert 0.01 < (of_itk == 7.5).mean() < 0.6
    np.testing.assert_array_equal(ours == 7.5, of_itk == 7.5)
    # Positions in float: 2e-7 of 30 voxels times 50 grey values per voxel.
    assert np.abs(ours - of_itk).max() <= {np.float32: 3e-4, np.float64: 1e-11}[real]


@pytest.mark.parametrize("pixel", [np.uint8, np.int16, np.uint32])
def test_integers_are_rounded_and_labels_are_those_of_itk(warp, dimension, real, pixel):
    shape, moving_shape = SHAPE[-dimension:], MOVING_SHAPE[-dimension:]
    grid, moving_grid = oblique(shape, 25), oblique(moving_shape, -10)
    field, moving = smooth_velocity(shape, real), smooth_image(moving_shape, pixel)
    if pixel is np.uint32:
        moving += 2**31  # float would round it, and int32 would overflow
    labels = [
        warp(o, moving, moving_grid, field, grid, nearest=True, edge=7) for o in (True, False)
    ]
    np.testing.assert_array_equal(*labels)
    exact = warp(
        True, moving.astype(np.float64), moving_grid, field.astype(np.float64), grid, edge=7
    )
    found = warp(False, moving, moving_grid, field, grid, edge=7)
    error = np.abs(found - exact)
    assert 0.4 < error.max() < 0.5 + 3e-4


def test_threads_pieces_and_first_indices_change_nothing(exponential, warp, dimension, real):
    shape, moving_shape = SHAPE[-dimension:], MOVING_SHAPE[-dimension:]
    grid, moving_grid = oblique(shape, 25), oblique(moving_shape, -10)
    velocity, moving = smooth_velocity(shape, real), smooth_image(moving_shape, real)
    displacement = exponential(False, velocity, grid)
    moved = warp(False, moving, moving_grid, displacement, grid)
    for how in ({"threads": 2}, {"pieces": 3}):
        found = exponential(False, velocity, grid, **how)
        np.testing.assert_array_equal(found, displacement)
        found = warp(False, moving, moving_grid, displacement, grid, **how)
        np.testing.assert_array_equal(found, moved)
    found = exponential(False, velocity, grid, start=-6)
    np.testing.assert_array_equal(found, displacement)
    # The origin of ITK is that of index 0, so other sums are rounded here.
    found = warp(False, moving, moving_grid, displacement, grid, start=-6)
    assert np.abs(found - moved).max() <= {np.float32: 3e-4, np.float64: 1e-11}[real]


def test_what_cannot_be_is_said(cxx):
    with pytest.raises(RuntimeError, match="LongestFirstStep must be positive; got 0"):
        cxx.exponential_with_first_step(0.0)
    with pytest.raises(RuntimeError, match="Input must have voxels; got size"):
        cxx.exponential_with_first_step(0.1)


def test_printing_shows_the_settings(cxx):
    lines = [line.strip() for line in cxx.printed().splitlines()]
    for setting in (
        "AutomaticNumberOfIterations: On",
        "MaximumNumberOfIterations: 20",
        "LongestFirstStep: 0.125",
        "ComputeInverse: Off",
        "NearestNeighbor: Off",
        "EdgePaddingValue: 0",
    ):
        assert setting in lines


def test_the_example_writes_what_the_filters_say(cxx, tmp_path):
    grid, moving_grid = oblique(SHAPE, 25), oblique(MOVING_SHAPE, -10)
    velocity, moving = smooth_velocity(SHAPE, np.float32), smooth_image(MOVING_SHAPE, np.float32)
    for name, array, on in (("velocity", velocity, grid), ("moving", moving, moving_grid)):
        image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
        image.SetSpacing(on.spacing)
        image.SetOrigin(on.origin)
        image.SetDirection(np.ravel(on.direction).tolist())
        sitk.WriteImage(image, str(tmp_path / f"{name}.mha"))
    names = ["velocity.mha", "moving.mha", "displacement.mha", "moved.nii.gz"]
    program = Path(str(BUILD), "example/exponentiate_and_warp").resolve()
    subprocess.run([program, *names], cwd=tmp_path, check=True)
    displacement = cxx.exponential_3d(False, velocity, grid)
    moved = cxx.warp_3d(False, moving, moving_grid, displacement, grid)
    for name, expected in (("displacement.mha", displacement), ("moved.nii.gz", moved)):
        found = sitk.ReadImage(str(tmp_path / name))
        # MetaImage keeps some fifteen digits of the geometry.
        np.testing.assert_allclose(sitk.GetArrayFromImage(found), expected, atol=3e-4)
        np.testing.assert_allclose(found.GetOrigin(), grid.origin, atol=1e-5)

    broken = subprocess.run(
        [program, "nothing.mha", *names[1:]], cwd=tmp_path, capture_output=True, text=True
    )
    assert broken.returncode == 1
    assert broken.stderr.startswith("error: ")
