"""Search for the mask: learnt evidence along a path of registrations, then the mask step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from itk_ncr.losses import Functional
from itk_ncr.ops import resize, warp
from itk_ncr.registration.solver.energy import moved_by
from itk_ncr.registration.solver.evidence import (
    EvidenceModel,
    evidence_model,
    final_cues,
    path_factor,
    shown_only_in,
)
from itk_ncr.registration.solver.levels import Level, Stage
from itk_ncr.registration.solver.masking import SNAP_RADIUS, level_set_function, snap_to_edges
from itk_ncr.registration.solver.pair import Pair

# Log-odds by which the evidence of one image counts less in the other, but for what the other one
# could not see itself: an intensity that only a lesion has makes healthy tissue of that intensity
# unlikely from the other side. Chosen on one phantom.
CARRIED_DISCOUNT = 3.0
# Share of a region that must be seen without the other opinion for that to be left aside, which is
# too wide as a rule; by the number of axes. Twelve validation pairs of slices had a Dice under
# lesions L1, L2 and L4 of .58, .89, .90 with .15 and .92, .90, .90 with .5; four of volumes .75,
# .63, .90 with .15 and .83, .63, .74 with .5, where the labels moved less well.
SHOWN_SHARE = {2: 0.5, 3: 0.15}
# Log-odds that are as good as any, and those of the background, negative.
CERTAIN, BACKGROUND = 8.0, 2.0
# Share of the price that counts for the first mask: what is masked for nothing shows later that it
# has a partner, what is not masked is explained away.
FIRST_PRICE = 0.2

Path = tuple[Tensor, ...]
"""Velocities of unmasked registrations, stiffest first, each (1, D, *coarser spatial)."""
Support = tuple[Tensor, Tensor]
"""Log-odds of another opinion, each (1, 1, *spatial): of the fixed image, and of the moving one as
aligned."""


class Search(Protocol):
    """The search for the mask of one pair; masks are (1, 1, *spatial), 0 or 1."""

    @property
    def support(self) -> Support | None:
        """What is used of another opinion."""
        ...

    def first(self) -> Tensor:
        """The mask before anything is registered under one."""
        ...

    def second(self, velocity: Tensor) -> Tensor:
        """The mask with a velocity that was found under the first one."""
        ...


class Masks(Protocol):
    """A way to find masks; one line of a settings record."""

    @property
    def path(self) -> tuple[Stage, ...]:
        """The unmasked registrations to use, stiffest first."""
        ...

    def search(
        self, pair: Pair, path: Path, functional: Functional, support: Support | None = None
    ) -> Search:
        """Begin the search for the mask of a pair whose path was walked."""
        ...

    def probabilities(
        self,
        pair: Pair,
        path: Path,
        functional: Functional,
        displacement: Tensor,
        inverse: Tensor,
        support: Support | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Noncorrespondence in fixed and in moving space, with the registration at hand."""
        ...


