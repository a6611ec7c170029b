"""The steps that all classical pipelines share: checks, affine, mapping back to full resolution."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from itk_ncr.errors import (
    ArgumentError,
    NCRError,
    RegistrationError,
    ShapeError,
)
from itk_ncr.geometry import Grid
from itk_ncr.images import Image, require_memory
from itk_ncr.registration.classical.options import options_of
from itk_ncr.registration.classical.task import Task
from itk_ncr.registration.filling import require_binary
from itk_ncr.registration.pairwise import (
    SOLVER_SHARE,
    image_bytes,
    solver_settings,
    threads,
)
from itk_ncr.registration.preparation import (
    AFFINE_SHARE,
    Preparation,
    as_tensor,
    mask_on,
    require_pair,
    working_grid,
)
from itk_ncr.registration.request import GivenMasks, Request
from itk_ncr.registration.result import RegistrationResult
from itk_ncr.registration.results import Deformation, make_result
from itk_ncr.registration.solver import Pair, dilate, fill
from itk_ncr.settings import RegistrationSettings

Solve = Callable[[Task], Deformation]

# Voxels by which a lesion mask is grown: the rim of a lesion is blurred into the tissue around it.
DILATION = 2
# Settings that only our own methods have.
OURS = ("engine", "model", "refine", "smoothness", "mask_price")


@dataclass(frozen=True)
class Method:
    """A classical pipeline.

    Attributes
    ----------
    solve : callable
        From a :class:`Task` to a :class:`Deformation`.
    tool : str
        Whose it is, for messages.
    multimodal : bool
        Whether it can register two contrasts.
    fewest_voxels : int
        Smallest number of voxels per axis that the tool accepts.
    bytes_per_voxel : int
        Estimated peak of the tool; that of our solver unless it is known to be another.
    options : type, optional
        Frozen dataclass of the options that only this method has.
    finds_mask : bool
        Whether it finds noncorrespondence.
    needs_lesion : bool
        Whether it is for images whose lesions are given, and for no others.
    """

    solve: Solve
    tool: str
    multimodal: bool = False
    fewest_voxels: int = 1
    bytes_per_voxel: int = 450
    options: type | None = None
    finds_mask: bool = False
    needs_lesion: bool = False


@dataclass(frozen=True)
class ClassicalRegistration:
    """Registers a pair by another toolkit, and measures the result like those of this package."""

    name: str
    method: Method
    settings: RegistrationSettings = field(default_factory=RegistrationSettings)

    def __call__(self, request: Request) -> RegistrationResult:
        """Register a pair."""
        started = time.perf_counter()
        settings = self._settings()
        fixed = request.fixed
        require_pair(request)
        self._require_lesion(request.masks)
        options = options_of(self.name, self.method.options, dict(settings.method_options))
        working = working_grid(fixed.grid, settings.working_voxels)
        if min(working.shape) < self.method.fewest_voxels:
            raise ShapeError(
                f"fixed image must have at least {self.method.fewest_voxels} voxels along every "
                f"axis with method={self.name!r}; got {working.size}. Use another method."
            )
        require_memory(
            image_bytes(fixed.grid, request.moving.grid)
            + working.voxels * self.method.bytes_per_voxel,
            f"method {self.name!r}",
            "Use images of lower resolution or a smaller working_voxels.",
        )

        with threads(settings.threads):
            request.report(0.0, "preparing")
            request.check()
            solver = solver_settings(settings, settings.preset, fixed.dimension)
            images = Preparation(request, settings)
            pair = images.pair(working)
            images.release()
            task = Task(
                _for_tools(pair, request.masks.roi, working),
                settings.preset == "multimodal",
                settings.seed,
                torch.get_num_threads(),
                lambda share: request.report(AFFINE_SHARE + SOLVER_SHARE * share, self.name),
                request.check,
                working,
                pair.known,
                pair.known_moving,
                solver,
                settings.mask == "auto",
                options,
            )
            request.check()
            deformation = self._solve(task)
            request.check()
            images.warnings += deformation.warnings
            request.report(AFFINE_SHARE + SOLVER_SHARE, "writing fields")
            result = make_result(settings, solver, images, pair, working, deformation, started)
        request.report(1.0, "done")
        return dataclasses.replace(result, engine=self.name)

    def _require_lesion(self, masks: GivenMasks) -> None:
        if self.method.needs_lesion and masks.lesion is None and masks.moving_lesion is None:
            raise ArgumentError(
                f"lesion_mask must be given with method={self.name!r}, which fills lesions; got "
                "none. Without a mask use method='ncr', which finds what has no partner."
            )
        for mask in (masks.lesion, masks.moving_lesion):
            if self.method.needs_lesion and mask is not None:
                require_binary(mask)

    def _settings(self) -> RegistrationSettings:
        """The settings, named after the method; what it does not know is refused."""
        for name in OURS:
            default = RegistrationSettings.__dataclass_fields__[name].default
            value = getattr(self.settings, name)
            if value != default:
                raise ArgumentError(
                    f"{name} must be left out with method={self.name!r}; got {value!r}. "
                    "Only our own methods know it."
                )
        if self.settings.preset == "multimodal" and not self.method.multimodal:
            raise ArgumentError(
                "preset must be that of one contrast with "
                f"method={self.name!r}, which compares intensities; got 'multimodal'. "
                "Use method='bspline' or the default."
            )
        return dataclasses.replace(self.settings, method=self.name)

    def _solve(self, task: Task) -> Deformation:
        """The tool's answer, or one clear line."""
        try:
            found = self.method.solve(task)
        except (NCRError, MemoryError):
            raise
        except Exception as error:
            raise self._failure(_last_line(error)) from error
        for field_of_vectors in (found.displacement, found.inverse):
            if field_of_vectors is not None:
                self._require_sensible(field_of_vectors)
        return found

    def _require_sensible(self, displacement: Tensor) -> None:
        """A tool that lost its way may say so by nothing but its field."""
        if not bool(displacement.isfinite().all()):
            raise self._failure("a displacement that is not finite")
        furthest = displacement.abs().amax()
        if furthest > max(displacement.shape[2:]):
            raise self._failure(f"a displacement of {float(furthest):.4g} voxels")

    def _failure(self, what: str) -> RegistrationError:
        return RegistrationError(
            f"method {self.name!r} must give back a displacement; got from {self.method.tool}: "
            f"{what}. Check masks, overlap and size of the images, or use another method."
        )


