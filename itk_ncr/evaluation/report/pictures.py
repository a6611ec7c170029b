"""Still pictures for pages: planes of an image with outlines of masks, and maps in colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.evaluation.contrast import Window, grey_window, scaled
from itk_ncr.evaluation.scene import object_box, upright
from itk_ncr.geometry import Grid

# Longest side of a plane in pixels; smaller ones are enlarged.
EDGE = 420
# Ends of the colours of a map in [0, 1]: black body without its white.
_HEAT = ((0.0, (0, 0, 0)), (0.35, (150, 20, 60)), (0.7, (245, 120, 30)), (1.0, (255, 240, 150)))


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes
    ----------
    title, caption : str
    source : str
        Address of the PNG, a data URI.
    """

    title: str
    caption: str
    source: str


@dataclass(frozen=True)
class Outline:
    """A mask to be drawn as an outline over a picture."""

    mask: NDArray[np.bool_]
    colour: tuple[int, int, int]


class Canvas:
    """Draws the same planes of arrays on one grid: the image in 2D, three planes in 3D.

    Parameters
    ----------
    grid : Grid
        Of all arrays.
    shown : ndarray of bool
        The object; pictures are cut to it.
    focus : ndarray of bool
        The planes go through the middle of it, or of the object where it is empty.
    """

    def __init__(self, grid: Grid, shown: NDArray[np.bool_], focus: NDArray[np.bool_]) -> None:
        self.order, self.flips = upright(grid)
        self.spacing = tuple(grid.spacing[::-1][axis] for axis in self.order)
        turned = self._turned(shown)
        self.box = object_box(turned)
        region = self._turned(focus)[self.box]
        if not region.any():
            region = turned[self.box]
        self.middle = tuple(_middle(region, axis) for axis in range(region.ndim))

    def picture(
        self,
        title: str,
        values: NDArray,
        *,
        caption: str = "",
        window: Window | None = None,
        outlines: Sequence[Outline] = (),
        heat: bool = False,
    ) -> Picture:
        """A grey picture with outlines, or a map of values in [0, 1] in colours.

        Parameters
        ----------
        title, caption : str
        values : ndarray
            On the grid.
        window : tuple of float, optional
            Black and white; default: by the values.
        outlines : sequence of Outline
        heat : bool
            Draw in colours; the values are shares.
        """
        values = np.nan_to_num(np.asarray(values, np.float32))
        turned = self._turned(values)[self.box]
        low_high = (0.0, 1.0) if heat else window or grey_window(values)
        tiles = []
        for across in self._planes():
            shares = scaled(self._cut(turned, across), low_high)
            rows, columns = self._pixels(shares.shape, across)
            pixels = _coloured(_enlarged(shares, rows, columns), heat)
            for outline in outlines:
                mask = self._cut(self._turned(outline.mask)[self.box], across)
                pixels[_rim(_enlarged(mask.astype(np.float32), rows, columns) > 0.5)] = (
                    outline.colour
                )
            tiles.append(pixels)
        return Picture(title, caption, _png(_beside(tiles)))

    def _turned(self, array: NDArray) -> NDArray:
        return np.transpose(array, self.order)[self.flips]

    def _planes(self) -> tuple[int | None, ...]:
        return (None,) if len(self.order) == 2 else (0, 1, 2)

    def _cut(self, array: NDArray, across: int | None) -> NDArray:
        if across is None:
            return array
        plane = np.take(array, self.middle[across], axis=across)
        return plane[::-1] if across in (1, 2) else plane

    def _pixels(self, shape: tuple[int, ...], across: int | None) -> tuple[int, int]:
        row_mm, column_mm = (s for axis, s in enumerate(self.spacing) if axis != across)
        height, width = shape[0] * row_mm, shape[1] * column_mm
        edge = EDGE if across is None else EDGE * 2 // 3
        factor = edge / max(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))


def _middle(region: NDArray[np.bool_], axis: int) -> int:
    along = region.sum(tuple(a for a in range(region.ndim) if a != axis))
    return round(float(np.average(np.arange(region.shape[axis]), weights=along)))


def _enlarged(plane: NDArray, rows: int, columns: int) -> NDArray:
    from PIL import Image as Pillow

    picture = Pillow.fromarray(np.ascontiguousarray(plane, np.float32), mode="F")
    return np.asarray(picture.resize((columns, rows), Pillow.Resampling.BILINEAR))


def _coloured(shares: NDArray, heat: bool) -> NDArray[np.uint8]:
    if not heat:
        grey = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    at = [place for place, _ in _HEAT]
    channels = [np.interp(shares, at, [colour[c] for _, colour in _HEAT]) for c in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def _rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Two pixels along the border of a mask."""
    from scipy import ndimage

    grown = ndimage.binary_dilation(mask)
    return np.asarray(grown & ~ndimage.binary_erosion(mask, border_value=1))


def _beside(tiles: Sequence[NDArray[np.uint8]], gap: int = 6) -> NDArray[np.uint8]:
    height = max(tile.shape[0] for tile in tiles)
    width = sum(tile.shape[1] for tile in tiles) + gap * (len(tiles) - 1)
    page = np.zeros((height, width, 3), np.uint8)
    left = 0
    for tile in tiles:
        top = (height - tile.shape[0]) // 2
        page[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        left += tile.shape[1] + gap
    return page


def _png(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
