"""VarReg: non-parametric registration by a semi-implicit gradient flow.

References
----------
Werner, Schmidt-Richberg, Handels, Ehrhardt, "Estimation of lung motion fields in 4D CT data by
variational non-linear intensity-based registration: a comparison and evaluation study", Phys Med
Biol 59, 2014, doi:10.1088/0031-9155/59/15/4247; the interface follows ITKVariationalRegistration.

Where ours differs: the force of the local correlation is the derivative with respect to the warped
image (the original has the roles of the images exchanged in its normalisation); the cosine basis of
the curvature regulariser is that of reflected borders (``itk_compat`` has the original's
frequencies); images are reduced without what is masked; the exponential takes as many squarings as
its velocity needs; a level returns the field of its lowest metric; no step moves a
voxel by more than one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itk_ncr.registration.classical.options import require_one_of, require_positive
from itk_ncr.registration.classical.task import Task, levels
from itk_ncr.registration.results import Deformation
from itk_ncr.registration.variational.forces import FORCES, force_of
from itk_ncr.registration.variational.regularisers import REGULARISERS, regulariser_of
from itk_ncr.registration.variational.solver import SPACES, Flow, descend_level, on_grid

# Length of a step by force; those of the original, whose intensities have 8 bits, for the others.
TAUS = {"demons": 1.0, "ssd": 40.0, "ncc": 40.0}


@dataclass(frozen=True)
class VarRegOptions:
    """Options of VarReg.

    Attributes
    ----------
    force : "demons", "ssd" or "ncc"
    regulariser : "gaussian", "diffusive", "elastic" or "curvature"
    alpha : float
        Strength of the regulariser, in voxels of a level: variance of the Gaussian, mu and lambda
        of the elastic body.
    tau : float
        Length of a step; 0 takes that of the force.
    space : "standard", "diffeomorphic" or "symmetric"
    radius : int
        Of the windows of the local correlation, in voxels.
    levels : int
        Each half as fine as the next.
    iterations : int
        Maximum number on each level.
    itk_compat : bool
        Frequencies of the curvature regulariser as in ITKVariationalRegistration.
    """

    force: str = "ncc"
    regulariser: str = "curvature"
    alpha: float = 0.25
    tau: float = 0.0
    space: str = "diffeomorphic"
    radius: int = 2
    levels: int = 3
    iterations: int = 100
    itk_compat: bool = False

    def __post_init__(self) -> None:
        require_one_of("force", self.force, FORCES)
        require_one_of("regulariser", self.regulariser, REGULARISERS)
        require_one_of("space", self.space, SPACES)
        require_positive(
            alpha=self.alpha,
            radius=self.radius,
            levels=self.levels,
            iterations=self.iterations,
            tau=self.tau or TAUS[self.force],
        )

    def flow(self, method: str) -> Flow:
        """Force and smoother of the flow."""
        return Flow(
            force_of(self.force, self.radius),
            regulariser_of(self.regulariser, self.alpha, itk_compat=self.itk_compat),
            self.tau or TAUS[self.force],
            self.space,
            method,
        )


@torch.no_grad()
def varreg(task: Task) -> Deformation:
    """Coarse to fine; each level starts from the field of the one before."""
    options: VarRegOptions = task.options
    flow = options.flow("varreg")
    factors = tuple(2.0**level for level in reversed(range(options.levels)))
    pyramid = levels(task.pair, factors)
    work = sum(pair.fixed.numel() for pair in pyramid) * options.iterations
    field = torch.zeros(1, task.dimension, *(1,) * task.dimension)
    begun, taken = 0, 0
    for number, pair in enumerate(pyramid):
        spent = 0

        def told(pair=pair, begun=begun) -> None:  # type: ignore[no-untyped-def]
            nonlocal spent
            task.check()
            task.report((begun + spent) / work)
            spent += pair.fixed.numel()

        finest = number == len(pyramid) - 1
        field, count = descend_level(
            flow, pair, on_grid(field, pair), options.iterations, finest, told
        )
        taken += count
        begun += pair.fixed.numel() * options.iterations
    inverse = None if options.space == "standard" else flow.displacement(-field)
    return Deformation(flow.displacement(field), inverse, taken)
