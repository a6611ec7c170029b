"""Layers of the napari plugin: the place of images in the viewer, and back, without napari."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.errors import ArgumentError, GeometryError
from itk_ncr.geometry import Grid
from itk_ncr.images import Image, as_image
from itk_ncr.napari.layers import (
    grid_lines,
    grid_of,
    image_of,
    layer_matrix,
    matrix_of,
    read,
    reader,
    result_layers,
)


def oblique(dimension: int) -> sitk.Image:
    """An image with its own spacing along every axis, turned, and left-handed in 3D."""
    size, spacing = [9, 7, 5][:dimension], [0.5, 2.0, 3.0][:dimension]
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetOrigin([-10.0, 20.0, 5.0][:dimension])
    turn = np.eye(dimension)
    c, s = math.cos(0.4), math.sin(0.4)
    turn[:2, :2] = [[c, -s], [s, c]]
    if dimension == 3:
        d, t = math.cos(0.3), math.sin(0.3)
        turn = turn @ np.array([[1, 0, 0], [0, d, -t], [0, t, d]]) @ np.diag([1, 1, -1.0])
    image.SetDirection(turn.ravel().tolist())
    return image


def placed(data: np.ndarray, matrix: np.ndarray, **more: object) -> SimpleNamespace:
    """What the plugin reads of a layer."""

    def data_to_world(position: np.ndarray) -> np.ndarray:
        return matrix[:-1, :-1] @ np.asarray(position, float) + matrix[:-1, -1]

    return SimpleNamespace(
        name="brain", data=data, ndim=len(matrix) - 1, data_to_world=data_to_world, **more
    )


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_world_of_the_viewer_is_the_reversed_point_of_itk(dimension):
    image = oblique(dimension)
    matrix = matrix_of(as_image(image).grid)
    for index in ([0, 0, 0], [4, 1, 3], [8, 6, 4]):
        index = index[:dimension]
        point = image.TransformIndexToPhysicalPoint(index)
        shown = matrix @ [*index[::-1], 1]
        np.testing.assert_allclose(shown[:-1], point[::-1], atol=1e-9)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_layer_becomes_the_image_it_was_made_from(dimension):
    image = as_image(oblique(dimension))
    again = image_of(placed(image.array, matrix_of(image.grid)))
    assert again.grid.equals(image.grid, 1e-9)
    assert np.array_equal(again.array, image.array)


def test_scale_and_translation_of_a_plain_layer_are_its_spacing_and_origin():
    matrix = np.array([[3.0, 0, 0, 30], [0, 2, 0, 20], [0, 0, 1, 10], [0, 0, 0, 1]])
    grid = image_of(placed(np.zeros((4, 5, 6), np.uint8), matrix)).grid
    assert (grid.size, grid.spacing, grid.origin) == ((6, 5, 4), (1, 2, 3), (10, 20, 30))
    np.testing.assert_allclose(layer_matrix(placed(np.zeros((4, 5, 6)), matrix)), matrix)


def test_of_a_pyramid_the_finest_level_is_taken():
    levels = [np.ones((8, 8), np.float32), np.ones((4, 4), np.float32)]
    assert image_of(placed(levels, np.eye(3), multiscale=True)).array.shape == (8, 8)


def test_layers_that_are_no_images_in_space_are_refused_in_one_line():
    shear = np.eye(3)
    shear[0, 1] = 0.2
    flat = np.diag([1.0, 0, 1])
    for layer, error, fragment in (
        (placed(np.zeros((4, 4, 3)), np.eye(3), rgb=True), ArgumentError, "has colours"),
        (placed(np.zeros((2, 4, 4, 4)), np.eye(5)), ArgumentError, "2 or 3 axes; got 4"),
        (placed(np.zeros((4, 4)), shear), GeometryError, "sheared"),
        (placed(np.zeros((4, 4)), flat), GeometryError, "must have a length"),
    ):
        with pytest.raises(error, match=fragment) as caught:
            image_of(layer)
        assert "layer 'brain'" in str(caught.value)
    with pytest.raises(GeometryError):
        grid_of((4, 4), np.full((3, 3), np.nan))


@pytest.mark.parametrize("shape", [(20, 24), (8, 20, 24)])
def test_a_result_is_shown_where_the_fixed_image_lies(shape, registration):
    fixed, _, result = registration(shape)
    moved, probability, mask, grid = result_layers(result, "healthy")
    for data, options, _ in (moved, probability, mask):
        assert data.shape == shape
        np.testing.assert_allclose(options["affine"], matrix_of(fixed.grid))
    assert [kind for _, _, kind in (moved, probability, mask, grid)] == [
        "image", "image", "labels", "vectors"
    ]  # fmt: skip
    assert mask[0].dtype == np.uint8
    assert mask[0].any()
    assert np.array_equal(mask[0], result.mask.array)
    assert moved[1]["name"] == "healthy moved"
    assert grid[0].shape[1:] == (2, len(shape))


def test_the_grid_is_that_of_the_voxels_moved_by_the_deformation():
    grid = Grid.of_array((9, 13), spacing=(2.0, 3.0), origin=(100.0, 50.0))
    still = Image(np.zeros((9, 13, 2), np.float32), grid)
    shifted = Image(np.broadcast_to(np.float32([5, 7]), (9, 13, 2)), grid)
    lines, moved = grid_lines(still, 4), grid_lines(shifted, 4)
    starts, steps = lines[:, 0], lines[:, 1]
    # Of two axes, (y, x): every segment runs along one of them, and begins at a voxel.
    assert ((steps == 0).sum(1) == 1).all()
    assert starts.min(0).tolist() == [50, 100]
    assert (starts + steps).max(0).tolist() == [50 + 8 * 3, 100 + 12 * 2]
    np.testing.assert_allclose(moved[:, 0] - starts, np.broadcast_to([7, 5], starts.shape))
    np.testing.assert_allclose(moved[:, 1], steps, atol=1e-5)


def test_files_open_at_their_place(tmp_path):
    image = oblique(3)
    sitk.WriteImage(image, str(tmp_path / "brain.nii.gz"))
    assert reader(str(tmp_path / "brain.nii.gz")) is read
    assert reader(["several", "files"]) is None
    ((data, options, kind),) = read(tmp_path / "brain.nii.gz")
    assert (data.shape, options["name"], kind) == ((5, 7, 9), "brain", "image")
    point = image.TransformIndexToPhysicalPoint([8, 6, 4])
    np.testing.assert_allclose((options["affine"] @ [4, 6, 8, 1])[:3], point[::-1], atol=1e-4)
