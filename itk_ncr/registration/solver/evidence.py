r"""Evidence of noncorrespondence: residuals along a path of ever softer registrations.

A soft registration explains a lesion away: it squeezes healthy tissue until nothing is left to see.
A stiff one cannot. So a short path of unmasked registrations (the affine, very stiff, stiff, soft)
is run on coarse images before anything is masked, and the residual is kept at each of its stages,
with the change of volume that the softest stages needed. A small perceptron, the same for every
voxel, turns these cues into log-odds. In slices of brains a first one does so, and a second one
sees the same cues and the log-odds around the voxel: it finds wide regions of faint evidence and
drops isolated voxels. The mask step (``masking``) turns log-odds into regions.

The residual is the fixed intensity less what is expected where the moving image has the intensity
it has, in units of how much that varies:

.. math:: z = \frac{F - \mu(M)}{\sqrt{s(M)^2 + (\delta\,|\nabla F|)^2}}

with the conditional mean :math:`\mu` and deviation s estimated from the pair itself. So it has no
unit, sees bright and dark alike, and needs no relation between the contrasts but a functional one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import silu

from itk_ncr.fields import smooth
from itk_ncr.ops import box_sum, exponential, jacobian_determinant, resize
from itk_ncr.registration.solver.energy import moved_by
from itk_ncr.registration.solver.pair import Pair

# Bins of the moving intensity, and the Gaussians that even out their statistics, in bins, one for
# each round without the outliers of the one before. Wide at first: an intensity that only a lesion
# has would else be expected there.
BINS, BIN_SIGMAS = 64, (10.0, 4.0, 2.0)
# Largest intensity of ``preprocessing``.
BRIGHTEST = 1.5
# Share of the voxels of an intensity that must lie in a region for it to be the region's own.
OWN_SHARE = 0.5
# Residuals beyond this many deviations are left out of the statistics, and cut off in the cues.
OUTLIER, LARGEST_RESIDUAL = 2.5, 5.0
# Expected error of the position of an edge, in voxels; smallest deviation, in bright tissue.
POSITION_ERROR, LEAST_DEVIATION = 0.5, 0.02
# Radius of the windows of the gain as a share of the image, what keeps it at 1, and its bound.
# Wider ones leave more of a faint, wide lesion, but also of the fat of heads: with windows of .1
# and .3 side by side, T1 and T2 of one patient had 22 ml masked; with .1 alone, 3 ml.
GAIN_WINDOW, GAIN_RIDGE, LARGEST_GAIN = 0.1, 1e-3, 2.0
# Voxels of the objects that the perceptrons were fitted on. Windows and grids of the path have the
# same size relative to the object in every image.
OBJECT_VOXELS = {2: 21_000, 3: 380_000}
# Voxel size of the grid of the path, for an object of that many voxels.
PATH_FACTOR = 2.0
# Grids that would hardly be coarser are left as they are.
LEAST_REDUCTION = 1.2
# Radii of the windows in voxels, for an object of that many: of the path, on its own grid; of the
# registration at hand; of the window that tells how near the rim of the object is, as the first.
PATH_RADII, FINAL_RADII, RIM_RADIUS = (1, 2), (1, 2, 4), 3
# Those of the path where there is a first perceptron.
WIDE_RADII = (1, 2, 4)
# Radii of the windows around a voxel in which the second perceptron sees log-odds of the first, on
# the grid of the path, and the bound of these.
SURROUNDING_RADII, LARGEST_LOG_ODDS = (2, 4), 8.0
# Stages, softest last, whose change of volume counts; what is smaller has collapsed.
STAGES_WITH_VOLUME, SMALLEST_VOLUME = 2, 0.02
# Added to a cue before its logarithm; bound of what a perceptron is shown, in deviations.
CUE_OFFSET, LARGEST_INPUT = 0.05, 5.0
# Voxels at a time.
BLOCK = 65_536


def standardised_residual(moved: Tensor, fixed: Tensor, weight: Tensor) -> Tensor:
    """Fixed intensity less its expectation given the moved one, in deviations.

    A slowly varying gain between the two (receive coils, contrast agent) is taken out first.

    Parameters
    ----------
    moved, fixed : Tensor, shape (1, 1, *spatial)
        On the scale of ``preprocessing``.
    weight : Tensor, shape (1, 1, *spatial)
        0 or 1; the statistics are of the voxels with weight 1.

    Returns
    -------
    Tensor, shape (1, 1, *spatial)
        Between plus and minus ``LARGEST_RESIDUAL``.
    """
    index = _bins(moved)
    used = weight > 0
    slope_error = POSITION_ERROR * _slope(fixed)
    inlier = used
    corrected = fixed
    residual = scale = torch.ones_like(fixed)
    for sigma in BIN_SIGMAS:
        mean, deviation = _conditional(index[inlier], corrected[inlier], sigma)
        expected = mean[index]
        gain = _gain(fixed, expected, inlier)
        corrected = fixed / gain
        residual = corrected - expected
        scale = (deviation[index].square() + slope_error.square()).sqrt()
        inlier = used & (residual.abs() < OUTLIER * scale)
    return (residual / scale).clamp(-LARGEST_RESIDUAL, LARGEST_RESIDUAL)


def unexplained(moved: Tensor, fixed: Tensor, weight: Tensor) -> float:
    """Robust deviation of the fixed intensity from what the moved one makes likely.

    Parameters
    ----------
    moved, fixed, weight : Tensor, shape (1, 1, *spatial)
        As for :func:`standardised_residual`.

    Returns
    -------
    float
        On the scale of ``preprocessing``; 0 where nothing is compared.
    """
    used = weight > 0
    if not used.any():
        return 0.0
    index, values = _bins(moved)[used], fixed[used]
    mean, _ = _conditional(index, values, BIN_SIGMAS[-1])
    return 1.4826 * float((values - mean[index]).abs().median())


def shown_only_in(region: Tensor, moved: Tensor, weight: Tensor) -> Tensor:
    """1 in a region whose moving intensities hardly occur elsewhere; (1, 1, *spatial).

    What is expected there was learnt there: :func:`standardised_residual` is blind to it.

    Parameters
    ----------
    region, moved, weight : Tensor, shape (1, 1, *spatial)
        The region as 0 and 1; the others as for :func:`standardised_residual`.
    """
    index = _bins(moved)
    inside = (region > 0) & (weight > 0)
    counts = torch.stack(
        [torch.bincount(index[part], minlength=BINS).double() for part in (inside, weight > 0)]
    )
    within, everywhere = smooth(counts[None], BIN_SIGMAS[-1])[0]
    own = within / everywhere.clamp_min(1e-12) > OWN_SHARE
    return (own[index] & inside).to(moved.dtype)


def _bins(moved: Tensor) -> Tensor:
    return (moved / BRIGHTEST * (BINS - 1)).clamp(0, BINS - 1).round().long()


def _gain(fixed: Tensor, expected: Tensor, inlier: Tensor) -> Tensor:
    """Slowly varying factor between two images, by least squares in wide windows."""
    weight = inlier.to(fixed.dtype) * expected
    radii = [max(1, round(n * GAIN_WINDOW)) for n in fixed.shape[2:]]
    radius = min(64, max(radii))
    above, below = (
        box_sum(box_sum(values, radius), radius) for values in (weight * fixed, weight * expected)
    )
    most = below.max()
    # Where hardly anything is known the gain is 1.
    ridge = GAIN_RIDGE * most + 1e-12
    return ((above + ridge) / (below + ridge)).clamp(1 / LARGEST_GAIN, LARGEST_GAIN)


def _conditional(index: Tensor, values: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the values in every bin, smoothed over neighbouring bins."""
    double = values.double()
    moments = torch.stack(
        [
            torch.bincount(index, weights=weights, minlength=BINS)
            for weights in (torch.ones_like(double), double, double.square())
        ]
    )
    # A bin that is hardly ever hit borrows from ever further ones.
    total = sum(
        share * smooth(moments[None], width)[0]
        for share, width in ((1.0, sigma), (1e-3, 4 * sigma), (1e-6, float(BINS)))
    )
    count, first, second = total.clamp_min(0)  # type: ignore[union-attr]
    mean = first / count.clamp_min(1e-12)
    variance = (second / count.clamp_min(1e-12) - mean.square()).clamp_min(LEAST_DEVIATION**2)
    return mean.to(values.dtype), variance.sqrt().to(values.dtype)


