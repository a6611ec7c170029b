"""Visits of one patient, brought to their middle: what appeared, what vanished, what moved.

Visits that follow each other are registered both ways, and the mean of both maps counts; the maps
of all are brought to the space in their middle (``common_space``), so that no visit is the
reference. Each registration tells what its fixed image shows and the other visit lacks, for a
lesion of the moving image is seen less well. Such a region appeared where it stands out from its
surroundings more in the later visit, and vanished where it does so more in the earlier one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from itk_ncr.errors import ArgumentError, NCRError, RegistrationAborted
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, resample
from itk_ncr.images.resampling import Sampler
from itk_ncr.preprocessing import normalise
from itk_ncr.registration.entry import register
from itk_ncr.registration.request import Abort, Progress
from itk_ncr.registration.result import RegistrationResult
from itk_ncr.registration.studies.common_space import (
    ChartMap,
    CommonSpace,
    common_space,
    mean_affine,
)
from itk_ncr.registration.studies.given import GivenImage, part_of, require_different
from itk_ncr.registration.studies.result import StudyResult
from itk_ncr.settings import RegistrationSettings

# The surroundings of a changed region: voxels this far from it, in voxels.
SHELL = (2, 5)
# Tissue counts as moved beyond this distance, mm, and beyond so many voxels: less is noise.
MOVED_MM, MOVED_VOXELS = 1.0, 2.0


@dataclass(frozen=True)
class Interval:
    """Changes between two visits; masks are on the grid of the middle.

    Attributes
    ----------
    names : tuple of str
        The earlier and the later visit.
    results : tuple of RegistrationResult
        The later visit registered to the earlier one, and the earlier to the later one.
    appeared, vanished : Image, uint8
        1 where something is new in the later visit; where something of the earlier one is gone.
    moved : Image, uint8
        1 where tissue that both visits show has moved by more than ``moved_mm``.
    appeared_volume, vanished_volume : float
        In the later and in the earlier visit, ml (mm² in 2D).
    moved_volume, growth_volume : float
        Volume of ``moved`` in the middle, and its growth to the later visit, ml (mm² in 2D).
    """

    names: tuple[str, str]
    results: tuple[RegistrationResult, RegistrationResult]
    appeared: Image
    vanished: Image
    moved: Image
    appeared_volume: float
    vanished_volume: float
    moved_volume: float
    growth_volume: float


@dataclass(frozen=True)
class FollowResult(StudyResult):
    """Visits of a patient in the space in their middle.

    Attributes
    ----------
    names : tuple of str
        Of the visits, in order.
    visits : tuple of Image, float32
        The images on the grid of the middle, in their own intensities.
    space : CommonSpace
        Grid of the middle and the maps from there to the visits.
    intervals : tuple of Interval
        One less than visits.
    volumes : tuple of float
        Volume of changed tissue that is there at each visit, ml (mm² in 2D): what appeared and has
        not vanished, and what will vanish and has not yet.
    moved_mm : float
    warnings : tuple of str
    settings : RegistrationSettings
    sources : tuple of mapping
        Path and SHA-256 of the visits that were given as files.
    """

    command = "follow"

    names: tuple[str, ...]
    visits: tuple[Image, ...]
    space: CommonSpace
    intervals: tuple[Interval, ...]
    volumes: tuple[float, ...]
    moved_mm: float
    warnings: tuple[str, ...]
    settings: RegistrationSettings
    sources: tuple[Mapping[str, Any], ...] = ()

    @property
    def grid(self) -> Grid:
        """Grid of the middle."""
        return self.space.grid

    @property
    def unit(self) -> str:
        """Unit of all volumes."""
        return "ml" if self.grid.dimension == 3 else "mm²"

    def __repr__(self) -> str:
        """How many visits, and the volumes."""
        volumes = ", ".join(f"{volume:.3g}" for volume in self.volumes)
        return f"<FollowResult of {len(self.names)} visits: {volumes} {self.unit} of change>"


def follow(
    visits: Sequence[Any],
    *,
    moved_mm: float | None = None,
    progress: Progress | None = None,
    abort: Abort | None = None,
    **settings: Any,
) -> FollowResult:
    """Compare visits of one patient in the space in their middle.

    Parameters
    ----------
    visits : sequence of images or paths
        Two or more of one contrast, in the order of time.
    moved_mm : float, optional
        Tissue that both visits show counts as moved beyond this distance, mm. Default: 1 mm, or
        two voxels of the middle where that is more.
    progress, abort : callable, optional
        As for :func:`itk_ncr.register`.
    **settings
        Those of :func:`itk_ncr.register` that are not masks or transforms.

    Returns
    -------
    FollowResult
        Maps, masks and volumes of change.

    Raises
    ------
    ArgumentError
        If there are fewer than two visits, or if two of them are the same.
    ShapeError
        If some are 2D and others 3D.
    NCRError
        Whatever :func:`itk_ncr.register` raises, with the names of the visits.
    """
    if isinstance(visits, (str, os.PathLike)) or not isinstance(visits, Sequence):
        raise ArgumentError(
            f"visits must be a list of images; got {type(visits).__name__}. Give [first, second]."
        )
    if len(visits) < 2:
        raise ArgumentError(f"visits must be two or more; got {len(visits)}. Add the other visits.")
    if moved_mm is not None and not moved_mm > 0:
        raise ArgumentError(f"moved_mm must be a positive number of mm; got {moved_mm!r}.")
    given = [GivenImage.of(visit, f"visit {n}") for n, visit in enumerate(visits, 1)]
    require_different(given)
    ways = [(n, n + 1) for n in range(len(given) - 1)]
    ways = [way for forth in ways for way in (forth, forth[::-1])]
    results = []
    for number, (fixed, moving) in enumerate(ways):
        one, two = given[fixed], given[moving]
        report = part_of(progress, number, len(ways), "run")
        try:
            results.append(register(one.image, two.image, progress=report, abort=abort, **settings))
        except RegistrationAborted:
            raise
        except NCRError as error:
            raise type(error)(f"{error} ({one.place}, {two.place})") from error
    found = _compared(given, list(zip(results[::2], results[1::2], strict=True)), moved_mm)
    if progress is not None:
        progress(1.0, "done")
    return found


def _compared(
    given: Sequence[GivenImage],
    results: Sequence[tuple[RegistrationResult, RegistrationResult]],
    moved_mm: float | None,
) -> FollowResult:
    space = common_space(given[0].image.grid, _from_first(results))
    if moved_mm is None:
        moved_mm = max(MOVED_MM, MOVED_VOXELS * max(space.grid.spacing))
    visits = tuple(
        resample(one.image, space.grid, displacement=displacement)
        for one, displacement in zip(given, space.displacements, strict=True)
    )
    scaled = [normalise(visit.array, one.name) for visit, one in zip(visits, given, strict=True)]
    determinants = [space.determinant(number) for number in range(len(given))]
    positions = [_straightened(space, number) for number in range(len(given))]
    cell = float(np.prod(space.grid.spacing)) / (1000.0 if space.grid.dimension == 3 else 1.0)
    intervals = []
    for number, both in enumerate(results):
        pair = slice(number, number + 2)
        changed = _changed(both, space, number)
        shown = scaled[number].foreground | scaled[number + 1].foreground
        one, two = (each.values for each in scaled[pair])
        appeared, vanished = told_apart(changed & shown, one, two, shown)
        distance = np.linalg.norm(positions[number + 1] - positions[number], axis=-1)
        moved = (distance > moved_mm) & shown & ~changed
        before, after = determinants[pair]
        intervals.append(
            Interval(
                names=(given[number].name, given[number + 1].name),
                results=both,
                appeared=_byte(appeared, space.grid),
                vanished=_byte(vanished, space.grid),
                moved=_byte(moved, space.grid),
                appeared_volume=cell * float(after[appeared].sum()),
                vanished_volume=cell * float(before[vanished].sum()),
                moved_volume=cell * float(moved.sum()),
                growth_volume=cell * float((after - before)[moved].sum()),
            )
        )
    states = present([(i.appeared.array > 0, i.vanished.array > 0) for i in intervals])
    volumes = [cell * float(d[s].sum()) for d, s in zip(determinants, states, strict=True)]
    warnings = [
        f"{interval.names[0]} to {interval.names[1]}: {text}"
        for interval in intervals
        for text in dict.fromkeys(t for one in interval.results for t in one.warnings)
    ]
    return FollowResult(
        names=tuple(one.name for one in given),
        visits=visits,
        space=space,
        intervals=tuple(intervals),
        volumes=tuple(volumes),
        moved_mm=moved_mm,
        warnings=tuple(warnings),
        settings=results[0][0].settings,
        sources=tuple(one.source for one in given if one.source is not None),
    )


def _from_first(
    results: Sequence[tuple[RegistrationResult, RegistrationResult]],
) -> list[ChartMap]:
    """Maps from the first visit to every visit, composed of those from visit to visit."""
    grid = results[0][0].displacement.grid
    points = grid.points()
    maps = [ChartMap(AffineMap.identity(grid.dimension))]
    affine, ends = maps[0].affine, points
    for forth, back in results:
        affine = mean_affine([forth.affine, back.affine.inverse()]).compose(affine)
        ends = ends + (_at(forth.displacement, ends) + _at(back.displacement_inverse, ends)) / 2
        vectors = (affine.inverse()(ends) - points).astype(np.float32)
        maps.append(ChartMap(affine, Image(vectors, grid)))
    return maps


def _at(field: Image, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A field in mm at points, going on as at its border."""
    values: NDArray[np.float64] = Sampler(field, "linear", "border")(points).astype(np.float64)
    return values


