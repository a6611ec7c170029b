"""Several moving images for one fixed image: their evidence is averaged before one mask step.

How a healthy person differs from the patient depends on the person; how the lesion differs does
not. So the log-odds of noncorrespondence that registrations to several healthy images found are
averaged on the fixed grid, and the mask step (``solver.masking``) is taken once, on their mean.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.errors import ArgumentError, NCRError, RegistrationAborted, RegistrationError
from itk_ncr.images import Image, map_values, resample
from itk_ncr.ops import resize
from itk_ncr.preprocessing import normalise
from itk_ncr.registration.entry import register
from itk_ncr.registration.pairwise import solver_settings, threads
from itk_ncr.registration.preparation import as_tensor, to_grid, working_grid
from itk_ncr.registration.quality import masked_share
from itk_ncr.registration.request import Abort, Progress
from itk_ncr.registration.result import RegistrationResult
from itk_ncr.registration.solver import Pair, mask_level_set
from itk_ncr.registration.studies.given import GivenImage, name_of, part_of, require_different
from itk_ncr.registration.studies.result import StudyResult
from itk_ncr.settings import RegistrationSettings

# Log-odds of a single image beyond these count as these: one image must not outvote all others.
MOST_CERTAIN = 4.0
# Arguments of ``register`` of which every moving image may have its own.
OF_EACH = (
    *("moving_lesion_mask", "moving_roi_mask", "moving_brain_mask"),
    *("affine", "initial_transform"),
)


@dataclass(frozen=True)
class Ballot:
    """One moving image of a vote and how it agrees with the voted mask.

    Attributes
    ----------
    name : str
        Its file, or "moving image 2".
    result : RegistrationResult
        Of the fixed image and this one alone.
    dice : float
        Overlap of the mask that this image gives alone with the voted one; 1 if both are empty.
    covered : float
        Share of the voted mask that its own mask covers; 1 if nothing was voted.
    alone : float
        Share of the fixed foreground that only its own mask has.
    source : mapping, optional
        Its path and SHA-256, if it was given as a file.
    """

    name: str
    result: RegistrationResult
    dice: float
    covered: float
    alone: float
    source: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class VoteResult(StudyResult):
    """Result of a vote of several moving images about a fixed one.

    Attributes
    ----------
    fixed : Image
        As it was given.
    noncorrespondence : Image, float32 in [0, 1], on the fixed grid
        Probability that a voxel has no partner in any of the images.
    agreement : Image, float32 in [0, 1], on the fixed grid
        Share of the images whose own mask covers a voxel.
    ballots : tuple of Ballot
        The images that took part, in the order given.
    failures : tuple of (str, str)
        Names of images that could not be read or registered, and why (``keep_going``).
    masked_fraction : float
        Share of the fixed foreground that is in the mask.
    mask_threshold : float
    warnings : tuple of str
    settings : RegistrationSettings
    source : mapping, optional
        Path and SHA-256 of the fixed image, if it was given as a file.
    """

    command = "vote"

    fixed: Image
    noncorrespondence: Image
    agreement: Image
    ballots: tuple[Ballot, ...]
    failures: tuple[tuple[str, str], ...]
    masked_fraction: float
    mask_threshold: float
    warnings: tuple[str, ...]
    settings: RegistrationSettings
    source: Mapping[str, Any] | None = None

    @property
    def mask(self) -> Image:
        """1 where a fixed voxel has no partner (uint8, fixed grid)."""
        cut = self.mask_threshold
        return map_values(self.noncorrespondence, lambda values: values > cut, np.uint8)

    @property
    def results(self) -> tuple[RegistrationResult, ...]:
        """The registrations to the single images."""
        return tuple(ballot.result for ballot in self.ballots)

    def __repr__(self) -> str:
        """Number of images, and the masked fraction."""
        return (
            f"<VoteResult of {len(self.ballots)} images: fixed {self.fixed.grid.size}, masked "
            f"{100 * self.masked_fraction:.3g} %, {len(self.failures)} failed>"
        )


def vote(
    fixed: Any,
    moving: Sequence[Any],
    *,
    keep_going: bool = False,
    progress: Progress | None = None,
    abort: Abort | None = None,
    **arguments: Any,
) -> VoteResult:
    """Find what a fixed image shows and several moving images lack; ``register(fixed, [...])``.

    Parameters
    ----------
    fixed : image or path
        The patient.
    moving : sequence of images or paths
        Healthy images of the same kind, two or more; six are enough as a rule.
    keep_going : bool
        Leave out an image that cannot be read or registered, with a warning, instead of raising.
    progress, abort : callable, optional
        As for :func:`itk_ncr.register`.
    **arguments
        Those of :func:`itk_ncr.register`. ``moving_lesion_mask``, ``moving_roi_mask``,
        ``moving_brain_mask``, ``affine`` and ``initial_transform`` may be lists with one entry per
        moving image.

    Returns
    -------
    VoteResult
        The voted mask and the result of every image.

    Raises
    ------
    ArgumentError
        If there are fewer than two images, if two of them are the same, or if the method finds no
        masks.
    RegistrationError
        If no image is left that could be registered.
    NCRError
        Whatever :func:`itk_ncr.register` raises, with the name of the image.
    """
    if isinstance(moving, (str, os.PathLike)) or not isinstance(moving, Sequence):
        raise ArgumentError(
            f"moving must be a list of images; got {type(moving).__name__}. Give [a, b, ...]."
        )
    if len(moving) < 2:
        raise ArgumentError(
            f"moving must hold two images or more for a vote; got {len(moving)}. Add healthy "
            "images, or register the single one."
        )
    if arguments.get("mask", "auto") != "auto":
        raise ArgumentError("mask must be 'auto' for a vote; got 'none'. Leave it out.")
    own = _arguments_of_each(arguments, len(moving))
    patient = GivenImage.of(fixed, "fixed image")
    failures: list[tuple[str, str]] = []
    voters: list[GivenImage | None] = []
    for number, given in enumerate(moving, 1):
        try:
            voters.append(GivenImage.of(given, f"moving image {number}"))
        except NCRError as error:
            if not keep_going:
                raise
            voters.append(None)
            failures.append((name_of(given, f"moving image {number}"), str(error)))
    require_different([patient, *(voter for voter in voters if voter is not None)])
    results: list[tuple[GivenImage, RegistrationResult]] = []
    for number, voter in enumerate(voters):
        if voter is None:
            continue
        report = part_of(progress, number, len(voters), "image")
        try:
            result = register(
                patient.image, voter.image, progress=report, abort=abort, **own[number]
            )
        except RegistrationAborted:
            raise
        except NCRError as error:
            if not keep_going:
                raise type(error)(f"{error} ({voter.place})") from error
            failures.append((voter.name, str(error)))
            continue
        if not result.finds_mask:
            raise ArgumentError(
                f"method must find masks for a vote; got {result.settings.method!r}, which finds "
                "none. Leave it out."
            )
        results.append((voter, result))
    if not results:
        name, why = failures[0]
        raise RegistrationError(f"no moving image could be registered; {name}: {why}")
    counted = _counted(patient.image, results, failures)
    if progress is not None:
        progress(1.0, "done")
    return dataclasses.replace(counted, source=patient.source)


def _arguments_of_each(arguments: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The arguments of ``register`` for every moving image."""
    own = [dict(arguments) for _ in range(count)]
    for name in OF_EACH:
        given = arguments.get(name)
        if isinstance(given, (list, tuple)):
            if len(given) != count:
                raise ArgumentError(
                    f"{name} must have one entry per moving image, {count}; got {len(given)}. "
                    "Give None where there is none."
                )
            for mine, value in zip(own, given, strict=True):
                mine[name] = value
        elif given is not None and name.startswith("moving_"):
            raise ArgumentError(
                f"{name} must be a list with one entry per moving image; got a single one. "
                "Give None where there is none."
            )
    for mine in own:
        for name in OF_EACH:
            if mine.get(name, 0) is None:
                del mine[name]
    return own