def _slope(image: Tensor) -> Tensor:
    """Length of the central differences."""
    squares = torch.zeros_like(image)
    for axis in range(2, image.ndim):
        if image.shape[axis] > 2:
            difference = 0.5 * (
                image.narrow(axis, 2, image.shape[axis] - 2)
                - image.narrow(axis, 0, image.shape[axis] - 2)
            )
            squares.narrow(axis, 1, image.shape[axis] - 2).add_(difference.square())
    return squares.sqrt_()


def object_scale(pair: Pair) -> float:
    """Size of the object along an axis, in voxels, relative to those that were learnt from."""
    axes = pair.fixed.ndim - 2
    return float((pair.foreground.sum() / OBJECT_VOXELS[axes]) ** (1 / axes))


def path_factor(pair: Pair) -> float:
    """Voxel size of the grid on which the path is judged, in voxels of the pair."""
    factor = PATH_FACTOR * object_scale(pair)
    return factor if factor > LEAST_REDUCTION else 1.0


class _Windows:
    """Means over windows of the foreground: two boxes of one radius, close to a Gaussian."""

    def __init__(self, foreground: Tensor, radii: Sequence[int]) -> None:
        self.foreground = foreground
        self.radii = tuple(radii)
        self._weights = [_twice(foreground, r).clamp_min(1e-6) for r in self.radii]

    def means(self, values: Tensor) -> list[Tensor]:
        """One mean per radius; values outside the foreground do not count."""
        inside = values * self.foreground
        return [_twice(inside, r) / w for r, w in zip(self.radii, self._weights, strict=True)]


