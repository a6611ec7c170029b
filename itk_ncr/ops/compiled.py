"""The compiled kernels as operators: allocation, the kernel call, the derivative.

Every function here trusts its arguments; :mod:`itk_ncr.ops.operators` has checked them.
"""

# ruff: noqa: ARG001, ARG005 - fakes and derivatives take what their operator takes.
from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from itk_ncr.ops.extension import kernels
from itk_ncr.ops.library import Operator
from itk_ncr.ops.reference import LONGEST_FIRST_STEP, MOST_SQUARINGS


def _run(name: str, like: Tensor, *arguments: Any) -> Any:
    module = kernels()
    assert module is not None
    function = getattr(module, f"{name}_{str(like.dtype).removeprefix('torch.')}")
    return function(torch.get_num_threads(), *arguments)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _new(tensor: Tensor, *shape: Any) -> Tensor:
    return tensor.new_empty(shape)


def _scratch(like: Tensor, *shape: int) -> Tensor:
    """Uninitialised tensor out of the kernels' pool, which spares the system's page faults."""
    module = kernels()
    assert module is not None
    count = math.prod(shape)
    if count == 0:
        return like.new_empty(shape)
    space = module.Workspace(count * like.element_size())
    return torch.frombuffer(space, dtype=like.dtype, count=count).view(shape)


# exponential -------------------------------------------------------------------------------------


