"""OCT pairs of virtual patients with known layers and new fluid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from itk_ncr.data.augmentation import affine_displacement, rotation, uniform
from itk_ncr.data.phantoms.oct.anatomy import DEPTH_MM, WIDTH_MM, OctGrowth, Scan
from itk_ncr.data.phantoms.oct.painting import paint, photographed
from itk_ncr.data.rendering import random_velocity
from itk_ncr.data.sample import Sample
from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.ops import resize, warp
from itk_ncr.preprocessing import normalise

# Smallest image whose layers are still more than a pixel.
LEAST_ROWS, LEAST_COLUMNS = 64, 64
# What a rigid pre-alignment leaves and tissue does by itself, fitted so that boundaries lie about
# as far apart before registration as in Table 1 of doi:10.1007/s11548-022-02577-4.
LEFT_DEGREES, LEFT_MM, LEFT_SCALE = 1.0, 0.040, 0.01
DEFORMATION_MM = (0.0, 0.03)
DEFORMATION_SCALE_MM = (0.6, 2.0)


class OctPhantoms:
    """Pairs of OCT B-scans of virtual patients: follow-up (fixed) and baseline (moving).

    Both show one retina; what differs is the place left over by a pre-alignment, a small smooth
    deformation, speckle, and drusen, detachments and fluid that appeared, grew, shrank or vanished.

    Everything that belongs to the patient (layers, vessels, disease at both visits) follows from
    ``seed`` and the patient's number alone; place, deformation and speckle of the baseline come
    from the generator, so that a training sees the same patient under ever new circumstances.

    Parameters
    ----------
    count : int
        Number of pairs.
    shape : (rows, columns)
        They show 1.92 mm x 6 mm, whatever their number.
    seed : int
    first : int
        Number of the first patient: 0 and 200 patients for training, 200 and so on for tests, have
        no patient in common.
    scans : int
        B-scans, and so pairs, of every patient; they share the disease, cut at different places.
    growth : OctGrowth
    flip : bool
        Whether the generator mirrors every other pair.

    Notes
    -----
    The true displacement is not given: what grows displaces tissue, and where something is new
    there is none.
    """

    def __init__(
        self,
        count: int,
        *,
        shape: Sequence[int] = (192, 384),
        seed: int = 0,
        first: int = 0,
        scans: int = 1,
        growth: OctGrowth = OctGrowth(),  # noqa: B008 - frozen
        flip: bool = False,
    ) -> None:
        least_of = {
            "count": (count, 1),
            "seed": (seed, 0),
            "first": (first, 0),
            "scans": (scans, 1),
        }
        for name, (value, least) in least_of.items():
            if value < least:
                raise ArgumentError(f"{name} must be at least {least}; got {value}.")
        if len(shape) != 2 or shape[0] < LEAST_ROWS or shape[1] < LEAST_COLUMNS:
            raise ShapeError(
                f"shape must be (rows, columns) of at least {LEAST_ROWS} x {LEAST_COLUMNS}; got "
                f"{tuple(shape)}. In smaller images the layers vanish."
            )
        self.count, self.shape, self.seed = count, (int(shape[0]), int(shape[1])), seed
        self.first, self.scans, self.growth, self.flip = first, scans, growth, flip

    def __len__(self) -> int:
        return self.count

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Size of a pixel, (row, column)."""
        return DEPTH_MM / self.shape[0], WIDTH_MM / self.shape[1]

    def patient(self, index: int) -> int:
        """Number of the patient that a pair shows.

        Parameters
        ----------
        index : int
            Position of the pair.

        Returns
        -------
        int
            Not below ``first``.
        """
        return self.first + index // self.scans

    def scan(self, index: int) -> Scan:
        """The anatomy of a pair, not rendered.

        Parameters
        ----------
        index : int
            Position of the pair, 0 to ``count - 1``.

        Returns
        -------
        Scan
            Layers and structures.

        Raises
        ------
        ArgumentError
            If there is no such pair.
        """
        if not 0 <= index < self.count:
            raise ArgumentError(f"index must be from 0 to {self.count - 1}; got {index}.")
        number = (self.seed, self.patient(index), index % self.scans)
        return Scan(number, self.shape[1], self.growth)

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """Render a pair.

        Parameters
        ----------
        index : int
            Position of the pair, 0 to ``count - 1``.
        generator : torch.Generator
            Of motion, noise and flips; the anatomy depends on ``index`` and ``seed`` alone.

        Returns
        -------
        Sample
            Images on the scale of ``preprocessing.normalise``; labels 0 outside, 1 from the inner
            limiting membrane (ILM) to the pigment epithelium (RPE), 2 from there to Bruch's
            membrane (BM); ``lesion`` contains the drusen, detachments and fluid of the fixed image
            that the baseline does not have, however small.
        """
        scan = self.scan(index)
        after = paint(scan, self.shape[0], "follow-up")
        before = paint(scan, self.shape[0], "baseline")
        mirrored = self.flip and uniform(generator, 0, 1) < 0.5
        motion = self._motion(generator)
        moved = warp(_tensor(before.tissue)[None, None], motion)[0]
        labels = warp(_tensor(before.labels)[None, None], motion, mode="nearest")[0, 0]
        tensors = [
            _shown(_tensor(after.tissue)[None], generator),
            _shown(moved, generator),
            _tensor(after.labels),
            labels,
            _tensor(after.new)[None].float(),
        ]
        if mirrored:
            tensors = [t.flip(-1) for t in tensors]
        name = f"patient {self.patient(index)}, scan {index % self.scans}: follow-up <- baseline"
        return Sample(name, *tensors)

    def _motion(self, generator: torch.Generator) -> Tensor:
        """(1, 2, rows, columns): where the pixels of the moving image come from."""
        down, along = self.spacing_mm
        angle = uniform(generator, -LEFT_DEGREES, LEFT_DEGREES)
        scale = 1 + uniform(generator, -LEFT_SCALE, LEFT_SCALE)
        linear = scale * rotation(angle, 2, (down, along), (1.0, 0.0, 0.0))
        shift = np.array([uniform(generator, -1, 1) * LEFT_MM / step for step in (down, along)])
        centre = (np.asarray(self.shape) - 1) / 2
        affine = np.column_stack([linear, centre - linear @ centre + shift])
        # The deformation varies so slowly that it cannot fold.
        half = [-(-n // 2) for n in self.shape]
        local = random_velocity(
            half,
            generator,
            peak_voxels=[v / down for v in DEFORMATION_MM],
            scale_voxels=[v / (2 * along) for v in DEFORMATION_SCALE_MM],
        )
        return affine_displacement(affine, self.shape) + resize(local, self.shape)


def surfaces(labels: Tensor | ArrayLike) -> dict[str, NDArray[np.float64]]:
    """The boundaries that a label map of :class:`OctPhantoms` holds.

    Parameters
    ----------
    labels : Tensor or array of int, shape (rows, columns)
        1 between ILM and RPE, 2 between RPE and BM.

    Returns
    -------
    dict of ndarray, shape (columns,)
        "ILM", "RPE" and "BM": the row of the boundary, between two pixels (so it ends in .5); NaN
        where a column has none or its end is not in the image.
    """
    array = np.asarray(labels)
    if array.ndim != 2:
        raise ShapeError(f"labels must have shape (rows, columns); got {array.shape}.")
    rows = array.shape[0]

    def edge(mask: NDArray[np.bool_], last: bool) -> NDArray[np.float64]:
        at = rows - mask[::-1].argmax(0) if last else mask.argmax(0)
        cut = at == (rows if last else 0)
        return np.where(mask.any(0) & ~cut, at - 0.5, np.nan)

    return {
        "ILM": edge(array == 1, last=False),
        "RPE": edge(array == 2, last=False),
        "BM": edge(array == 2, last=True),
    }


def _tensor(array: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _shown(tissue: Tensor, generator: torch.Generator) -> Tensor:
    return torch.from_numpy(normalise(photographed(tissue, generator).numpy()).values)
