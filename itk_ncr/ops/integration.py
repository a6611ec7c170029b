"""The compiled exponential as an operator with its derivative.

Arguments are trusted: :mod:`itk_ncr.ops.operators` has checked them.
"""

# ruff: noqa: ARG001 - fakes and derivatives take what their operator takes.
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from itk_ncr.ops import reference
from itk_ncr.ops.calls import alert_not_deterministic, allocate, allocate_like, dense, new, run
from itk_ncr.ops.library import Operator
from itk_ncr.ops.reference import LONGEST_FIRST_STEP, MOST_SQUARINGS


def required_squarings(velocity: Tensor) -> Tensor:
    """Smallest K per sample whose first step is at most an eighth of a voxel; int64 (N,)."""
    v = dense(velocity)
    if v.device.type != "cpu":
        return reference.required_squarings(v).cpu()
    found = run(
        "required_squarings", v, v.data_ptr(), v.shape[0], v.shape[2:],
        LONGEST_FIRST_STEP, MOST_SQUARINGS,
    )  # fmt: skip
    return torch.tensor(found, dtype=torch.int64)


def _field_size(velocity: Tensor) -> Any:
    """Values of a kept field: the layout is the kernels' own, padded to whole cache lines."""
    count: Any = velocity.shape[1]
    for size in velocity.shape[2:]:
        count = count * size
    return (count + 64 + 15) // 16 * 16


def _counts(velocity: Tensor, squarings: Tensor | None, most: int) -> list[int]:
    if squarings is not None:
        return [int(k) for k in squarings.tolist()]
    if most < 0:
        return [int(k) for k in required_squarings(velocity).tolist()]
    return [most] * velocity.shape[0]


def _kept(most: int, keep_every: int) -> int:
    # The first field is the velocity times a factor and need not be kept.
    return -(-most // keep_every) - 1 if keep_every > 0 and most > 0 else 0


def _exponential(
    velocity: Tensor, squarings: Tensor | None, most: int, keep_every: int, sign: float
) -> tuple[Tensor, Tensor]:
    v = dense(velocity)
    kept = _kept(most, keep_every)
    displacement = allocate_like(v)
    fields = allocate(v, v.shape[0], kept, _field_size(v))
    run(
        "exponential", v, v.data_ptr(), v.shape[2:], _counts(v, squarings, most),
        keep_every if kept else 0, kept, sign, displacement.data_ptr(), fields.data_ptr(),
    )  # fmt: skip
    return displacement, fields


def _exponential_fake(
    velocity: Tensor, squarings: Tensor | None, most: int, keep_every: int, sign: float
) -> tuple[Tensor, Tensor]:
    fields = new(velocity, velocity.shape[0], _kept(most, keep_every), _field_size(velocity))
    return torch.empty_like(velocity, memory_format=torch.contiguous_format), fields


def _exponential_save(ctx: Any, inputs: Any, output: Any) -> None:
    velocity, squarings, ctx.most, ctx.keep_every, ctx.sign = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(velocity, output[1], squarings)


def _exponential_derivative(ctx: Any, grad: Tensor | None, _fields: Tensor | None) -> Any:
    velocity, fields, squarings = ctx.saved_tensors
    if grad is None:
        return None, None, None, None, None
    found = exponential_adjoint(
        grad, velocity, fields, squarings, ctx.most, ctx.keep_every, ctx.sign
    )
    return found, None, None, None, None


def _exponential_adjoint(
    grad: Tensor,
    velocity: Tensor,
    fields: Tensor,
    squarings: Tensor | None,
    most: int,
    keep_every: int,
    sign: float,
) -> Tensor:
    alert_not_deterministic("the gradient of exponential", velocity)
    v, g = dense(velocity), dense(grad)
    kept = _kept(most, keep_every)
    # The kernel uses a single sample's result as room for a field first.
    values = allocate(v, _field_size(v) if v.shape[0] == 1 else v.numel())
    grad_velocity = values[: v.numel()].view(v.shape)
    run(
        "exponential_adjoint", v, v.data_ptr(), fields.data_ptr(), g.data_ptr(), v.shape[2:],
        _counts(v, squarings, most), keep_every if kept else 0, kept, sign,
        grad_velocity.data_ptr(),
    )  # fmt: skip
    return grad_velocity


exponential_adjoint = Operator(
    "exponential_adjoint(Tensor grad, Tensor velocity, Tensor fields, Tensor? squarings, "
    "int most, int keep_every, float sign) -> Tensor",
    _exponential_adjoint,
    lambda grad, *_: torch.empty_like(grad, memory_format=torch.contiguous_format),
)
# `most` is the largest number of squarings; -1: found inside, per sample, and nothing is kept.
# keep_every 0 keeps nothing either: the adjoint then integrates once more.
exponential = Operator(
    "exponential(Tensor velocity, Tensor? squarings, int most, int keep_every, float sign) "
    "-> (Tensor displacement, Tensor fields)",
    _exponential,
    _exponential_fake,
    _exponential_save,
    _exponential_derivative,
)
