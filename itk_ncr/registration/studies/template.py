"""Template: the unbiased mean of several images.

The images are aligned affinely and brought to the space in their middle (``common_space``). There
their mean is taken, every image is registered to it, the mean of the maps is undone, and the mean
is taken again. What is masked in an image, by the caller or by its registration, has no weight in
the mean, so that a lesion of one image does not show; what lies outside an image has none either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import ArgumentError, NCRError, RegistrationAborted
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, as_image, resample
from itk_ncr.preprocessing import normalise
from itk_ncr.registration.entry import register
from itk_ncr.registration.preparation import as_tensor, mask_on
from itk_ncr.registration.request import Abort, Progress
from itk_ncr.registration.result import RegistrationResult
from itk_ncr.registration.solver import fill
from itk_ncr.registration.studies.common_space import ChartMap, CommonSpace, common_space
from itk_ncr.registration.studies.given import GivenImage, part_of, require_different
from itk_ncr.registration.studies.result import StudyResult
from itk_ncr.settings import TEMPLATE_ITERATIONS, RegistrationSettings

# Weights below this are no support: their mean would be noise.
LEAST_WEIGHT = 1e-3
# Settings that the affine alignment takes over.
OF_ALL_METHODS = ("threads", "seed", "working_voxels")


@dataclass(frozen=True)
class Round:
    """One round of a template.

    Attributes
    ----------
    shift_mm : float
        Mean length of the mean displacement that was undone; 0 where the template is unbiased.
    sharpness : float
        Root mean square gradient of the template over that of the images brought to it.
    """

    shift_mm: float
    sharpness: float


@dataclass(frozen=True)
class TemplateResult(StudyResult):
    """The mean of several images and the maps from there to each of them.

    Attributes
    ----------
    names : tuple of str
    template : Image, float32
        On the scale of ``preprocessing``: background 0, bright tissue 1.
    support : Image, float32 in [0, 1]
        Share of the images that the template is made of at a voxel. Where it is 0 inside the
        object, the template is a continuation of its surroundings.
    spread : Image, float32
        Standard deviation of the images there.
    space : CommonSpace
        Grid of the template and the maps from there to the images.
    results : tuple of RegistrationResult
        Of the last round, with the template of the round before as fixed image: their
        ``noncorrespondence_moving`` says what of an image the template lacks.
    rounds : tuple of Round
        The first is that of the affine alignment.
    warnings : tuple of str
    settings : RegistrationSettings
    sources : tuple of mapping
        Path and SHA-256 of the images that were given as files.
    """

    command = "template"

    names: tuple[str, ...]
    template: Image
    support: Image
    spread: Image
    space: CommonSpace
    results: tuple[RegistrationResult, ...]
    rounds: tuple[Round, ...]
    warnings: tuple[str, ...]
    settings: RegistrationSettings
    sources: tuple[Mapping[str, Any], ...] = ()

    def __repr__(self) -> str:
        """How many images, and the figures of the last round."""
        last = self.rounds[-1]
        return (
            f"<TemplateResult of {len(self.names)} images: {self.template.grid.size}, sharpness "
            f"{last.sharpness:.2f}, shift {last.shift_mm:.2g} mm>"
        )


def template(
    images: Sequence[Any],
    *,
    lesion_masks: Sequence[Any] | None = None,
    iterations: int = TEMPLATE_ITERATIONS,
    progress: Progress | None = None,
    abort: Abort | None = None,
    **settings: Any,
) -> TemplateResult:
    """Make the unbiased mean of several images; none of them is the reference.

    Parameters
    ----------
    images : sequence of images or paths
        Two or more of one contrast.
    lesion_masks : sequence of images or paths, optional
        Not 0 where an image has a lesion, one entry per image, None where there is none. What a
        registration masks itself has no weight either.
    iterations : int
        How often all images are registered to their mean.
    progress, abort : callable, optional
        As for :func:`itk_ncr.register`.
    **settings
        Those of :func:`itk_ncr.register` that are not masks or transforms.

    Returns
    -------
    TemplateResult
        The mean and the maps to the images.

    Raises
    ------
    ArgumentError
        If there are fewer than two images, two are the same, or masks are missing.
    NCRError
        Whatever :func:`itk_ncr.register` raises, with the name of the image.
    """
    if isinstance(images, (str, os.PathLike)) or not isinstance(images, Sequence):
        raise ArgumentError(
            f"images must be a list of images; got {type(images).__name__}. Give [a, b, ...]."
        )
    if len(images) < 2:
        raise ArgumentError(f"images must be two or more; got {len(images)}. Add images.")
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ArgumentError(f"iterations must be a whole number, 1 or more; got {iterations!r}.")
    if lesion_masks is not None and len(lesion_masks) != len(images):
        raise ArgumentError(
            f"lesion_masks must have one entry per image, {len(images)}; got {len(lesion_masks)}. "
            "Give None where there is none."
        )
    given = [GivenImage.of(image, f"image {n}") for n, image in enumerate(images, 1)]
    require_different(given)
    masks = [
        None if mask is None else as_image(mask, role=f"lesion mask of image {n}")
        for n, mask in enumerate(lesion_masks or [None] * len(images), 1)
    ]
    maker = _Maker(given, masks, iterations, settings, progress, abort)
    made = maker.made()
    if progress is not None:
        progress(1.0, "done")
    return made


@dataclass
class _Maker:
    """A template under way."""

    given: Sequence[GivenImage]
    masks: Sequence[Image | None]
    iterations: int
    settings: dict[str, Any]
    progress: Progress | None
    abort: Abort | None

    def made(self) -> TemplateResult:
        """The template after all rounds."""
        self.scaled = [
            Image(normalise(one.image.array, one.place).values, one.image.grid)
            for one in self.given
        ]
        space = self._aligned()
        mean = self._mean(space, [])
        rounds = [Round(space.shift_mm, mean.sharpness)]
        results: list[RegistrationResult] = []
        for number in range(self.iterations):
            results = [self._registered(mean, space, one, number) for one in range(len(self.given))]
            maps = [ChartMap(result.affine, result.deformation) for result in results]
            space = common_space(space.grid, maps)
            mean = self._mean(space, results)
            rounds.append(Round(space.shift_mm, mean.sharpness))
        warnings = [
            f"{one.name}: {text}"
            for one, result in zip(self.given, results, strict=True)
            for text in result.warnings
        ]
        return TemplateResult(
            names=tuple(one.name for one in self.given),
            template=Image(mean.values, space.grid),
            support=Image(mean.support, space.grid),
            spread=Image(mean.spread, space.grid),
            space=space,
            results=tuple(results),
            rounds=tuple(rounds),
            warnings=tuple(warnings),
            settings=results[0].settings,
            sources=tuple(one.source for one in self.given if one.source is not None),
        )

    def _aligned(self) -> CommonSpace:
        """The middle of the images by affine maps from the first of them."""
        grid = self.given[0].image.grid
        maps = [ChartMap(AffineMap.identity(grid.dimension))]
        shared = {name: self.settings[name] for name in OF_ALL_METHODS if name in self.settings}
        for number in range(1, len(self.given)):
            if self.settings.get("affine", "auto") == "none":
                maps.append(maps[0])
                continue
            result = self._run(
                self.scaled[0],
                number,
                number - 1,
                shared | {"method": "affine", "lesion_mask": self.masks[0]},
            )
            maps.append(ChartMap(result.affine))
        return common_space(grid, maps)

    def _registered(
        self, mean: _Mean, space: CommonSpace, number: int, turn: int
    ) -> RegistrationResult:
        """An image registered to the mean."""
        unsupported = Image(mean.hole.astype(np.uint8), space.grid)
        done = len(self.given) * (turn + 1) + number
        options = self.settings | {
            "affine": space.affines[number],
            "lesion_mask": unsupported if mean.hole.any() else None,
        }
        return self._run(Image(mean.values, space.grid), number, done, options)

    def _run(
        self, fixed: Image, number: int, done: int, options: Mapping[str, Any]
    ) -> RegistrationResult:
        one = self.given[number]
        runs = len(self.given) * (self.iterations + 1)
        try:
            return register(
                fixed,
                one.image,
                moving_lesion_mask=self.masks[number],
                progress=part_of(self.progress, done, runs, "run"),
                abort=self.abort,
                **options,
            )
        except RegistrationAborted:
            raise
        except NCRError as error:
            raise type(error)(f"{error} ({one.place})") from error

    def _mean(self, space: CommonSpace, results: Sequence[RegistrationResult]) -> _Mean:
        """The weighted mean of all images in a space."""
        warped, weights = [], []
        for number, image in enumerate(self.scaled):
            there = space.displacements[number]
            warped.append(resample(image, space.grid, displacement=there).array)
            weight = np.ones(image.grid.shape, np.float32)
            if (mask := self.masks[number]) is not None:
                weight[mask_on(mask, image.grid)] = 0.0
            if results:
                result = results[number]
                weight *= 1 - (result.mask_moving.array > 0)
            placed = resample(Image(weight, image.grid), space.grid, displacement=there)
            weights.append(np.clip(placed.array, 0, 1))
        return _Mean.of(np.stack(warped), np.stack(weights), space.grid)


@dataclass(frozen=True)
class _Mean:
    """A weighted mean of images on one grid."""

    values: NDArray[np.float32]
    support: NDArray[np.float32]
    spread: NDArray[np.float32]
    hole: NDArray[np.bool_]
    sharpness: float

    @classmethod
    def of(cls, images: NDArray[np.float32], weights: NDArray[np.float32], grid: Grid) -> _Mean:
        total = weights.sum(0)
        known = total > LEAST_WEIGHT
        share = weights / np.where(known, total, 1)
        values = (share * images).sum(0)
        spread = np.sqrt((share * (images - values) ** 2).sum(0))
        # What every image has masked, where at least one shows something.
        hole = ~known & (images > 0).any(0)
        if hole.any():
            filled = fill(as_tensor(values), as_tensor(~known))
            values = np.where(hole, filled[0, 0].numpy(), values)
        steps = grid.spacing[::-1]
        single = np.mean([_gradient(image, known, steps) for image in images])
        sharpness = _gradient(values, known, steps) / max(float(single), 1e-12)
        support = total / len(images)
        values, support, spread = (part.astype(np.float32) for part in (values, support, spread))
        return cls(values, support, spread, hole, sharpness)


def _gradient(
    image: NDArray[np.floating], where: NDArray[np.bool_], steps: Sequence[float]
) -> float:
    """Root mean square length of the gradient, per mm."""
    squares = sum(g.astype(np.float64) ** 2 for g in np.gradient(image, *steps))
    return float(np.sqrt(np.asarray(squares)[where].mean())) if where.any() else 0.0
