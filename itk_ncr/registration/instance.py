"""The per-pair solver: velocity and mask of one pair, by descent on the functional itself.

The velocity moves down the gradient of the local correlation of what corresponds, plus its own
roughness; every few iterations the mask is replaced by the exact minimiser for the field at hand.
The mask takes part from the first iteration: once tissue has been squeezed into a lesion its
residual is small, and no later mask would find it again.

Where the coarse levels found something to mask, they are run once more from the start, now with
coarse images that were made without it: in an ordinary pyramid a lesion blurs into its rim, which
is the very tissue that has to tell what lies beneath.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itk_ncr.errors import RegistrationAborted
from itk_ncr.fields import downsample, reduced_shape, resize_displacement, resize_velocity, smooth
from itk_ncr.losses import (
    EVIDENCE,
    SIMILARITIES,
    LocalNCC,
    Similarity,
    mind_descriptor,
    smoothness,
)
from itk_ncr.losses.weighting import total_double
from itk_ncr.ops import exponential, resize, warp
from itk_ncr.registration.masking import SNAP_RADIUS, MaskStep, dilate, snap_to_edges
from itk_ncr.registration.settings import Abort, Progress

# Root mean square of the gradient, per voxel and in distance per voxel of motion, below which steps
# get shorter: pairs that differ start at 0.3, an image and itself at 0.0002.
WEAK_GRADIENT = 0.05
# Rows of EVIDENCE that compare intensities as they are.
ONE_CONTRAST = ("mse", "ncc")
# Weight of leaving the tone as it is, relative to the data.
TONE_RIDGE = 1e-3
# Share of unmasked voxels from which a coarse voxel can be made.
LEAST_CERTAINTY = 0.02
# Share of the foreground that must be masked after the coarse levels for a second pass.
WORTH_A_SECOND_PASS = 0.002


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


@dataclass(frozen=True)
class Pair:
    """Two images on one grid, ready to be solved.

    Attributes
    ----------
    fixed, moving : Tensor, shape (1, 1, *spatial)
        On a common scale, see ``preprocessing``; the moving one seen through the affine.
    foreground : Tensor, shape (1, 1, *spatial)
        1 where the similarity counts.
    known : Tensor, shape (1, 1, *spatial), optional
        1 where it is known that the fixed image has no partner.
    known_moving : Tensor, shape (1, 1, *spatial), optional
        1 where it is known that the moving image has no partner.
    suspected : Tensor, shape (1, 1, *spatial), optional
        1 where the fixed image has no partner as far as is known by now: kept out of the coarser
        versions of its surroundings.
    spacing : tuple of float
        Voxel sizes in array order; only their ratios matter.
    """

    fixed: Tensor
    moving: Tensor
    foreground: Tensor
    known: Tensor | None
    known_moving: Tensor | None
    spacing: tuple[float, ...]
    suspected: Tensor | None = None

    def reduced(self, factor: float) -> Pair:
        """The pair on a coarser grid; axes with larger voxels are reduced later."""
        shape = level_shape(self.fixed.shape[2:], self.spacing, factor)
        if shape == tuple(self.fixed.shape[2:]):
            return self
        scale = [
            s * max(n - 1, 1) / max(m - 1, 1)
            for s, n, m in zip(self.spacing, self.fixed.shape[2:], shape, strict=True)
        ]
        return replace(
            self,
            fixed=_downsample_without(self.fixed, self.suspected, shape),
            moving=downsample(self.moving, shape),
            foreground=(resize(self.foreground, shape) > 0.3).to(self.fixed.dtype),
            known=_reduced_mask(self.known, shape),
            known_moving=_reduced_mask(self.known_moving, shape),
            suspected=_reduced_mask(self.suspected, shape),
            spacing=tuple(scale),
        )


def _downsample_without(image: Tensor, masked: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """A coarser image into which the masked voxels do not blur (normalised convolution)."""
    reduced = downsample(image, shape)
    if masked is None:
        return reduced
    weight = 1 - dilate(masked, 1)
    certainty = downsample(weight, shape)
    seen = downsample(image * weight, shape) / certainty.clamp(min=1e-3)
    return torch.where(certainty > LEAST_CERTAINTY, seen, reduced)


def _reduced_mask(mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    return None if mask is None else (resize(mask, shape) >= 0.5).to(mask.dtype)


@dataclass(frozen=True)
class Solution:
    """What the solver found.

    Attributes
    ----------
    velocity : Tensor, shape (1, D, *coarser spatial)
        In voxels of its own grid.
    mask : Tensor, shape (1, 1, *spatial)
        The mask that the velocity was found with, not dilated.
    energies : tuple of float
        One per iteration.
    """

    velocity: Tensor
    mask: Tensor
    energies: tuple[float, ...]


def level_shape(
    shape: tuple[int, ...] | torch.Size, spacing: tuple[float, ...], factor: float
) -> tuple[int, ...]:
    """Grid whose voxels are ``factor`` times the smallest spacing, or as large as they are."""
    target = factor * min(spacing)
    factors = [max(1.0, target / h) for h in spacing]
    return reduced_shape(shape, factors, minimum=8)


def solve(
    pair: Pair,
    settings: InstanceSettings,
    *,
    find_mask: bool = True,
    progress: Progress | None = None,
    abort: Abort | None = None,
) -> Solution:
    """Find the velocity and the mask of one pair.

    Parameters
    ----------
    pair : Pair
    settings : InstanceSettings
    find_mask : bool
        False leaves the mask at what is known: ordinary registration.
    progress : callable, optional
        Gets the share of the work that is done, and a word about it.
    abort : callable, optional
        Asked once per iteration; True stops.

    Raises
    ------
    RegistrationAborted
        If ``abort`` said so.
    """
    track = _Track(settings, progress, abort)
    coarse, fine = settings.levels[:-1], settings.levels[-1:]
    if pair.known is not None:
        pair = replace(pair, suspected=pair.known)
    velocity, mask = _descend(pair, coarse, settings, find_mask, track)
    share = float((mask * pair.foreground).sum() / pair.foreground.sum())
    if find_mask and share > WORTH_A_SECOND_PASS:
        pair = replace(
            pair, suspected=mask if pair.known is None else torch.maximum(mask, pair.known)
        )
        velocity, _ = _descend(pair, coarse, settings, False, track)
    else:
        track.skip(coarse)
    velocity, mask = _descend(pair, fine, settings, find_mask, track, velocity)
    return Solution(velocity, mask, tuple(track.energies))


class _Track:
    """Energies so far, and whom to tell."""

    def __init__(
        self, settings: InstanceSettings, progress: Progress | None, abort: Abort | None
    ) -> None:
        # The coarse levels count twice: there may be a second pass.
        counts = [level.iterations for level in settings.levels]
        self.total = 2 * sum(counts) - counts[-1]
        self.done = 0
        self.energies: list[float] = []
        self.progress, self.abort = progress, abort

    def share(self) -> float:
        """Share of the iterations that are behind."""
        return min(1.0, self.done / self.total)

    def skip(self, levels: tuple[Level, ...]) -> None:
        """Count levels that need not run."""
        self.done += sum(level.iterations for level in levels)

    def before_iteration(self) -> None:
        """Tell and ask the caller."""
        if self.abort is not None and self.abort():
            raise RegistrationAborted("registration was stopped by its abort callback.")
        if self.progress is not None and self.done % 5 == 0:
            self.progress(self.share(), "solving")

    def after_iteration(self, energy: float) -> None:
        """Remember the energy."""
        self.energies.append(energy)
        self.done += 1


def _descend(
    pair: Pair,
    levels: tuple[Level, ...],
    settings: InstanceSettings,
    find_mask: bool,
    track: _Track,
    velocity: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Velocity and mask after some levels, coarse to fine; the mask on the grid of the pair."""
    spatial = pair.fixed.shape[2:]
    mask = torch.zeros_like(pair.fixed)
    for level in levels:
        reduced = pair.reduced(level.image_factor)
        shape = level_shape(spatial, pair.spacing, level.velocity_factor)
        if velocity is None:
            velocity = pair.fixed.new_zeros(1, len(spatial), *shape)
        descent = _Descent(resize_velocity(velocity, shape), settings, level.iterations)
        masking = _Masking(reduced, settings, level.image_factor, find_mask)
        end = track.done + level.iterations
        means: list[float] = []
        for iteration in range(level.iterations):
            track.before_iteration()
            if iteration % settings.mask_every == 0:
                masking.update(descent.velocity, track.share())
                if iteration:
                    recent = track.energies[-settings.mask_every :]
                    means.append(sum(recent) / len(recent))
                if len(means) > 1 and means[-2] - means[-1] < settings.tolerance * abs(means[-2]):
                    break
            track.after_iteration(descent.iterate(masking))
        track.done = end
        velocity, mask = descent.velocity, masking.mask
    assert velocity is not None
    return velocity, _nearest(mask, spatial)


