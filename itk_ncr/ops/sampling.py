"""The compiled warps as operators with their derivatives.

Arguments are trusted: :mod:`itk_ncr.ops.operators` has checked them.
"""

# ruff: noqa: ARG001, ARG005 - fakes and derivatives take what their operator takes.
from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from itk_ncr.ops.calls import (
    address,
    alert_not_deterministic,
    allocate,
    allocate_like,
    dense,
    new,
    run,
)
from itk_ncr.ops.library import Operator, is_traced


def _warp(
    image: Tensor, displacement: Tensor, addend: Tensor | None, fill: bool, fill_value: float
) -> Tensor:
    m, u = dense(image), dense(displacement)
    a = None if addend is None else dense(addend)
    moved = allocate(m, *m.shape[:2], *u.shape[2:])
    run(
        "warp", m, m.data_ptr(), m.shape[2:], u.data_ptr(), u.shape[2:], m.shape[0], m.shape[1],
        fill, fill_value, address(a), moved.data_ptr(),
    )  # fmt: skip
    return moved


def _warp_fake(
    image: Tensor, displacement: Tensor, addend: Tensor | None, fill: bool, fill_value: float
) -> Tensor:
    return new(image, *image.shape[:2], *displacement.shape[2:])


def _warp_save(ctx: Any, inputs: Any, output: Any) -> None:
    image, displacement, addend, ctx.fill, _ = inputs
    ctx.has_addend = addend is not None
    ctx.save_for_backward(image, displacement)


def _warp_derivative(ctx: Any, grad: Tensor) -> Any:
    image, displacement = ctx.saved_tensors
    to_image, to_displacement, to_addend = ctx.needs_input_grad[:3]
    grad_displacement, grad_image = warp_adjoint(
        grad, image, displacement, ctx.fill, to_displacement, to_image
    )
    return (
        grad_image if to_image else None,
        grad_displacement if to_displacement else None,
        grad if ctx.has_addend and to_addend else None,
        None,
        None,
    )


def _warp_adjoint(
    grad: Tensor,
    image: Tensor,
    displacement: Tensor,
    fill: bool,
    to_displacement: bool,
    to_image: bool,
) -> tuple[Tensor, Tensor]:
    if to_image:
        alert_not_deterministic("the gradient of warp to its image", image)
    m, u = dense(image), dense(displacement)
    g = dense(grad)
    grad_u = allocate_like(u) if to_displacement else allocate(u, 0)
    grad_m = allocate_like(m) if to_image else allocate(m, 0)
    run(
        "warp_adjoint", m, m.data_ptr(), m.shape[2:], u.data_ptr(), u.shape[2:], g.data_ptr(),
        m.shape[0], m.shape[1], fill, False, grad_u.data_ptr() if to_displacement else 0,
        grad_m.data_ptr() if to_image else 0,
    )  # fmt: skip
    return grad_u, grad_m


def _warp_adjoint_fake(
    grad: Tensor,
    image: Tensor,
    displacement: Tensor,
    fill: bool,
    to_displacement: bool,
    to_image: bool,
) -> tuple[Tensor, Tensor]:
    grad_u = new(displacement, *displacement.shape) if to_displacement else new(displacement, 0)
    return grad_u, new(image, *image.shape) if to_image else new(image, 0)


warp_adjoint = Operator(
    "warp_adjoint(Tensor grad, Tensor image, Tensor displacement, bool fill, "
    "bool to_displacement, bool to_image) -> (Tensor grad_displacement, Tensor grad_image)",
    _warp_adjoint,
    _warp_adjoint_fake,
)
warp = Operator(
    "warp(Tensor image, Tensor displacement, Tensor? addend, bool fill, float fill_value) "
    "-> Tensor",
    _warp,
    _warp_fake,
    _warp_save,
    _warp_derivative,
)


def _warp_nearest(image: Tensor, displacement: Tensor, fill: bool, fill_value: float) -> Tensor:
    m, u = dense(image), dense(displacement)
    moved = allocate(m, *m.shape[:2], *u.shape[2:])
    run(
        "warp_nearest", u, str(m.dtype).removeprefix("torch."), m.data_ptr(), m.shape[2:],
        u.data_ptr(), u.shape[2:], m.shape[0], m.shape[1], fill, fill_value, moved.data_ptr(),
    )  # fmt: skip
    return moved


def _warp_nearest_save(ctx: Any, inputs: Any, output: Any) -> None:
    image, displacement, ctx.fill, _ = inputs
    ctx.sizes = image.shape[2:]
    ctx.save_for_backward(displacement)


def _warp_nearest_derivative(ctx: Any, grad: Tensor) -> Any:
    (displacement,) = ctx.saved_tensors
    # Rounding has no derivative: nothing goes to the displacement.
    if not ctx.needs_input_grad[0]:
        return None, None, None, None
    grad_image = warp_nearest_adjoint(grad, displacement.to(grad.dtype), list(ctx.sizes), ctx.fill)
    return grad_image, None, None, None


