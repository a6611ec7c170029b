r"""Registration weighted by the probability of a partner, by expectation-maximisation.

Alternates, coarse to fine,

- E step: the probability w(x) that a fixed voxel has a partner, from the difference r(x) between
  moved and fixed image;
- M step: gain and linear brightness of the fixed image, the standard deviation s of the matched
  voxels, and steps of the field v (``least_squares``) that lower
  :math:`\sum_x w\,r^2 + \alpha |\Delta v|^2`.

``outlier_model="uniform"``, after Periaswamy and Farid: an outlier has a constant density,
:math:`w = e^{-r^2/2s^2} / (e^{-r^2/2s^2} + p_o)`, averaged over a window.
``"resection"``, after Chitphakdithai and Duncan: a voxel is valid, resected (its intensity in the
fixed image is that of fluid or air, and learnt) or another outlier; neighbours tend to agree (Potts
prior, mean field).

References
----------
Periaswamy, Farid, "Medical image registration with partial data", Med Image Anal 10, 2006,
doi:10.1016/j.media.2005.03.006; Chitphakdithai, Duncan, "Non-rigid registration with missing
correspondences in preoperative and postresection brain images", MICCAI 2010, LNCS 6361,
doi:10.1007/978-3-642-15705-9_45.

Where ours differs: a stationary velocity with a curvature regulariser in place of a local affine
map; one gain and a brightness that is linear in position in place of local ones, which would
explain a large even lesion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itk_ncr.ops import box_sum, exponential
from itk_ncr.registration.classical.options import (
    require_not_negative,
    require_one_of,
    require_positive,
)
from itk_ncr.registration.classical.task import DARK, Task, levels
from itk_ncr.registration.results import Deformation
from itk_ncr.registration.solver import Pair
from itk_ncr.registration.variational.least_squares import LeastSquares, descend
from itk_ncr.registration.variational.solver import on_grid

OUTLIER_MODELS = ("uniform", "resection")
# Difference, in standard deviations of the matched voxels, at which both are as likely.
EQUAL_AT = 2.5
# Standard deviations that the estimate is kept between; bright tissue is 1.
LEAST_DEVIATION, MOST_DEVIATION = 0.03, 0.3
# Intensity of a resection cavity at first, and its deviation: fluid on T1-weighted images.
CAVITY, CAVITY_DEVIATION = 0.2, 0.1
# Share of fixed voxels that are resected, and that are other outliers, before anything is known.
RESECTED_SHARE, OTHER_SHARE = 0.05, 0.01
# Sweeps of the mean field.
SWEEPS = 5


@dataclass(frozen=True)
class EMOptions:
    """Options of the weighted registration; bright tissue has the intensity 1.

    Attributes
    ----------
    outlier_model : "uniform" or "resection"
    alpha : float
        Price of the field's squared Laplacian on the finest level, in voxels.
    stiffening : float
        Factor of alpha from a level to the next coarser one.
    window : int
        Of the average of the probabilities ("uniform"), in voxels; odd.
    eta : float
        Weight of a neighbour's label ("resection"), in log-odds.
    levels : int
        Each half as fine as the next.
    rounds : int
        E and M steps per level.
    iterations : int
        Steps of the field per round, at most.
    """

    outlier_model: str = "resection"
    alpha: float = 0.05
    stiffening: float = 10.0
    window: int = 5
    eta: float = 0.5
    levels: int = 3
    rounds: int = 6
    iterations: int = 4

    def __post_init__(self) -> None:
        require_one_of("outlier_model", self.outlier_model, OUTLIER_MODELS)
        require_not_negative(eta=self.eta)
        require_positive(
            alpha=self.alpha,
            stiffening=self.stiffening,
            window=self.window,
            levels=self.levels,
            rounds=self.rounds,
            iterations=self.iterations,
        )


@dataclass(frozen=True)
class Beliefs:
    """What the E step knows.

    Attributes
    ----------
    weight : Tensor, shape (1, 1, *spatial)
        Probability that a fixed voxel has a partner.
    deviation : float
        Of the differences of matched voxels.
    cavity, cavity_deviation : float
        Intensity of resected voxels.
    """

    weight: Tensor
    deviation: float
    cavity: float = CAVITY
    cavity_deviation: float = CAVITY_DEVIATION


def uniform(squares: Tensor, deviation: float, window: int) -> Tensor:
    """Probability of a partner against outliers of constant density.

    Parameters
    ----------
    squares : Tensor, shape (1, 1, *spatial)
        Squared differences.
    deviation : float
        Of matched voxels.
    window : int
        Voxels along an axis over which the probabilities are averaged; 1 for none.
    """
    weight = torch.sigmoid(0.5 * (EQUAL_AT**2 - squares / deviation**2))
    radius = window // 2
    if radius:
        weight = box_sum(weight, radius) / box_sum(torch.ones_like(weight), radius)
    return weight


def resection(
    squares: Tensor, fixed: Tensor, beliefs: Beliefs, eta: float
) -> tuple[Tensor, Tensor]:
    """Probabilities of a partner and of a resected voxel, by ``SWEEPS`` sweeps of the mean field.

    Parameters
    ----------
    squares, fixed : Tensor, shape (1, 1, *spatial)
        Squared differences, and the intensities of the fixed image.
    beliefs : Beliefs
        Deviation and cavity of the last M step.
    eta : float
        Log-odds that a neighbour's label adds to its own.
    """
    shares = (1 - RESECTED_SHARE - OTHER_SHARE, RESECTED_SHARE, OTHER_SHARE)
    # Moved intensities of outliers are uniform in [0, 1], and so are fixed ones of the last label.
    log_likelihood = torch.cat(
        [
            _log_normal(squares, beliefs.deviation),
            _log_normal((fixed - beliefs.cavity).square(), beliefs.cavity_deviation),
            torch.zeros_like(squares),
        ],
        1,
    )
    prior = torch.tensor([math.log(share) for share in shares])
    own = log_likelihood + prior.view(1, 3, *(1,) * (squares.ndim - 2))
    labels = own.softmax(1)
    for _ in range(SWEEPS):
        labels = (own + eta * _neighbours(labels)).softmax(1)
    return labels[:, :1], labels[:, 1:2]


def _log_normal(squares: Tensor, deviation: float) -> Tensor:
    return -0.5 * squares / deviation**2 - math.log(deviation * math.sqrt(2 * math.pi))


def _neighbours(labels: Tensor) -> Tensor:
    """Sum over the voxels that share a face."""
    total = torch.zeros_like(labels)
    for axis in range(2, labels.ndim):
        n = labels.shape[axis]
        if n > 1:
            total.narrow(axis, 0, n - 1).add_(labels.narrow(axis, 1, n - 1))
            total.narrow(axis, 1, n - 1).add_(labels.narrow(axis, 0, n - 1))
    return total


def expected(
    squares: Tensor, compared: Tensor, pair: Pair, beliefs: Beliefs, options: EMOptions
) -> Beliefs:
    """The E step, and the deviations that follow from it.

    Parameters
    ----------
    squares : Tensor, shape (1, 1, *spatial)
        Squared differences of the pair.
    compared : Tensor, shape (1, 1, *spatial)
        0 where nothing may be compared.
    pair : Pair
    beliefs : Beliefs
        Of the step before.
    options : EMOptions
    """
    if options.outlier_model == "uniform":
        weight = uniform(squares, beliefs.deviation, options.window)
        deviation = deviation_of(squares, weight * compared, pair)
        return replace(beliefs, weight=weight, deviation=deviation)
    weight, resected = resection(squares, pair.fixed, beliefs, options.eta)
    deviation = deviation_of(squares, weight * compared, pair)
    found = replace(beliefs, weight=weight, deviation=deviation)
    resected = resected * compared
    if float(resected.sum()) < 1:
        return found
    cavity = float((resected * pair.fixed).sum() / resected.sum())
    spread = float((resected * (pair.fixed - cavity).square()).sum() / resected.sum())
    limits = (LEAST_DEVIATION, CAVITY_DEVIATION)
    return replace(found, cavity=cavity, cavity_deviation=_within(math.sqrt(spread), limits))


def deviation_of(squares: Tensor, weight: Tensor, pair: Pair) -> float:
    """Standard deviation of the differences of matched voxels, where an image shows tissue."""
    tissue = weight * ((pair.fixed > DARK) | (pair.moving > DARK))
    total = float(tissue.sum())
    if total < 1:
        return MOST_DEVIATION
    mean = float((tissue * squares).sum()) / total
    return _within(math.sqrt(mean), (LEAST_DEVIATION, MOST_DEVIATION))


def _within(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])


def evened(fixed: Tensor, moved: Tensor, weight: Tensor) -> Tensor:
    """The fixed image with the gain, offset and linear brightness of the moved one.

    Both images lose their weighted linear trend; the gain is the ratio of the deviations that are
    left, not a regression, which misalignment would attenuate.

    Parameters
    ----------
    fixed, moved, weight : Tensor, shape (1, 1, *spatial)
    """
    axes = [torch.linspace(-1, 1, n, dtype=torch.float64) for n in fixed.shape[2:]]
    places = torch.meshgrid(*axes, indexing="ij")
    basis = torch.stack([torch.ones_like(places[0]), *places]).flatten(1)
    w = weight.double().flatten()
    if float(w.sum()) < basis.shape[0]:
        return fixed
    gram = (basis * w) @ basis.T + 1e-9 * float(w.sum()) * torch.eye(
        len(basis), dtype=torch.float64
    )

    def trend(image: Tensor) -> Tensor:
        values = image.double().flatten()
        return torch.linalg.solve(gram, basis @ (w * values)) @ basis

    trends = trend(fixed), trend(moved)
    plain = [i.double().flatten() - t for i, t in zip((fixed, moved), trends, strict=True)]
    spreads = [float((w * p.square()).sum()) for p in plain]
    gain = math.sqrt(spreads[1] / spreads[0]) if spreads[0] > 0 else 1.0
    return (gain * plain[0] + trends[1]).to(fixed.dtype).view_as(fixed)


@torch.no_grad()
def em(task: Task) -> Deformation:
    """Coarse to fine; on every level probabilities and field in turn."""
    options: EMOptions = task.options
    pyramid = levels(task.pair, tuple(2.0**level for level in reversed(range(options.levels))))
    work = sum(pair.fixed.numel() for pair in pyramid) * options.rounds
    field = torch.zeros(1, task.dimension, *(1,) * task.dimension)
    beliefs = Beliefs(torch.ones(1, 1, *(1,) * task.dimension), MOST_DEVIATION)
    done, taken = 0, 0
    for number, pair in enumerate(pyramid):
        alpha = options.alpha * options.stiffening ** (len(pyramid) - 1 - number)
        field = on_grid(field, pair)
        weight = torch.nn.functional.interpolate(beliefs.weight, pair.fixed.shape[2:])
        beliefs = replace(beliefs, weight=weight)
        for _ in range(options.rounds):
            moved, compared = LeastSquares(pair, alpha).moved(field)
            even = replace(pair, fixed=evened(pair.fixed, moved, compared * beliefs.weight))
            problem = LeastSquares(even, alpha)
            if task.find_mask:
                squares = problem.squares(field)
                beliefs = expected(squares, compared, even, beliefs, options)
            field, steps = descend(problem, field, beliefs.weight, options.iterations, task.check)
            taken += steps
            done += pair.fixed.numel()
            task.report(done / work)
    found = 1 - beliefs.weight if task.find_mask else None
    return Deformation(exponential(field), exponential(-field), taken, found)
