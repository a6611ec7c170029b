"""The per-pair solver: velocity and mask of one pair, by descent on the functional itself.

First a short path of unmasked registrations on coarse images, from stiff to soft, shows what has no
partner (``evidence``). Then the velocity moves down the gradient of the local correlation of what
corresponds, plus its own roughness, coarse to fine; the mask is found once more before the fine
levels, with the residual under it. Coarse images are made without what is masked: in an ordinary
pyramid a lesion blurs into its rim, which is the very tissue that has to tell what lies beneath.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from itk_ncr.errors import RegistrationAborted
from itk_ncr.fields import resize_velocity, smooth
from itk_ncr.losses import smoothness, total_double
from itk_ncr.ops import resize
from itk_ncr.registration.energy import distance_to, features, moved_by
from itk_ncr.registration.evidence import (
    evidence_model,
    final_cues,
    object_scale,
    path_cues,
    path_factor,
    shown_only_in,
)
from itk_ncr.registration.masking import (
    SNAP_RADIUS,
    dilate,
    level_set_function,
    snap_to_edges,
)
from itk_ncr.registration.pair import Pair, level_shape
from itk_ncr.registration.settings import Abort, Progress
from itk_ncr.registration.solver_settings import InstanceSettings, Level
from itk_ncr.registration.start import Start, doubtful, fill

# Root mean square of the gradient, per voxel and in distance per voxel of motion, below which steps
# get shorter: pairs that differ start at 0.3, an image and itself at 0.0002.
WEAK_GRADIENT = 0.05
# Log-odds by which the evidence of one image counts less in the other, but for what the other one
# could not see itself: an intensity that only a lesion has makes healthy tissue of that intensity
# unlikely from the other side. Chosen on one phantom.
CARRIED_DISCOUNT = 3.0
# Share of a region that must be seen without the other opinion for that to be left aside, which is
# too wide as a rule. With .4 instead of .65 four phantoms of two validation pairs had a Dice of .77
# to .88 instead of .69 to .81, and two real pairs the same mask.
SHOWN_SHARE = 0.4
# Log-odds that are as good as any, and those of the background, negative.
CERTAIN, BACKGROUND = 8.0, 2.0
# Share of the price that counts for the first mask: what is masked for nothing shows later that it
# has a partner, what is not masked is explained away.
FIRST_PRICE = 0.2


@dataclass(frozen=True)
class Solution:
    """What the solver found.

    Attributes
    ----------
    velocity : Tensor, shape (1, D, *coarser spatial)
        In voxels of its own grid.
    energies : tuple of float
        One per iteration.
    path : tuple of Tensor
        Velocities of the stages before anything was masked; empty where no mask was looked for.
    support : Tensor, shape (1, 1, *spatial), optional
        Log-odds of another opinion.
    """

    velocity: Tensor
    energies: tuple[float, ...]
    path: tuple[Tensor, ...] = ()
    support: Tensor | None = None


def solve(
    pair: Pair,
    settings: InstanceSettings,
    *,
    find_mask: bool = True,
    support: Tensor | None = None,
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
    support : Tensor, shape (1, 1, *spatial), optional
        Log-odds that are added to those of the pair itself: another opinion.
    progress : callable, optional
        Gets the share of the work that is done, and a word about it.
    abort : callable, optional
        Asked once per iteration; True stops.

    Raises
    ------
    RegistrationAborted
        If ``abort`` said so.
    """
    track = _Track(_iterations(settings, settings.levels, find_mask), progress, abort)
    pair = replace(pair, suspected=pair.known)
    path: tuple[Tensor, ...] = ()
    if find_mask:
        path = walk(pair, settings, track)
        look = _Look.along(path, pair, settings)
        if support is not None:
            support = support * _hidden(look, settings, support)
        pair = _suspecting(pair, _first_mask(look, pair, settings, support))
    velocity = _descend(pair, settings.coarse_levels, settings, track)
    if find_mask:
        known = replace(pair, suspected=pair.known)
        pair = _suspecting(known, _second_mask(look, known, settings, velocity, support))
    velocity = _descend(pair, settings.fine_levels, settings, track, velocity)
    return Solution(velocity, tuple(track.energies), path, support)


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
    levels = refinement_levels(settings.levels, iterations)
    track = _Track(_iterations(settings, levels, find_mask), progress, abort)
    suspected = _suspected(pair, start, find_mask)
    # What a network takes for masked stays so: it knows lesions that have lost their residual.
    pair = replace(pair, suspected=suspected, known=suspected)
    path: tuple[Tensor, ...] = ()
    if find_mask:
        path = walk(pair, settings, track)
        pair = _suspecting(pair, _first_mask(_Look.along(path, pair, settings), pair, settings))
    blank = None if pair.suspected is None else _nearest(pair.suspected, start.velocity.shape[2:])
    if find_mask:
        flagged = doubtful(start)
        blank = flagged if blank is None else torch.maximum(flagged, blank)
    begin = start.velocity if blank is None else fill(start.velocity, blank)
    velocity = _descend(pair, levels, settings, track, begin)
    objective = _Objective(pair, settings, 1.0)
    guess = resize_velocity(start.velocity, velocity.shape[2:])
    with torch.no_grad():
        objective.update(velocity)
        better = objective.energy(velocity) <= objective.energy(guess)
    velocity = velocity if better else guess
    return Solution(velocity, tuple(track.energies), path)


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


