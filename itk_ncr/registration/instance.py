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
from itk_ncr.fields import resize_velocity, smooth
from itk_ncr.losses import smoothness, total_double
from itk_ncr.ops import resize
from itk_ncr.registration.energy import distance_to, evidence_map, features, moved_by
from itk_ncr.registration.masking import SNAP_RADIUS, MaskStep, dilate, snap_to_edges
from itk_ncr.registration.pair import Pair, level_shape
from itk_ncr.registration.settings import Abort, Progress
from itk_ncr.registration.solver_settings import InstanceSettings, Level
from itk_ncr.registration.start import Start, doubtful, fill

# Root mean square of the gradient, per voxel and in distance per voxel of motion, below which steps
# get shorter: pairs that differ start at 0.3, an image and itself at 0.0002.
WEAK_GRADIENT = 0.05
# Share of the foreground that must be masked after the coarse levels for a second pass.
WORTH_A_SECOND_PASS = 0.002


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
    counts = [level.iterations for level in settings.levels]
    # The coarse levels count twice: there may be a second pass.
    track = _Track(2 * sum(counts) - counts[-1], progress, abort)
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


def refine(
    pair: Pair,
    settings: InstanceSettings,
    start: Start,
    iterations: int,
    *,
    find_mask: bool = True,
    progress: Progress | None = None,
    abort: Abort | None = None,
) -> Solution:
    """Go on from a first guess: its collapses are filled in, then the finest levels are descended.

    The result is the better one of the refined velocity and the guess itself, by the energy outside
    the mask that was found.

    Parameters
    ----------
    pair : Pair
    settings : InstanceSettings
    start : Start
    iterations : int
        Over both finest levels, half of them each; positive. Fewer when the energy stops falling.
    find_mask : bool
        False leaves the mask at what is known, and believes the guess everywhere else.
    progress, abort : callable, optional
        As for :func:`solve`.

    Notes
    -----
    Why the guess is blanked first: a registration that knew no mask has squeezed away what has no
    partner, and descent does not find back out of it.
    """
    track = _Track(iterations, progress, abort)
    suspected = _suspected(pair, start, find_mask)
    # What a network takes for masked stays so: it knows lesions that have lost their residual.
    pair = replace(pair, suspected=suspected, known=suspected)
    blank = _nearest(suspected, start.velocity.shape[2:]) if suspected is not None else None
    if find_mask:
        flagged = doubtful(start)
        blank = flagged if blank is None else torch.maximum(flagged, blank)
    begin = start.velocity if blank is None else fill(start.velocity, blank)
    levels = refinement_levels(settings.levels, iterations)
    velocity, mask = _descend(pair, levels, settings, find_mask, track, begin)
    masking = _Masking(replace(pair, suspected=mask), settings, 1.0, False)
    guess = resize_velocity(start.velocity, velocity.shape[2:])
    with torch.no_grad():
        masking.update(velocity, 1.0)
        better = _energy(velocity, masking) <= _energy(guess, masking)
    return Solution(velocity if better else guess, mask, tuple(track.energies))


def refinement_levels(levels: tuple[Level, ...], iterations: int) -> tuple[Level, ...]:
    """The two finest levels with half of the iterations each; the finest alone for a single one.

    The finest alone, or more levels, were worse: steps on a coarser grid lead a good start astray.
    """
    counts = (iterations // 2, iterations - iterations // 2)[-len(levels) :]
    if len(levels) == 1:
        counts = (iterations,)
    chosen = zip(levels[-len(counts) :], counts, strict=True)
    return tuple(replace(level, iterations=count) for level, count in chosen if count > 0)


def _suspected(pair: Pair, start: Start, find_mask: bool) -> Tensor | None:
    """What is known and, if masks are to be found, what the guess takes for masked."""
    if not find_mask or start.noncorrespondence is None:
        return pair.known
    guessed = _nearest(start.noncorrespondence, pair.fixed.shape[2:])
    return guessed if pair.known is None else torch.maximum(guessed, pair.known)


class _Track:
    """Energies so far, and whom to tell."""

    def __init__(self, total: int, progress: Progress | None, abort: Abort | None) -> None:
        self.total = total
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


def _nearest(mask: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
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


def _energy(velocity: Tensor, masking: _Masking) -> Tensor:
    """Distance outside the mask plus roughness, dearer inside it."""
    settings = masking.settings
    assert masking.distance is not None
    weight = None
    if settings.stiffness > 0 and masking.correspondence is not None:
        inside = 1 - resize(masking.correspondence, velocity.shape[2:])
        weight = 1 + settings.stiffness * inside
    energy = masking.distance(moved_by(velocity, masking.moving)).sum()
    return energy + settings.alpha * smoothness(velocity, weight=weight).sum()


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
        energy = _energy(velocity, masking)
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
