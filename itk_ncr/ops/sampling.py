"""The compiled warps as operators with their derivatives.

Arguments are trusted: :mod:`itk_ncr.ops.operators` has checked them.
"""

# ruff: noqa: ARG001, ARG005 - fakes and derivatives take what their operator takes.
from __future__ import annotations

from typing import Any

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
from itk_ncr.ops.library import Operator


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
