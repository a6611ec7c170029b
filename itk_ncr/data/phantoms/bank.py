"""Bank of real lesion masks, placed in space."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.data.augmentation import rotation, uniform
from itk_ncr.data.manifest import image_stem, raise_faults
from itk_ncr.data.phantoms.named import TEST_LESIONS
from itk_ncr.data.placement import Placement
from itk_ncr.errors import ArgumentError, NCRError
from itk_ncr.images import read_image
from itk_ncr.ops import warp

# Draws before a lesion is given up that never falls into the image.
ATTEMPTS = 20
# A lesion counts if at least this share of its drawn mask is inside the object.
LEAST_INSIDE = 0.5


@dataclass(frozen=True)
class Jitter:
    r"""Random variation of a lesion mask before use.

    Attributes
    ----------
    shift_mm : float
        Along every axis, uniform up to this.
    scale : float
        Factor ``exp(s)`` with \|s\| up to this.
    rotate_degrees : float
        About the lesion's centre.
    flip : bool
        Mirror at the plane x = 0, between the hemispheres, every other time.
    """

    shift_mm: float = 8.0
    scale: float = 0.2
    rotate_degrees: float = 15.0
    flip: bool = True


# Leaves a mask as it was drawn.
NO_JITTER = Jitter(shift_mm=0, scale=0, rotate_degrees=0, flip=False)


@dataclass(frozen=True, eq=False)
class LesionMask:
    """A cropped mask and its position in space.

    Attributes
    ----------
    name : str
    array : Tensor, shape (1, 1, z, y, x), float32
        0 or 1, with a margin of one voxel of 0.
    to_index : ndarray, shape (3, 4)
        From LPS mm to indices of ``array``, array order.
    centre_mm : ndarray, shape (3,)
        Centre of mass, LPS.
    """

    name: str
    array: Tensor
    to_index: NDArray[np.float64]
    centre_mm: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> LesionMask:
        """Read a 3D mask.

        Parameters
        ----------
        path : Path
            Image file; every voxel above 0 belongs to the mask.

        Returns
        -------
        LesionMask
            The mask, cropped.

        Raises
        ------
        ImageReadError
            If the file cannot be read.
        ArgumentError
            If the mask is not 3D, or empty.
        """
        image = read_image(path, "lesion mask")
        voxels = np.argwhere(image.array > 0)
        if image.dimension != 3 or not len(voxels):
            raise ArgumentError(
                f"lesion mask must be 3D and not empty; got {image.dimension}D with {len(voxels)} "
                f"voxels in {str(path)!r}. Leave it out."
            )
        start, stop = voxels.min(0) - 1, voxels.max(0) + 2
        array = torch.zeros(1, 1, *(stop - start).tolist())
        array[(0, 0, *torch.from_numpy(voxels - start).T)] = 1.0
        to_mm = Placement.of(image.grid).cropped(start.tolist()).matrix
        inverse = np.linalg.inv(to_mm[:, :3])
        centre = to_mm @ np.append((voxels - start).mean(0), 1.0)
        return cls(
            image_stem(path.name) or path.stem,
            array,
            np.column_stack([inverse, -inverse @ to_mm[:, 3]]),
            centre,
        )

    def on(
        self,
        placement: Placement,
        shape: Sequence[int],
        jitter: NDArray[np.float64] | None = None,
    ) -> Tensor:
        """The mask on another grid, 2D or 3D.

        Parameters
        ----------
        placement : Placement
            Position of that grid in space.
        shape : sequence of int
            Size of that grid, in array order.
        jitter : ndarray, shape (4, 4), optional
            From mm in the image to mm in the mask. Default: identity.

        Returns
        -------
        Tensor of bool, shape (*shape)
            True in the lesion.
        """
        to_mm = np.vstack([placement.matrix, [0] * placement.dimension + [1]])
        to_index = self.to_index @ (np.eye(4) if jitter is None else jitter) @ to_mm
        result = torch.zeros(tuple(shape), dtype=torch.bool)
        box = _reach(to_index, self.array.shape[2:], shape)
        if any(part.stop <= part.start for part in box):
            return result
        starts = [part.start for part in box]
        sizes = [part.stop - part.start for part in box]
        offset = to_index[:, -1] + to_index[:, :-1] @ np.asarray(starts, np.float64)
        # A 2D grid is one with a single layer, along an axis that contributes nothing.
        lines = [torch.arange(n, dtype=torch.float32) for n in sizes]
        grid = (1, *sizes) if len(sizes) == 2 else tuple(sizes)
        field = torch.empty(1, 3, *grid)
        for channel in range(3):
            total = torch.full((1,) * len(sizes), float(offset[channel]))
            for axis, line in enumerate(lines):
                along = line.view(-1, *(1,) * (len(sizes) - 1 - axis))
                total = total + float(to_index[channel, axis]) * along
            own = torch.arange(grid[channel], dtype=torch.float32)
            field[0, channel] = total - own.view(-1, *(1,) * (2 - channel))
        found = warp(self.array, field, padding="fill")[0, 0].view(sizes)
        result[box] = found >= 0.5
        return result


def _reach(
    to_index: NDArray[np.float64], size: Sequence[int], shape: Sequence[int]
) -> tuple[slice, ...]:
    """The part of a grid that may meet an array, given the map from the one to the other."""
    if len(shape) == 2:
        return tuple(slice(0, n) for n in shape)
    ends = np.stack(np.meshgrid(*[(0.0, n - 1.0) for n in size], indexing="ij"), -1).reshape(-1, 3)
    corners = (ends - to_index[:, -1]) @ np.linalg.inv(to_index[:, :-1]).T
    low = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


class LesionBank:
    """Masks of real lesions to sample from.

    Parameters
    ----------
    masks : sequence of LesionMask
    jitter : Jitter
    smallest_voxels : int
        Smallest number of voxels of a drawn lesion inside the object.
    """

    def __init__(
        self,
        masks: Sequence[LesionMask],
        *,
        jitter: Jitter = Jitter(),
        smallest_voxels: int = 30,
    ) -> None:
        if not masks:
            raise ArgumentError("masks must hold at least one lesion; got none. Check the folder.")
        self.masks = tuple(masks)
        self.jitter = jitter
        self.smallest_voxels = smallest_voxels

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        *,
        exclude: Collection[str] = TEST_LESIONS,
    ) -> LesionBank:
        """Read all masks of a folder.

        Parameters
        ----------
        folder : path
            Folder with one 3D mask per file.
        exclude : collection of str
            File names, without suffix, to leave out. Default: the lesions kept for testing.

        Returns
        -------
        LesionBank
            The masks in order of their names.

        Raises
        ------
        ImageReadError
            Lists all files that are not usable masks.
        """
        masks, faults = [], []
        for file in sorted(Path(folder).iterdir()):
            stem = image_stem(file.name)
            if stem is None or stem in exclude:
                continue
            try:
                masks.append(LesionMask.read(file))
            except NCRError as error:
                faults.append(str(error))
        raise_faults(faults)
        return cls(masks)

    def draw(
        self, placement: Placement, inside: Tensor, generator: torch.Generator
    ) -> Tensor | None:
        """Draw a random mask, slightly changed, within the object.

        Parameters
        ----------
        placement : Placement
            Position of the image in space.
        inside : Tensor of bool, shape (*spatial)
            The object.
        generator : torch.Generator
            The same state draws the same mask.

        Returns
        -------
        Tensor of bool, shape (*spatial), or None
            True in the lesion. None if no mask fell into the object in several attempts, or if the
            position of the image is unknown.
        """
        if not placement.located:
            return None
        for _ in range(ATTEMPTS):
            mask = self.masks[int(uniform(generator, 0, len(self.masks)))]
            jitter = draw_jitter(self.jitter, mask.centre_mm, generator)
            found = mask.on(placement, inside.shape, jitter)
            kept = found & inside
            count = int(kept.sum())
            if count >= max(self.smallest_voxels, LEAST_INSIDE * int(found.sum())):
                return kept
        return None


def draw_jitter(
    jitter: Jitter, centre_mm: NDArray[np.float64], generator: torch.Generator
) -> NDArray[np.float64]:
    """(4, 4): from mm in the image to mm in the mask; LPS."""
    axis = torch.randn(3, generator=generator)
    turn = rotation(
        uniform(generator, -jitter.rotate_degrees, jitter.rotate_degrees),
        3,
        (1.0, 1.0, 1.0),
        (axis / axis.norm()).tolist(),
    ) * math.exp(uniform(generator, -jitter.scale, jitter.scale))
    shift = np.array([uniform(generator, -1, 1) for _ in range(3)]) * jitter.shift_mm
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = centre_mm - turn @ (centre_mm + shift)
    if jitter.flip and uniform(generator, 0, 1) < 0.5:
        matrix = matrix @ np.diag([-1.0, 1.0, 1.0, 1.0])
    return matrix
