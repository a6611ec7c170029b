"""Rendering of B-scans from layers: reflectivity, then speckle and noise."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.data.augmentation import uniform
from itk_ncr.data.phantoms.oct.anatomy import (
    DEPTH_MM,
    RPE_MM,
    WIDTH_MM,
    Curve,
    Random,
    Scan,
    Structure,
)
from itk_ncr.fields import smooth
from itk_ncr.ops import resize

Picture = NDArray[np.float32]

# Grey values of displayed B-scans (logarithm of reflectivity, 0 to 1), after OCTDL images
# (doi:10.1038/s41597-024-03182-7): vitreous, then nerve fibres, ganglion cells with inner
# plexiform, inner nuclear, outer plexiform and outer nuclear layer, limiting membrane, inner
# segments, ellipsoid zone and outer segments.
VITREOUS = 0.06
INNER = (0.52, 0.38, 0.25, 0.35, 0.21, 0.29, 0.23, 0.60, 0.40)
ELLIPSOID = 7
FLUID, EPITHELIUM, CHOROID, SCLERA = 0.08, 0.88, 0.50, 0.42
# Light that reaches what lies below the pigment epithelium falls to 1/e over this depth.
ATTENUATION_MM = 0.42
# Linear interpolation between knots lowers the deviation of noise by about so much.
ROUGHNESS = 1.4


@dataclass(frozen=True, eq=False)
class Painting:
    """A B-scan without noise, and what it shows.

    Attributes
    ----------
    tissue : ndarray, float32, shape (rows, columns)
    labels : ndarray, uint8, shape (rows, columns)
        0 outside, 1 from ILM to pigment epithelium, 2 from there to Bruch's membrane.
    fluid : ndarray, bool, shape (rows, columns)
        Drusen, detachments and fluid.
    new : ndarray, bool, shape (rows, columns)
        Those that this B-scan did not show at baseline.
    """

    tissue: Picture
    labels: NDArray[np.uint8]
    fluid: NDArray[np.bool_]
    new: NDArray[np.bool_]


class _Canvas:
    """Paints one B-scan; every method adds one thing to the picture."""

    def __init__(self, scan: Scan, rows: int, visit: str) -> None:
        self.scan, self.visible = scan, scan.visible(visit)
        self.layers = scan.layers(visit)
        self.rows_per_mm = np.float32(rows / DEPTH_MM)
        self.row = np.arange(rows, dtype=np.float32)[:, None]
        # Structures drawn here look the same at both visits.
        self.random = scan.random("texture")
        self.tissue = np.full((rows, scan.columns), VITREOUS, np.float32)
        self.fluid = np.zeros(self.tissue.shape, bool)
        self.new = np.zeros(self.tissue.shape, bool)

    def below(self, depth_mm: Curve) -> Picture:
        """1 below a boundary, 0 above; a pixel that it crosses has its share."""
        ramp = self.row - (depth_mm * self.rows_per_mm - np.float32(0.5))
        return np.clip(ramp, 0, 1, out=ramp)

    def between(self, first_mm: Curve, last_mm: Curve) -> NDArray[np.bool_]:
        """Pixels whose centre lies between two boundaries."""
        first, last = first_mm * self.rows_per_mm, last_mm * self.rows_per_mm
        return (self.row >= first) & (self.row < last)

    def retina(self) -> None:
        """Layers from the vitreous to the pigment epithelium."""
        layers = self.layers
        lifted = np.clip((layers.bm - layers.inner[-1] - 0.05) / 0.08, 0, 1)
        levels: list[float | Curve] = [VITREOUS, *INNER, FLUID]
        # The ellipsoid zone is lost above drusen and fluid.
        levels[1 + ELLIPSOID] = INNER[ELLIPSOID] - np.float32(0.25) * lifted
        for before, level, end in zip(levels[:-1], levels[1:], layers.inner, strict=True):
            self.tissue += np.asarray(level - before, np.float32) * self.below(end)
        grain = self.noise(0.03, 0.25)
        self.tissue *= 1 + np.float32(0.10) * grain * self.below(layers.inner[0])
        self.tissue += np.float32(EPITHELIUM - FLUID) * self.below(layers.rpe)

    def back(self) -> None:
        """Below the pigment epithelium: drusen and detachments, choroid, sclera."""
        layers, tissue = self.layers, self.tissue
        content = np.full(self.scan.columns, CHOROID, np.float32)
        for _, one in self.visible:
            if one.kind in ("drusen", "detachment"):
                content[one.profile(self.scan.x_mm, self.scan.z_mm) > 0] = one.brightness
        shade = 1 + np.float32(0.2) * self.noise(0.08, 0.1)
        tissue += (content * shade - EPITHELIUM) * self.below(layers.rpe + np.float32(RPE_MM))
        beyond = self.below(layers.bm)
        vessels = 1 / (1 + np.exp(-6 * (self.noise(0.09, 0.22) - np.float32(0.1))))
        vessels *= self.soft_below(layers.bm + np.float32(0.06), 0.05)
        ground = np.float32(CHOROID) * shade * (1 - np.float32(0.6) * vessels)
        cloud = 1 + np.float32(0.25) * self.noise(0.30, 0.7)
        ground += (SCLERA * cloud - ground) * self.soft_below(layers.choroid, 0.06)
        depth = np.maximum(self.row / self.rows_per_mm - layers.bm, 0)
        ground *= np.exp(depth / np.float32(-ATTENUATION_MM))
        streaks = smooth_columns(self.random, self.scan.columns, 0.06)
        raised = np.clip((layers.bm - layers.rpe - RPE_MM) / 0.1, 0, 1)
        ground *= 1 + (np.float32(0.06) + np.float32(0.2) * raised) * streaks
        tissue += (ground + np.float32(VITREOUS) - tissue) * beyond
        # Bruch's membrane is seen as a line of its own where the epithelium is off it.
        line = self.below(layers.bm - np.float32(0.006)) - self.below(layers.bm + np.float32(0.01))
        tissue += np.float32(0.25) * line * raised

    def soft_below(self, depth_mm: Curve, width_mm: float) -> Picture:
        """Soft version of ``below``, over a width."""
        return np.clip((self.row / self.rows_per_mm - depth_mm) / np.float32(width_mm) + 0.5, 0, 1)

    def pockets(self) -> None:
        """Fluid within the retina, and where everything new lies."""
        scan, layers = self.scan, self.layers
        known = {number for number, _ in scan.visible("baseline")}
        for number, one in self.visible:
            columns = one.profile(scan.x_mm, scan.z_mm) > 0
            if one.kind == "intraretinal":
                where = self.cysts(one)
            elif one.kind == "subretinal":
                where = self.between(layers.inner[-1], layers.rpe) & columns
            else:
                where = self.between(layers.rpe + np.float32(RPE_MM), layers.bm) & columns
            self.fluid |= where
            if number not in known:
                self.new |= where

    def cysts(self, one: Structure) -> NDArray[np.bool_]:
        """Paint a group of cysts side by side, and say where they are."""
        scan, inner = self.scan, self.layers.inner
        half = float(np.sqrt(one.radius_mm**2 - (scan.z_mm - one.z_mm) ** 2))
        parts = np.cumsum([0.0, *(1.2 + np.asarray(one.outline))][: 1 + (1 + int(half / 0.12))])
        edges = one.x_mm + half * (2 * parts / parts[-1] - 1)
        first, last = (inner[2], inner[3]) if one.inner else (inner[4], inner[5])
        total = np.zeros(self.tissue.shape, np.float32)
        soft = np.float32(1.5 / self.rows_per_mm)
        profile = one.profile(scan.x_mm, scan.z_mm)
        for left, right in pairwise(edges):
            width = 0.47 * (right - left)
            column = int(np.argmin(np.abs(scan.x_mm - (left + right) / 2)))
            height = 0.5 * float(profile[column])
            if height * self.rows_per_mm < 1 or width <= 0:
                continue
            depth = self.row / self.rows_per_mm - (first + last)[column] / 2
            along = (scan.x_mm - (left + right) / 2) / np.float32(width)
            radius = np.sqrt(along**2 + (depth / np.float32(height)) ** 2)
            inside = np.clip((1 - radius) * np.float32(height) / soft + np.float32(0.5), 0, 1)
            np.maximum(total, inside, out=total)
        total *= self.below(inner[1] + soft) - self.below(inner[6] - soft)
        self.tissue += (np.float32(one.brightness) - self.tissue) * total
        return total >= 0.5

    def shadows(self) -> None:
        """Retinal vessels: bright where cut, dark below."""
        inner = self.layers.inner
        for _ in range(int(self.random.integers(2, 7))):
            place = self.random.uniform(-WIDTH_MM / 2, WIDTH_MM / 2)
            width = self.random.uniform(0.02, 0.06)
            darkness = self.random.uniform(0.1, 0.6)
            across = np.exp(-(((self.scan.x_mm - place) / np.float32(width)) ** 2) / 2)
            top = (inner[0] + inner[2]) * np.float32(0.5)
            covered = self.soft_below(top, 0.06)
            self.tissue *= 1 - np.float32(darkness) * across * covered
            spot = self.soft_below(top - np.float32(0.05), 0.03) - covered
            self.tissue += np.float32(0.18) * across * spot

    def noise(self, down_mm: float, along_mm: float) -> Picture:
        """Smooth noise of unit variance over distances down and along."""
        rows, columns = self.tissue.shape
        coarse = (
            max(2, round(DEPTH_MM / down_mm)),
            max(2, round(WIDTH_MM / along_mm)),
        )
        # Knots of a fixed number, so that it is the same noise at every resolution.
        values = self.random.standard_normal((1, 1, *coarse), dtype=np.float32)
        field = resize(torch.from_numpy(values), (rows, columns))[0, 0].numpy()
        return field * np.float32(ROUGHNESS)


def paint(scan: Scan, rows: int, visit: str) -> Painting:
    """A B-scan at "baseline" or "follow-up", of the scan's columns and ``rows`` rows."""
    canvas = _Canvas(scan, rows, visit)
    canvas.retina()
    canvas.back()
    canvas.pockets()
    canvas.shadows()
    layers = canvas.layers
    labels = canvas.between(layers.inner[0], layers.bm).astype(np.uint8)
    labels += canvas.between(layers.rpe, layers.bm)
    return Painting(canvas.tissue, labels, canvas.fluid & (labels > 0), canvas.new & (labels > 0))