def _nearest(mask: Tensor, shape: torch.Size) -> Tensor:
    return (resize(mask, tuple(shape)) >= 0.5).to(mask.dtype)


class _Masking:
    """The mask of one level, and the distance that sees only what is outside it."""

    def __init__(
        self, pair: Pair, settings: InstanceSettings, factor: float, find_mask: bool
    ) -> None:
        self.pair, self.settings, self.find_mask, self.factor = pair, settings, find_mask, factor
        self.fixed, self.moving = (features(settings, i) for i in (pair.fixed, pair.moving))
        # Coarse images made without the mask are clean up to its rim.
        self.radius = 0 if pair.suspected is not None and factor > 1 else settings.dilation
        self.step = MaskStep(settings.perimeter)
        self.mask = torch.zeros_like(pair.fixed) if pair.suspected is None else pair.suspected
        self.distance: Callable[[Tensor], Tensor] | None = None
        self.correspondence: Tensor | None = None

    @torch.no_grad()
    def update(self, velocity: Tensor, share_done: float) -> None:
        """Replace the mask by the best one for this velocity."""
        settings, pair = self.settings, self.pair
        if self.find_mask:
            share = min(1.0, settings.first_price + (1 - settings.first_price) * share_done / 0.6)
            price = settings.price * share
            moved = moved_by(velocity, self.moving)
            evidence = evidence_map(settings, moved, self.fixed, pair.foreground, 1 - self.mask)
            self.step.perimeter = settings.perimeter * share / self.factor
            level_set = self.step.level_set_function(evidence)
            radius = max(1, round(SNAP_RADIUS / self.factor**0.5))
            self.mask = (snap_to_edges(level_set, pair.fixed, price, radius) > price).to(
                pair.fixed.dtype
            )
            if pair.known is not None:
                self.mask = torch.maximum(self.mask, pair.known)
        elif self.distance is not None and pair.known_moving is None:
            return
        elif pair.suspected is not None:
            self.mask = pair.suspected
        if pair.known_moving is not None:
            carried = moved_by(velocity, pair.known_moving) >= 0.5
            self.mask = torch.maximum(self.mask, carried.to(self.mask.dtype))
        masked = bool(self.mask.any())
        self.correspondence = 1 - dilate(self.mask, self.radius) if masked else None
        self.distance = distance_to(settings, self.fixed, self.correspondence, pair.foreground)


