"""Options of a single method: a frozen dataclass filled from names and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from itk_ncr.errors import ArgumentError


def options_of(method: str, kind: type | None, given: Mapping[str, Any]) -> Any:
    """The options of a method, from what the caller gave; text is read by the type of the default.

    Parameters
    ----------
    method : str
        For messages.
    kind : type or None
        A frozen dataclass whose fields have defaults; None for a method without options.
    given : mapping
        Values by name.

    Raises
    ------
    ArgumentError
        If a name is unknown or a value is none of its type; the dataclass raises its own.
    """
    if kind is None:
        if given:
            raise ArgumentError(
                f"method_options must be left out with method={method!r}, which has none; got "
                f"{', '.join(map(repr, given))}. See `itk-ncr register --method list`."
            )
        return None
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    unknown = [name for name in given if name not in defaults]
    if unknown:
        raise ArgumentError(
            f"method_options of {method!r} must be among {', '.join(defaults)}; got "
            f"{', '.join(map(repr, unknown))}. Leave it out or mend its name."
        )
    return kind(**{name: _typed(name, given[name], defaults[name]) for name in given})


def _typed(name: str, value: Any, default: Any) -> Any:
    """A value in the type of its default."""
    wanted = type(default)
    try:
        if wanted is bool:
            return _truth(value)
        if wanted is int and float(value) == int(float(value)) and not isinstance(value, bool):
            return int(float(value))
        if wanted is float and not isinstance(value, bool):
            return float(value)
        if wanted is str and isinstance(value, str):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    raise ArgumentError(
        f"option {name} must be {kinds[wanted]}; got {value!r}. Its default is {default!r}."
    )


def _truth(value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError(value)


def require_positive(**values: float) -> None:
    """Raise an :class:`ArgumentError` for the first option that is not positive and finite."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ArgumentError(
                f"option {name} must be a positive number; got {value!r}. "
                "Leave it out for the default."
            )


def require_not_negative(**values: float) -> None:
    """Raise an :class:`ArgumentError` for the first option that is negative or not finite."""
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise ArgumentError(
                f"option {name} must be 0 or a positive number; got {value!r}. "
                "Leave it out for the default."
            )


def require_one_of(name: str, value: str, words: tuple[str, ...]) -> None:
    """Raise an :class:`ArgumentError` unless an option is one of some words."""
    if value not in words:
        raise ArgumentError(f"option {name} must be one of {', '.join(words)}; got {value!r}.")