def photographed(tissue: Tensor, generator: torch.Generator) -> Tensor:
    """The picture as a scanner shows it: speckle, its own noise and contrast.

    Parameters
    ----------
    tissue : Tensor, shape (1, rows, columns)
    generator : torch.Generator

    Returns
    -------
    Tensor, shape (1, rows, columns)
        >= 0, about 1 at the brightest.
    """
    rows = tissue.shape[1]
    # Averages of fewer or more frames.
    deviation = uniform(generator, 0.10, 0.24)
    grain = torch.randn(tissue.shape, generator=generator)
    if rows > 128:
        # On a fine grid a speckle is larger than a pixel.
        grain = smooth(grain[None], (0.35, 0.55))[0] * 1.5
    camera = torch.randn(tissue.shape, generator=generator)
    shown = tissue * (1 + deviation * grain) + 0.025 * camera
    return shown.clamp_(min=0) ** uniform(generator, 0.9, 1.1) * uniform(generator, 0.9, 1.1)


def smooth_columns(random: Random, columns: int, scale_mm: float) -> Curve:
    """Noise of unit variance that varies along the B-scan only, (columns,)."""
    knots = random.standard_normal(max(2, round(WIDTH_MM / scale_mm)), dtype=np.float32)
    place = np.linspace(0, len(knots) - 1, columns)
    return (np.interp(place, np.arange(len(knots)), knots) * ROUGHNESS).astype(np.float32)