@dataclass(frozen=True)
class LearntMasks:
    """Masks by learnt evidence, see ``evidence``.

    Attributes
    ----------
    learnt_from : "brains" or "retinas"
        What the evidence was learnt from; of retinas only 2D.
    path : tuple of Stage
        Unmasked registrations, stiffest first, each starting from the one before. Their levels are
        for objects of ``evidence.OBJECT_VOXELS`` and scaled to others.
    """

    learnt_from: str = "brains"
    path: tuple[Stage, ...] = (
        Stage(10.0, (Level(4, 4, 30), Level(2, 4, 15))),
        Stage(1.0, (Level(4, 4, 20), Level(2, 4, 15))),
        Stage(0.15, (Level(4, 4, 15), Level(2, 4, 25))),
    )

    def search(
        self, pair: Pair, path: Path, functional: Functional, support: Support | None = None
    ) -> Search:
        """Judge the path of a pair, for all masks that go by it.

        Parameters
        ----------
        pair : Pair
        path : tuple of Tensor
        functional : Functional
        support : pair of Tensor, shape (1, 1, *spatial), optional
            Log-odds of another opinion, of the fixed and of the moving image, which are added to
            those of the pair.
        """
        factor = path_factor(pair)
        coarse = pair.reduced(factor)
        model = self._model(pair)
        along = model.along_path(coarse, path)
        here = _Side(path, coarse, factor, along, along[:, :1], model, functional)
        there = here.opposite()
        if support is not None:
            here, there = here.supported_by(support[0]), there.supported_by(support[1])
        return _LearntSearch(here, there, pair.fixed.shape[2:])

    @torch.no_grad()
    def probabilities(
        self,
        pair: Pair,
        path: Path,
        functional: Functional,
        displacement: Tensor,
        inverse: Tensor,
        support: Support | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Noncorrespondence in fixed and in moving space, with the registration at hand.

        Parameters
        ----------
        pair : Pair
        path : tuple of Tensor
        functional : Functional
        displacement, inverse : Tensor, shape (1, D, *spatial)
            In voxels of the pair.
        support : pair of Tensor, shape (1, 1, *spatial), optional
            As for :meth:`search`.
        """
        moved, moved_back = warp(pair.moving, displacement), warp(pair.fixed, inverse)
        swapped = pair.reversed(warp(pair.foreground, inverse, mode="nearest"))
        of_fixed, of_moving = support or (None, None)
        there = self._probability(pair, moved, path, functional, of_fixed)
        back = self._probability(swapped, moved_back, _opposite(path), functional, of_moving)
        # Each sees what is new in its own image; what has no partner has none either way.
        return (
            torch.maximum(there, _discounted(warp(back, displacement), moved, pair)),
            torch.maximum(back, _discounted(warp(there, inverse), moved_back, swapped)),
        )

    def _probability(
        self, pair: Pair, moved: Tensor, path: Path, functional: Functional, support: Tensor | None
    ) -> Tensor:
        """Noncorrespondence of the fixed image of a pair, (1, 1, *spatial); 0 in its background."""
        model = self._model(pair)
        along = model.along_path(pair.reduced(path_factor(pair)), path)
        current = final_cues(pair, moved, pair.compared())
        log_odds = model.with_registration(resize(along, pair.fixed.shape[2:]), current)
        level_set = mask_level_set(_supported(log_odds, support), pair, functional, 1.0)
        return torch.sigmoid(level_set) * pair.foreground

    def _model(self, pair: Pair) -> EvidenceModel:
        return evidence_model(self.learnt_from, pair.fixed.ndim - 2)


@dataclass(frozen=True)
class _Side:
    """Evidence of a path about the fixed image of a pair, on the grid on which it is judged."""

    path: Path
    coarse: Pair
    factor: float
    along: Tensor
    log_odds: Tensor
    model: EvidenceModel
    functional: Functional
    support: Tensor | None = None

    def opposite(self) -> _Side:
        """The same of the moving image, as aligned."""
        path = _opposite(self.path)
        seen = (moved_by(path[-1], self.coarse.foreground) > 0.5).to(self.log_odds.dtype)
        coarse = self.coarse.reversed(seen)
        along = self.model.along_path(coarse, path)
        log_odds = torch.where(seen > 0, along[:, :1], -CERTAIN)
        return _Side(path, coarse, self.factor, along, log_odds, self.model, self.functional)

    def supported_by(self, opinion: Tensor) -> _Side:
        """The same with another opinion, except on regions that the pair itself shows better."""
        seen = self.level_set(self.log_odds) > 0
        regions, count = ndimage.label((resize(opinion, self.along.shape[2:]) > 0)[0, 0].numpy())
        if count == 0:
            return replace(self, support=opinion)
        shares = ndimage.mean(seen[0, 0].numpy(), regions, np.arange(1, count + 1))
        shown = np.isin(regions, 1 + np.flatnonzero(shares > SHOWN_SHARE[opinion.ndim - 2]))
        there = torch.from_numpy(shown)[None, None].to(opinion.dtype)
        return replace(self, support=opinion * (1 - nearest(there, opinion.shape[2:])))

    def supported(self) -> Tensor:
        """Log-odds by the path and the other opinion."""
        return _supported(self.log_odds, self.support)

    def level_set(self, log_odds: Tensor) -> Tensor:
        """Log-odds after the mask step."""
        return mask_level_set(log_odds, self.coarse, self.functional, self.factor)


@dataclass(frozen=True)
class _LearntSearch:
    """Evidence of a path about both images of a pair."""

    here: _Side
    there: _Side
    shape: tuple[int, ...]

    @property
    def support(self) -> Support | None:
        """What is used of another opinion."""
        if self.here.support is None or self.there.support is None:
            return None
        return self.here.support, self.there.support

    def first(self) -> Tensor:
        """The mask by the path alone, on the grid of the pair."""
        # What is new in the moving image is seen from its side.
        last, coarse = self.here.path[-1], self.here.coarse
        carried = moved_by(last, self.there.supported())
        carried -= _discount(carried > 0, moved_by(last, coarse.moving), coarse.compared())
        return self._region(torch.maximum(self.here.supported(), carried) - math.log(FIRST_PRICE))

    def second(self, velocity: Tensor) -> Tensor:
        """The mask with a velocity that was found under an earlier one."""
        here = self.here
        moved = moved_by(velocity, here.coarse.moving)
        current = final_cues(here.coarse, moved, here.coarse.compared())
        log_odds = here.model.with_registration(here.along, current)
        if self.support is not None:
            of_fixed, of_moving = self.support
            carried = moved_by(here.path[-1], of_moving)
            log_odds = _supported(log_odds, torch.maximum(of_fixed, carried))
        return self._region(log_odds)

    def _region(self, log_odds: Tensor) -> Tensor:
        """The best mask for log-odds on the grid of the sides, on the grid of the pair."""
        return nearest((self.here.level_set(log_odds) > 0).to(log_odds.dtype), self.shape)


def mask_level_set(log_odds: Tensor, pair: Pair, functional: Functional, factor: float) -> Tensor:
    """Log-odds after the mask step, at the prices of a functional; (1, 1, *spatial).

    Parameters
    ----------
    log_odds : Tensor, shape (1, 1, *spatial)
    pair : Pair
        On the same grid.
    functional : Functional
    factor : float
        Voxel size of that grid, in voxels of the working grid.
    """
    g = log_odds - math.log(functional.tau)
    g = torch.where(pair.foreground > 0.5, g.clamp(-CERTAIN, CERTAIN), -BACKGROUND)
    u = level_set_function(g, functional.kappa / factor)
    return snap_to_edges(u, pair.fixed, max(1, round(SNAP_RADIUS / factor**0.5)))


def nearest(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A mask on another grid, (1, 1, *shape), 0 or 1."""
    return (resize(mask, tuple(shape)) >= 0.5).to(mask.dtype)


def _opposite(path: Path) -> Path:
    """The path from the other side."""
    return tuple(-velocity for velocity in path)


def _discount(region: Tensor, moved: Tensor, weight: Tensor) -> Tensor:
    """Log-odds subtracted from transferred evidence, (1, 1, *spatial).

    ``region`` is where that evidence speaks against a partner; ``moved`` is the other image, and
    ``weight`` 1 where both are compared.
    """
    return CARRIED_DISCOUNT * (1 - shown_only_in(region, moved, weight))


def _discounted(probability: Tensor, moved: Tensor, pair: Pair) -> Tensor:
    """A probability that comes from the other image."""
    less = _discount(probability > 0.5, moved, pair.compared())
    return torch.sigmoid(torch.logit(probability, 1e-6) - less)


def _supported(log_odds: Tensor, support: Tensor | None) -> Tensor:
    """Log-odds with those of another opinion, (1, 1, *spatial), which may be on another grid."""
    return log_odds if support is None else log_odds + resize(support, log_odds.shape[2:])
