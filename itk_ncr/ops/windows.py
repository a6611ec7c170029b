"""Compiled stencils, windows and total variation as operators.

Arguments are trusted: :mod:`itk_ncr.ops.operators` has checked them.
"""

# ruff: noqa: ARG001, ARG005 - fakes and derivatives take what their operator takes.
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from itk_ncr.ops.calls import allocate, allocate_like, dense, new, run
from itk_ncr.ops.library import Operator


def _jacobian(displacement: Tensor) -> Tensor:
    u = dense(displacement)
    result = allocate(u, u.shape[0], 1, *u.shape[2:])
    run("jacobian", u, u.data_ptr(), u.shape[0], u.shape[2:], result.data_ptr())
    return result


def _jacobian_adjoint(grad: Tensor, displacement: Tensor) -> Tensor:
    g, u = dense(grad), dense(displacement)
    found = allocate_like(u)
    run(
        "jacobian_adjoint", u, u.data_ptr(), g.data_ptr(), u.shape[0], u.shape[2:],
        found.data_ptr(),
    )  # fmt: skip
    return found


jacobian_adjoint = Operator(
    "jacobian_adjoint(Tensor grad, Tensor displacement) -> Tensor",
    _jacobian_adjoint,
    lambda grad, u: torch.empty_like(u, memory_format=torch.contiguous_format),
)
jacobian = Operator(
    "jacobian(Tensor displacement) -> Tensor",
    _jacobian,
    lambda u: new(u, u.shape[0], 1, *u.shape[2:]),
    lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
    lambda ctx, grad: jacobian_adjoint(grad, ctx.saved_tensors[0]),
)


def _box_sum(image: Tensor, radius: int) -> Tensor:
    values = dense(image)
    sums = allocate_like(values)
    run(
        "box_sum", values, values.data_ptr(), values.shape[0] * values.shape[1], values.shape[2:],
        radius, sums.data_ptr(),
    )  # fmt: skip
    return sums


def _box_sum_save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.radius = inputs[1]


def _box_sum_derivative(ctx: Any, grad: Tensor) -> Any:
    return box_sum(grad, ctx.radius), None


box_sum: Operator = Operator(
    "box_sum(Tensor image, int radius) -> Tensor",
    _box_sum,
    lambda image, radius: torch.empty_like(image, memory_format=torch.contiguous_format),
    _box_sum_save,
    _box_sum_derivative,
)


def _resize(image: Tensor, shape: list[int]) -> Tensor:
    values = dense(image)
    resized = allocate(values, *values.shape[:2], *shape)
    run(
        "resize", values, values.data_ptr(), values.shape[0] * values.shape[1], values.shape[2:],
        shape, resized.data_ptr(),
    )  # fmt: skip
    return resized


def _resize_adjoint(grad: Tensor, old_shape: list[int]) -> Tensor:
    g = dense(grad)
    found = allocate(g, *g.shape[:2], *old_shape)
    run(
        "resize_adjoint", g, g.data_ptr(), g.shape[0] * g.shape[1], old_shape, g.shape[2:],
        found.data_ptr(),
    )  # fmt: skip
    return found


def _resize_save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.old_shape = inputs[0].shape[2:]


def _resized_fake(image: Tensor, shape: list[int]) -> Tensor:
    return new(image, *image.shape[:2], *shape)


resize_adjoint = Operator(
    "resize_adjoint(Tensor grad, SymInt[] old_shape) -> Tensor", _resize_adjoint, _resized_fake
)
resize = Operator(
    "resize(Tensor image, SymInt[] shape) -> Tensor",
    _resize,
    _resized_fake,
    _resize_save,
    lambda ctx, grad: (resize_adjoint(grad, list(ctx.old_shape)), None),
)


def _total_variation_denoise(
    evidence: Tensor, weight: float, iterations: int, dual: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    g = dense(evidence)
    n, c, *spatial = g.shape
    shape = (n * c, len(spatial), *spatial)
    start = g.new_zeros(shape) if dual is None else dense(dual).clone()
    u, gap = allocate_like(g), allocate(g, n, c)
    run(
        "total_variation_denoise", g, g.data_ptr(), n * c, spatial, weight, iterations,
        u.data_ptr(), start.data_ptr(), gap.data_ptr(),
    )  # fmt: skip
    return u, start, gap


def _total_variation_denoise_fake(
    evidence: Tensor, weight: float, iterations: int, dual: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    n, c, *spatial = evidence.shape
    return (
        torch.empty_like(evidence, memory_format=torch.contiguous_format),
        new(evidence, n * c, len(spatial), *spatial),
        new(evidence, n, c),
    )


total_variation_denoise = Operator(
    "total_variation_denoise(Tensor evidence, float weight, int iterations, Tensor? dual) "
    "-> (Tensor primal, Tensor dual_out, Tensor gap)",
    _total_variation_denoise,
    _total_variation_denoise_fake,
)