def _iterations(settings: InstanceSettings, levels: tuple[Level, ...], find_mask: bool) -> int:
    """Most iterations of a path and of some levels, in units of equal work as far as is known."""
    stages = settings.path if find_mask else ()
    walked = [level for stage in stages for level in stage.levels]
    return sum(level.iterations for level in (*walked, *levels))


def walk(pair: Pair, settings: InstanceSettings, track: _Track | None = None) -> tuple[Tensor, ...]:
    """Velocities of the stages before anything is masked, stiffest first.

    Parameters
    ----------
    pair : Pair
    settings : InstanceSettings
    track : optional
        Counts the iterations.
    """
    track = track or _Track(_iterations(settings, (), True), None, None)
    velocities: list[Tensor] = []
    scale = object_scale(pair)
    for stage in settings.path:
        stiff = replace(settings, alpha=stage.alpha)
        start = velocities[-1] if velocities else None
        levels = tuple(level.scaled(scale) for level in stage.levels)
        velocities.append(_descend(pair, levels, stiff, track, start))
    # Energies of other functionals.
    track.energies.clear()
    return tuple(velocities)


@dataclass(frozen=True)
class _Look:
    """What a path shows of a pair, on the grid on which it is judged."""

    path: tuple[Tensor, ...]
    coarse: Pair
    factor: float
    cues: Tensor
    log_odds: Tensor

    @classmethod
    def along(cls, path: tuple[Tensor, ...], pair: Pair, settings: InstanceSettings) -> _Look:
        """Judge a path once, for all masks that go by it."""
        factor = path_factor(pair)
        coarse = pair.reduced(factor)
        cues = path_cues(coarse, path)
        model = evidence_model(settings.evidence, _axes(pair))
        return cls(path, coarse, factor, cues, model.path([cues]))

    def region(self, log_odds: Tensor, pair: Pair, settings: InstanceSettings) -> Tensor:
        """The best mask for log-odds on this grid, on the grid of the pair."""
        level_set = mask_level_set(log_odds, self.coarse, settings, self.factor)
        return _nearest((level_set > 0).to(log_odds.dtype), pair.fixed.shape[2:])


def _first_mask(
    look: _Look, pair: Pair, settings: InstanceSettings, support: Tensor | None = None
) -> Tensor:
    """The mask by the path alone, on the grid of the pair."""
    # What is new in the moving image is seen from its side.
    opposite = tuple(-velocity for velocity in look.path)
    seen = (moved_by(opposite[-1], look.coarse.foreground) > 0.5).to(look.log_odds.dtype)
    cues = path_cues(look.coarse.reversed(seen), opposite)
    model = evidence_model(settings.evidence, _axes(pair))
    back = torch.where(seen > 0, model.path([cues]), -CERTAIN)
    carried = moved_by(look.path[-1], back)
    moved = moved_by(look.path[-1], look.coarse.moving)
    carried -= discount(carried > 0, moved, look.coarse.compared())
    log_odds = torch.maximum(look.log_odds, carried) - math.log(FIRST_PRICE)
    return look.region(supported(log_odds, support), pair, settings)