def _twice(values: Tensor, radius: int) -> Tensor:
    return values if radius == 0 else box_sum(box_sum(values, radius), radius)


def _residual_cues(residual: Tensor, windows: _Windows) -> list[Tensor]:
    """Mean magnitude and magnitude of the mean, one each per window."""
    magnitudes = windows.means(residual.abs())
    return [*magnitudes, *(mean.abs_() for mean in windows.means(residual))]


def _volume_cues(velocity: Tensor, windows: _Windows) -> list[Tensor]:
    """Mean logarithmic shrinking and growth of the volume, one each per window."""
    determinant = jacobian_determinant(exponential(velocity)).clamp_min(SMALLEST_VOLUME)
    change = resize(determinant.log(), windows.foreground.shape[2:])
    return [*windows.means(change.clamp(max=0).abs()), *windows.means(change.clamp(min=0))]


@torch.no_grad()
def stage_cues(
    pair: Pair, velocities: Sequence[Tensor], radii: tuple[int, ...] = PATH_RADII
) -> Tensor:
    """Cues of a voxel along a path of registrations, (1, cues, *spatial) on the grid of the pair.

    Parameters
    ----------
    pair : Pair
        Reduced by ``path_factor``.
    velocities : sequence of Tensor
        Of the stages after the affine, stiffest first, each on a grid of its own.
    radii : tuple of int
        Of the windows, in voxels.
    """
    windows = _Windows(pair.foreground, radii)
    weight = pair.compared()
    cues: list[Tensor] = []
    for moved in (pair.moving, *(moved_by(velocity, pair.moving) for velocity in velocities)):
        cues += _residual_cues(standardised_residual(moved, pair.fixed, weight), windows)
    for velocity in velocities[-STAGES_WITH_VOLUME:]:
        cues += _volume_cues(velocity, windows)
    whole = _Windows(torch.ones_like(pair.foreground), (RIM_RADIUS,))
    return torch.cat(cues + whole.means(pair.foreground), 1)


@torch.no_grad()
def path_cues(pair: Pair, cues: Tensor, first: Perceptron) -> Tensor:
    """Cues of the stages, and the log-odds around every voxel by a first perceptron.

    Parameters
    ----------
    pair : Pair
        As for :func:`stage_cues`.
    cues : Tensor, shape (1, cues, *spatial)
        Its result.
    first : Perceptron

    Returns
    -------
    Tensor, shape (1, cues + radii, *spatial)
        The log-odds come last, see :func:`as_cues`.
    """
    windows = _Windows(pair.foreground, SURROUNDING_RADII)
    return torch.cat([cues, *windows.means(as_cues(first([cues])))], 1)


def as_cues(log_odds: Tensor) -> Tensor:
    """Log-odds raised by their bound: cues are positive, for their logarithm."""
    return log_odds.clamp(-LARGEST_LOG_ODDS, LARGEST_LOG_ODDS) + LARGEST_LOG_ODDS


@torch.no_grad()
def final_cues(pair: Pair, moved: Tensor, weight: Tensor) -> Tensor:
    """Cues of the registration at hand, (1, cues, *spatial) on the grid of the pair.

    Parameters
    ----------
    pair : Pair
    moved : Tensor, shape (1, 1, *spatial)
    weight : Tensor, shape (1, 1, *spatial)
        0 where a voxel takes no part in the statistics.
    """
    scale = object_scale(pair)
    windows = _Windows(pair.foreground, [round(r * scale) for r in FINAL_RADII])
    return torch.cat(_residual_cues(standardised_residual(moved, pair.fixed, weight), windows), 1)