def _straightened(space: CommonSpace, number: int) -> NDArray[np.float64]:
    """Where the points of the middle lie in a visit, its position and scale taken out; mm."""
    ends = space.grid.points() + space.displacements[number].array
    return space.affines[number].inverse()(ends)


def _changed(
    both: tuple[RegistrationResult, RegistrationResult], space: CommonSpace, number: int
) -> NDArray[np.bool_]:
    """Regions without partner in either visit of an interval, on the grid of the middle."""
    here, there = (
        resample(
            one.noncorrespondence, space.grid, displacement=space.displacements[number + place]
        ).array
        for place, one in enumerate(both)
    )
    return np.asarray(np.maximum(here, there) > both[0].mask_threshold)


def told_apart(
    changed: NDArray[np.bool_],
    earlier: NDArray[np.float32],
    later: NDArray[np.float32],
    shown: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Changed regions as those that appeared and those that vanished.

    Parameters
    ----------
    changed : ndarray of bool
    earlier, later : ndarray
        Both visits on one grid and one scale.
    shown : ndarray of bool
        The object: surroundings lie in it.
    """
    appeared, vanished = np.zeros_like(changed), np.zeros_like(changed)
    regions, _ = ndimage.label(changed, np.ones((3,) * changed.ndim))
    for number, box in enumerate(ndimage.find_objects(regions), 1):
        near = tuple(slice(max(side.start - SHELL[1], 0), side.stop + SHELL[1]) for side in box)
        region = regions[near] == number
        whole = ndimage.binary_fill_holes(region)
        inner, outer = (ndimage.binary_dilation(whole, iterations=n) for n in SHELL)
        shell = outer & ~inner & shown[near] & ~changed[near]
        differs = [_stands_out(image[near], region, shell) for image in (earlier, later)]
        (appeared if differs[1] >= differs[0] else vanished)[near] |= region
    return appeared, vanished


def _stands_out(
    image: NDArray[np.float32], region: NDArray[np.bool_], shell: NDArray[np.bool_]
) -> float:
    """Mean distance of the region's intensities from the usual one around it."""
    usual = float(np.median(image[shell])) if shell.any() else 0.0
    return float(np.abs(image[region] - usual).mean())


def present(
    changes: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> list[NDArray[np.bool_]]:
    """Where changed tissue is at each visit, from what appeared and vanished in each interval."""
    appeared_before = np.zeros_like(changes[0][0])
    at_first = np.zeros_like(appeared_before)
    for appeared, vanished in changes:
        at_first |= vanished & ~appeared_before
        appeared_before |= appeared
    states = [at_first]
    for appeared, vanished in changes:
        states.append((states[-1] & ~vanished) | appeared)
    return states


def _byte(mask: NDArray[np.bool_], grid: Grid) -> Image:
    return Image(mask.astype(np.uint8), grid)
