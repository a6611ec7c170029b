"""Settings of the per-pair solver: the functional, and the parts that minimise it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from itk_ncr.losses import Functional
from itk_ncr.registration.solver.descent import Descent, MomentumDescent
from itk_ncr.registration.solver.levels import Level
from itk_ncr.registration.solver.masks import LearntMasks, Masks

# In local correlation bright tissue is 1: a window that varies by less than the noise is flat.
LOCAL = Functional(
    similarity="lncc",
    similarity_settings={"radius": 2, "noise": 0.03},
    alpha=0.3,
    stiffness=2.0,
    tau=1.0,
    kappa=0.5,
    perimeter_form="faces",
)


@dataclass(frozen=True)
class InstanceSettings:
    """Settings of the per-pair solver.

    Attributes
    ----------
    functional : Functional
        Objective: minimised over the velocity by ``descent``, the mask by ``masks``. Its tau is
        the odds from which a voxel is worth masking, its kappa in log-odds x voxels.
    descent : Descent
        Moves the velocity, with the mask held fixed.
    masks : Masks
        Finds the mask, with the velocity held fixed.
    levels : tuple of Level
        Coarsest first. Iterations of coarse levels are cheap: six validation pairs gained .001 of
        Jaccard over (60, 50, 30, 25) in the same time.
    dilation : int
        The velocity ignores voxels that are this close to the mask, in voxels of the level: the rim
        of a lesion is blurred into the tissue around it.
    check_every : int
        Iterations between two checks of the energy and of what the moving image has masked.
    tolerance : float
        A level ends when the energy falls by less than this share between two checks.
    """

    functional: Functional = LOCAL
    descent: Descent = field(default_factory=MomentumDescent)
    masks: Masks = field(default_factory=LearntMasks)
    levels: tuple[Level, ...] = (
        Level(4, 4, 100),
        Level(2, 2, 60),
        Level(1, 2, 60),
        Level(1, 1, 20),
    )
    dilation: int = 1
    check_every: int = 10
    tolerance: float = 1e-3

    @property
    def coarse_levels(self) -> tuple[Level, ...]:
        """The levels whose images are coarser than the working grid."""
        return tuple(level for level in self.levels if level.image_factor > 1)

    @property
    def fine_levels(self) -> tuple[Level, ...]:
        """The levels at the resolution of the working grid."""
        return tuple(level for level in self.levels if level.image_factor <= 1)

    def scaled(self, *, smoothness: float, mask_price: float) -> InstanceSettings:
        """The same with factors on the prices of roughness and of a masked voxel."""
        functional = self.functional
        assert isinstance(functional.alpha, float)  # one price for all components
        return replace(
            self,
            functional=replace(
                functional, alpha=functional.alpha * smoothness, tau=functional.tau * mask_price
            ),
            descent=self.descent.stiffer(smoothness),
        )