class _Descent:
    """Gradient descent with momentum whose steps have a given length."""

    def __init__(self, velocity: Tensor, settings: InstanceSettings, iterations: int) -> None:
        self.velocity = velocity.clone()
        self.settings, self.iterations = settings, iterations
        self.direction = torch.zeros_like(velocity)
        self.power = 0.0
        self.count = 0

    def iterate(self, masking: _Masking) -> float:
        """One step; returns the energy before it."""
        settings = self.settings
        velocity = self.velocity.requires_grad_(True)
        assert masking.distance is not None
        weight = None
        if settings.stiffness > 0 and masking.correspondence is not None:
            inside = 1 - resize(masking.correspondence, velocity.shape[2:])
            weight = 1 + settings.stiffness * inside
        energy = masking.distance(moved_by(velocity, masking.moving)).sum()
        energy = energy + settings.alpha * smoothness(velocity, weight=weight).sum()
        (gradient,) = torch.autograd.grad(energy, velocity)
        gradient = smooth(gradient, settings.gradient_smoothing)
        power = float(total_double(gradient.square()).sum()) / gradient[0, 0].numel()
        self.power = power if self.count == 0 else 0.95 * self.power + 0.05 * power
        keep = settings.momentum
        self.direction.mul_(keep).add_(gradient, alpha=1 - keep)
        share = 1 - (1 - settings.final_step) * self.count / max(self.iterations, 1)
        strength = max(self.power**0.5 * velocity[0, 0].numel(), WEAK_GRADIENT)
        length = settings.step * share * velocity[0, 0].numel() / strength
        self.velocity = velocity.detach().sub_(self.direction, alpha=length)
        self.count += 1
        return float(energy.detach())


