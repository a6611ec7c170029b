"""Settings of the per-pair solver."""

from __future__ import annotations

from dataclasses import dataclass, replace


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

    def scaled(self, scale: float) -> Level:
        """The level for an object that is larger by a factor, in voxels."""
        return replace(
            self,
            image_factor=max(1.0, self.image_factor * scale),
            velocity_factor=max(1.0, self.velocity_factor * scale),
        )


@dataclass(frozen=True)
class Stage:
    """One registration of the path that is taken before anything is masked.

    Attributes
    ----------
    alpha : float
        Price of roughness, as in :class:`InstanceSettings`.
    levels : tuple of Level
    """

    alpha: float
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class InstanceSettings:
    """Settings of the per-pair solver.

    Attributes
    ----------
    levels : tuple of Level
        Coarsest first.
    path : tuple of Stage
        Unmasked registrations, stiffest first, each starting from the one before; see ``evidence``.
        Their levels are for objects of ``evidence.OBJECT_VOXELS`` and scaled to others.
    evidence : str
        What the evidence of the mask was learnt from: "brains" or "retinas" (2D only).
    similarity : str
        "lncc", or another row of ``SIMILARITIES``: what drives the velocity.
    radius : int
        Of the windows of the local correlation, in voxels of a level.
    noise : float
        Standard deviation below which a window counts as flat; bright tissue is 1.
    alpha : float
        Price of the mean squared gradient of the velocity, in voxels of its grid.
    stiffness : float
        The price of roughness is ``1 + stiffness`` times as high in masked voxels.
    price : float
        Odds from which a voxel is worth masking, by itself.
    perimeter : float
        Price of the mask's surface, in log-odds x voxels of the working grid.
    dilation : int
        The velocity ignores voxels that are this close to the mask, in voxels of the level: the rim
        of a lesion is blurred into the tissue around it.
    check_every : int
        Iterations between two looks at the energy and at what the moving image has masked.
    step : float
        Length of an update of the velocity at the start of a level, in voxels: root mean square
        over the places where the gradient has its usual strength.
    final_step : float
        Share of the step that is left at the end of a level.
    momentum, memory : float
        Share of the last direction, and of the last mean squared gradient, that is kept.
    gradient_floor : float
        A gradient that is weaker than this share of its root mean square over the image makes
        shorter steps.
    gradient_smoothing : float
        Sigma of the Gaussian through which the gradient passes, in voxels of the velocity.
    tolerance : float
        A level ends when the energy falls by less than this share between two checks.
    """

    levels: tuple[Level, ...] = (Level(4, 4, 60), Level(2, 2, 50), Level(1, 2, 30), Level(1, 1, 25))
    path: tuple[Stage, ...] = (
        Stage(10.0, (Level(4, 4, 30), Level(2, 4, 15))),
        Stage(1.0, (Level(4, 4, 20), Level(2, 4, 15))),
        Stage(0.15, (Level(4, 4, 15), Level(2, 4, 25))),
    )
    evidence: str = "brains"
    similarity: str = "lncc"
    radius: int = 2
    noise: float = 0.03
    alpha: float = 0.3
    stiffness: float = 2.0
    price: float = 1.0
    perimeter: float = 0.5
    dilation: int = 1
    check_every: int = 10
    step: float = 0.3
    final_step: float = 0.2
    momentum: float = 0.9
    memory: float = 0.9
    gradient_floor: float = 0.1
    gradient_smoothing: float = 1.0
    tolerance: float = 1e-3

    @property
    def coarse_levels(self) -> tuple[Level, ...]:
        """The levels whose images are coarser than the working grid."""
        return tuple(level for level in self.levels if level.image_factor > 1)

    @property
    def fine_levels(self) -> tuple[Level, ...]:
        """The levels at the resolution of the working grid."""
        return tuple(level for level in self.levels if level.image_factor <= 1)