def discount(region: Tensor, moved: Tensor, weight: Tensor) -> Tensor:
    """Log-odds by which evidence that was carried over counts less, (1, 1, *spatial).

    Parameters
    ----------
    region : Tensor, shape (1, 1, *spatial)
        Where that evidence speaks against a partner.
    moved, weight : Tensor, shape (1, 1, *spatial)
        The other image, and where both are compared.
    """
    return CARRIED_DISCOUNT * (1 - shown_only_in(region, moved, weight))


def _hidden(look: _Look, settings: InstanceSettings, support: Tensor) -> Tensor:
    """1 but in regions of another opinion that the pair shows itself, and outlines better.

    (1, 1, *spatial) on the grid of the support.
    """
    seen = mask_level_set(look.log_odds, look.coarse, settings, look.factor) > 0
    regions, count = ndimage.label((resize(support, look.cues.shape[2:]) > 0)[0, 0].numpy())
    if count == 0:
        return torch.ones_like(support)
    shares = ndimage.mean(seen[0, 0].numpy(), regions, np.arange(1, count + 1))
    shown = np.isin(regions, 1 + np.flatnonzero(shares > SHOWN_SHARE))
    return 1 - _nearest(torch.from_numpy(shown)[None, None].to(support.dtype), support.shape[2:])


def _second_mask(
    look: _Look,
    pair: Pair,
    settings: InstanceSettings,
    velocity: Tensor,
    support: Tensor | None = None,
) -> Tensor:
    """The mask with a velocity that was found under an earlier one."""
    coarse = look.coarse
    current = final_cues(coarse, moved_by(velocity, coarse.moving), coarse.compared())
    log_odds = evidence_model(settings.evidence, _axes(pair)).final([look.cues, current])
    return look.region(supported(log_odds, support), pair, settings)


def supported(log_odds: Tensor, support: Tensor | None) -> Tensor:
    """Log-odds with those of another opinion, (1, 1, *spatial), which may be on another grid."""
    return log_odds if support is None else log_odds + resize(support, log_odds.shape[2:])


def mask_level_set(
    log_odds: Tensor, pair: Pair, settings: InstanceSettings, factor: float
) -> Tensor:
    """Log-odds after the mask step, at the price of the settings; (1, 1, *spatial).

    Parameters
    ----------
    log_odds : Tensor, shape (1, 1, *spatial)
    pair : Pair
        On the same grid.
    settings : InstanceSettings
    factor : float
        Voxel size of that grid, in voxels of the working grid.
    """
    g = log_odds - math.log(settings.price)
    g = torch.where(pair.foreground > 0.5, g.clamp(-CERTAIN, CERTAIN), -BACKGROUND)
    u = level_set_function(g, settings.perimeter / factor)
    return snap_to_edges(u, pair.fixed, max(1, round(SNAP_RADIUS / factor**0.5)))


def _suspecting(pair: Pair, mask: Tensor) -> Pair:
    """The pair with a mask besides what is known."""
    if pair.suspected is not None:
        mask = torch.maximum(mask, pair.suspected)
    return replace(pair, suspected=mask if bool(mask.any()) else None)


def _carried(velocity: Tensor, mask: Tensor) -> Tensor:
    """A mask of the moving image in the space of the fixed one."""
    return (moved_by(velocity, mask) >= 0.5).to(mask.dtype)


def _axes(pair: Pair) -> int:
    return pair.fixed.ndim - 2


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
    track: _Track,
    velocity: Tensor | None = None,
) -> Tensor:
    """Velocity after some levels, coarse to fine; on the grid of the last of them."""
    spatial = pair.fixed.shape[2:]
    if velocity is None:
        velocity = pair.fixed.new_zeros(1, len(spatial), *(min(n, 8) for n in spatial))
    for level in levels:
        reduced = pair.reduced(level.image_factor)
        shape = level_shape(spatial, pair.spacing, level.velocity_factor)
        descent = _Descent(resize_velocity(velocity, shape), settings, level.iterations)
        objective = _Objective(reduced, settings, level.image_factor)
        end = track.done + level.iterations
        means: list[float] = []
        for iteration in range(level.iterations):
            track.before_iteration()
            if iteration % settings.check_every == 0:
                objective.update(descent.velocity)
                if iteration:
                    recent = track.energies[-settings.check_every :]
                    means.append(sum(recent) / len(recent))
                if len(means) > 1 and means[-2] - means[-1] < settings.tolerance * abs(means[-2]):
                    break
            track.after_iteration(descent.iterate(objective))
        track.done = end
        velocity = descent.velocity
    return velocity


