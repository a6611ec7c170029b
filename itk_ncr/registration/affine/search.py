"""The search for an affine: several starts, two measures, coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.registration.affine.descent import Judge
from itk_ncr.registration.affine.geometry import Pose
from itk_ncr.registration.affine.measures import MEASURES
from itk_ncr.registration.affine.points import PointPair, View
from itk_ncr.registration.affine.recognition import agreement, stripped
from itk_ncr.registration.affine.starts import spread, starts

# Voxels of the fixed image at each level, coarsest first: the basin is wide where there are few.
LEVEL_VOXELS = {2: (2_500, 10_000, 60_000), 3: (8_000, 60_000, 300_000)}
SCREENING_STEPS, COARSE_STEPS, MIDDLE_STEPS, FINE_STEPS = 10, 20, 12, 8
# Candidates of each measure that are carried on after screening.
SURVIVORS = 3
# Voxels of the level by which points reach beyond the foregrounds: mean Jaccard of all labels on
# six validation pairs .3516 without, .3550 with 1, .3566 with 3.5 mm; .3564 with whole grids.
MARGIN, FINE_MARGIN = 1, 2
# Share of clearly correlated windows where the correlation is negative from which the contrasts
# differ: at most .08 in pairs of one contrast, lesions included; .19 to .9 in others. Of slices,
# .06 at most in 36 pairs of one contrast, and .18 and more in 29 of 30 others.
INVERTED = {2: 0.1, 3: 0.13}
# Mean correlation below which the images are too noisy, or too badly aligned, to say so: .23 for a
# pair of OCT B-scans, .35 and more for heads.
LEAST_ALIKE = 0.3
# A result must cost less than its start by this share.
ACCEPTANCE = 0.001


@dataclass(frozen=True)
class AffineSettings:
    """Settings of the pre-alignment.

    Attributes
    ----------
    contrasts : "auto", "one" or "two"
        Whether the images show tissue in the same intensities; "auto" finds out.
    shear : bool
        Whether axes may change their angles.
    """

    contrasts: str = "auto"
    shear: bool = True


@dataclass(frozen=True)
class Alignment:
    """An affine, and what was found out on the way.

    Attributes
    ----------
    affine : AffineMap
        Fixed to moving points, mm, LPS.
    stripped : "fixed", "moving" or None
        The image that shows a part only of what surrounds it in the other: a brain without its
        head. What surrounds it had no say.
    contrasts : "one" or "two"
        Whether the images show tissue in the same intensities.
    """

    affine: AffineMap
    stripped: str | None = None
    contrasts: str = "one"


@dataclass(frozen=True)
class _Candidate:
    cost: float
    pose: Pose
    size: float


def align(
    fixed: View,
    moving: View,
    *,
    start: AffineMap | None = None,
    settings: AffineSettings | None = None,
    check: Callable[[], None] = lambda: None,
) -> Alignment:
    """Find the affine map from fixed to moving points that makes two images alike.

    Parameters
    ----------
    fixed, moving : View
    start : AffineMap, optional
        The only start. Default: the physical coordinates as they are, the centres of mass on each
        other, and those with the moving image turned about each axis.
    settings : AffineSettings
    check : callable
        Called once per step; may raise to stop.

    Returns
    -------
    Alignment
        With the first start itself where nothing better was found.
    """
    return _Search(fixed, moving, settings or AffineSettings(), check).run(start)


class _Search:
    def __init__(
        self, fixed: View, moving: View, settings: AffineSettings, check: Callable[[], None]
    ) -> None:
        self.fixed, self.moving, self.settings, self.check = fixed, moving, settings, check
        self.kind = "affine" if settings.shear else "stretch"
        self.voxels = LEVEL_VOXELS[fixed.values.dimension]
        self.coarse, self.middle = (PointPair(fixed, moving, n, MARGIN) for n in self.voxels[:2])
        # A single voxel has no radius.
        self.radius = max(spread(self.coarse.moving.points), self.coarse.voxel)

    def run(self, start: AffineMap | None) -> Alignment:
        """The whole search."""
        centre = self.coarse.fixed.points.mean(1)
        if start is None:
            begin = list(starts(self.coarse))
        else:
            begin = [(Pose.of(start, centre), float(np.linalg.svd(start.matrix)[1].mean()))]
        found = self._candidates(begin, "both")
        best = self._best(found, "both")
        inner = stripped(self.middle, best.pose)
        if inner is not None:
            begin = [(candidate.pose, candidate.size) for candidate in found] + begin
            found = self._candidates(begin, inner) + found
            best = self._best(found, inner)
        compared = inner or "both"
        contrasts = self.settings.contrasts
        if contrasts == "auto":
            agreed = agreement(self.middle, best.pose, compared)
            clear = (
                agreed.alike > LEAST_ALIKE
                and agreed.inverted > INVERTED[self.fixed.values.dimension]
            )
            contrasts = "two" if clear else "one"
        measure = "correlation" if inner is not None and contrasts == "one" else "information"
        margin = MARGIN if inner is not None else FINE_MARGIN
        fine = PointPair(self.fixed, self.moving, self.voxels[2], margin)
        judge = self._judge(fine, measure, compared, best.size)
        pose, cost = judge.descend(best.pose, self.kind, FINE_STEPS, self.check)
        first = Judge(fine, measure, compared, begin[0][1], self.radius)
        before = first.cost(begin[0][0])
        if cost > before - ACCEPTANCE * abs(before):
            pose = begin[0][0]
        return Alignment(pose.affine(), inner, contrasts)

    def _judge(self, scene: PointPair, measure: str, compared: str, size: float) -> Judge:
        return Judge(scene, measure, compared, size, self.radius)

    def _candidates(self, begin: list[tuple[Pose, float]], compared: str) -> list[_Candidate]:
        """The best poses of every measure at the middle level."""
        found = []
        for measure in MEASURES:
            screened = [
                self._descended(self.coarse, pose, size, measure, compared, "rigid")
                for pose, size in begin
            ]
            screened = sorted(screened, key=lambda c: c.cost)[:SURVIVORS]
            coarse = []
            for candidate in screened:
                for kind in ("similarity", self.kind):
                    candidate = self._descended(
                        self.coarse, candidate.pose, candidate.size, measure, compared, kind
                    )
                coarse.append(candidate)
            best = self._best(coarse, compared)
            found.append(
                self._descended(self.middle, best.pose, best.size, measure, compared, self.kind)
            )
        return found

    def _descended(
        self, scene: PointPair, pose: Pose, size: float, measure: str, compared: str, kind: str
    ) -> _Candidate:
        steps = {"rigid": SCREENING_STEPS, "similarity": SCREENING_STEPS}.get(kind, COARSE_STEPS)
        if scene is self.middle:
            steps = MIDDLE_STEPS
        judge = self._judge(scene, measure, compared, size)
        pose, cost = judge.descend(pose, kind, steps, self.check)
        return _Candidate(cost, pose, size)

    def _best(self, candidates: list[_Candidate], compared: str) -> _Candidate:
        """The candidate under which most windows agree: no lesion or bright scalp decides."""
        if len(candidates) == 1:
            return candidates[0]
        return max(candidates, key=lambda c: agreement(self.middle, c.pose, compared).alike)


def overlap(
    affine: AffineMap, fixed: Grid, moving: Grid, among: NDArray[np.bool_] | None = None
) -> float:
    """Share of the fixed grid's voxel centres that the map carries into the moving image.

    Parameters
    ----------
    affine : AffineMap
    fixed, moving : Grid
    among : ndarray of bool, on the fixed grid, optional
        The voxels that count, at least one. Default: all.
    """
    # Every n-th voxel along an axis will do.
    steps = tuple(slice(None, None, max(1, n // 48)) for n in fixed.shape)
    if among is None:
        points = fixed.resized(tuple(min(n, 48) for n in fixed.shape)).points()
        points = points.reshape(-1, fixed.dimension)
    else:
        chosen = np.argwhere(among[steps])[:, ::-1] * [step.step for step in steps[::-1]]
        if not len(chosen):
            return overlap(affine, fixed, moving)
        points = chosen @ fixed.matrix.T + np.asarray(fixed.origin)
    index = moving.continuous_index(affine(points))
    inside = (index >= -0.5) & (index < np.asarray(moving.size) - 0.5)
    return float(inside.all(-1).mean())
