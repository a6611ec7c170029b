"""Descent of one pose on one scene, by damped Gauss-Newton steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from itk_ncr.registration.affine.geometry import Array, Pose, directions, plausible, strain
from itk_ncr.registration.affine.measures import MEASURES
from itk_ncr.registration.affine.points import Matches, PointPair

# A pose that leaves less than this share of either image a partner is fined, by FINE per share.
LEAST_SEEN, FINE = 0.5, 2.0
# Longest step, in voxels of the level, at the rim of the object.
LONGEST_STEP = 2.0
# A descent ends when the cost falls by less.
TOLERANCE = 1e-5
TRIES = 4


@dataclass(frozen=True)
class Judge:
    """Cost of poses.

    Attributes
    ----------
    scene : PointPair
    measure : str
        A row of ``MEASURES``.
    compared : "both", "fixed" or "moving"
    size : float
        Length of the moving object over that of the fixed one, as the images suggest.
    radius : float
        Of the object in moving space, mm.
    trust : pair of ndarray, optional
        Weights of the points.
    """

    scene: PointPair
    measure: str
    compared: str
    size: float
    radius: float
    trust: tuple[Array, Array] | None = None

    def cost(self, pose: Pose) -> float:
        """The cost alone."""
        return self._look(pose)[0]

    def _look(self, pose: Pose) -> tuple[float, Matches, Array, Array]:
        matches = self.scene.matches(pose, self.compared, self.trust)
        judged = MEASURES[self.measure](matches)
        prior = strain(pose.matrix, self.size)
        seen = {"both": max(matches.seen), "fixed": matches.seen[0], "moving": matches.seen[1]}
        lost = max(0.0, LEAST_SEEN - seen[self.compared])
        cost = judged.cost + float(prior @ prior) + FINE * lost
        return cost, matches, judged.force, judged.curvature

    def descend(
        self, pose: Pose, kind: str, steps: int, check: Callable[[], None]
    ) -> tuple[Pose, float]:
        """The pose after a maximum number of steps along the directions of a kind; and its cost."""
        cost, matches, force, curvature = self._look(pose)
        damping = 1e-2
        tries = 0
        while steps > 0 and tries < TRIES:
            check()
            steps -= 1
            generators = directions(kind, pose)
            step = self._step(pose, generators, matches, force, curvature, damping)
            count = len(generators)
            generator = sum(s * g for s, g in zip(step[:count], generators, strict=True))
            trial = pose.moved(generator / self.radius, step[count:])
            if plausible(trial.matrix, self.size):
                found = self._look(trial)
                if found[0] < cost:
                    fallen = cost - found[0]
                    pose, (cost, matches, force, curvature) = trial, found
                    damping, tries = max(damping / 4, 1e-4), 0
                    if fallen < TOLERANCE:
                        break
                    continue
            damping, tries = damping * 8, tries + 1
        return pose, cost

    def _step(
        self,
        pose: Pose,
        generators: list[Array],
        matches: Matches,
        force: Array,
        curvature: Array,
        damping: float,
    ) -> Array:
        """Generators (in units of the radius) and shift, as one vector."""
        dimension = len(pose.centre)
        arms = np.concatenate([matches.offsets / self.radius, np.ones((1, len(force)))])
        # Change of every point's value with the full linear part and the shift.
        full = (matches.slopes[:, None] * arms[None]).reshape(dimension * (dimension + 1), -1)
        gradient = np.einsum("in,n->i", full, force)
        hessian = np.einsum("in,jn->ij", full * curvature, full)
        basis = np.zeros((dimension, dimension + 1, len(generators) + dimension))
        for k, generator in enumerate(generators):
            basis[:, :dimension, k] = generator
        basis[:, dimension, len(generators) :] = np.eye(dimension)
        chosen = basis.reshape(dimension * (dimension + 1), -1)
        gradient, hessian = chosen.T @ gradient, chosen.T @ hessian @ chosen
        prior, slope = self._prior(pose, generators)
        gradient[: len(generators)] += 2 * slope.T @ prior
        hessian[: len(generators), : len(generators)] += 2 * slope.T @ slope
        diagonal = np.diag(hessian)
        hessian = hessian + np.diag(damping * diagonal + 1e-9 + 1e-6 * diagonal.mean())
        step = -np.linalg.solve(hessian, gradient)
        length = np.linalg.norm(step)
        longest = LONGEST_STEP * self.scene.voxel
        return step if length <= longest else step * (longest / length)

    def _prior(self, pose: Pose, generators: list[Array]) -> tuple[Array, Array]:
        """The strain and its derivative for the generators in units of the radius."""
        prior = strain(pose.matrix, self.size)
        nudge = 1e-5
        columns = []
        for generator in generators:
            moved = pose.moved(generator * nudge, np.zeros(len(pose.centre)))
            columns.append((strain(moved.matrix, self.size) - prior) / (nudge * self.radius))
        return prior, np.stack(columns, 1)
