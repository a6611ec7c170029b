"""Sprite sheets of slices for the report: one sheet per plane and layer.

A sheet holds the tiles of all slices, row after row. Grey layers are JPEG; masks are bits of a
PNG. The page's script takes the sheets apart again and draws every view from them.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.evaluation.contrast import Window, jacobian_limit, scaled
from itk_ncr.evaluation.scene import Plane, Scene, plane_across, planes

# What the pictures of a page may take, in characters of base64: a page stays below 5 MB with it.
BYTES = 4_200_000
# Pixels of one layer over all planes: a brain of 96x112x96 voxels fits with every slice.
PIXELS = 5_000_000
# Longest side of a tile where not everything fits: fewer slices come second.
EDGE = 176
# A brain of 96x112x96 voxels takes 1.6 MB at the first of them; noise goes on down the row.
QUALITIES = (82, 65, 45, 25, 10)
BITS = {"mask": 1, "lesion": 2, "truth": 4, "folded": 8, "shown": 16}
# JPEG codes blocks of 8 x 8 pixels: a tile that fills whole blocks does not bleed into the next.
_BLOCK = 8
_NAMES = {None: "Image", 0: "Axial", 1: "Coronal", 2: "Sagittal"}


@dataclass(frozen=True)
class Tiles:
    """The slices of one plane that a page shows."""

    plane: Plane
    across: int | None
    """Axis of the scene that the slices follow; None: a 2D image."""
    positions: NDArray[np.int64]
    """Index of every slice along that axis."""
    tile: tuple[int, int]
    """Rows and columns of a slice in the sheet."""
    start: int
    """Which slice to show first."""

    @property
    def flipped(self) -> bool:
        """Whether row 0 of a tile is the last index of the row axis."""
        return self.across in (1, 2)

    @property
    def step(self) -> int:
        """Voxels from one slice to the next."""
        return int(self.positions[1] - self.positions[0]) if self.positions.size > 1 else 1

    def tiles(self, array: NDArray, tile: tuple[int, int] | None = None) -> NDArray:
        """Slices of an array of bytes as tiles, shape (slices, rows, columns)."""
        if self.across is None:
            slices = array[None]
        else:
            slices = np.moveaxis(np.take(array, self.positions, axis=self.across), self.across, 0)
            slices = slices[:, ::-1] if self.flipped else slices
        rows, columns = tile or self.tile
        if slices.shape[1:] == (rows, columns):
            return slices
        from PIL import Image

        box = Image.Resampling.BOX
        return np.stack(
            [
                np.asarray(Image.fromarray(np.ascontiguousarray(one)).resize((columns, rows), box))
                for one in slices
            ]
        )


def stacks(scene: Scene) -> list[Tiles]:
    """Choose slices and their size so that the page stays small."""
    shown = planes(scene)
    middle = scene.focus if scene.fixed.ndim == 3 else (0, 0)
    made = []
    for plane in shown:
        across = next((a for a in range(3) if a not in plane.axes), None)
        across = across if scene.fixed.ndim == 3 else None
        count = 1 if across is None else scene.fixed.shape[across]
        budget = PIXELS / len(shown)
        rows, columns = plane.shape
        scale = 1.0
        if count * rows * columns > budget:
            if across is None:
                scale = math.sqrt(budget / (rows * columns))
            else:
                scale = min(1.0, EDGE / max(rows, columns))
        tile = (max(1, round(rows * scale)), max(1, round(columns * scale)))
        step = max(1, math.ceil(count * tile[0] * tile[1] / budget))
        first = middle[across] % step if across is not None else 0
        positions = np.arange(first, count, step)
        start = int(np.searchsorted(positions, middle[across])) if across is not None else 0
        made.append(
            Tiles(
                plane if across is None else plane_across(scene, across, middle[across]),
                across,
                positions,
                tile,
                start,
            )
        )
    return made


def sheets(scene: Scene, shown: list[Tiles]) -> list[dict[str, Any]]:
    """Everything the page's script needs to draw the stacks, ready for JSON."""
    grey = _grey_layers(scene)
    bits = _bits(scene)
    shifts, limit = _shifts(scene)
    uncoded: list[dict[str, NDArray]] = []
    described = []
    exact = 0
    for stack in shown:
        half = (max(1, (stack.tile[0] + 1) // 2), max(1, (stack.tile[1] + 1) // 2))
        parts = {name: _sheet(stack.tiles(layer), stack) for name, layer in grey.items()}
        for name, axis in zip(("down", "right"), stack.plane.axes, strict=True):
            parts[name] = _sheet(stack.tiles(shifts[axis], half), stack)
        uncoded.append(parts)
        mask = _encoded(_sheet(_bit_tiles(stack, bits), stack), "PNG")
        exact += len(mask)
        described.append(_described(scene, stack, half, limit) | {"sheets": {"bits": mask}})
    for quality in QUALITIES:
        coded = [
            {name: _encoded(sheet, "JPEG", quality=quality) for name, sheet in layers.items()}
            for layers in uncoded
        ]
        if exact + sum(len(text) for layers in coded for text in layers.values()) <= BYTES:
            break
    for description, layers in zip(described, coded, strict=True):
        description["sheets"] |= layers
    return described


def _grey_layers(scene: Scene) -> dict[str, NDArray]:
    """Every layer as bytes: 0 black, 255 white; the Jacobian logarithmic, 128 where it is 1."""
    span = math.log(jacobian_limit(scene.jacobian))
    logarithm = np.log(np.maximum(scene.jacobian, np.float32(1e-6)))
    return {
        "fixed": _bytes(scene.fixed, scene.fixed_window),
        "before": _bytes(scene.before, scene.moving_window),
        "after": _bytes(scene.after, scene.moving_window),
        "probability": _bytes(scene.probability, (0.0, 1.0)),
        "jacobian": _bytes(logarithm, (-span, span)),
    }


def _bytes(array: NDArray, window: Window) -> NDArray[np.uint8]:
    share = scaled(array, window)
    share *= 255
    share += 0.5
    return share.astype(np.uint8)


def _bits(scene: Scene) -> dict[str, NDArray[np.uint8]]:
    """Every mask as bytes: 0 outside, 255 inside."""
    masks = {
        "mask": scene.mask,
        **scene.given,
        "folded": ~(scene.jacobian > 0),
        "shown": scene.shown,
    }
    return {name: mask * np.uint8(255) for name, mask in masks.items()}


def _shifts(scene: Scene) -> tuple[list[NDArray[np.uint8]], float]:
    """Deformation along every axis of the scene as bytes: 128 is 0, 1 and 255 are -+ the limit."""
    along = [scene.shift(axis) * scene.spacing[axis] for axis in range(scene.fixed.ndim)]
    limit = max(float(np.abs(shift).max()) for shift in along) or 1.0
    return [(128.5 + 127 * shift / limit).astype(np.uint8) for shift in along], limit


def _bit_tiles(stack: Tiles, bits: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """All masks in one tile; a pixel that is a quarter full counts, so that small ones stay."""
    total = np.zeros((len(stack.positions), *stack.tile), np.uint8)
    for name, mask in bits.items():
        total |= (stack.tiles(mask) >= 64) * np.uint8(BITS[name])
    return total


def _columns(stack: Tiles) -> int:
    return max(1, round(math.sqrt(len(stack.positions) * stack.tile[0] / stack.tile[1])))


def _sheet(tiles: NDArray[np.uint8], stack: Tiles) -> NDArray[np.uint8]:
    """Tiles side by side, each filled up to whole blocks."""
    rows, columns = (_whole(n) for n in tiles.shape[1:])
    across = _columns(stack)
    down = math.ceil(len(tiles) / across)
    filled = np.pad(
        tiles,
        (
            (0, down * across - len(tiles)),
            (0, rows - tiles.shape[1]),
            (0, columns - tiles.shape[2]),
        ),
        mode="edge",
    )
    grid = filled.reshape(down, across, rows, columns).transpose(0, 2, 1, 3)
    return grid.reshape(down * rows, across * columns)


def _whole(length: int) -> int:
    return -(-length // _BLOCK) * _BLOCK


def _encoded(sheet: NDArray[np.uint8], kind: str, **options: Any) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(sheet).save(file, kind, **options)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"


def _described(scene: Scene, stack: Tiles, half: tuple[int, int], limit: float) -> dict[str, Any]:
    """Positions and labels of the tiles of a stack."""
    row_axis, column_axis = stack.plane.axes
    top, bottom = scene.sides(row_axis)[:: -1 if stack.flipped else 1]
    left, right = scene.sides(column_axis)
    return {
        "name": _NAMES[stack.across],
        "across": stack.across,
        "axes": [row_axis, column_axis],
        "flipped": stack.flipped,
        "shape": list(stack.plane.shape),
        "size_mm": [stack.plane.height, stack.plane.width],
        "letters": {"top": top, "bottom": bottom, "left": left, "right": right},
        "positions": stack.positions.tolist(),
        "places": [_place(scene, stack, int(position)) for position in stack.positions],
        "start": stack.start,
        "columns": _columns(stack),
        "tile": list(stack.tile),
        "half": list(half),
        "block": _BLOCK,
        "shift_mm": limit,
    }


def _place(scene: Scene, stack: Tiles, position: int) -> str:
    """Position of a slice, as its patient's side and mm; of a tilted slice its middle."""
    if stack.across is None:
        return ""
    index = (np.asarray(scene.fixed.shape) - 1) / 2
    index[stack.across] = position
    patient = 2 - stack.across
    at = float((scene.corner + scene.to_points @ index)[patient])
    low, high = scene.sides(stack.across)
    return f"{high if at >= 0 else low} {abs(at):.1f} mm"
