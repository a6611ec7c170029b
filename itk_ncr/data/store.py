"""Cache of a manifest's images on the intensity scale and grid of the training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from itk_ncr.data.manifest import Manifest, raise_faults, read_grid
from itk_ncr.data.placement import SLICE_PLANE, Placement, SlicePlane
from itk_ncr.data.rendering import upper_quartile
from itk_ncr.errors import ArgumentError, ImageReadError, ImageValueError, NCRError
from itk_ncr.fields import downsample
from itk_ncr.geometry import Grid
from itk_ncr.images import read_image
from itk_ncr.preprocessing import normalise

LARGEST_LABEL = np.iinfo(np.int16).max


@dataclass(frozen=True)
class TrainingLayout:
    """The grid of training, from the grid of the files.

    Attributes
    ----------
    size : sequence of int, array order, optional
        Crop or pad (with background, around the middle) to this many voxels of the file. Default:
        as the images are.
    reduce : int or one per axis
        Voxels become this many times larger afterwards.
    ignore_labels : sequence of int
        Label values that count as no label, besides those that a subject names itself.
    """

    size: tuple[int, ...] | None = None
    reduce: int | tuple[int, ...] = 1
    ignore_labels: tuple[int, ...] = ()

    def shape(self, original: Sequence[int]) -> tuple[int, ...]:
        """Shape of the training grid for a file.

        Parameters
        ----------
        original : sequence of int
            Shape of the file, in array order.

        Returns
        -------
        tuple of int
            Shape after cropping and reduction.

        Raises
        ------
        ArgumentError
            If ``size`` or ``reduce`` does not fit.
        """
        shape = self._cropped(original)
        factors = (self.reduce,) * len(shape) if isinstance(self.reduce, int) else self.reduce
        if len(factors) != len(shape) or min(factors) < 1:
            raise ArgumentError(
                f"reduce must be at least 1, one number or one per axis of {tuple(shape)}; "
                f"got {self.reduce}. Give it in array order."
            )
        return tuple(max(1, round(n / f)) for n, f in zip(shape, factors, strict=True))

    def _cropped(self, original: Sequence[int]) -> tuple[int, ...]:
        size = tuple(original) if self.size is None else self.size
        if len(size) != len(original) or min(size) < 1:
            raise ArgumentError(
                f"size must have one positive number per axis of {tuple(original)}; got "
                f"{self.size}. Give it in array order."
            )
        return size

    def crop(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Crop or pad an array around its middle.

        Parameters
        ----------
        array : ndarray
            Values of a file.

        Returns
        -------
        ndarray, shape ``size``
            Padded with 0; the same array if nothing changes.
        """
        size = self._cropped(array.shape)
        if size == array.shape:
            return array
        result = np.zeros(size, array.dtype)
        taken, put = [], []
        for n, m in zip(array.shape, size, strict=True):
            start = (n - m) // 2
            taken.append(slice(max(start, 0), min(start + m, n)))
            put.append(slice(max(-start, 0), max(-start, 0) + min(n, m)))
        result[tuple(put)] = array[tuple(taken)]
        return result

    def place(self, placement: Placement, original: Sequence[int]) -> Placement:
        """Placement of the training grid.

        Parameters
        ----------
        placement : Placement
            That of the file's grid.
        original : sequence of int
            Shape of the file, in array order.

        Returns
        -------
        Placement
            That of the training grid.
        """
        size = self._cropped(original)
        start = [(n - m) // 2 for n, m in zip(original, size, strict=True)]
        steps = [
            1.0 if n == m or m == 1 else (n - 1) / (m - 1)
            for n, m in zip(size, self.shape(original), strict=True)
        ]
        return placement.cropped(start).stretched(steps)


@dataclass(frozen=True, eq=False)
class SubjectImages:
    """One image of a manifest on the grid of training.

    Attributes
    ----------
    image : Tensor, shape (1, *spatial), float16
        On the scale of ``preprocessing.normalise``.
    inside : Tensor, shape (*spatial), bool
        The object: foreground, holes filled.
    white : float
        Upper quartile of the foreground: in T1 brains the white matter.
    labels : Tensor, shape (*spatial), uint8 or int16, optional
    lesion : Tensor, shape (*spatial), bool, optional
    """

    image: Tensor
    inside: Tensor
    white: float
    labels: Tensor | None
    lesion: Tensor | None


class Store:
    """Reads, normalises and reduces the images of a manifest, each once.

    Parameters
    ----------
    manifest : Manifest
    layout : TrainingLayout
    labels : bool
        Whether to read label maps.
    keep_ignored : bool
        Leave labels that do not count in the label maps.
    plane : SlicePlane
        Where the pixels of 2D slices lie that carry no geometry.
    """

    def __init__(
        self,
        manifest: Manifest,
        layout: TrainingLayout,
        *,
        labels: bool = True,
        keep_ignored: bool = False,
        plane: SlicePlane = SLICE_PLANE,
    ) -> None:
        self.manifest, self.layout, self.plane = manifest, layout, plane
        self.labels, self.keep_ignored = labels, keep_ignored
        self._prepared: dict[int, SubjectImages] = {}
        self._placements: dict[int, Placement] = {}

    def prepare(self, positions: Sequence[int]) -> None:
        """Read images now and raise one error that names all unusable ones.

        Raises
        ------
        ImageReadError
            If a file cannot be read, has nothing to show, or unusable labels.
        """
        raise_faults(self.faults(positions))

    def faults(self, positions: Iterable[int], *, keep: bool = True) -> list[str]:
        """Read images now and return the faults of the unusable ones.

        Parameters
        ----------
        positions : iterable of int
        keep : bool
            Keep them in memory; else they are only checked.

        Raises
        ------
        ArgumentError
            If the layout fits none of them.
        """
        faults = []
        for position in positions:
            try:
                self[position] if keep else self._read(position)
                self.placement(position)
            except ArgumentError:  # the same for every file: the layout's
                raise
            except NCRError as error:
                faults.append(str(error))
        return faults

    def ignored(self, position: int) -> tuple[int, ...]:
        """Label values of an image that count as no label."""
        return (*self.layout.ignore_labels, *self.manifest.subjects[position].ignore_labels)

    def label_values(self, position: int) -> tuple[int, ...]:
        """Label values of an image that count, on the grid of training."""
        labels = self[position].labels
        if labels is None:
            return ()
        found = {int(value) for value in torch.unique(labels)}
        return tuple(sorted(found - {0, *self.ignored(position)}))

    def __getitem__(self, position: int) -> SubjectImages:
        if position not in self._prepared:
            self._prepared[position] = self._read(position)
        return self._prepared[position]

    def placement(self, position: int) -> Placement:
        """Placement of the training grid in space."""
        if position not in self._placements:
            self._place(position, read_grid(self.manifest.subjects[position].image))
        return self._placements[position]

    def _place(self, position: int, grid: Grid) -> None:
        height = self.manifest.subjects[position].slice_mm
        whole = Placement.of(grid, slice_mm=height, plane=self.plane)
        self._placements[position] = self.layout.place(whole, grid.shape)

    def _read(self, position: int) -> SubjectImages:
        subject = self.manifest.subjects[position]
        try:
            read = read_image(subject.image)
            whole = normalise(read.array, str(subject.image))
        except ImageValueError as error:
            raise ImageReadError(str(error)) from None
        self._place(position, read.grid)
        shape = self.layout.shape(whole.values.shape)
        values = torch.from_numpy(np.asarray(self.layout.crop(whole.values)))[None, None]
        image = downsample(values, shape)[0]
        foreground = self._mask(whole.foreground)
        tissue = image[0][foreground]
        if not len(tissue):
            raise ImageReadError(
                f"{str(subject.image)!r} must show something in its middle; got background only. "
                "Choose a larger size."
            )
        return SubjectImages(
            image=image.half(),
            inside=filled(foreground),
            white=upper_quartile(tissue),
            labels=self._labels(position),
            lesion=None
            if subject.lesion is None
            else self._mask(read_image(subject.lesion).array > 0),
        )

    def _mask(self, mask: NDArray[np.bool_]) -> Tensor:
        """A mask on the training grid: at least half of a voxel must be in it."""
        cropped = torch.from_numpy(np.asarray(self.layout.crop(mask), np.float32))
        return downsample(cropped[None, None], self.layout.shape(mask.shape))[0, 0] >= 0.5

    def _labels(self, position: int) -> Tensor | None:
        path = self.manifest.subjects[position].labels
        if path is None or not self.labels:
            return None
        array = read_image(path, "label map").array
        if (array != np.rint(array)).any() or array.min() < 0 or array.max() > LARGEST_LABEL:
            raise ImageReadError(
                f"{str(path)!r} must hold whole numbers from 0 to {LARGEST_LABEL}; got "
                f"{array.min():g} to {array.max():g}. Convert it to labels first."
            )
        kind = np.uint8 if array.max() <= np.iinfo(np.uint8).max else np.int16
        ignored = () if self.keep_ignored else self.ignored(position)
        labels = np.where(np.isin(array, ignored), 0, array).astype(kind)
        labels = self.layout.crop(labels)
        for axis, n in enumerate(self.layout.shape(array.shape)):
            nearest = np.rint(np.linspace(0, labels.shape[axis] - 1, n)).astype(int)
            labels = labels.take(nearest, axis)
        return torch.from_numpy(np.ascontiguousarray(labels))


def filled(mask: Tensor) -> Tensor:
    """The mask with its holes filled."""
    return torch.from_numpy(ndimage.binary_fill_holes(mask.numpy()))
