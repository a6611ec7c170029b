"""Every number the per-pair solver goes by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """One level of the pyramid, coarsest first in a list of them.

    Attributes
    ----------
    image_factor, velocity_factor : float
        Voxel size of the images and of the velocity, in voxels of the working grid.
    iterations : int
        At most this many; fewer when the energy stops falling.
    """

    image_factor: float
    velocity_factor: float
    iterations: int


@dataclass(frozen=True)
class InstanceSettings:
    """Settings of the per-pair solver.

    Attributes
    ----------
    levels : tuple of Level
        Coarsest first.
    similarity : str
        "lncc", or another row of ``SIMILARITIES``: what drives the velocity.
    evidence : str
        A row of ``EVIDENCE``: what a masked voxel saves. "mind" goes with the similarity "mind".
    radius : int
        Of the windows of the local correlation, in voxels of a level.
    noise : float
        Standard deviation below which a window counts as flat; bright tissue is 1.
    alpha : float
        Price of the mean squared gradient of the velocity, in voxels of its grid.
    stiffness : float
        The price of roughness is ``1 + stiffness`` times as high in masked voxels.
    price : float
        Evidence above which a voxel is worth masking, by itself.
    first_price : float
        Share of the price at the start; it rises to 1 over the first 60 % of all iterations.
    perimeter : float
        Price of the mask's surface, in evidence x voxels of the working grid.
    dilation : int
        The velocity ignores voxels that are this close to the mask, in voxels of the level: the rim
        of a lesion is blurred into the tissue around it.
    mask_every : int
        Iterations between two masks.
    step : float
        Root mean square of an update of the velocity, in voxels, at the start of a level.
    final_step : float
        Share of the step that is left at the end of a level.
    momentum : float
        Share of the last direction that is kept.
    gradient_smoothing : float
        Sigma of the Gaussian through which the gradient passes, in voxels of the velocity.
    tolerance : float
        A level ends when the energy falls by less than this share between two masks.
    """

    levels: tuple[Level, ...] = (Level(4, 4, 100), Level(2, 2, 80), Level(1, 2, 60))
    similarity: str = "lncc"
    evidence: str = "ncc"
    radius: int = 2
    noise: float = 0.03
    alpha: float = 0.1
    stiffness: float = 2.0
    price: float = 0.1
    first_price: float = 0.5
    perimeter: float = 0.07
    dilation: int = 1
    mask_every: int = 10
    step: float = 0.1
    final_step: float = 0.2
    momentum: float = 0.9
    gradient_smoothing: float = 1.0
    tolerance: float = 1e-3