def required_squarings(velocity: Tensor) -> Tensor:
    """Smallest K per sample whose first step is at most half a voxel; int64 (N,)."""
    v = velocity.detach().contiguous()
    found = _run(
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
    return -(-most // keep_every) if keep_every > 0 and most > 0 else 0


def _exponential(
    velocity: Tensor, squarings: Tensor | None, most: int, keep_every: int, sign: float
) -> tuple[Tensor, Tensor]:
    v = velocity.detach().contiguous()
    kept = _kept(most, keep_every)
    displacement = torch.empty_like(v)
    fields = _scratch(v, v.shape[0], kept, _field_size(v))
    _run(
        "exponential", v, v.data_ptr(), v.shape[2:], _counts(v, squarings, most),
        keep_every if kept else 0, kept, sign, displacement.data_ptr(), fields.data_ptr(),
    )  # fmt: skip
    return displacement, fields


def _exponential_fake(
    velocity: Tensor, squarings: Tensor | None, most: int, keep_every: int, sign: float
) -> tuple[Tensor, Tensor]:
    fields = _new(velocity, velocity.shape[0], _kept(most, keep_every), _field_size(velocity))
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
    v, g = velocity.detach().contiguous(), grad.detach().contiguous()
    kept = _kept(most, keep_every)
    grad_velocity = torch.empty_like(v)
    _run(
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


# warp --------------------------------------------------------------------------------------------


def _warp(
    image: Tensor, displacement: Tensor, addend: Tensor | None, fill: bool, fill_value: float
) -> Tensor:
    m, u = image.detach().contiguous(), displacement.detach().contiguous()
    a = None if addend is None else addend.detach().contiguous()
    moved = _new(m, *m.shape[:2], *u.shape[2:])
    _run(
        "warp", m, m.data_ptr(), m.shape[2:], u.data_ptr(), u.shape[2:], m.shape[0], m.shape[1],
        fill, fill_value, _address(a), moved.data_ptr(),
    )  # fmt: skip
    return moved


def _warp_fake(
    image: Tensor, displacement: Tensor, addend: Tensor | None, fill: bool, fill_value: float
) -> Tensor:
    return _new(image, *image.shape[:2], *displacement.shape[2:])


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
    m, u = image.detach().contiguous(), displacement.detach().contiguous()
    g = grad.detach().contiguous()
    grad_u = torch.empty_like(u) if to_displacement else _new(u, 0)
    grad_m = torch.empty_like(m) if to_image else _new(m, 0)
    _run(
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
    grad_u = _new(displacement, *displacement.shape) if to_displacement else _new(displacement, 0)
    return grad_u, _new(image, *image.shape) if to_image else _new(image, 0)


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
    m, u = image.detach().contiguous(), displacement.detach().contiguous()
    moved = _new(m, *m.shape[:2], *u.shape[2:])
    _run(
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
    g, u = grad.detach().contiguous(), displacement.detach().contiguous()
    grad_image = _new(g, *g.shape[:2], *sizes)
    _run(
        "warp_nearest_adjoint", g, u.data_ptr(), sizes, u.shape[2:], g.data_ptr(), g.shape[0],
        g.shape[1], fill, grad_image.data_ptr(),
    )  # fmt: skip
    return grad_image


warp_nearest_adjoint = Operator(
    "warp_nearest_adjoint(Tensor grad, Tensor displacement, SymInt[] sizes, bool fill) -> Tensor",
    _warp_nearest_adjoint,
    lambda grad, displacement, sizes, fill: _new(grad, *grad.shape[:2], *sizes),
)
warp_nearest = Operator(
    "warp_nearest(Tensor image, Tensor displacement, bool fill, float fill_value) -> Tensor",
    _warp_nearest,
    lambda image, displacement, *_: _new(image, *image.shape[:2], *displacement.shape[2:]),
    _warp_nearest_save,
    _warp_nearest_derivative,
)


# warp_mse ----------------------------------------------------------------------------------------


def _warp_mse(
    image: Tensor, displacement: Tensor, fixed: Tensor, weight: Tensor | None, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    m, u = image.detach().contiguous(), displacement.detach().contiguous()
    f = fixed.detach().contiguous()
    w = None if weight is None else weight.detach().contiguous()
    distances = _new(m, m.shape[0])
    gradient = torch.empty_like(u) if with_gradient else _new(u, 0)
    _run(
        "warp_mse", m, m.data_ptr(), m.shape[2:], u.data_ptr(), u.shape[2:], f.data_ptr(),
        _address(w), m.shape[0], m.shape[1], distances.data_ptr(),
        gradient.data_ptr() if with_gradient else 0,
    )  # fmt: skip
    return distances, gradient


def _warp_mse_fake(
    image: Tensor, displacement: Tensor, fixed: Tensor, weight: Tensor | None, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    shape = displacement.shape if with_gradient else (0,)
    return _new(image, image.shape[0]), _new(displacement, *shape)


def _warp_mse_save(ctx: Any, inputs: Any, output: Any) -> None:
    image, displacement, fixed, weight, ctx.with_gradient = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(image, displacement, fixed, weight, output[1])


def _warp_mse_derivative(ctx: Any, grad: Tensor | None, _gradient: Tensor | None) -> Any:
    image, displacement, fixed, weight, gradient = ctx.saved_tensors
    if grad is None:
        return None, None, None, None, None
    per_sample = grad.reshape(-1, *(1,) * (displacement.ndim - 1))
    to_image, to_displacement, to_fixed, to_weight = ctx.needs_input_grad[:4]
    found: list[Tensor | None] = [None, None, None, None]
    if to_displacement and ctx.with_gradient:
        found[1] = per_sample * gradient
        to_displacement = False
    if to_image or to_displacement or to_fixed or to_weight:
        # Rare (the images are seldom learnt), hence composed of the plain pieces.
        residual = warp(image, displacement, None, False, 0.0) - fixed
        scale = per_sample / (fixed[0].numel())
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


# stencils ----------------------------------------------------------------------------------------


def _jacobian(displacement: Tensor) -> Tensor:
    u = displacement.detach().contiguous()
    result = _new(u, u.shape[0], 1, *u.shape[2:])
    _run("jacobian", u, u.data_ptr(), u.shape[0], u.shape[2:], result.data_ptr())
    return result


def _jacobian_adjoint(grad: Tensor, displacement: Tensor) -> Tensor:
    g, u = grad.detach().contiguous(), displacement.detach().contiguous()
    found = torch.empty_like(u)
    _run(
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
    lambda u: _new(u, u.shape[0], 1, *u.shape[2:]),
    lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
    lambda ctx, grad: jacobian_adjoint(grad, ctx.saved_tensors[0]),
)


def _box_sum(image: Tensor, radius: int) -> Tensor:
    values = image.detach().contiguous()
    sums = torch.empty_like(values)
    _run(
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
    values = image.detach().contiguous()
    resized = _new(values, *values.shape[:2], *shape)
    _run(
        "resize", values, values.data_ptr(), values.shape[0] * values.shape[1], values.shape[2:],
        shape, resized.data_ptr(),
    )  # fmt: skip
    return resized


def _resize_adjoint(grad: Tensor, old_shape: list[int]) -> Tensor:
    g = grad.detach().contiguous()
    found = _new(g, *g.shape[:2], *old_shape)
    _run(
        "resize_adjoint", g, g.data_ptr(), g.shape[0] * g.shape[1], old_shape, g.shape[2:],
        found.data_ptr(),
    )  # fmt: skip
    return found


def _resize_save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.old_shape = inputs[0].shape[2:]


def _resized_fake(image: Tensor, shape: list[int]) -> Tensor:
    return _new(image, *image.shape[:2], *shape)


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


# local correlation and total variation -----------------------------------------------------------


def _local_ncc(
    moved: Tensor, fixed: Tensor, weight: Tensor, radius: int, eps: float
) -> tuple[Tensor, Tensor]:
    m, f, w = (t.detach().contiguous() for t in (moved, fixed, weight))
    found, sums = torch.empty_like(m), _new(m, m.shape[0], 6, *m.shape[2:])
    _run(
        "local_ncc", m, m.data_ptr(), f.data_ptr(), w.data_ptr(), m.shape[0], m.shape[2:], radius,
        eps, found.data_ptr(), sums.data_ptr(),
    )  # fmt: skip
    return found, sums


def _local_ncc_save(ctx: Any, inputs: Any, output: Any) -> None:
    moved, fixed, weight, ctx.radius, ctx.eps = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(moved, fixed, weight, output[1])


def _local_ncc_derivative(ctx: Any, grad: Tensor | None, _sums: Tensor | None) -> Any:
    if grad is None:
        return None, None, None, None, None
    found = local_ncc_adjoint(grad, *ctx.saved_tensors, ctx.radius, ctx.eps)
    return found, None, None, None, None


def _local_ncc_adjoint(
    grad: Tensor,
    moved: Tensor,
    fixed: Tensor,
    weight: Tensor,
    sums: Tensor,
    radius: int,
    eps: float,
) -> Tensor:
    g, m, f, w, s = (t.detach().contiguous() for t in (grad, moved, fixed, weight, sums))
    found = torch.empty_like(m)
    _run(
        "local_ncc_adjoint", m, m.data_ptr(), f.data_ptr(), w.data_ptr(), s.data_ptr(),
        g.data_ptr(), m.shape[0], m.shape[2:], radius, eps, found.data_ptr(),
    )  # fmt: skip
    return found


local_ncc_adjoint = Operator(
    "local_ncc_adjoint(Tensor grad, Tensor moved, Tensor fixed, Tensor weight, Tensor sums, "
    "int radius, float eps) -> Tensor",
    _local_ncc_adjoint,
    lambda grad, moved, *_: torch.empty_like(moved, memory_format=torch.contiguous_format),
)
local_ncc = Operator(
    "local_ncc(Tensor moved, Tensor fixed, Tensor weight, int radius, float eps) "
    "-> (Tensor map, Tensor sums)",
    _local_ncc,
    lambda moved, *_: (
        torch.empty_like(moved, memory_format=torch.contiguous_format),
        _new(moved, moved.shape[0], 6, *moved.shape[2:]),
    ),
    _local_ncc_save,
    _local_ncc_derivative,
)


def _total_variation_denoise(
    evidence: Tensor, weight: float, iterations: int, dual: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    g = evidence.detach().contiguous()
    n, c, *spatial = g.shape
    shape = (n * c, len(spatial), *spatial)
    start = g.new_zeros(shape) if dual is None else dual.detach().clone().contiguous()
    u, gap = torch.empty_like(g), _new(g, n, c)
    _run(
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
        _new(evidence, n * c, len(spatial), *spatial),
        _new(evidence, n, c),
    )


total_variation_denoise = Operator(
    "total_variation_denoise(Tensor evidence, float weight, int iterations, Tensor? dual) "
    "-> (Tensor primal, Tensor dual_out, Tensor gap)",
    _total_variation_denoise,
    _total_variation_denoise_fake,
)
