"""Plain torch versions of the compiled kernels: fallback and test oracle.

Displacements are in voxels and channel ``c`` moves array axis ``c``. Positions are integers at the
centres of voxels; outside the image the border value repeats and the derivative is 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A velocity longer than 2**17 voxels is no velocity; more squarings only repeat rounding.
MOST_SQUARINGS = 20
# Voxel. The usual 1/2 leaves a mean error of .1 voxel in exp(v) o exp(-v) at 10 voxels (waves of 64
# voxels, 2D), 1/8 leaves .03 for two squarings more; below, interpolation dominates.
LONGEST_FIRST_STEP = 0.125


def required_squarings(velocity: Tensor) -> Tensor:
    """Smallest K per sample such that ``max|v| / 2**K <= 1/8`` voxel; int64, shape (N,)."""
    if velocity.numel() == 0:
        return torch.zeros(velocity.shape[0], dtype=torch.int64, device=velocity.device)
    norms = velocity.detach().square().sum(1).flatten(1)
    longest = norms.where(norms.isfinite(), norms.new_zeros(())).amax(1).sqrt()
    exponents = torch.log2((longest / LONGEST_FIRST_STEP).clamp_min(1.0)).ceil()
    return exponents.clamp_max(MOST_SQUARINGS).to(torch.int64)


def exponential(velocity: Tensor, squarings: int | Tensor | None = None) -> Tensor:
    """exp(v) by scaling and squaring: ``u = v / 2**K``, then K times ``u = u + u(p + u)``."""
    if squarings is None:
        squarings = required_squarings(velocity)
        if velocity.is_meta or torch._C._functorch.peek_interpreter_stack() is not None:
            return _exponential_unseen(velocity, squarings)
    if isinstance(squarings, int):
        displacement = velocity * 0.5**squarings
        for _ in range(squarings):
            displacement = compose(displacement, displacement)
        return displacement
    counts = squarings.tolist()
    samples = [exponential(velocity[n : n + 1], int(k)) for n, k in enumerate(counts)]
    return torch.cat(samples) if samples else velocity.clone()


def _exponential_unseen(velocity: Tensor, squarings: Tensor) -> Tensor:
    """Exponential with unknown numbers of squarings: under torch.func, or on meta tensors."""
    counts = squarings.view(-1, *(1,) * (velocity.ndim - 1))
    displacement = velocity * 0.5 ** counts.to(velocity.dtype)
    for done in range(MOST_SQUARINGS):
        squared = compose(displacement, displacement)
        displacement = squared.where(counts > done, displacement)
    return displacement


def warp(
    image: Tensor,
    displacement: Tensor,
    *,
    mode: str = "linear",
    padding: str = "border",
    fill_value: float = 0.0,
) -> Tensor:
    """``y[p] = image(p + u[p])`` with p over the grid of the displacement."""
    spatial = displacement.shape[2:]
    positions = [
        displacement[:, axis] + _index_along(axis, spatial, displacement)
        for axis in range(len(spatial))
    ]
    sizes = image.shape[2:]
    moved = _at_nearest(image, positions) if mode == "nearest" else _at_linear(image, positions)
    if padding == "fill":
        outside = torch.zeros_like(positions[0], dtype=torch.bool)
        for position, size in zip(positions, sizes, strict=True):
            # Written so that NaN is not outside: it has to show in the result.
            outside = outside | (position < -0.5) | (position >= size - 0.5)
        moved = moved.where(~outside[:, None], _filling(image, fill_value))
    return moved


def _filling(image: Tensor, fill_value: float) -> Tensor:
    return torch.tensor(fill_value, dtype=image.dtype, device=image.device)


def _index_along(axis: int, spatial: torch.Size, like: Tensor) -> Tensor:
    shape = [1] * (len(spatial) + 1)
    shape[axis + 1] = spatial[axis]
    return torch.arange(spatial[axis], dtype=like.dtype, device=like.device).view(shape)


def _flat(index: list[Tensor], sizes: torch.Size) -> Tensor:
    offset = index[0]
    for axis in range(1, len(sizes)):
        offset = offset * sizes[axis] + index[axis]
    return offset


def _take(image: Tensor, offset: Tensor) -> Tensor:
    n, c = image.shape[:2]
    taken = image.flatten(2).gather(2, offset.flatten(1)[:, None].expand(n, c, -1))
    return taken.reshape(n, c, *offset.shape[1:])


def _at_nearest(image: Tensor, positions: list[Tensor]) -> Tensor:
    index = [
        (p.detach() + 0.5).floor().nan_to_num(0.0).clamp(0, size - 1).to(torch.int64)
        for p, size in zip(positions, image.shape[2:], strict=True)
    ]
    moved = _take(image, _flat(index, image.shape[2:]))
    if not image.dtype.is_floating_point:
        return moved
    broken = torch.stack([p.isnan() for p in positions]).any(0)
    return moved.where(~broken[:, None], _filling(image, math.nan))


def _at_linear(image: Tensor, positions: list[Tensor]) -> Tensor:
    lower, weights = [], []
    for position, size in zip(positions, image.shape[2:], strict=True):
        inside = (position > 0) & (position < size - 1)
        repeated = position.where(inside, position.detach().clamp(0, size - 1))
        index = repeated.detach().floor().clamp_max(max(size - 2, 0)).nan_to_num(0.0)
        lower.append(index.to(torch.int64))
        weights.append(repeated - index)
    moved: Tensor | None = None
    for corner in range(1 << len(positions)):
        weight: Tensor | float = 1.0
        index_at = []
        for axis, size in enumerate(image.shape[2:]):
            if corner >> axis & 1:
                weight = weight * weights[axis]
                index_at.append((lower[axis] + 1).clamp_max(size - 1))
            else:
                weight = weight * (1 - weights[axis])
                index_at.append(lower[axis])
        assert isinstance(weight, Tensor)
        part = weight[:, None] * _take(image, _flat(index_at, image.shape[2:]))
        moved = part if moved is None else moved + part
    assert moved is not None
    return moved


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Displacement of (id + outer) o (id + inner): ``inner + outer(p + inner)``."""
    return inner + warp(outer, inner)


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """Determinant of the derivative of id + u; central differences inside, one-sided at the rim."""
    dimension = displacement.shape[1]
    rows = []
    for component in range(dimension):
        row = [_difference(displacement[:, component], axis + 1) for axis in range(dimension)]
        row[component] = row[component] + 1
        rows.append(row)
    if dimension == 2:
        (a, b), (c, d) = rows
        return (a * d - b * c)[:, None]
    (a, b, c), (d, e, f), (g, h, i) = rows
    return (a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))[:, None]


