"""Input and output of a tool: two aligned images on one grid, and a displacement.

The grid that a tool sees has the spacing of the working grid, but neither its origin nor its
direction: the affine and the place in space are dealt with before and after, once for all tools. So
an oblique image registers exactly as an upright one does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.fields import resize_displacement
from itk_ncr.geometry import Grid
from itk_ncr.ops import compose, warp
from itk_ncr.registration.solver import InstanceSettings, Pair, level_shape

# Below this nothing counts as tissue; the brightest is 1.
DARK = 0.1


@dataclass(frozen=True)
class Task:
    """One pair for a tool.

    Attributes
    ----------
    pair : Pair
        On the scale of ``preprocessing``. ``foreground`` is 1 wherever the images may be used at
        all, background included; ``known`` and ``known_moving`` are dilated already.
    multimodal : bool
        Whether the two show different contrasts.
    seed : int
    threads : int
    report : callable
        Called with the fraction done, in [0, 1].
    check : callable
        Called often where a tool lets us; raises to stop.
    grid : Grid
        Of the pair: where in the space of the patient left and right are.
    lesion, moving_lesion : Tensor, shape (1, 1, *spatial), optional
        The lesion masks of the pair as they were given, not dilated.
    solver : InstanceSettings
        Of our own solver, for methods that use it.
    find_mask : bool
        Whether a method that can find noncorrespondence should.
    options : dataclass or None
        Of the method.
    """

    pair: Pair
    multimodal: bool
    seed: int
    threads: int
    report: Callable[[float], None]
    check: Callable[[], None]
    grid: Grid
    lesion: Tensor | None
    moving_lesion: Tensor | None
    solver: InstanceSettings
    find_mask: bool
    options: Any

    @property
    def dimension(self) -> int:
        """Number of axes."""
        return self.pair.fixed.ndim - 2

    @property
    def tool_seed(self) -> int:
        """The seed as tools take it: positive, for 0 is the clock to many, and within 31 bits."""
        return 1 + self.seed % (2**31 - 2)

    @property
    def use_fixed(self) -> NDArray[np.bool_] | None:
        """True where the fixed image counts; None where all of it does."""
        return used(self.pair.foreground, self.pair.known)

    @property
    def use_moving(self) -> NDArray[np.bool_] | None:
        """True where the moving image counts; None where all of it does."""
        return used(self.pair.foreground, self.pair.known_moving)


def levels(pair: Pair, factors: tuple[float, ...]) -> list[Pair]:
    """The pair on ever finer grids; a grid that is no coarser than the next is left out."""
    shapes: dict[tuple[int, ...], float] = {}
    for factor in factors:
        shapes[level_shape(pair.fixed.shape[2:], pair.spacing, factor)] = factor
    return [pair.reduced(factor) for factor in shapes.values()]


def used(foreground: Tensor, known: Tensor | None) -> NDArray[np.bool_] | None:
    """True where an image counts, as an array; None where all of it does."""
    use = foreground > 0.5
    if known is not None:
        use &= known < 0.5
    return None if bool(use.all()) else np.ascontiguousarray(use[0, 0].numpy())


def ignored(pair: Pair, displacement: Tensor) -> Tensor | None:
    """1 where nothing may be compared under a displacement; None where everything may."""
    masks = []
    if not bool(pair.foreground.all()):
        masks.append(1 - pair.foreground)
    if pair.known is not None:
        masks.append(pair.known)
    if pair.known_moving is not None:
        masks.append((warp(pair.known_moving, displacement) >= 0.5).to(pair.fixed.dtype))
    return torch.stack(masks).amax(0) if masks else None


def as_bright(fixed: Tensor, moved: Tensor, masked: Tensor | None) -> Tensor:
    """The fixed image with tissue as bright as the moved one's.

    The scale of ``preprocessing`` ends at the brightest tissue, which may be a lesion; the median
    of the ratios does not mind one, and becomes exact as the images become alike.
    """
    counts = (fixed > DARK) & (moved > DARK)
    if masked is not None:
        counts &= masked < 0.5
    return fixed / (fixed[counts] / moved[counts]).median() if bool(counts.any()) else fixed


def resized(displacement: Tensor, pair: Pair) -> Tensor:
    """A displacement on the grid of a pair."""
    return resize_displacement(displacement, pair.fixed.shape[2:])


def after(first: Tensor, then: Tensor) -> Tensor:
    """The displacement of going ``first``, and on from there by ``then``."""
    return compose(then, first)


def scalar(tensor: Tensor) -> NDArray[np.float32]:
    """An image, (1, 1, *spatial), as an array."""
    return np.ascontiguousarray(tensor[0, 0].numpy())


def to_voxels(vectors_mm: NDArray[Any], spacing: tuple[float, ...]) -> Tensor:
    """Vectors (*spatial, D) in mm along x, y(, z) as a displacement in voxels.

    Parameters
    ----------
    spacing : tuple of float
        In array order.
    """
    channels = np.moveaxis(np.asarray(vectors_mm, np.float64), -1, 0)[::-1]
    steps = np.asarray(spacing).reshape(-1, *(1,) * (channels.ndim - 1))
    return torch.from_numpy(np.ascontiguousarray(channels / steps, np.float32))[None]


def to_millimetres(displacement: Tensor, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """The way back: vectors (*spatial, D) in mm along x, y(, z)."""
    channels = displacement[0].double().numpy()
    steps = np.asarray(spacing).reshape(-1, *(1,) * (channels.ndim - 1))
    return np.ascontiguousarray(np.moveaxis((channels * steps)[::-1], 0, -1))
