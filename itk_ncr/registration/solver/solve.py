"""Solves one pair: velocity and mask in turn, coarse to fine.

First a short path of unmasked registrations on coarse images, from stiff to soft, shows what has no
partner (``masks``). Then the velocity descends the functional with the mask held fixed; the mask is
found once more before the fine levels, with the residual under it. Coarse images are made without
what is masked: in an ordinary pyramid a lesion blurs into its rim, which is the very tissue that
has to tell what lies beneath.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itk_ncr.errors import RegistrationAborted
from itk_ncr.fields import resize_velocity
from itk_ncr.losses import Functional
from itk_ncr.registration.request import Abort, Progress
from itk_ncr.registration.solver.energy import Energy
from itk_ncr.registration.solver.evidence import object_scale
from itk_ncr.registration.solver.levels import Level
from itk_ncr.registration.solver.masks import Support, nearest
from itk_ncr.registration.solver.pair import Pair, level_shape
from itk_ncr.registration.solver.settings import InstanceSettings
from itk_ncr.registration.solver.start import Start, doubtful, fill

# Windows of local correlation are never made smaller than this for a small object, in voxels.
LEAST_RADIUS = 2


@dataclass(frozen=True)
class Solution:
    """Output of the solver.

    Attributes
    ----------
    velocity : Tensor, shape (1, D, *coarser spatial)
        In voxels of its own grid.
    energies : tuple of float
        One per iteration.
    path : tuple of Tensor
        Velocities of the stages before anything was masked; empty where no mask was looked for.
    support : pair of Tensor, shape (1, 1, *spatial), optional
        Log-odds of another opinion: of the fixed image, and of the moving one as aligned.
    """

    velocity: Tensor
    energies: tuple[float, ...]
    path: tuple[Tensor, ...] = ()
    support: Support | None = None


def solve(
    pair: Pair,
    settings: InstanceSettings,
    *,
    find_mask: bool = True,
    support: Support | None = None,
    progress: Progress | None = None,
    abort: Abort | None = None,
) -> Solution:
    """Find the velocity and the mask of one pair.

    Parameters
    ----------
    pair : Pair
    settings : InstanceSettings
    find_mask : bool
        False keeps the mask at the known lesions: ordinary registration.
    support : pair of Tensor, shape (1, 1, *spatial), optional
        Log-odds that are added to those of the pair itself, another opinion: of the fixed image,
        and of the moving one as aligned.
    progress : callable, optional
        Called with the fraction done and the name of the stage.
    abort : callable, optional
        Called once per iteration; True stops.

    Raises
    ------
    RegistrationAborted
        If ``abort`` said so.
    """
    track = Track(_iterations(settings, settings.levels, find_mask), progress, abort)
    known = replace(pair, suspected=pair.known)
    if not find_mask:
        return Solution(descend(known, settings.levels, settings, track), tuple(track.energies))
    path = walk(known, settings, track)
    search = settings.masks.search(known, path, settings.functional, support)
    masked = known.suspecting(search.first())
    velocity = descend(masked, settings.coarse_levels, settings, track)
    masked = known.suspecting(search.second(velocity))
    velocity = descend(masked, settings.fine_levels, settings, track, velocity)
    return Solution(velocity, tuple(track.energies), path, search.support)


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
    """Improve an initial guess: its collapses are filled in, then the finest levels are descended.

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
        False keeps the mask at the known lesions, and trusts the guess everywhere else.
    progress, abort : callable, optional
        As for :func:`solve`.

    Notes
    -----
    Why the guess is blanked first: a registration that knew no mask has squeezed away what has no
    partner, and descent does not find back out of it.
    """
    levels = refinement_levels(settings.levels, iterations)
    track = Track(_iterations(settings, levels, find_mask), progress, abort)
    suspected = _suspected(pair, start, find_mask)
    # What a network takes for masked stays so: it knows lesions that have lost their residual.
    pair = replace(pair, suspected=suspected, known=suspected)
    path: tuple[Tensor, ...] = ()
    if find_mask:
        path = walk(pair, settings, track)
        pair = pair.suspecting(settings.masks.search(pair, path, settings.functional).first())
    blank = None if pair.suspected is None else nearest(pair.suspected, start.velocity.shape[2:])
    if find_mask:
        flagged = doubtful(start)
        blank = flagged if blank is None else torch.maximum(flagged, blank)
    begin = start.velocity if blank is None else fill(start.velocity, blank)
    velocity = descend(pair, levels, settings, track, begin)
    energy = Energy(pair, _fitting(settings.functional, pair), settings.dilation)
    guess = resize_velocity(start.velocity, velocity.shape[2:])
    with torch.no_grad():
        energy.update(velocity)
        better = energy(velocity) <= energy(guess)
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


def walk(pair: Pair, settings: InstanceSettings, track: Track | None = None) -> tuple[Tensor, ...]:
    """Velocities of the stages before anything is masked, stiffest first.

    Parameters
    ----------
    pair : Pair
    settings : InstanceSettings
    track : optional
        Counts the iterations.
    """
    track = track or Track(_iterations(settings, (), True), None, None)
    velocities: list[Tensor] = []
    scale = object_scale(pair)
    for stage in settings.masks.path:
        stiff = replace(settings, functional=stage.functional(settings.functional))
        start = velocities[-1] if velocities else None
        levels = tuple(level.scaled(scale) for level in stage.levels)
        velocities.append(descend(pair, levels, stiff, track, start))
    # Energies of other functionals.
    track.energies.clear()
    return tuple(velocities)


def _suspected(pair: Pair, start: Start, find_mask: bool) -> Tensor | None:
    """The known lesions and, if masks are to be found, those of the guess."""
    if not find_mask or start.noncorrespondence is None:
        return pair.known
    guessed = nearest(start.noncorrespondence, pair.fixed.shape[2:])
    return guessed if pair.known is None else torch.maximum(guessed, pair.known)


def _iterations(settings: InstanceSettings, levels: tuple[Level, ...], find_mask: bool) -> int:
    """Most iterations of a path and of some levels, in units of equal work as far as is known."""
    stages = settings.masks.path if find_mask else ()
    walked = [level for stage in stages for level in stage.levels]
    return sum(level.iterations for level in (*walked, *levels))


class Track:
    """Energies so far, and the callbacks of the caller."""

    def __init__(self, total: int, progress: Progress | None, abort: Abort | None) -> None:
        self.total = total
        self.done = 0
        self.energies: list[float] = []
        self.progress, self.abort = progress, abort

    def before_iteration(self) -> None:
        """Report to the caller, who may stop."""
        if self.abort is not None and self.abort():
            raise RegistrationAborted("registration was stopped by its abort callback.")
        if self.progress is not None and self.done % 5 == 0:
            self.progress(min(1.0, self.done / self.total), "solving")

    def after_iteration(self, energy: float) -> None:
        """Record the energy."""
        self.energies.append(energy)
        self.done += 1


def descend(
    pair: Pair,
    levels: tuple[Level, ...],
    settings: InstanceSettings,
    track: Track,
    velocity: Tensor | None = None,
) -> Tensor:
    """Velocity after some levels, coarse to fine; on the grid of the last of them.

    Parameters
    ----------
    pair : Pair
    levels : tuple of Level
    settings : InstanceSettings
    track : Track
    velocity : Tensor, shape (1, D, *coarser spatial), optional
        Where to begin, in voxels of its own grid. Default: at rest.
    """
    spatial = pair.fixed.shape[2:]
    functional = _fitting(settings.functional, pair)
    if velocity is None:
        velocity = pair.fixed.new_zeros(1, len(spatial), *(min(n, 8) for n in spatial))
    for level in levels:
        shape = level_shape(spatial, pair.spacing, level.velocity_factor)
        steps = settings.descent.begin(resize_velocity(velocity, shape), level.iterations)
        # Coarse images made without the mask are clean up to its rim.
        clean = pair.suspected is not None and level.image_factor > 1
        dilation = 0 if clean else settings.dilation
        energy = Energy(pair.reduced(level.image_factor), functional, dilation)
        end = track.done + level.iterations
        means: list[float] = []
        for iteration in range(level.iterations):
            track.before_iteration()
            if iteration % settings.check_every == 0:
                energy.update(steps.velocity)
                if iteration:
                    recent = track.energies[-settings.check_every :]
                    means.append(sum(recent) / len(recent))
                if len(means) > 1 and means[-2] - means[-1] < settings.tolerance * abs(means[-2]):
                    break
            track.after_iteration(steps.step(energy))
        track.done = end
        velocity = steps.velocity
    return velocity


def _fitting(functional: Functional, pair: Pair) -> Functional:
    """The functional with windows of local correlation that suit a smaller object."""
    radius = int(functional.similarity_settings.get("radius", 0))
    smaller = max(LEAST_RADIUS, round(radius * object_scale(pair)))
    return functional if smaller >= radius else functional.with_windows(smaller)
