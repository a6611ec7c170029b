"""Entry point of a registration: any two images in, a :class:`RegistrationResult` out."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.geometry import AffineMap
from itk_ncr.images import Image, as_affine, as_image
from itk_ncr.registration.classical import CLASSICAL, classical
from itk_ncr.registration.classical.options import options_of
from itk_ncr.registration.hint import network_opinion
from itk_ncr.registration.inputs import Inputs, affine_of, sources_of
from itk_ncr.registration.network import NetworkRegistration, suggested_model
from itk_ncr.registration.pairwise import InstanceOptimization, torch_as_usual
from itk_ncr.registration.preparation import mask_on
from itk_ncr.registration.request import Abort, GivenMasks, Progress, Request
from itk_ncr.registration.result import Registration, RegistrationResult
from itk_ncr.settings import SETTINGS, RegistrationSettings, SettingKeywords, document

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from itk_ncr.registration.studies import VoteResult

# Each method by its name, made from settings.
REGISTRATIONS: dict[str, Callable[[RegistrationSettings], Registration]] = {
    "network": NetworkRegistration,
    "instance": InstanceOptimization,
    **{name: classical(name) for name in CLASSICAL},
}


@overload
def register(fixed: Any, moving: list[Any] | tuple[Any, ...], **arguments: Any) -> VoteResult: ...


@overload
def register(
    fixed: Any,
    moving: Any,
    *,
    lesion_mask: Any = None,
    moving_lesion_mask: Any = None,
    roi_mask: Any = None,
    moving_roi_mask: Any = None,
    brain_mask: Any = None,
    moving_brain_mask: Any = None,
    affine: Any = "auto",
    initial_transform: Any = None,
    progress: Progress | None = None,
    abort: Abort | None = None,
    **settings: Unpack[SettingKeywords],
) -> RegistrationResult: ...


def register(
    fixed: Any,
    moving: Any,
    *,
    lesion_mask: Any = None,
    moving_lesion_mask: Any = None,
    roi_mask: Any = None,
    moving_roi_mask: Any = None,
    brain_mask: Any = None,
    moving_brain_mask: Any = None,
    affine: Any = "auto",
    initial_transform: Any = None,
    progress: Progress | None = None,
    abort: Abort | None = None,
    **settings: Any,
) -> RegistrationResult | VoteResult:
    """Register a moving to a fixed image and find where they do not correspond.

    A list of moving images is a vote, :func:`itk_ncr.vote`: what the fixed image shows and all of
    them lack.

    Parameters
    ----------
    fixed, moving : path, itk.Image, SimpleITK.Image, ndarray, Tensor, DataArray or Image
        Or an image of MONAI, TorchIO, nibabel or ANTsPy: whatever
        :func:`itk_ncr.images.as_image` takes. A path is a file or a folder with one DICOM series.
        Two scalar images of the same dimension, 2 or 3, each with its own spacing, origin,
        direction and size. Plain arrays have spacing 1 and origin 0.
    lesion_mask : image, optional
        Not 0 where the fixed image is known to have no partner (1 = ignore), in the physical space
        of the fixed image.
    moving_lesion_mask : image, optional
        The same for the moving image, in its own space.
    roi_mask : image, optional
        Not 0 where the fixed image takes part at all (1 = use), in the physical space of the fixed
        image.
    moving_roi_mask : image, optional
        The same for the moving image, in its own space. All masks take part in the affine as well.
    brain_mask, moving_brain_mask : image, optional
        Not 0 inside the brain of the fixed and of the moving image, each in its own space. They
        narrow down the regions of interest; ``itk_ncr.evaluation.brain_figures`` tells how the
        result is inside and outside.
    affine : "auto", "none", AffineMap or path
        "auto" aligns the images first, without what the masks exclude. "none" trusts the physical
        coordinates. A map (fixed to moving points, mm, LPS) is used as it is; a linear transform of
        ITK or SimpleITK, a homogeneous matrix or a transform file will do.
    initial_transform : AffineMap or path, optional
        Where the affine starts from, with ``affine="auto"``; with "none" it is used as it is. The
        same types will do.
    progress : callable, optional
        ``progress(share, text)`` with a share in [0, 1].
    abort : callable, optional
        Called often; True stops with :class:`~itk_ncr.errors.RegistrationAborted`.
    {settings}

    Returns
    -------
    RegistrationResult
        Fields, masks, figures and settings; of a list of moving images a
        :class:`~itk_ncr.VoteResult`.

    Raises
    ------
    ImageValueError
        If an image shows nothing, or a mask leaves nothing.
    GeometryError
        If the images do not overlap.
    ArgumentError
        If a setting is outside its range, or unknown to the method; if a transform is not linear.
    MissingDependencyError
        If the method needs a package that is not installed.
    RegistrationError
        If the tool behind the method gave up.
    MemoryLimitError
        If the images need more memory than there is.
    RegistrationAborted
        If ``abort`` said so.

    References
    ----------
    Andresen et al., Int J CARS 17, 2022, doi:10.1007/s11548-022-02577-4.
    """
    given = {
        "lesion_mask": lesion_mask,
        "moving_lesion_mask": moving_lesion_mask,
        "roi_mask": roi_mask,
        "moving_roi_mask": moving_roi_mask,
        "brain_mask": brain_mask,
        "moving_brain_mask": moving_brain_mask,
    }
    if isinstance(moving, (list, tuple)):
        from itk_ncr.registration.studies import vote  # it calls this function

        maps = {"affine": affine, "initial_transform": initial_transform}
        return vote(fixed, moving, progress=progress, abort=abort, **given, **maps, **settings)
    affine_word, given_affine = affine_of(affine)
    record = RegistrationSettings(affine=affine_word, **settings)
    images = as_image(fixed, role="fixed image"), as_image(moving, role="moving image")
    start = _start(given_affine, initial_transform, images[0].dimension)
    read = {role: _mask(mask, _spoken(role)) for role, mask in given.items()}
    inputs = Inputs(
        *images,
        **read,  # type: ignore[arg-type]  # masks by the names of the fields
        affine=start if initial_transform is None else None,
        initial_transform=None if initial_transform is None else start,
        sources=sources_of(
            {
                "fixed": fixed,
                "moving": moving,
                **given,
                "affine": None if given_affine is None else affine,
                "initial_transform": initial_transform,
            }
        ),
    )
    chosen, remark = _choose(record, images[0])
    if record.uncertainty_runs and chosen not in ("network", "instance"):
        raise ArgumentError(
            f"uncertainty_runs must be 0 with method={chosen!r}; got {record.uncertainty_runs}. "
            "Only the per-pair solver is repeated."
        )
    solver = REGISTRATIONS[chosen](record)
    if isinstance(solver, InstanceOptimization) and (record.method, record.engine) == (
        "ncr",
        "auto",
    ):
        solver = dataclasses.replace(solver, opinion=network_opinion)
    masks = GivenMasks(
        inputs.lesion_mask,
        inputs.moving_lesion_mask,
        _both(inputs.roi_mask, inputs.brain_mask),
        _both(inputs.moving_roi_mask, inputs.moving_brain_mask),
    )
    with torch_as_usual():
        result = solver(Request(*images, masks, start, progress, abort))
    return dataclasses.replace(result, warnings=(*remark, *result.warnings), inputs=inputs)


def _signature() -> inspect.Signature:
    """The signature with the settings by name, for ``help`` and editors at run time."""
    own = inspect.signature(register)
    named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    settings = [
        inspect.Parameter(s.name, inspect.Parameter.KEYWORD_ONLY, default=s.default)
        for s in SETTINGS.values()
        if s.name != "affine"
    ]
    return own.replace(parameters=[*named, *settings])


register.__signature__ = _signature()  # type: ignore[attr-defined]
register.__doc__ = document(register.__doc__, without=("affine",))


def _both(roi: Image | None, brain: Image | None) -> Image | None:
    """Intersection of both masks; a missing one excludes nothing."""
    if roi is None or brain is None:
        return brain if roi is None else roi
    if roi.dimension != brain.dimension:
        raise ShapeError(
            f"ROI mask and brain mask must have the same axes; got {roi.dimension} and "
            f"{brain.dimension}."
        )
    both = mask_on(roi, brain.grid) & mask_on(brain, brain.grid)
    return Image(both.view(np.uint8), brain.grid)


def _start(given_affine: AffineMap | None, initial: Any, dimension: int) -> AffineMap | None:
    """The affine or its start, whichever the caller brought."""
    if initial is not None:
        if given_affine is not None:
            raise ArgumentError(
                "initial_transform must be left out where affine is a map; got both. Only "
                "affine='auto' starts from something."
            )
        given_affine = as_affine(initial, "initial_transform")
    if given_affine is not None and given_affine.dimension != dimension:
        raise ShapeError(
            f"{'affine' if initial is None else 'initial_transform'} must have {dimension} axes "
            f"like the fixed image; got {given_affine.dimension}."
        )
    return given_affine


def _choose(settings: RegistrationSettings, fixed: Image) -> tuple[str, tuple[str, ...]]:
    """The row of ``REGISTRATIONS`` for an image, and remarks for the user."""
    if settings.method in CLASSICAL:
        return settings.method, ()
    options_of(settings.method, None, dict(settings.method_options))
    engine = settings.engine
    if settings.method != "ncr":
        if engine not in ("auto", settings.method):
            raise ArgumentError(
                f"engine must be left out with method={settings.method!r}; got {engine!r}. "
                "Both say who registers."
            )
        engine = settings.method
    if engine == "instance" and (settings.model, settings.refine) != (None, None):
        raise ArgumentError(
            "model and refine must be left out with engine='instance' or method='instance'; got "
            f"model={settings.model!r}, refine={settings.refine!r}. They belong to the network."
        )
    if engine != "auto":
        return engine, ()
    if settings.model is not None:
        return "network", ()
    name, misfit = suggested_model(settings.preset, fixed.grid)
    if name is not None and misfit is None:
        return "network", ()
    remarks = [] if misfit is None else [f"{misfit} The per-pair solver was used alone."]
    if settings.refine is not None:
        remarks.append("refine had no effect: without model or fitting preset no network is used.")
    return "instance", tuple(remarks)


def _spoken(role: str) -> str:
    return role.replace("_", " ").replace("roi", "ROI")


def _mask(mask: Any, role: str) -> Image | None:
    return None if mask is None else as_image(mask, role=role)