@dataclass(frozen=True)
class Perceptron:
    """Log-odds of a voxel from its cues.

    Attributes
    ----------
    mean, deviation : Tensor, shape (cues,)
        Of the logarithms of the cues over the voxels that it was fitted on.
    layers : tuple of (Tensor, Tensor)
        Weight and bias of each layer.
    """

    mean: Tensor
    deviation: Tensor
    layers: tuple[tuple[Tensor, Tensor], ...]

    def __call__(self, cues: Sequence[Tensor]) -> Tensor:
        """Log-odds, (1, 1, *spatial), of cues (1, channels, *spatial) in order.

        In blocks of voxels, because the hidden layers are many times as large as an image.
        """
        shape = cues[0].shape[2:]
        channels = [channel.flatten() for group in cues for channel in group[0]]
        count = channels[0].numel()
        out = torch.empty(count)
        for start in range(0, count, BLOCK):
            block = torch.stack([c[start : start + BLOCK] for c in channels], 1)
            out[start : start + BLOCK] = self.forward(block)
        return out.view(1, 1, *shape)

    def forward(self, cues: Tensor) -> Tensor:
        """Log-odds, (n,), of cues (n, channels)."""
        x = ((cues + CUE_OFFSET).log() - self.mean) / self.deviation
        x = x.clamp(-LARGEST_INPUT, LARGEST_INPUT)
        for number, (weight, bias) in enumerate(self.layers):
            x = torch.addmm(bias, silu(x) if number else x, weight.T)
        return x[:, 0]


@dataclass(frozen=True)
class EvidenceModel:
    """Maps cues to log-odds: from the path alone, and with a registration at hand.

    Attributes
    ----------
    path : Perceptron
        Of the cues of the stages; with a first perceptron, of :func:`path_cues`.
    final : Perceptron
        Of the cues of the stages and the final ones; with a first perceptron, of what the path says
        and the final ones.
    first : Perceptron, optional
        Of the cues of the stages. In twelve validation pairs of slices it raised the Dice under
        lesions L2 and L4 from .72 to .90; in volumes it found less of bright lesions, in retinas
        less of the fluid, so these have none.
    """

    path: Perceptron
    final: Perceptron
    first: Perceptron | None = None

    def cues(self, pair: Pair, velocities: Sequence[Tensor]) -> Tensor:
        """Cues that the path is judged by; pair and velocities as for :func:`stage_cues`."""
        if self.first is None:
            return stage_cues(pair, velocities)
        return path_cues(pair, stage_cues(pair, velocities, WIDE_RADII), self.first)

    def along_path(self, pair: Pair, velocities: Sequence[Tensor]) -> Tensor:
        """What a path of registrations says, (1, 1 + channels, *spatial).

        Log-odds by the path come first; then what else the final perceptron sees: those of the
        first perceptron in the windows around, or the cues.
        """
        cues = self.cues(pair, velocities)
        log_odds = self.path([cues])
        if self.first is None:
            return torch.cat([log_odds, cues], 1)
        return torch.cat([log_odds, cues[:, -len(SURROUNDING_RADII) :]], 1)

    def joined(self, along: Tensor, current: Tensor) -> Tensor:
        """Cues of the final perceptron: :meth:`along_path`, and :func:`final_cues` on its grid."""
        said = along[:, 1:]
        if self.first is not None:
            said = torch.cat([as_cues(along[:, :1]), said], 1)
        return torch.cat([said, current], 1)

    def with_registration(self, along: Tensor, current: Tensor) -> Tensor:
        """Log-odds with a registration at hand, (1, 1, *spatial); as for :meth:`joined`."""
        return self.final([self.joined(along, current)])


@cache
def evidence_model(learnt_from: str, dimension: int) -> EvidenceModel:
    """The model that comes with the package.

    Parameters
    ----------
    learnt_from : "brains" or "retinas"
    dimension : int
        2 or 3; of retinas only 2.
    """
    from safetensors.torch import load_file

    tensors = load_file(evidence_file(learnt_from, dimension))
    first = _perceptron(tensors, "first") if "first.mean" in tensors else None
    return EvidenceModel(_perceptron(tensors, "path"), _perceptron(tensors, "final"), first)


def evidence_file(learnt_from: str, dimension: int) -> Path:
    """Path of the weights of a model."""
    return Path(__file__).with_name(f"evidence-{learnt_from}-{dimension}d.safetensors")


def _perceptron(tensors: Mapping[str, Tensor], name: str) -> Perceptron:
    layers: list[tuple[Tensor, Tensor]] = []
    while f"{name}.{len(layers)}.weight" in tensors:
        number = len(layers)
        layers.append((tensors[f"{name}.{number}.weight"], tensors[f"{name}.{number}.bias"]))
    return Perceptron(tensors[f"{name}.mean"], tensors[f"{name}.deviation"], tuple(layers))