def _difference(values: Tensor, axis: int) -> Tensor:
    size = values.shape[axis]
    if size == 1:
        return torch.zeros_like(values)
    first = values.narrow(axis, 1, 1) - values.narrow(axis, 0, 1)
    last = values.narrow(axis, size - 1, 1) - values.narrow(axis, size - 2, 1)
    inner = (values.narrow(axis, 2, size - 2) - values.narrow(axis, 0, size - 2)) / 2
    return torch.cat([first, inner, last], axis)


def box_sum(image: Tensor, radius: int) -> Tensor:
    """Sums over windows of 2r + 1 voxels per axis, cut off at the border of the image."""
    for axis in range(2, image.ndim):
        image = _box_sum_along(image, radius, axis)
    return image


def _box_sum_along(image: Tensor, radius: int, axis: int) -> Tensor:
    size = image.shape[axis]
    total = image
    for step in range(1, min(radius, size - 1) + 1):
        gap = torch.zeros_like(image.narrow(axis, 0, step))
        ahead = torch.cat([image.narrow(axis, step, size - step), gap], axis)
        behind = torch.cat([gap, image.narrow(axis, 0, size - step)], axis)
        total = total + ahead + behind
    return total


def resize(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Linear interpolation that keeps the first and the last voxel centre of every axis."""
    for axis, size in enumerate(shape, start=2):
        tensor = _resize_along(tensor, size, axis)
    return tensor


def _resize_along(tensor: Tensor, size: int, axis: int) -> Tensor:
    old = tensor.shape[axis]
    if size == old:
        return tensor
    index = torch.arange(size, dtype=torch.float64, device=tensor.device)
    position = index * ((old - 1) / (size - 1)) if size > 1 else index
    lower = position.floor().clamp_max(max(old - 2, 0)).to(torch.int64)
    upper = (lower + 1).clamp_max(old - 1)
    view = [1] * tensor.ndim
    view[axis] = size
    weight = (position - lower).to(tensor.dtype).view(view)
    return tensor.index_select(axis, lower) * (1 - weight) + (
        tensor.index_select(axis, upper) * weight
    )


def total_variation_denoise(
    evidence: Tensor, weight: float, iterations: int, dual: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Accelerated projected gradients on the dual of ``1/2 |u - g|^2 + weight * TV(u)``.

    Returns u, the dual (N*C, D, *spatial) and the duality gap per sample and channel (N, C).
    """
    n, c, *spatial = evidence.shape
    g = evidence.reshape(n * c, *spatial)
    dimension = len(spatial)
    if dual is None:
        dual = g.new_zeros((n * c, dimension, *spatial))
    step = 1.0 / (4 * dimension)  # 1 / |div div'|: each axis adds at most 4
    ahead, momentum = dual, 1.0
    for _ in range(iterations):
        advanced = (ahead + step * _gradient(g + _divergence(ahead))).clamp(-weight, weight)
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = advanced + ((momentum - 1) / following) * (advanced - dual)
        dual, momentum = advanced, following
    u = g + _divergence(dual)
    slope = _gradient(u)
    # Primal minus dual value, simplified: weight * TV(u) - <grad u, p>, which is >= 0.
    excess = weight * slope.abs().sum(1) - (slope * dual).sum(1)
    gap = excess.flatten(1).to(torch.float64).sum(1).to(g.dtype)
    return u.reshape(evidence.shape), dual, gap.reshape(n, c)


def _gradient(values: Tensor) -> Tensor:
    parts = []
    for axis in range(1, values.ndim):
        size = values.shape[axis]
        rise = values.narrow(axis, 1, size - 1) - values.narrow(axis, 0, size - 1)
        parts.append(torch.cat([rise, torch.zeros_like(values.narrow(axis, 0, 1))], axis))
    return torch.stack(parts, 1)


def _divergence(dual: Tensor) -> Tensor:
    """Minus the adjoint of :func:`_gradient`."""
    total = torch.zeros_like(dual[:, 0])
    for axis in range(1, total.ndim):
        part = dual[:, axis - 1]
        size = part.shape[axis]
        inner = part.narrow(axis, 0, size - 1)
        edge = torch.zeros_like(part.narrow(axis, 0, 1))
        total = total + torch.cat([inner, edge], axis) - torch.cat([edge, inner], axis)
    return total
