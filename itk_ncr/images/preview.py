"""One slice of an image as a small PNG, for notebooks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.geometry import Grid, nearest_axes, orientation_code
from itk_ncr.images.deferred import DeferredImage
from itk_ncr.images.image import Image, brief

EDGE = 256  # longest side in pixels: a grey slice takes some 30 KB
WINDOW = (1.0, 99.0)  # percentiles of the slice that become black and white
# How a body's axis is drawn: towards left on the right, posterior down (or right), inferior down.
LEFT, POSTERIOR, SUPERIOR = 0, 1, 2


@dataclass(frozen=True)
class Slice:
    """A plane through a grid that is one index of an array axis; a 2D grid is one itself.

    Attributes
    ----------
    axis : int or None
        Array axis that the plane lies across; None in 2D.
    index : int
        Where along that axis.
    transposed : bool
        Whether the first of the other two array axes runs along the rows of the picture.
    flips : tuple of bool
        Whether the picture runs against its vertical and its horizontal array axis.
    spacing : tuple of float
        Of the picture's rows and columns, mm.
    """

    axis: int | None
    index: int
    transposed: bool
    flips: tuple[bool, bool]
    spacing: tuple[float, float]

    @classmethod
    def of(cls, image: Image, mark: Image | None = None) -> Slice:
        """The axial slice with most of ``mark`` in it, else the middle one.

        Anterior (in other planes superior) is up and the patient's right on the left. A deferred
        image is cut across its first array axis, where a slice costs least; a 2D image is shown as
        it is stored.
        """
        grid = image.grid
        if grid.dimension == 2:
            return cls(None, 0, False, (False, False), (grid.spacing[1], grid.spacing[0]))
        body, signs = _body_axes(grid)
        axis = 0 if isinstance(image, DeferredImage) else body.index(SUPERIOR)
        across, along = (a for a in range(3) if a != axis)
        # The vertical axis of the picture is the later of the two in LEFT, POSTERIOR, SUPERIOR.
        transposed = body[across] < body[along]
        down, right = (along, across) if transposed else (across, along)
        flips = (signs[down] > 0) == (body[down] == SUPERIOR), signs[right] < 0
        spacing = grid.spacing[::-1]
        index = grid.shape[axis] // 2
        if mark is not None and not isinstance(mark, DeferredImage):
            counts = np.count_nonzero(mark.array > 0, axis=tuple({0, 1, 2} - {axis}))
            index = int(counts.argmax()) if counts.any() else index
        return cls(axis, index, transposed, flips, (spacing[down], spacing[right]))

    def cut(self, image: Image) -> NDArray[Any]:
        """The values of a scalar image, or lengths of its vectors, as rows and columns."""
        if self.axis is None:
            values = image.array
        elif self.axis == 0:
            values = image.rows()(slice(self.index, self.index + 1))[0]
        else:
            values = image.array.take(self.index, axis=self.axis)
        if image.is_vector:
            values = np.linalg.norm(values.astype(np.float64), axis=-1)
        values = values.T if self.transposed else values
        return values[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]


def grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values as grey levels, non-finite ones black; an image of one value is mid grey."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(values[finite], WINDOW)
    if low == high:  # a small label on a wide background
        low, high = values[finite].min(), values[finite].max()
    if low == high:
        return np.where(finite, 128, 0).astype(np.uint8)
    scaled = np.clip((np.where(finite, values, low) - low) / (high - low), 0, 1)
    return (255 * scaled).astype(np.uint8)


def picture(pixels: NDArray[np.uint8], spacing: Sequence[float], caption: str) -> str:
    """An ``<img>`` element that holds its PNG.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns) or (rows, columns, 3)
    spacing : of rows and columns, mm
    caption : str
        For those who cannot see it.
    """
    from PIL import Image as Picture

    extent = np.asarray(pixels.shape[:2]) * np.asarray(spacing)
    height, width = np.maximum(1, np.round(EDGE * extent / extent.max())).astype(int)
    sized = Picture.fromarray(pixels).resize((int(width), int(height)), Picture.Resampling.BILINEAR)
    file = io.BytesIO()
    sized.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<img alt="{html.escape(caption)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{data}">'
    )


def image_html(image: Image) -> str:
    """HTML view of an image for notebooks: a slice, its type and its position."""
    plane = Slice.of(image)
    shown = picture(grey(plane.cut(image)), plane.spacing, "slice of the image")
    kind = f"{image.dtype}" + (f", {image.components} components" if image.is_vector else "")
    rows = [
        ("size", " x ".join(map(str, image.grid.size))),
        ("type", kind),
        ("spacing, mm", brief(image.grid.spacing)),
        ("origin, mm, LPS", brief(image.grid.origin)),
        ("axes grow towards", orientation_code(image.grid)),
    ]
    return f'<div style="display:flex;gap:1em;align-items:center">{shown}{table(rows)}</div>'


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values as an HTML table."""
    cells = (f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f'<table style="text-align:left">{"".join(cells)}</table>'


def _body_axes(grid: Grid) -> tuple[list[int], list[float]]:
    """For every array axis the axis of the body that it runs along, and its sign in LPS."""
    direction = np.asarray(grid.direction)
    axes = nearest_axes(direction)
    signs = [float(np.sign(direction[row, column])) for column, row in enumerate(axes)]
    return list(axes[::-1]), signs[::-1]
