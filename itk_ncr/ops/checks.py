"""Argument checks of the kernels: shapes, dtypes, devices."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError

FLOATS = (torch.float32, torch.float64)
NEAREST_TYPES = (*FLOATS, torch.uint8, torch.int16, torch.int32)


def require_grid(tensor: Tensor, name: str, dtypes: Sequence[torch.dtype] = FLOATS) -> None:
    """``tensor`` is (N, C, *spatial) with 2 or 3 axes, none empty, of one of ``dtypes``."""
    if not isinstance(tensor, Tensor):
        raise ArgumentError(
            f"{name} must be a torch.Tensor; got {type(tensor).__name__}. "
            f"Convert it with torch.as_tensor."
        )
    if tensor.ndim not in (4, 5) or 0 in tensor.shape[1:]:
        raise ShapeError(
            f"{name} must have the shape (N, C, y, x) or (N, C, z, y, x), no axis empty; "
            f"got {tuple(tensor.shape)}. Add the batch and the channel axis with unsqueeze."
        )
    if tensor.dtype not in dtypes:
        names = ", ".join(str(d).removeprefix("torch.") for d in dtypes)
        whole = torch.int32 in dtypes and not tensor.dtype.is_floating_point
        raise ArgumentError(
            f"{name} must have one of the dtypes {names}; got {tensor.dtype}. "
            f"Convert it with .to(torch.{'int32' if whole else 'float32'})."
        )
    if tensor.layout != torch.strided:
        raise ArgumentError(
            f"{name} must be a dense tensor; got the layout {tensor.layout}. "
            f"Convert it with .to_dense()."
        )


def require_field(field: Tensor, name: str) -> None:
    """``field`` is (N, D, *spatial): as many channels as axes."""
    require_grid(field, name)
    if field.shape[1] != field.ndim - 2:
        raise ShapeError(
            f"{name} must have one channel per axis, {field.ndim - 2}; got {tuple(field.shape)}. "
            f"Order it as (N, D, *spatial)."
        )


def require_same_shape(**tensors: Tensor) -> None:
    """Raise a :class:`ShapeError` that names the first tensor unlike the first one."""
    (first, model), *others = tensors.items()
    if model.ndim not in (4, 5):
        raise ShapeError(
            f"{first} must have shape (N, C, y, x) or (N, C, z, y, x); got {tuple(model.shape)}. "
            "Add a batch and a channel axis."
        )
    for name, tensor in others:
        if tensor.shape != model.shape:
            raise ShapeError(
                f"{name} must have the shape of {first}, {tuple(model.shape)}; "
                f"got {tuple(tensor.shape)}. Resample {name} onto the grid of {first} first."
            )


def require_together(
    a: Tensor, b: Tensor, name_a: str, name_b: str, *, same_dtype: bool = True
) -> None:
    """Same batch size, number of axes, device and (if asked) dtype."""
    if a.shape[0] != b.shape[0] or a.ndim != b.ndim:
        raise ShapeError(
            f"{name_b} must have the batch size and the axes of {name_a}, {tuple(a.shape)}; "
            f"got {tuple(b.shape)}. Expand or reshape {name_b}."
        )
    if a.device != b.device:
        raise ArgumentError(
            f"{name_b} must be on the device of {name_a}, {a.device}; got {b.device}. "
            f"Move it with .to({a.device.type!r})."
        )
    if same_dtype and a.dtype != b.dtype:
        raise ArgumentError(
            f"{name_b} must have the dtype of {name_a}, {a.dtype}; got {b.dtype}. "
            f"Convert one of them with .to()."
        )


def require_whole_number(value: int, name: str, least: int, most: int) -> None:
    """``value`` is an int (no bool) in [least, most]."""
    if not isinstance(value, (int, torch.SymInt)) or isinstance(value, bool):
        raise ArgumentError(
            f"{name} must be a whole number; got {value!r}. Pass an int from {least} to {most}."
        )
    if not least <= value <= most:
        raise ArgumentError(
            f"{name} must lie between {least} and {most}; got {value}. Pass another number."
        )


def require_fill_value(value: float, dtype: torch.dtype) -> float:
    """``value`` is a number that ``dtype`` can hold."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"fill_value must be a number; got {value!r}. Pass 0, or another intensity."
        ) from None
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        if not limits.min <= number <= limits.max or number != round(number):
            raise ArgumentError(
                f"fill_value must be a whole number from {limits.min} to {limits.max} for images "
                f"of {dtype}; got {value!r}. Convert the image first, or fill with 0."
            )
    return number


def require_shape(shape: Sequence[int], name: str, dimension: int) -> tuple[int, ...]:
    """``shape`` has one whole number >= 1 per axis."""
    try:
        found = tuple(
            size if isinstance(size, (int, torch.SymInt)) else operator.index(size)
            for size in shape
        )
    except TypeError:
        raise ArgumentError(
            f"{name} must hold {dimension} whole numbers; got {shape!r}. "
            f"Give the spatial axes, (z, y, x) or (y, x)."
        ) from None
    if len(found) != dimension or any(size < 1 for size in found):
        raise ShapeError(
            f"{name} must hold {dimension} sizes of at least 1; got {found}. "
            f"Give the spatial axes only, (z, y, x) or (y, x)."
        )
    return found
