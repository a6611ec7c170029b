"""Finds what has no partner: learnt evidence along a path of registrations, then the mask step."""

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
    path_cues,
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
# too wide as a rule. With .4 instead of .65 four phantoms of two validation pairs had a Dice of .77
# to .88 instead of .69 to .81, and two real pairs the same mask.
SHOWN_SHARE = 0.4
# Log-odds that are as good as any, and those of the background, negative.
CERTAIN, BACKGROUND = 8.0, 2.0
# Share of the price that counts for the first mask: what is masked for nothing shows later that it
# has a partner, what is not masked is explained away.
FIRST_PRICE = 0.2

Path = tuple[Tensor, ...]
"""Velocities of unmasked registrations, stiffest first, each (1, D, *coarser spatial)."""


class Search(Protocol):
    """The search for the mask of one pair; masks are (1, 1, *spatial), 0 or 1."""

    @property
    def support(self) -> Tensor | None:
        """What is used of another opinion, as log-odds."""
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
        """The unmasked registrations it goes by, stiffest first."""
        ...

    def search(
        self, pair: Pair, path: Path, functional: Functional, support: Tensor | None = None
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
        support: Tensor | None = None,
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
        self, pair: Pair, path: Path, functional: Functional, support: Tensor | None = None
    ) -> Search:
        """Judge the path of a pair, for all masks that go by it.

        Parameters
        ----------
        pair : Pair
        path : tuple of Tensor
        functional : Functional
        support : Tensor, shape (1, 1, *spatial), optional
            Log-odds of another opinion, which are added to those of the pair.
        """
        factor = path_factor(pair)
        coarse = pair.reduced(factor)
        cues = path_cues(coarse, path)
        model = self._model(pair)
        search = _LearntSearch(
            path, pair.fixed.shape[2:], coarse, factor, cues, model.path([cues]), model, functional
        )
        return search if support is None else search.supported_by(support)

    @torch.no_grad()
    def probabilities(
        self,
        pair: Pair,
        path: Path,
        functional: Functional,
        displacement: Tensor,
        inverse: Tensor,
        support: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Noncorrespondence in fixed and in moving space, with the registration at hand.

        Parameters
        ----------
        pair : Pair
        path : tuple of Tensor
        functional : Functional
        displacement, inverse : Tensor, shape (1, D, *spatial)
            In voxels of the pair.
        support : Tensor, shape (1, 1, *spatial), optional
            As for :meth:`search`.
        """
        moved, moved_back = warp(pair.moving, displacement), warp(pair.fixed, inverse)
        swapped = pair.reversed(warp(pair.foreground, inverse, mode="nearest"))
        carried = None if support is None else warp(support, inverse)
        there = self._probability(pair, moved, path, functional, support)
        back = self._probability(swapped, moved_back, _opposite(path), functional, carried)
        # Each sees what is new in its own image; what has no partner has none either way.
        return (
            torch.maximum(there, _discounted(warp(back, displacement), moved, pair)),
            torch.maximum(back, _discounted(warp(there, inverse), moved_back, swapped)),
        )

    def _probability(
        self, pair: Pair, moved: Tensor, path: Path, functional: Functional, support: Tensor | None
    ) -> Tensor:
        """Noncorrespondence of the fixed image of a pair, (1, 1, *spatial); 0 in its background."""
        along = path_cues(pair.reduced(path_factor(pair)), path)
        current = final_cues(pair, moved, pair.compared())
        log_odds = self._model(pair).final([resize(along, pair.fixed.shape[2:]), current])
        level_set = mask_level_set(_supported(log_odds, support), pair, functional, 1.0)
        return torch.sigmoid(level_set) * pair.foreground

    def _model(self, pair: Pair) -> EvidenceModel:
        return evidence_model(self.learnt_from, pair.fixed.ndim - 2)


@dataclass(frozen=True)
class _LearntSearch:
    """What a path shows of a pair, on the grid on which it is judged."""

    path: Path
    shape: tuple[int, ...]
    coarse: Pair
    factor: float
    cues: Tensor
    log_odds: Tensor
    model: EvidenceModel
    functional: Functional
    support: Tensor | None = None

    def supported_by(self, opinion: Tensor) -> _LearntSearch:
        """The same with another opinion, except on regions that the pair itself shows better."""
        seen = self._level_set(self.log_odds) > 0
        regions, count = ndimage.label((resize(opinion, self.cues.shape[2:]) > 0)[0, 0].numpy())
        if count == 0:
            return replace(self, support=opinion)
        shares = ndimage.mean(seen[0, 0].numpy(), regions, np.arange(1, count + 1))
        shown = np.isin(regions, 1 + np.flatnonzero(shares > SHOWN_SHARE))
        there = torch.from_numpy(shown)[None, None].to(opinion.dtype)
        return replace(self, support=opinion * (1 - nearest(there, opinion.shape[2:])))

    def first(self) -> Tensor:
        """The mask by the path alone, on the grid of the pair."""
        # What is new in the moving image is seen from its side.
        opposite = _opposite(self.path)
        coarse = self.coarse
        seen = (moved_by(opposite[-1], coarse.foreground) > 0.5).to(self.log_odds.dtype)
        cues = path_cues(coarse.reversed(seen), opposite)
        back = torch.where(seen > 0, self.model.path([cues]), -CERTAIN)
        carried = moved_by(self.path[-1], back)
        moved = moved_by(self.path[-1], coarse.moving)
        carried -= _discount(carried > 0, moved, coarse.compared())
        return self._region(torch.maximum(self.log_odds, carried) - math.log(FIRST_PRICE))

    def second(self, velocity: Tensor) -> Tensor:
        """The mask with a velocity that was found under an earlier one."""
        coarse = self.coarse
        current = final_cues(coarse, moved_by(velocity, coarse.moving), coarse.compared())
        return self._region(self.model.final([self.cues, current]))

    def _region(self, log_odds: Tensor) -> Tensor:
        """The best mask for log-odds on this grid, on the grid of the pair."""
        level_set = self._level_set(_supported(log_odds, self.support))
        return nearest((level_set > 0).to(log_odds.dtype), self.shape)

    def _level_set(self, log_odds: Tensor) -> Tensor:
        return mask_level_set(log_odds, self.coarse, self.functional, self.factor)


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
    """Log-odds by which evidence that was carried over counts less, (1, 1, *spatial).

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
