"""Retina of a virtual patient and its pathology at two visits.

All lengths are in millimetres: ``x`` along the B-scan, 0 in its middle; ``z`` across the B-scans of
a volume, 0 at the fovea; depth downwards from the first row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import ArgumentError

Curve = NDArray[np.float32]
Random = np.random.Generator

# Extent of a B-scan of the Spectralis volumes of doi:10.1007/s11548-022-02577-4: 6 mm of retina;
# 496 rows of 3.87 um.
WIDTH_MM, DEPTH_MM = 6.0, 1.92
# Pigment epithelium with Bruch's membrane.
RPE_MM = 0.028
# How much of a lift reaches the inner limiting membrane, over which width (sigma), and how thin the
# outer nuclear layer may become.
STIFFNESS, ARCH_MM, LEAST_ONL = 0.85, 0.25, 0.4
# Photoreceptors, outwards from the outer nuclear layer: limiting membrane, inner segments,
# ellipsoid zone, outer segments.
RECEPTORS_MM = (0.010, 0.022, 0.020, 0.028)
PURPOSES = ("place", "layers", "disease", "texture")
# In place of a B-scan's number; no patient has that many.
ALL_SCANS = 1 << 20
FATES = ("appears", "grows", "stays", "shrinks", "vanishes")


@dataclass(frozen=True)
class OctGrowth:
    """Growth of drusen, detachments and fluid between baseline and follow-up.

    Attributes
    ----------
    structures : (fewest, most)
        How many of them a patient has, at either visit or both.
    appears, grows, stays, shrinks, vanishes : float
        How often, as shares of their sum.
    factor : (low, high)
        Ratio of the two diameters of what grows or shrinks.
    """

    structures: tuple[int, int] = (1, 5)
    appears: float = 0.3
    grows: float = 0.2
    stays: float = 0.2
    shrinks: float = 0.15
    vanishes: float = 0.15
    factor: tuple[float, float] = (1.2, 2.0)

    def __post_init__(self) -> None:
        shares = [getattr(self, name) for name in FATES]
        if min(shares) < 0 or not 0 < sum(shares) < math.inf:
            raise ArgumentError(
                f"{', '.join(FATES)} must be >= 0 and one of them positive; got {shares}."
            )
        if not 0 <= self.structures[0] <= self.structures[1]:
            raise ArgumentError(
                f"structures must be two rising numbers >= 0; got {self.structures}."
            )
        if not 1 <= self.factor[0] <= self.factor[1] < math.inf:
            raise ArgumentError(f"factor must be two rising numbers >= 1; got {self.factor}.")

    def sizes(self, random: Random) -> tuple[float, float]:
        """Draw the size of one structure at both visits.

        Parameters
        ----------
        random : numpy.random.Generator
            The same state draws the same sizes.

        Returns
        -------
        tuple of two floats
            Diameter before and after, as fractions in [0, 1] of the full one.
        """
        shares = np.array([getattr(self, name) for name in FATES])
        fate = FATES[int(random.choice(len(FATES), p=shares / shares.sum()))]
        smaller = 1 / random.uniform(*self.factor)
        return {
            "appears": (0.0, 1.0),
            "grows": (smaller, 1.0),
            "stays": (1.0, 1.0),
            "shrinks": (1.0, smaller),
            "vanishes": (1.0, 0.0),
        }[fate]


@dataclass(frozen=True)
class Range:
    """Sizes of a kind of structure: radius and height are drawn uniformly."""

    radius_mm: tuple[float, float]
    height_mm: tuple[float, float]
    brightness: tuple[float, float]
    # How steep its flank is: 1 a parabola, less a dome, more a hill.
    power: float


KINDS: dict[str, Range] = {
    "drusen": Range((0.12, 0.30), (0.03, 0.08), (0.40, 0.55), 2.0),
    "detachment": Range((0.35, 0.90), (0.07, 0.24), (0.14, 0.42), 0.8),
    "subretinal": Range((0.40, 1.20), (0.05, 0.16), (0.07, 0.11), 1.2),
    "intraretinal": Range((0.12, 0.40), (0.07, 0.18), (0.06, 0.10), 0.5),
}


@dataclass(frozen=True)
class Structure:
    """A pathological structure in a retina.

    Attributes
    ----------
    kind : str
        Row of ``KINDS``.
    x_mm, z_mm : float
        Centre.
    radius_mm, height_mm : float
        Of its full size.
    brightness : float
    inner : bool
        Whether fluid within the retina lies in the inner nuclear layer, or in the outer one.
    before, after : float
        Share of its full diameter at baseline and at follow-up.
    outline : tuple of float
        Numbers in [-1, 1] that make its outline its own.
    """

    kind: str
    x_mm: float
    z_mm: float
    radius_mm: float
    height_mm: float
    brightness: float
    inner: bool
    before: float
    after: float
    outline: tuple[float, ...]

    def at(self, visit: str) -> Structure | None:
        """The structure at "baseline" or "follow-up"; None where it is absent."""
        size = self.before if visit == "baseline" else self.after
        if size == 0:
            return None
        return replace(self, radius_mm=self.radius_mm * size, height_mm=self.height_mm * size)

    def profile(self, x_mm: Curve, z_mm: float) -> Curve:
        """Its height in a B-scan, (columns,); 0 where it is not."""
        along = (x_mm - self.x_mm) / self.radius_mm
        across = (z_mm - self.z_mm) / self.radius_mm
        inside = np.maximum(1 - along**2 - across**2, 0)
        bumps = sum(
            0.12 * wave * np.sin((n + 2) * 1.7 * along + 3 * wave)
            for n, wave in enumerate(self.outline)
        )
        return (self.height_mm * inside ** KINDS[self.kind].power * (1 + bumps)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Layers:
    """Boundaries of a B-scan at one visit: depth in mm for every column, (columns,) each.

    Attributes
    ----------
    inner : tuple of Curve
        ILM, then the outer ends of nerve fibres, ganglion cells with the inner plexiform layer,
        inner nuclear, outer plexiform and outer nuclear layer, limiting membrane, inner segments,
        ellipsoid zone, outer segments. Below the last one is subretinal fluid, if any.
    rpe, bm, choroid : Curve
        Inner end of the pigment epithelium, Bruch's membrane, outer end of the choroid.
    """

    inner: tuple[Curve, ...]
    rpe: Curve
    bm: Curve
    choroid: Curve


@dataclass(frozen=True, eq=False)
class Scan:
    """One B-scan of a virtual patient, seen twice.

    Attributes
    ----------
    seed : tuple of int
        Everything about it that stays follows from these.
    columns : int
        Of the image.
    growth : OctGrowth
    """

    seed: tuple[int, int, int]
    columns: int
    growth: OctGrowth = OctGrowth()

    @cached_property
    def x_mm(self) -> Curve:
        """Place of every column."""
        step = WIDTH_MM / self.columns
        return ((np.arange(self.columns) - (self.columns - 1) / 2) * step).astype(np.float32)

    def random(self, purpose: str) -> Random:
        """Random numbers of this B-scan alone, for one purpose."""
        return np.random.default_rng((*self.seed, PURPOSES.index(purpose)))

    def shared_random(self, purpose: str) -> Random:
        """Random numbers that all B-scans of the patient share."""
        return np.random.default_rng((*self.seed[:2], ALL_SCANS, PURPOSES.index(purpose)))

    @cached_property
    def z_mm(self) -> float:
        """Distance from the fovea, across the B-scans; the first lies close to it."""
        reach = 0.2 if self.seed[2] == 0 else 1.5
        return float(self.random("place").uniform(-reach, reach))

    @cached_property
    def structures(self) -> tuple[Structure, ...]:
        """Drusen, detachments and fluid of the patient; those of a kind do not touch."""
        random = self.shared_random("disease")
        found: list[Structure] = []
        for _ in range(int(random.integers(*self.growth.structures, endpoint=True))):
            kind = list(KINDS)[int(random.integers(len(KINDS)))]
            sizes = KINDS[kind]
            one = Structure(
                kind=kind,
                x_mm=float(random.uniform(-2.0, 2.0)),
                z_mm=float(random.normal(0, 0.3)),
                radius_mm=float(random.uniform(*sizes.radius_mm)),
                height_mm=float(random.uniform(*sizes.height_mm)),
                brightness=float(random.uniform(*sizes.brightness)),
                inner=bool(random.uniform() < 0.5),
                before=0.0,
                after=0.0,
                outline=tuple(random.uniform(-1, 1, 3).tolist()),
            )
            before, after = self.growth.sizes(random)
            if all(_apart(one, other) for other in found):
                found.append(replace(one, before=before, after=after))
        return tuple(found)

    def visible(self, visit: str) -> list[tuple[int, Structure]]:
        """Number and present form of what this B-scan shows at a visit."""
        shown = [(number, one.at(visit)) for number, one in enumerate(self.structures)]
        return [
            (number, one)
            for number, one in shown
            if one is not None and one.profile(self.x_mm, self.z_mm).any()
        ]

    @cached_property
    def healthy(self) -> tuple[Curve, Curve, tuple[Curve, ...]]:
        """Bruch's membrane, choroid's outer end, and six thicknesses from nerve fibres outwards."""
        patient, random, x = self.shared_random("layers"), self.random("layers"), self.x_mm
        fovea = patient.uniform(-0.6, 0.6)
        sag, tilt = patient.uniform(-0.05, 0.40), patient.uniform(-0.15, 0.15)
        nasal = patient.choice([-1.0, 1.0])
        scale = patient.uniform(0.9, 1.1)
        pit = patient.uniform(0.35, 0.55)
        level = patient.uniform(1.0, 1.15)
        choroid = patient.uniform(0.18, 0.38)
        r2 = (x - fovea) ** 2 + np.float32(self.z_mm) ** 2
        ring = (1 - np.exp(-r2 / (2 * pit**2))) * (0.55 + 0.45 * np.exp(-r2 / 4))
        away = 1 - np.exp(-r2 / (1.2 * pit**2))
        side = 1 / (1 + np.exp(-1.5 * nasal * (x - fovea)))
        bm = level - sag * (x / 3) ** 2 + tilt * x / 3 + smooth_curve(random, x, 1.5, 0.012)
        thickness = (
            (0.018 + 0.05 * side) * away,
            0.100 * ring,
            0.038 * away + 0.002,
            0.030 * away + 0.006,
            0.075 + 0.045 * np.exp(-r2 / 0.5),
        )
        varied = [scale * t * (1 + smooth_curve(random, x, 0.8, 0.06)) for t in thickness]
        outer = bm + choroid * (1 + smooth_curve(random, x, 1.0, 0.15))
        return (
            bm.astype(np.float32),
            outer.astype(np.float32),
            tuple(t.astype(np.float32) for t in varied),
        )

    def layers(self, visit: str) -> Layers:
        """All boundaries at "baseline" or "follow-up"."""
        bm, choroid, (nfl, ganglion, inl, opl, onl) = self.healthy
        raised, pocket = np.zeros_like(bm), np.zeros_like(bm)
        for _, one in self.visible(visit):
            profile = one.profile(self.x_mm, self.z_mm)
            if one.kind in ("drusen", "detachment"):
                raised = np.maximum(raised, profile)
            elif one.kind == "subretinal":
                pocket = np.maximum(pocket, profile)
            else:
                # Tissue around a cyst swells over more than the cyst's own width.
                wide = np.exp(-(((self.x_mm - one.x_mm) / (1.5 * one.radius_mm)) ** 2))
                swelling = 0.6 * profile.max() * wide
                inl, onl = (inl + swelling, onl) if one.inner else (inl, onl + swelling)
        rpe = bm - RPE_MM - raised
        # Subretinal fluid fills the room beside a detachment, it does not lie on top.
        pocket = np.maximum(pocket - raised, 0)
        # The inner retina spans what lifts it in a wider arch; the outer nuclear layer gives way.
        lift = raised + pocket
        arch = STIFFNESS * _widened(lift, round(ARCH_MM / WIDTH_MM * self.columns))
        onl = np.maximum(onl + arch - lift, LEAST_ONL * onl)
        ends = [rpe - pocket]
        for thickness in (*reversed(RECEPTORS_MM), onl, opl, inl, ganglion, nfl):
            ends.append(ends[-1] - thickness)
        return Layers(tuple(e.astype(np.float32) for e in reversed(ends)), rpe, bm, choroid)


def smooth_curve(random: Random, x_mm: Curve, scale_mm: float, amplitude: float) -> Curve:
    """A random curve that varies over a distance, of standard deviation ``amplitude``."""
    waves = max(2, round(WIDTH_MM / scale_mm))
    phase = random.uniform(0, 2 * math.pi, waves)
    weight = random.normal(size=waves)
    rate = random.uniform(0.3, 1.0, waves) * 2 * math.pi / (2 * scale_mm)
    total = (weight * np.sin(np.outer(x_mm, rate) + phase)).sum(1)
    return (amplitude * total * math.sqrt(2 / waves)).astype(np.float32)


def _widened(curve: Curve, sigma: int) -> Curve:
    """The curve smoothed by three boxes, about a Gaussian; its ends repeat."""
    width = 2 * sigma + 1
    padded = np.pad(curve, 3 * sigma, mode="edge")
    for _ in range(3):
        padded = np.convolve(padded, np.full(width, 1 / width, np.float32), "valid")
    return padded


def _apart(one: Structure, other: Structure) -> bool:
    """Whether two structures may be in one eye: those of a kind lie side by side."""
    under = ("drusen", "detachment")
    alike = one.kind == other.kind or (one.kind in under and other.kind in under)
    distance = abs(one.x_mm - other.x_mm)
    return not alike or distance > 1.1 * (one.radius_mm + other.radius_mm)