def _counted(
    fixed: Image,
    results: Sequence[tuple[GivenImage, RegistrationResult]],
    failures: Sequence[tuple[str, str]],
) -> VoteResult:
    """The vote of registrations to one fixed image."""
    first = results[0][1]
    settings, cut = first.settings, first.mask_threshold
    with threads(settings.threads):
        probability = _together(fixed, [result for _, result in results], settings)
    voted = probability.array > cut
    shown = first.foreground.array > 0
    masks = [result.mask.array > 0 for _, result in results]
    votes = np.sum(masks, axis=0)
    ballots = tuple(
        Ballot(
            voter.name,
            result,
            dice=_overlap(mask, voted),
            covered=float(mask[voted].mean()) if voted.any() else 1.0,
            alone=float((mask & (votes == 1))[shown].mean()) if shown.any() else 0.0,
            source=voter.source,
        )
        for (voter, result), mask in zip(results, masks, strict=True)
    )
    warnings = [f"{name} was left out: {why}" for name, why in failures]
    if len(results) == 1:
        warnings.append("only one image was left: this is no vote, but its registration.")
    for voter, result in results:
        warnings += [f"{voter.name}: {text}" for text in result.warnings]
    return VoteResult(
        fixed=fixed,
        noncorrespondence=probability,
        agreement=Image((votes / len(masks)).astype(np.float32), fixed.grid),
        ballots=ballots,
        failures=tuple(failures),
        masked_fraction=masked_share(probability, first.foreground, cut),
        mask_threshold=cut,
        warnings=tuple(warnings),
        settings=settings,
    )


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Dice; 1 where both are empty."""
    whole = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / whole if whole else 1.0


def combined(log_odds: Sequence[Tensor]) -> Tensor:
    """Mean of the log-odds of several images, each cut at ``MOST_CERTAIN``; any shape."""
    return torch.stack([odds.clamp(-MOST_CERTAIN, MOST_CERTAIN) for odds in log_odds]).mean(0)


@torch.no_grad()
def _together(
    fixed: Image, results: Sequence[RegistrationResult], settings: RegistrationSettings
) -> Image:
    """Noncorrespondence by the mean log-odds of several results, after one mask step."""
    working = working_grid(fixed.grid, settings.working_voxels)
    mean = combined([torch.logit(_on(r.noncorrespondence, working), 1e-6) for r in results])
    functional = solver_settings(settings, settings.preset, fixed.dimension).functional
    values = normalise(_finite(fixed.array), "fixed image").values
    image = as_tensor(to_grid(Image(values, fixed.grid), working))
    shown = (_on(results[0].foreground, working) > 0.5).to(image.dtype)
    pair = Pair(image, image, shown, None, None, working.spacing[::-1])
    # The log-odds of the single results have the price taken off already.
    free = dataclasses.replace(functional, tau=1.0)
    level_set = mask_level_set(mean, pair, free, 1.0)
    probability = Image((torch.sigmoid(level_set) * shown)[0, 0].numpy(), working)
    return resample(probability, fixed.grid)


def _on(image: Image, grid: Any) -> Tensor:
    values = as_tensor(image.array)
    return values if image.grid.shape == grid.shape else resize(values, grid.shape)


def _finite(array: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isfinite(array), array, 0) if array.dtype.kind == "f" else array
