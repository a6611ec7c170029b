r"""Joint registration and detection of non-correspondence, after Chen et al. 2015.

Minimises over a field v, of which the displacement u is the exponential, and a region S

.. math:: \sum_{x \notin S} (M(x + u) - F)^2 + \alpha |\Delta v|^2
          + \tau |S| + \kappa\,\mathrm{Per}(S)

in turn: v by damped Gauss-Newton steps (``least_squares``), each taken only if it lowers the
energy; S exactly, as a level set of one convex problem (``solver.masking``). So the energy of a
level never rises.

References
----------
Chen, Derksen, Heldmann, Hallmann, Berkels, "Deformable image registration with automatic
non-correspondence detection", SSVM 2015, LNCS 9087, doi:10.1007/978-3-319-18461-6_29; Chan,
Esedoglu, Nikolova, SIAM J Appl Math 66, 2006, doi:10.1137/040615286.

Where ours differs: it is written from the functional as the paper of NCR-Net cites it. The region
is optimised exactly, with the anisotropic perimeter; its forces are also left out ``margin`` voxels
around it; the field is a stationary velocity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itk_ncr.ops import exponential, resize
from itk_ncr.registration.classical.options import require_not_negative, require_positive
from itk_ncr.registration.classical.task import Task, as_bright, levels
from itk_ncr.registration.results import Deformation
from itk_ncr.registration.solver import Pair, dilate
from itk_ncr.registration.solver.masking import level_set_function
from itk_ncr.registration.variational.least_squares import LeastSquares, descend
from itk_ncr.registration.variational.solver import on_grid

# Dual steps of the exact mask.
MASK_STEPS = 200
# Slope of the logistic function that makes the level set a probability, per price of a voxel.
SLOPE = 4.0


@dataclass(frozen=True)
class ChenOptions:
    """Options of the joint functional; bright tissue has the intensity 1.

    Attributes
    ----------
    tau : float
        Price of a masked voxel: the squared difference from which masking a voxel pays.
    kappa : float
        Price of the mask's perimeter, per face of a voxel.
    alpha : float
        Price of the field's squared Laplacian on the finest level, in voxels.
    stiffening : float
        Factor of alpha from a level to the next coarser one: stiff levels see lesions that soft
        ones would explain by a deformation.
    margin : int
        Voxels around the mask that exert no force.
    levels : int
        Each half as fine as the next.
    rounds : int
        Of field and mask, per level.
    iterations : int
        Steps of the field per round, at most.
    """

    tau: float = 0.05
    kappa: float = 0.02
    alpha: float = 0.05
    stiffening: float = 10.0
    margin: int = 1
    levels: int = 3
    rounds: int = 6
    iterations: int = 4

    def __post_init__(self) -> None:
        require_not_negative(kappa=self.kappa, margin=self.margin)
        require_positive(
            tau=self.tau,
            alpha=self.alpha,
            stiffening=self.stiffening,
            levels=self.levels,
            rounds=self.rounds,
            iterations=self.iterations,
        )


@dataclass(frozen=True)
class State:
    """Field and region of one level.

    Attributes
    ----------
    field : Tensor, shape (1, D, *spatial)
    region : Tensor, shape (1, 1, *spatial)
        1 where there is no partner.
    level_set : Tensor, shape (1, 1, *spatial)
        Positive inside the region, in prices of a voxel.
    """

    field: Tensor
    region: Tensor
    level_set: Tensor

    @classmethod
    def of(cls, field: Tensor, region: Tensor) -> State:
        """A state whose region has not been optimised yet."""
        return cls(field, region, 2 * region - 1)


@dataclass(frozen=True)
class ChenFunctional:
    """The energy that both half-steps lower, on the grid of one level."""

    problem: LeastSquares
    options: ChenOptions

    def energy(self, state: State) -> float:
        """The value of the functional."""
        area = self.options.tau * float(state.region.double().sum())
        edge = self.options.kappa * float(perimeter(state.region))
        return self.problem.energy(state.field, 1 - state.region) + area + edge


def perimeter(region: Tensor) -> Tensor:
    """Number of faces between 0 and 1."""
    faces = [region.diff(dim=axis).abs().double().sum() for axis in range(2, region.ndim)]
    return torch.stack(faces).sum()


def best_region(squares: Tensor, tau: float, kappa: float) -> tuple[Tensor, Tensor]:
    """The region of least energy for given squared differences, and its level set.

    Parameters
    ----------
    squares : Tensor, shape (1, 1, *spatial)
        Cost of a voxel that is not masked.
    tau, kappa : float
        Price of a masked voxel, and of every face of the region's edge.
    """
    level_set = level_set_function((squares - tau) / tau, kappa / tau, MASK_STEPS)
    return (level_set > 0).to(squares.dtype), level_set


def improved_region(functional: ChenFunctional, state: State) -> State:
    """The best region for a field; the old one where rounding makes it no better."""
    options = functional.options
    squares = functional.problem.squares(state.field)
    region, level_set = best_region(squares, options.tau, options.kappa)
    trial = replace(state, region=region, level_set=level_set)
    return trial if functional.energy(trial) <= functional.energy(state) else state


@torch.no_grad()
def chen(task: Task) -> Deformation:
    """Coarse to fine; on every level field and region in turn."""
    options: ChenOptions = task.options
    pyramid = levels(task.pair, tuple(2.0**level for level in reversed(range(options.levels))))
    work = sum(pair.fixed.numel() for pair in pyramid) * options.rounds
    field = torch.zeros(1, task.dimension, *(1,) * task.dimension)
    region = torch.zeros(1, 1, *(1,) * task.dimension)
    done, taken = 0, 0
    for number, coarse in enumerate(pyramid):
        alpha = options.alpha * options.stiffening ** (len(pyramid) - 1 - number)
        state = State.of(on_grid(field, coarse), _resized(region, coarse))
        pair = _alike(coarse, state)
        functional = ChenFunctional(LeastSquares(pair, alpha), options)
        for _ in range(options.rounds):
            kept = 1 - state.region
            pulling = 1 - dilate(state.region, options.margin)
            field, steps = descend(
                functional.problem, state.field, kept, options.iterations, task.check, pulling
            )
            state = replace(state, field=field)
            taken += steps
            if task.find_mask:
                state = improved_region(functional, state)
            done += pair.fixed.numel()
            task.report(done / work)
        field, region = state.field, state.region
    found = torch.sigmoid(SLOPE * state.level_set) if task.find_mask else None
    return Deformation(exponential(field), exponential(-field), taken, found)


def _resized(region: Tensor, pair: Pair) -> Tensor:
    """A region on the grid of a level."""
    return (resize(region, pair.fixed.shape[2:]) >= 0.5).to(region.dtype)


def _alike(pair: Pair, state: State) -> Pair:
    """The pair with tissue of the fixed image as bright as that of the moving one."""
    problem = LeastSquares(pair, 0.0)
    moved, compared = problem.moved(state.field)
    masked = torch.maximum(state.region, 1 - compared)
    return replace(pair, fixed=as_bright(pair.fixed, moved, masked))