def _warp_nearest_adjoint(
    grad: Tensor, displacement: Tensor, sizes: list[int], fill: bool
) -> Tensor:
    alert_not_deterministic("the gradient of warp to its image", grad)
    g, u = dense(grad), dense(displacement)
    grad_image = allocate(g, *g.shape[:2], *sizes)
    run(
        "warp_nearest_adjoint", g, u.data_ptr(), sizes, u.shape[2:], g.data_ptr(), g.shape[0],
        g.shape[1], fill, grad_image.data_ptr(),
    )  # fmt: skip
    return grad_image


warp_nearest_adjoint = Operator(
    "warp_nearest_adjoint(Tensor grad, Tensor displacement, SymInt[] sizes, bool fill) -> Tensor",
    _warp_nearest_adjoint,
    lambda grad, displacement, sizes, fill: new(grad, *grad.shape[:2], *sizes),
)
warp_nearest = Operator(
    "warp_nearest(Tensor image, Tensor displacement, bool fill, float fill_value) -> Tensor",
    _warp_nearest,
    lambda image, displacement, *_: new(image, *image.shape[:2], *displacement.shape[2:]),
    _warp_nearest_save,
    _warp_nearest_derivative,
)


def _warp_mse(
    image: Tensor, displacement: Tensor, fixed: Tensor, weight: Tensor | None, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    m, u = dense(image), dense(displacement)
    f = dense(fixed)
    w = None if weight is None else dense(weight)
    distances = allocate(m, m.shape[0])
    gradient = allocate_like(u) if with_gradient else allocate(u, 0)
    run(
        "warp_mse", m, m.data_ptr(), m.shape[2:], u.data_ptr(), u.shape[2:], f.data_ptr(),
        address(w), m.shape[0], m.shape[1], distances.data_ptr(),
        gradient.data_ptr() if with_gradient else 0,
    )  # fmt: skip
    return distances, gradient


def _warp_mse_fake(
    image: Tensor, displacement: Tensor, fixed: Tensor, weight: Tensor | None, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    shape = displacement.shape if with_gradient else (0,)
    return new(image, image.shape[0]), new(displacement, *shape)


def _scale_samples(values: Tensor, factors: Tensor) -> Tensor:
    return torch.mul(values.detach(), factors.detach(), out=allocate_like(values))


# A product into the kernels' pool: torch would fault in fresh pages, which takes as long as the
# warp and the distance together.
scale_samples = Operator(
    "scale_samples(Tensor values, Tensor factors) -> Tensor",
    _scale_samples,
    lambda values, factors: torch.empty_like(values, memory_format=torch.contiguous_format),
)


def _is_one(grad: Tensor) -> bool:
    """Whether a gradient changes nothing: that of a sum. Looked at only where that is free."""
    return not is_traced([grad]) and grad.device.type == "cpu" and bool((grad == 1).all())


def _warp_mse_save(ctx: Any, inputs: Any, output: Any) -> None:
    image, displacement, fixed, weight, ctx.with_gradient = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(image, displacement, fixed, weight, output[1])


def _warp_mse_derivative(ctx: Any, grad: Tensor | None, _gradient: Tensor | None) -> Any:
    image, displacement, fixed, weight, gradient = ctx.saved_tensors
    if grad is None:
        return None, None, None, None, None
    per_sample = grad.view(grad.shape[0], *(1,) * (displacement.ndim - 1))
    to_image, to_displacement, to_fixed, to_weight = ctx.needs_input_grad[:4]
    found: list[Tensor | None] = [None, None, None, None]
    if to_displacement and ctx.with_gradient:
        found[1] = gradient if _is_one(grad) else scale_samples(gradient, per_sample)
        to_displacement = False
    if to_image or to_displacement or to_fixed or to_weight:
        # Rare (the images are seldom learnt), hence composed of the plain pieces.
        residual = warp(image, displacement, None, False, 0.0) - fixed
        scale = per_sample / math.prod(fixed.shape[1:])
        if to_weight:
            found[3] = scale * residual.square().sum(1, keepdim=True)
        by_moved = 2 * scale * residual * (1.0 if weight is None else weight)
        if to_fixed:
            found[2] = -by_moved
        if to_image or to_displacement:
            grad_u, grad_image = warp_adjoint(
                by_moved, image, displacement, False, to_displacement, to_image
            )
            found[0] = grad_image if to_image else None
            found[1] = grad_u if to_displacement else found[1]
    return (*found, None)


warp_mse = Operator(
    "warp_mse(Tensor image, Tensor displacement, Tensor fixed, Tensor? weight, "
    "bool with_gradient) -> (Tensor distances, Tensor gradient)",
    _warp_mse,
    _warp_mse_fake,
    _warp_mse_save,
    _warp_mse_derivative,
)
