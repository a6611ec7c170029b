"""Images and results as layers of napari, and layers as images; without napari itself.

The world of the viewer is millimetres along (z, y, x), LPS: the points of the package in reverse
order. A layer's matrix (D + 1, D + 1) carries its indices, in array order, there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import ArgumentError, GeometryError
from itk_ncr.geometry import Grid
from itk_ncr.images import Image, read_image

if TYPE_CHECKING:
    from itk_ncr.registration import RegistrationResult

# What napari takes for a layer: its data, its keywords, its type.
LayerData = tuple[Any, dict[str, Any], str]
GRID_LINES = 24  # along the longest side
SEGMENTS_PER_CELL = 4
# Smallest and largest cosine between two axes of a layer that still count as perpendicular.
SHEAR = 1e-3


def matrix_of(grid: Grid) -> NDArray[np.float64]:
    """The matrix from array indices of a grid to the world of the viewer, (D + 1, D + 1)."""
    dimension = grid.dimension
    matrix = np.eye(dimension + 1)
    matrix[:dimension, :dimension] = grid.matrix[::-1, ::-1]
    matrix[:dimension, dimension] = grid.origin[::-1]
    return matrix


def grid_of(shape: Sequence[int], matrix: NDArray[np.float64], name: str = "layer") -> Grid:
    """The grid of a layer of some shape and matrix: inverse of :func:`matrix_of`.

    Raises
    ------
    ArgumentError
        If the layer has not 2 or 3 axes.
    GeometryError
        If its axes are not perpendicular, or one has no length.
    """
    dimension = len(shape)
    if dimension not in (2, 3):
        raise ArgumentError(
            f"{name} must have 2 or 3 axes; got {dimension}. Split channels or time points first."
        )
    linear = np.asarray(matrix, float)[:dimension, :dimension][::-1, ::-1]
    spacing = np.linalg.norm(linear, axis=0)
    if not np.isfinite(linear).all() or (spacing <= 0).any():
        raise GeometryError(f"axes of {name} must have a length. Give it a scale that is not 0.")
    direction = linear / spacing
    cosines = direction.T @ direction - np.eye(dimension)
    if np.abs(cosines).max() > SHEAR:
        raise GeometryError(
            f"axes of {name} must be perpendicular; got a sheared layer. Remove its shear, and "
            "resample it if its affine is sheared."
        )
    origin = np.asarray(matrix, float)[:dimension, dimension][::-1]
    return Grid(
        size=tuple(int(n) for n in reversed(shape)),
        spacing=tuple(spacing),
        origin=tuple(origin),
        direction=tuple(map(tuple, direction)),
    )


def layer_matrix(layer: Any) -> NDArray[np.float64]:
    """The matrix of a layer of napari, with its scale, translation, rotation, shear and affine."""
    dimension = layer.ndim
    corners = np.vstack([np.zeros(dimension), np.eye(dimension)])
    placed = np.array([layer.data_to_world(corner) for corner in corners])
    matrix = np.eye(dimension + 1)
    matrix[:dimension, :dimension] = (placed[1:] - placed[0]).T
    matrix[:dimension, dimension] = placed[0]
    return matrix


def image_of(layer: Any) -> Image:
    """The image in an image or labels layer of napari.

    Raises
    ------
    ArgumentError
        If the layer has colours, or not 2 or 3 axes.
    GeometryError
        If its axes are not perpendicular.
    """
    name = f"layer {layer.name!r}"
    if getattr(layer, "rgb", False):
        raise ArgumentError(f"{name} must be scalar; it has colours. Take one channel of it.")
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    array = np.asarray(data)
    return Image(array, grid_of(array.shape, layer_matrix(layer), name))


def image_layer(image: Image, name: str, **options: Any) -> LayerData:
    """A scalar image as a layer."""
    return image.array, {"name": name, "affine": matrix_of(image.grid), **options}, "image"


def result_layers(result: RegistrationResult, name: str = "moving") -> list[LayerData]:
    """Layers of a registration: moved image, probability, mask and deformed grid.

    Parameters
    ----------
    result : RegistrationResult
    name : str
        Of the moving layer.
    """
    mask, probability = result.mask, result.noncorrespondence
    matrix = matrix_of(mask.grid)
    lines = grid_lines(result.deformation)
    width = 0.15 * float(np.mean(mask.grid.spacing))
    return [
        image_layer(result.warped, f"{name} moved"),
        image_layer(
            probability,
            "no counterpart, probability",
            colormap="magma",
            blending="additive",
            contrast_limits=(0.0, 1.0),
            visible=False,
        ),
        (mask.array.astype(np.uint8), {"name": "no counterpart", "affine": matrix}, "labels"),
        (
            lines,
            {"name": "grid", "edge_width": width, "vector_style": "line", "visible": False},
            "vectors",
        ),
    ]


def grid_lines(deformation: Image, lines: int = GRID_LINES) -> NDArray[np.float64]:
    """A regular grid moved by a deformation, as short segments in the world of the viewer.

    Parameters
    ----------
    deformation : Image, vector, mm, LPS
    lines : int
        Number of lines along the longest side of the grid.

    Returns
    -------
    ndarray, shape (N, 2, D)
        Start and direction of each segment. In 3D the lines lie in planes of constant z.
    """
    grid = deformation.grid
    dimension = grid.dimension
    step = max(1, max(grid.shape) // lines)
    fine = max(1, step // SEGMENTS_PER_CELL)
    points = grid.points().reshape(*grid.shape, dimension) + deformation.array
    world = points[..., ::-1]
    segments = []
    for axis in range(dimension - 2, dimension):  # along y and x
        kept = [slice(None, None, fine if other == axis else step) for other in range(dimension)]
        nodes = np.moveaxis(world[tuple(kept)], axis, 0)
        starts, ends = nodes[:-1].reshape(-1, dimension), nodes[1:].reshape(-1, dimension)
        segments.append(np.stack([starts, ends - starts], axis=1))
    return np.concatenate(segments)


def reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """The reader of napari for files of images; None for what it does not read."""
    if not isinstance(path, (str, os.PathLike)):
        return None
    return read


def read(path: str | os.PathLike[str]) -> list[LayerData]:
    """A file as an image layer at its place in space."""
    file = Path(path)
    return [image_layer(read_image(file), file.name.split(".")[0])]
