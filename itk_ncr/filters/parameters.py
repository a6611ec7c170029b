"""Set and Get methods of the registration settings, as ITK and SimpleITK spell them.

They are the fields of ``RegistrationSettings``: a new one gets its accessors here for free.
"""

# ruff: noqa: D102 - what each setting means stands in RegistrationSettings
from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from itk_ncr.errors import ArgumentError
from itk_ncr.geometry import AffineMap
from itk_ncr.images import as_affine
from itk_ncr.registration import RegistrationResult, affine_of
from itk_ncr.settings import SETTINGS

# Masks of both filters by the keyword of register(), in the order of the inputs.
MASKS = {
    side + kind: (side + kind).replace("_", " ").replace("roi", "ROI")
    for kind in ("lesion_mask", "roi_mask", "brain_mask")
    for side in ("", "moving_")
}
# GetMask is the output, so the setting ``mask`` is called by what it chooses.
ACCESSORS = {"mask": "MaskMode"}
# Keywords that register() takes under a shorter name than the accessor has.
KEYWORDS = {
    "Fixed": "FixedImage",
    "Moving": "MovingImage",
    "Mask": "MaskMode",
    "RoiMask": "ROIMask",
    "MovingRoiMask": "MovingROIMask",
}


class Parameters:
    """Checked values of every setting, and the registration that gets them.

    Raises
    ------
    ArgumentError
        From :meth:`set`, naming the setting and what it may be; nothing is changed then.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {name: s.default for name, s in SETTINGS.items()}
        self._values["initial_transform"] = None
        self.registration: Callable[..., RegistrationResult] | None = None

    def get(self, name: str) -> Any:
        """The value of one setting."""
        return self._values[name]

    def set(self, name: str, value: Any) -> bool:
        """Change one setting; False if it had this value already."""
        if name == "initial_transform":
            value = None if value is None else as_affine(value, name)
        else:
            word, given = affine_of(value) if name == "affine" else (value, None)
            value = SETTINGS[name].checked(word) if given is None else given
        changed = bool(value != self._values[name])
        self._values[name] = value
        return changed

    def set_registration(self, registration: Callable[..., RegistrationResult] | None) -> bool:
        """Change who registers: a callable like ``register``, or None for the default."""
        if registration is not None and not callable(registration):
            raise ArgumentError(
                f"registration must be callable as register(fixed, moving, **options) is; "
                f"got {registration!r}."
            )
        changed = registration is not self.registration
        self.registration = registration
        return changed

    def as_options(self) -> dict[str, Any]:
        """The settings as the keyword arguments of a registration."""
        return dict(self._values)


class Accessors:
    """``SetX`` and ``GetX`` for every setting, mask and transform of a filter."""

    _parameters: Parameters

    if TYPE_CHECKING:  # for editors and type checkers: a subclass gets the methods when it is made

        def SetMethod(self, value: str) -> None: ...
        def GetMethod(self) -> str: ...
        def SetMethodOptions(self, value: Mapping[str, Any]) -> None: ...
        def GetMethodOptions(self) -> tuple[tuple[str, Any], ...]: ...
        def SetPreset(self, value: str) -> None: ...
        def GetPreset(self) -> str: ...
        def SetEngine(self, value: str) -> None: ...
        def GetEngine(self) -> str: ...
        def SetModel(self, value: str | os.PathLike[str] | None) -> None: ...
        def GetModel(self) -> str | None: ...
        def SetRefine(self, value: int | None) -> None: ...
        def GetRefine(self) -> int | None: ...
        def SetAffine(self, value: Any) -> None: ...
        def GetAffine(self) -> str | AffineMap: ...
        def SetSmoothness(self, value: float) -> None: ...
        def GetSmoothness(self) -> float: ...
        def SetMaskPrice(self, value: float) -> None: ...
        def GetMaskPrice(self) -> float: ...
        def SetMaskMode(self, value: str) -> None: ...
        def GetMaskMode(self) -> str: ...
        def SetMaskThreshold(self, value: float) -> None: ...
        def GetMaskThreshold(self) -> float: ...
        def SetSeed(self, value: int) -> None: ...
        def GetSeed(self) -> int: ...
        def SetThreads(self, value: int | None) -> None: ...
        def GetThreads(self) -> int | None: ...
        def SetUncertaintyRuns(self, value: int) -> None: ...
        def GetUncertaintyRuns(self) -> int: ...
        def SetWorkingVoxels(self, value: int) -> None: ...
        def GetWorkingVoxels(self) -> int: ...

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for setting in SETTINGS.values():
            camel = ACCESSORS.get(setting.name, camel_case(setting.name))
            for verb, make in (("Set", _setter), ("Get", _getter)):
                if not hasattr(cls, f"{verb}{camel}"):
                    accessor = make(setting.name)
                    accessor.__name__ = f"{verb}{camel}"
                    accessor.__qualname__ = f"{cls.__qualname__}.{accessor.__name__}"
                    accessor.__doc__ = f"{setting.help} Default: {setting.default!r}."
                    setattr(cls, accessor.__name__, accessor)

    def SetLesionMask(self, mask: Any) -> None:
        """Known lesion, 1 = ignore, anywhere in fixed space; None for none."""
        self._set_input(MASKS["lesion_mask"], mask)

    def SetMovingLesionMask(self, mask: Any) -> None:
        """Known lesion of the moving image, 1 = ignore, anywhere in moving space; or None."""
        self._set_input(MASKS["moving_lesion_mask"], mask)

    def SetROIMask(self, mask: Any) -> None:
        """Region to use, 1 = use, anywhere in fixed space; None for all."""
        self._set_input(MASKS["roi_mask"], mask)

    def SetMovingROIMask(self, mask: Any) -> None:
        """Region of the moving image to use, 1 = use, anywhere in moving space; None for all."""
        self._set_input(MASKS["moving_roi_mask"], mask)

    def SetBrainMask(self, mask: Any) -> None:
        """1 in the brain, anywhere in fixed space; narrows the region to use. None for none."""
        self._set_input(MASKS["brain_mask"], mask)

    def SetMovingBrainMask(self, mask: Any) -> None:
        """1 in the brain of the moving image, anywhere in moving space; None for none."""
        self._set_input(MASKS["moving_brain_mask"], mask)

    def GetLesionMask(self) -> Any:
        """The lesion mask, or None."""
        return self._get_input(MASKS["lesion_mask"])

    def GetMovingLesionMask(self) -> Any:
        """The lesion mask of the moving image, or None."""
        return self._get_input(MASKS["moving_lesion_mask"])

    def GetROIMask(self) -> Any:
        """The region of interest mask, or None."""
        return self._get_input(MASKS["roi_mask"])

    def GetMovingROIMask(self) -> Any:
        """The region of interest mask of the moving image, or None."""
        return self._get_input(MASKS["moving_roi_mask"])

    def GetBrainMask(self) -> Any:
        """The brain mask, or None."""
        return self._get_input(MASKS["brain_mask"])

    def GetMovingBrainMask(self) -> Any:
        """The brain mask of the moving image, or None."""
        return self._get_input(MASKS["moving_brain_mask"])

    def SetInitialTransform(self, transform: Any) -> None:
        """Set the start of the affine: AffineMap or linear transform, fixed to moving; or None."""
        self._set("initial_transform", transform)

    def GetInitialTransform(self) -> AffineMap | None:
        """The start of the affine; None for the default."""
        initial: AffineMap | None = self._get("initial_transform")
        return initial

    def SetRegistration(self, registration: Callable[..., RegistrationResult] | None) -> None:
        """Set the registration: a callable like :func:`itk_ncr.register`; None for the default."""
        if self._parameters.set_registration(registration):
            self._setting_changed("registration")

    def GetRegistration(self) -> Callable[..., RegistrationResult] | None:
        """The registration callable; None for the default."""
        return self._parameters.registration

    def _set(self, name: str, value: Any) -> None:
        if self._parameters.set(name, value):
            self._setting_changed(name)

    def _get(self, name: str) -> Any:
        return self._parameters.get(name)

    def _setting_changed(self, name: str) -> None:
        """A subclass that keeps results marks them as out of date."""

    def _set_input(self, name: str, image: Any) -> None:
        raise NotImplementedError

    def _get_input(self, name: str) -> Any:
        raise NotImplementedError


def _setter(name: str) -> Callable[..., None]:
    def setter(self: Any, value: Any) -> None:
        self._set(name, value)

    return setter


def _getter(name: str) -> Callable[..., Any]:
    def getter(self: Any) -> Any:
        return self._get(name)

    return getter


def camel_case(name: str) -> str:
    """``mask_price`` as ``MaskPrice``; what has a capital already stays as it is."""
    if any(letter.isupper() for letter in name):
        return name
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def apply_keywords(target: Any, keywords: dict[str, Any]) -> None:
    """Call ``target.SetX(value)`` for every keyword ``x`` or ``X``, snake or camel case.

    Raises
    ------
    ArgumentError
        If there is no such setter; the nearest names are in the message.
    """
    for name, value in keywords.items():
        camel = camel_case(name)
        setter = getattr(target, f"Set{KEYWORDS.get(camel, camel)}", None)
        if setter is None:
            raise ArgumentError(_unknown(name, dir(target)))
        setter(value)


def _unknown(name: str, names: Iterable[str]) -> str:
    known = sorted(n[3:] for n in names if n.startswith("Set"))
    near = difflib.get_close_matches(camel_case(name), known, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "help() lists the settings."
    return f"keyword must name a setting; got {name!r}. {hint}"
