"""Public operators with checked arguments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError, require_choice
from itk_ncr.ops import checks, integration, reference, sampling, windows
from itk_ncr.ops.extension import kernels, run_on_device
from itk_ncr.ops.library import is_traced, is_transformed


def _is_compiled(tensor: Tensor) -> bool:
    """Whether the compiled kernels run where the tensor is; elsewhere plain torch does."""
    if is_transformed():
        return False  # the kernels know one derivative, torch.func any
    if tensor.device.type == "cuda":
        return run_on_device(tensor.device.index)
    return tensor.device.type == "cpu" and kernels() is not None


def exponential(velocity: Tensor, squarings: int | None = None, *, keep_every: int = 1) -> Tensor:
    """Displacement exp(v) of a stationary velocity field, by scaling and squaring.

    Parameters
    ----------
    velocity : Tensor, shape (N, D, *spatial)
        Voxels per unit time; channel c moves array axis c.
    squarings : int, optional
        Number K of squarings, 0 to 20. Default: for each sample the smallest K whose first step
        ``max|v| / 2**K`` is at most an eighth of a voxel.
    keep_every : int
        Memory of the backward pass: every n-th intermediate field is kept, the others are computed
        again (bit-identical gradient). 1 keeps all and is fastest, 2 needs some 25 % less memory.

    Returns
    -------
    Tensor, shape (N, D, *spatial)
        Displacement u in voxels; ``exponential(-v)`` is its inverse up to interpolation.

    Raises
    ------
    ShapeError
        If ``velocity`` is not (N, D, *spatial) with D = 2 or 3.
    ArgumentError
        If its dtype is not float32 or float64, or a setting is out of range.

    Notes
    -----
    The gradient is non-deterministic on CUDA: voxels add to each other in any order, so that its
    last bits differ from call to call. On the CPU it has the same bits for any number of threads.
    """
    _check_exponential(velocity, squarings, keep_every)
    return _exponential(velocity, squarings, keep_every, 1.0)


def required_squarings(velocity: Tensor) -> Tensor:
    """Numbers of squarings that :func:`exponential` takes by default.

    Parameters
    ----------
    velocity : Tensor, shape (N, D, *spatial)
        As for :func:`exponential`.

    Returns
    -------
    Tensor of int64, shape (N,)
        For each sample the smallest K whose first step is at most an eighth of a voxel, at most 20.

    Raises
    ------
    ShapeError
        If ``velocity`` is not (N, D, *spatial) with D = 2 or 3.
    ArgumentError
        If its dtype is not float32 or float64.
    """
    checks.require_field(velocity, "velocity")
    found = integration if _is_compiled(velocity) else reference
    return found.required_squarings(velocity)


def _check_exponential(velocity: Tensor, squarings: int | None, keep_every: int) -> None:
    checks.require_field(velocity, "velocity")
    if squarings is not None:
        checks.require_whole_number(squarings, "squarings", 0, reference.MOST_SQUARINGS)
    checks.require_whole_number(keep_every, "keep_every", 1, reference.MOST_SQUARINGS)


def _exponential(
    velocity: Tensor,
    squarings: int | Tensor | None,
    keep_every: int,
    sign: float,
) -> Tensor:
    if not _is_compiled(velocity):
        return reference.exponential(sign * velocity, squarings)
    counts = None
    if isinstance(squarings, int):
        most = squarings
    elif is_traced([velocity]):
        # How many fields to keep would depend on data, which a graph cannot: none is kept.
        most = -1
    else:
        counts = integration.required_squarings(velocity) if squarings is None else squarings
        most = int(counts.max()) if counts.numel() else 0
    wanted = torch.is_grad_enabled() and velocity.requires_grad
    return integration.exponential(velocity, counts, most, keep_every if wanted else 0, sign)[0]


def exponential_pair(
    velocity: Tensor, squarings: int | None = None, *, keep_every: int = 1
) -> tuple[Tensor, Tensor]:
    """Displacements exp(v) and exp(-v), computed with the same number of squarings.

    Parameters
    ----------
    velocity : Tensor, shape (N, D, *spatial)
        Voxels per unit time; channel c moves array axis c.
    squarings, keep_every : int
        As for :func:`exponential`.

    Returns
    -------
    tuple of two Tensors, shape (N, D, *spatial)
        Both displacements in voxels.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`exponential`.
    """
    _check_exponential(velocity, squarings, keep_every)
    return (
        _exponential(velocity, squarings, keep_every, 1.0),
        _exponential(velocity, squarings, keep_every, -1.0),
    )


def warp(
    image: Tensor,
    displacement: Tensor,
    *,
    mode: str = "linear",
    padding: str = "border",
    fill_value: float = 0.0,
) -> Tensor:
    """``y[p] = image(p + u[p])`` for every voxel p of the displacement's grid.

    Parameters
    ----------
    image : Tensor, shape (N, C, *spatial_in)
        Values of type float32 or float64; with ``mode="nearest"`` also uint8, int16 or int32.
    displacement : Tensor, shape (N, D, *spatial_out)
        In voxels of ``image``; its grid may have another size than the image's.
    mode : str
        "linear", or "nearest" (half-way positions go up, as in ITK; no gradient to u).
    padding : str
        "border": the border value repeats outside. "fill": positions outside the voxels of the
        image, that is not in [-0.5, n - 0.5), get ``fill_value`` (ITK's rule).
    fill_value : float
        Used with "fill"; integer images need a value that their type can represent.

    Returns
    -------
    Tensor, shape (N, C, *spatial_out)
        Values of the dtype of ``image``. A NaN position yields NaN (integer images: the first
        voxel).

    Raises
    ------
    ShapeError, ArgumentError
        If shapes, dtypes or devices do not fit.

    Notes
    -----
    The gradient to ``image`` is non-deterministic on CUDA (atomic additions); the gradient to
    ``displacement`` and everything on the CPU has the same bits every time.
    """
    require_choice("mode", mode, ("linear", "nearest"))
    require_choice("padding", padding, ("border", "fill"))
    checks.require_field(displacement, "displacement")
    nearest = mode == "nearest"
    checks.require_grid(image, "image", checks.NEAREST_TYPES if nearest else checks.FLOATS)
    checks.require_together(displacement, image, "displacement", "image", same_dtype=not nearest)
    fill = padding == "fill"
    value = checks.require_fill_value(fill_value, image.dtype) if fill else 0.0
    if not _is_compiled(image):
        return reference.warp(image, displacement, mode=mode, padding=padding, fill_value=value)
    if nearest:
        return sampling.warp_nearest(image, displacement, fill, value)
    return sampling.warp(image, displacement, None, fill, value)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Displacement of (id + outer) o (id + inner): ``inner + outer(p + inner)``.

    Parameters
    ----------
    outer, inner : Tensor, shape (N, D, *spatial)
        Displacements in voxels on one grid; ``inner`` is applied first.

    Returns
    -------
    Tensor, shape (N, D, *spatial)
        Displacement of the composition, in voxels.

    Raises
    ------
    ShapeError, ArgumentError
        If shapes, dtypes or devices do not fit.

    Notes
    -----
    The gradient to ``outer`` is non-deterministic on CUDA, as that of :func:`warp` to its image.
    """
    checks.require_field(outer, "outer")
    checks.require_field(inner, "inner")
    checks.require_together(outer, inner, "outer", "inner")
    checks.require_same_shape(outer=outer, inner=inner)
    if not _is_compiled(outer):
        return reference.compose(outer, inner)
    return sampling.warp(outer, inner, inner, False, 0.0)


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """Determinant of the derivative of x + u(x); 1 keeps volume, <= 0 is a fold.

    Parameters
    ----------
    displacement : Tensor, shape (N, D, *spatial)
        In voxels.

    Returns
    -------
    Tensor, shape (N, 1, *spatial)
        From central differences inside, one-sided ones at the border, 0 along axes of one voxel.

    Raises
    ------
    ShapeError
        If ``displacement`` is not (N, D, *spatial) with D = 2 or 3.
    """
    checks.require_field(displacement, "displacement")
    if not _is_compiled(displacement):
        return reference.jacobian_determinant(displacement)
    return windows.jacobian(displacement)


def box_sum(image: Tensor, radius: int) -> Tensor:
    """Sums over windows of (2r + 1) voxels per axis, cut off at the border of the image.

    Linear and its own adjoint. Nothing is subtracted, so windows of zeros sum to exactly 0.

    Parameters
    ----------
    image : Tensor, shape (N, C, *spatial)
        Values of type float32 or float64.
    radius : int
        Radius r of the window in voxels, 0 to 64.

    Returns
    -------
    Tensor, shape (N, C, *spatial)
        Sum of the window around every voxel.

    Raises
    ------
    ShapeError, ArgumentError
        If ``image`` or ``radius`` is of another kind.
    """
    checks.require_grid(image, "image")
    checks.require_whole_number(radius, "radius", 0, 64)
    if not _is_compiled(image):
        return reference.box_sum(image, radius)
    return windows.box_sum(image, radius)


def resize(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Linear interpolation onto another number of voxels; first and last centres coincide.

    Parameters
    ----------
    tensor : Tensor, shape (N, C, *spatial)
        Values are not rescaled: see ``fields.resize_velocity`` for fields in voxels.
    shape : sequence of int
        New spatial shape. An axis that shrinks to one voxel keeps its first value.

    Returns
    -------
    Tensor, shape (N, C, *shape)
        Interpolated values, of the dtype of ``tensor``.

    Raises
    ------
    ShapeError, ArgumentError
        If ``shape`` does not have one positive entry per spatial axis.
    """
    checks.require_grid(tensor, "tensor")
    sizes = checks.require_shape(shape, "shape", tensor.ndim - 2)
    if not _is_compiled(tensor):
        return reference.resize(tensor, sizes)
    return windows.resize(tensor, list(sizes))


def total_variation_denoise(
    evidence: Tensor, weight: float, iterations: int, dual: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Minimise ``1/2 |u - g|^2 + weight * TV(u)`` by a fixed number of dual steps.

    TV is the sum of absolute differences along all axes (anisotropic). It alone obeys the coarea
    formula on a grid: ``u > c`` minimises ``sum S (c - g) + weight * faces(S)`` over all masks S,
    for every c at once.

    Parameters
    ----------
    evidence : Tensor, shape (N, C, *spatial)
        Data g; every channel is solved separately.
    weight : float
        Price of a unit jump per unit of area; >= 0.
    iterations : int
        Accelerated (FISTA) projected-gradient steps on the dual, at least 0.
    dual : Tensor, shape (N * C, D, *spatial), optional
        Initial dual, from an earlier call. Default: 0.

    Returns
    -------
    u : Tensor, shape (N, C, *spatial)
        The minimiser; no gradient flows to ``evidence``.
    dual : Tensor, shape (N * C, D, *spatial)
        For a warm start.
    gap : Tensor, shape (N, C)
        Primal minus dual value: the energy of u is at most this far from the minimum.

    Raises
    ------
    ShapeError, ArgumentError
        If a shape does not fit or a number is out of range.
    """
    checks.require_grid(evidence, "evidence")
    checks.require_whole_number(iterations, "iterations", 0, 1_000_000)
    if not 0 <= weight < float("inf"):
        raise ArgumentError(f"weight must be finite and >= 0; got {weight!r}. Pass a price.")
    if dual is not None:
        n, c, *spatial = evidence.shape
        checks.require_field(dual, "dual")
        expected = (n * c, len(spatial), *spatial)
        if tuple(dual.shape) != expected:
            raise ShapeError(
                f"dual must have the shape {expected}; got {tuple(dual.shape)}. "
                f"Pass the dual of an earlier call on the same grid, or None."
            )
    start = None if dual is None else dual.detach()
    if not _is_compiled(evidence):
        return reference.total_variation_denoise(
            evidence.detach(), float(weight), iterations, start
        )
    return windows.total_variation_denoise(evidence.detach(), float(weight), iterations, start)
