"""Turn arrays the way a network was trained, by swapping and flipping axes, and fields back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from itk_ncr.geometry import Grid, direction_of, nearest_axes


@dataclass(frozen=True)
class Turn:
    """A way from one storage of an image to another.

    Attributes
    ----------
    order : tuple of int
        Array axis ``a`` of the turned image is the array axis ``order[a]`` of the original.
    flipped : tuple of bool
        Whether array axis ``a`` of the turned image runs backwards.
    """

    order: tuple[int, ...]
    flipped: tuple[bool, ...]

    @classmethod
    def towards(cls, grid: Grid, orientation: str | None) -> Turn:
        """The turn that brings arrays on a grid nearest to an orientation; None: an identity.

        Oblique directions go to the nearest axes; nothing is resampled.
        """
        dimension = grid.dimension
        target = np.asarray(direction_of(orientation)) if orientation else np.eye(dimension)
        # Row: index axis of the grid; column: index axis as wanted.
        alike = np.asarray(grid.direction).T @ target
        axes = nearest_axes(alike)
        backwards = [bool(alike[axis, column] < 0) for column, axis in enumerate(axes)]
        # Arrays have their axes the other way round.
        return cls(tuple(dimension - 1 - a for a in axes[::-1]), tuple(backwards[::-1]))

    def image(self, image: Tensor) -> Tensor:
        """An image (N, C, *spatial), turned; its channels stay as they are."""
        turned = image.permute(0, 1, *(axis + 2 for axis in self.order))
        return turned.flip([a + 2 for a, back in enumerate(self.flipped) if back]).contiguous()

    def image_back(self, image: Tensor) -> Tensor:
        """A turned image as it was stored."""
        straight = image.flip([a + 2 for a, back in enumerate(self.flipped) if back])
        inverse = [self.order.index(axis) for axis in range(len(self.order))]
        return straight.permute(0, 1, *(axis + 2 for axis in inverse)).contiguous()

    def field_back(self, field: Tensor) -> Tensor:
        """A field (N, D, *spatial) on a turned grid: channels change places and signs as well."""
        signs = field.new_tensor([-1.0 if back else 1.0 for back in self.flipped])
        signed = field * signs.view(1, -1, *(1,) * len(self.order))
        inverse = [self.order.index(axis) for axis in range(len(self.order))]
        return self.image_back(signed[:, inverse])

    def sizes(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Values per array axis of the turned image, per array axis of the original."""
        return tuple(values[self.order.index(axis)] for axis in range(len(self.order)))