def _for_tools(pair: Pair, roi: Image | None, grid: Grid) -> Pair:
    """The pair as tools get it: regions to be used at all, and grown lesions.

    What is masked is replaced by a smooth continuation of its surroundings. No tool compares it;
    but most blur the images for their coarse levels, and would blur a lesion out of its mask.
    """
    used = torch.ones_like(pair.fixed) if pair.outside is None else 1 - pair.outside
    if roi is not None:
        used = used * as_tensor(mask_on(roi, grid))
    known = _grown(pair.known, pair.foreground)
    known_moving = _grown(pair.known_moving, pair.foreground)
    return dataclasses.replace(
        pair,
        fixed=pair.fixed if known is None else fill(pair.fixed, known),
        moving=pair.moving if known_moving is None else fill(pair.moving, known_moving),
        foreground=used,
        known=known,
        known_moving=known_moving,
    )


def _grown(mask: Tensor | None, foreground: Tensor) -> Tensor | None:
    """A mask, grown unless nothing would be left outside; None where it covers nothing."""
    if mask is None or not bool(mask.any()):
        return None
    grown = dilate(mask, DILATION)
    return grown if bool((foreground * (1 - grown)).any()) else mask


def _last_line(error: Exception) -> str:
    """Message of an exception in one line: ITK writes its location first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("ITK ERROR", "Description"))] or lines[-1:]
    return (said[0] if said else type(error).__name__).rstrip(".")
