"""Levels of the pyramid, and registrations made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from itk_ncr.losses import Functional


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
        Price of roughness, in place of that of the functional.
    levels : tuple of Level
    radius : int, optional
        Of the windows of local correlation, in place of the functional's: evidence holds for the
        windows that it was learnt with.
    """

    alpha: float
    levels: tuple[Level, ...]
    radius: int | None = None

    def functional(self, functional: Functional) -> Functional:
        """What this stage minimises, where a registration minimises ``functional``."""
        if self.radius is not None:
            functional = functional.with_windows(self.radius)
        return replace(functional, alpha=self.alpha)
