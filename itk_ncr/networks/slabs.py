"""Borders and slabs of channels-last images for convolutions without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from itk_ncr.networks.layers import CHANNELS_LAST


def empty(like: Tensor, channels: int, sizes: Sequence[int]) -> Tensor:
    """Channels last, with the number of samples, type and device of another."""
    return torch.empty(
        (len(like), channels, *sizes),
        dtype=like.dtype,
        device=like.device,
        memory_format=CHANNELS_LAST[like.ndim - 2],
    )


def interior(x: Tensor, first_axis: int = 2) -> Tensor:
    """View without the outermost voxels of the axes from ``first_axis`` on."""
    for axis in range(first_axis, x.ndim):
        x = x.narrow(axis, 1, x.shape[axis] - 2)
    return x


def repeat_inside(x: Tensor, first_axis: int = 2) -> Tensor:
    """Overwrite the outermost voxels of these axes with their inner neighbours."""
    for axis in range(first_axis, x.ndim):
        last = x.shape[axis] - 1
        x.select(axis, 0).copy_(x.select(axis, 1))
        x.select(axis, last).copy_(x.select(axis, last - 1))
    return x


def bordered(x: Tensor) -> Tensor:
    """``repeat_border`` for channels last, some five times faster."""
    out = empty(x, x.shape[1], [n + 2 for n in x.shape[2:]])
    interior(out).copy_(x)
    return repeat_inside(out)


def starts(size: int, step: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of at most ``step``."""
    for start in range(0, size, step):
        yield start, min(start + step, size)


class RollingRows:
    """Rows of an image that come slab by slab, with the border and neighbours of every row.

    Parameters
    ----------
    like : Tensor, shape (N, C, rows, ...)
        For channels, the other axes, type and device.
    most : int
        Rows of the largest slab.
    """

    def __init__(self, like: Tensor, most: int) -> None:
        # Two rows from before, and the border behind the last.
        self.rows = empty(like, like.shape[1], [most + 3, *(n + 2 for n in like.shape[3:])])
        self.done = self.filled = 0

    def room(self, count: int) -> Tensor:
        """View to write the next rows into; what :meth:`close` gave before is lost."""
        if self.done:
            self.rows.narrow(2, 0, 2).copy_(self.rows.narrow(2, self.filled - 2, 2).clone())
        return interior(self.rows.narrow(2, 2 if self.done else 1, count), 3)

    def close(self, count: int, last: bool, *, activate: bool = False) -> tuple[int, Tensor]:
        """Finish the rows written into :meth:`room`.

        Parameters
        ----------
        count : int
            How many they are.
        last : bool
            Whether none follows.
        activate : bool
            Whether a ReLU comes first.

        Returns
        -------
        int, Tensor
            Number of the first row that has all its neighbours now, and the rows with border that
            a convolution needs for it and for those behind it.
        """
        start = 2 if self.done else 1
        fresh = self.rows.narrow(2, start, count)
        repeat_inside(fresh, 3)
        if activate:
            fresh.relu_()
        end = start + count
        if not self.done:
            self.rows.select(2, 0).copy_(self.rows.select(2, 1))
        if last:
            self.rows.select(2, end).copy_(self.rows.select(2, end - 1))
            end += 1
        at = max(self.done - 1, 0)
        self.done += count
        self.filled = end
        return at, self.rows.narrow(2, 0, end)
