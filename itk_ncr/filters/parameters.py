"""The settings of a registration as ITK and SimpleITK spell them: Set and Get.

They are the fields of ``RegistrationSettings``: a new one gets its accessors here for free.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from itk_ncr.errors import ArgumentError
from itk_ncr.geometry import AffineMap
from itk_ncr.registration import RegistrationResult, RegistrationSettings

AFFINE_CHOICES = ("auto", "none")

# GetMask is the output, so the setting ``mask`` is called by what it chooses.
ACCESSORS = {"mask": "MaskMode"}
# Keywords that register() takes under a shorter name than the accessor has.
KEYWORDS = {
    "Fixed": "FixedImage",
    "Moving": "MovingImage",
    "Mask": "MaskMode",
    "RoiMask": "ROIMask",
}


class Parameters:
    """Checked values of every setting, and the registration that gets them.

    Raises
    ------
    ArgumentError
        From :meth:`set`, naming the setting and what it may be; nothing is changed then.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = RegistrationSettings().as_dict()
        self._values["initial_transform"] = None
        self.registration: Callable[..., RegistrationResult] | None = None

    def get(self, name: str) -> Any:
        """The value of one setting."""
        return self._values[name]

    def set(self, name: str, value: Any) -> bool:
        """Change one setting; False if it had this value already."""
        if name == "affine" and value not in AFFINE_CHOICES:
            value = as_affine(value, name)
        if name == "initial_transform" and value is not None:
            value = as_affine(value, name)
        values = {**self._values, name: value}
        record = {k: v for k, v in values.items() if k != "initial_transform"}
        if isinstance(record["affine"], AffineMap):
            record["affine"] = "given"
        RegistrationSettings(**record)  # refuses what is out of range
        changed = bool(values[name] != self._values[name])
        self._values = values
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


def as_affine(value: Any, name: str) -> AffineMap:
    """The map of an AffineMap, or of a linear transform of ITK or SimpleITK.

    Raises
    ------
    ArgumentError
        If it is neither, or a transform that is not linear.
    """
    if isinstance(value, AffineMap):
        return value
    dimension = _transform_dimension(value)
    if dimension is None or not value.IsLinear():
        choices = "'auto', 'none', " if name == "affine" else ""
        raise ArgumentError(
            f"{name} must be {choices}an AffineMap or a linear transform; "
            f"got {value if isinstance(value, str) else type(value).__name__!r}."
        )
    # Where the transform carries the origin and the unit vectors is all there is to know of it.
    corners = [[0.0] * dimension, *np.eye(dimension).tolist()]
    points = np.array([list(value.TransformPoint(corner)) for corner in corners])
    matrix = (points[1:] - points[0]).T
    return AffineMap(tuple(map(tuple, matrix.tolist())), tuple(points[0].tolist()))


def _transform_dimension(value: Any) -> int | None:
    if not hasattr(value, "TransformPoint") or not hasattr(value, "IsLinear"):
        return None
    if hasattr(value, "GetInputSpaceDimension"):  # ITK
        return int(value.GetInputSpaceDimension())
    return int(value.GetDimension()) if hasattr(value, "GetDimension") else None


def with_accessors(cls: type) -> type:
    """Class decorator: ``SetX`` and ``GetX`` for every setting, by ``_set`` and ``_get``."""
    for field in dataclasses.fields(RegistrationSettings):
        camel = ACCESSORS.get(field.name, camel_case(field.name))
        for verb, make in (("Set", _setter), ("Get", _getter)):
            if f"{verb}{camel}" not in vars(cls):
                accessor = make(field.name, field.default)
                accessor.__name__ = f"{verb}{camel}"
                accessor.__qualname__ = f"{cls.__qualname__}.{accessor.__name__}"
                setattr(cls, accessor.__name__, accessor)
    return cls


def _setter(name: str, default: Any) -> Callable[..., None]:
    def setter(self: Any, value: Any) -> None:
        self._set(name, value)

    setter.__doc__ = f"Set ``{name}`` of RegistrationSettings (default {default!r})."
    return setter


def _getter(name: str, default: Any) -> Callable[..., Any]:
    def getter(self: Any) -> Any:
        return self._get(name)

    getter.__doc__ = f"Value of ``{name}`` of RegistrationSettings (default {default!r})."
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
    hint = f"Did you mean {' or '.join(near)}?" if near else "help() lists what there is."
    return f"keyword must name a setting; got {name!r}. {hint}"