def _nearest(mask: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    return (resize(mask, tuple(shape)) >= 0.5).to(mask.dtype)


class _Objective:
    """The energy at one level, which sees only what corresponds."""

    def __init__(self, pair: Pair, settings: InstanceSettings, factor: float) -> None:
        self.pair, self.settings = pair, settings
        self.fixed, self.moving = (features(settings, i) for i in (pair.fixed, pair.moving))
        # Coarse images made without the mask are clean up to its rim.
        self.radius = 0 if pair.suspected is not None and factor > 1 else settings.dilation
        self.distance: Callable[[Tensor], Tensor] | None = None
        self.correspondence: Tensor | None = None

    @torch.no_grad()
    def update(self, velocity: Tensor) -> None:
        """Take out what this velocity brings from where the moving image is masked or ends."""
        pair = self.pair
        carried = [m for m in (pair.known_moving, pair.outside) if m is not None]
        if self.distance is not None and not carried:
            return
        masks = [dilate(m, self.radius) for m in (pair.suspected,) if m is not None]
        masks += [dilate(_carried(velocity, m), self.radius) for m in carried]
        self.correspondence = 1 - torch.stack(masks).amax(0) if masks else None
        self.distance = distance_to(self.settings, self.fixed, self.correspondence, pair.foreground)

    def energy(self, velocity: Tensor) -> Tensor:
        """Distance outside the mask plus roughness, dearer inside it."""
        settings = self.settings
        assert self.distance is not None
        weight = None
        if settings.stiffness > 0 and self.correspondence is not None:
            inside = 1 - resize(self.correspondence, velocity.shape[2:])
            weight = 1 + settings.stiffness * inside
        energy = self.distance(moved_by(velocity, self.moving)).sum()
        return energy + settings.alpha * smoothness(velocity, weight=weight).sum()


class _Descent:
    """Gradient descent with momentum; every voxel's step is measured by its usual gradient.

    A step has the same length wherever the gradient is as strong as it usually is there, after
    Adam, but for a direction that keeps its angle: one scale for all components of a voxel.

    References
    ----------
    Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980; for
    registration: Jena et al., "FireANTs", 2024, arXiv:2404.01249.
    """

    def __init__(self, velocity: Tensor, settings: InstanceSettings, iterations: int) -> None:
        self.velocity = velocity.clone()
        self.settings, self.iterations = settings, iterations
        self.direction = torch.zeros_like(velocity)
        self.squares = velocity.new_zeros(1, 1, *velocity.shape[2:])
        self.count = 0

    def iterate(self, objective: _Objective) -> float:
        """One step; returns the energy before it."""
        settings = self.settings
        velocity = self.velocity.requires_grad_(True)
        energy = objective.energy(velocity)
        (gradient,) = torch.autograd.grad(energy, velocity)
        gradient = smooth(gradient, settings.gradient_smoothing)
        squares = gradient.square().sum(1, keepdim=True)
        forget = 1.0 if self.count == 0 else 1 - settings.memory
        self.squares.mul_(1 - forget).add_(squares, alpha=forget)
        self.direction.mul_(settings.momentum).add_(gradient, alpha=1 - settings.momentum)
        voxels = squares.numel()
        usual = math.sqrt(float(total_double(self.squares).sum()) / voxels)
        floor = max(settings.gradient_floor * usual, WEAK_GRADIENT / voxels - usual)
        share = 1 - (1 - settings.final_step) * self.count / max(self.iterations, 1)
        step = self.direction / self.squares.sqrt().add_(floor)
        self.velocity = velocity.detach().sub_(step, alpha=settings.step * share)
        self.count += 1
        return float(energy.detach())