def moved_by(velocity: Tensor, moving: Tensor) -> Tensor:
    """The moving image warped by exp(velocity), which lives on a grid of its own."""
    displacement = exponential(velocity)
    return warp(moving, resize_displacement(displacement, moving.shape[2:]))


def features(settings: InstanceSettings, image: Tensor) -> Tensor:
    """What is compared: the image itself, or its self-similarity, which knows no contrast.

    Described once and then warped, channel by channel: describing every warped image anew would
    cost a hundred times as much.
    """
    return mind_descriptor(image) if settings.similarity == "mind" else image


def distance_to(
    settings: InstanceSettings, fixed: Tensor, correspondence: Tensor | None, foreground: Tensor
) -> Callable[[Tensor], Tensor]:
    """The distance of a moved image to the fixed one, with what never changes computed once."""
    if settings.similarity == "lncc":
        return LocalNCC(
            fixed,
            correspondence,
            foreground=foreground,
            radius=settings.radius,
            noise=settings.noise,
        )
    similarity = SIMILARITIES[_of_features(settings.similarity)]
    return lambda moved: similarity(moved, fixed, correspondence, foreground=foreground)


@torch.no_grad()
def evidence_map(
    settings: InstanceSettings,
    moved: Tensor,
    fixed: Tensor,
    foreground: Tensor,
    correspondence: Tensor,
) -> Tensor:
    """What masking a voxel would save, in the unit of the price; 0 outside the foreground."""
    evidence: Similarity = EVIDENCE[_of_features(settings.evidence)]
    if settings.evidence in ONE_CONTRAST:
        moved = toned(moved, fixed, foreground * correspondence)
    return evidence(moved, fixed, correspondence, foreground=foreground) * foreground


def _of_features(row: str) -> str:
    """Self-similarities are compared by their squared difference."""
    return "mse" if row == "mind" else row


def toned(moved: Tensor, fixed: Tensor, weight: Tensor) -> Tensor:
    """The moved image after the cubic tone curve through 0 that brings it closest to the fixed one.

    Two scans of one contrast differ in their curve of intensities; that is no missing tissue.

    Parameters
    ----------
    moved, fixed, weight : Tensor, shape (1, 1, *spatial)
    """
    powers = [moved, moved.square(), moved**3]
    weighted = [power * weight for power in powers]
    gram = torch.stack([torch.cat([total_double(a * b) for b in powers]) for a in weighted])
    target = torch.cat([total_double(a * fixed) for a in weighted])
    if not gram[0, 0] > 0:  # nothing corresponds, so there is nothing to go by
        return moved
    ridge = TONE_RIDGE * gram.diagonal().mean() * torch.eye(len(powers), dtype=gram.dtype)
    unchanged = torch.zeros_like(target)
    unchanged[0] = 1
    curve = torch.linalg.solve(gram + ridge, target + ridge @ unchanged)
    return sum(c * power for c, power in zip(curve.to(moved.dtype), powers, strict=True))
