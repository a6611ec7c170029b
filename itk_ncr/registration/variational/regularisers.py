"""Regularisers: one implicit smoothing step of a field.

References
----------
Weickert et al., "Efficient and reliable schemes for nonlinear diffusion filtering", IEEE TIP 7,
1998, doi:10.1109/83.661190 (additive operator splitting); Broit's elastic body, and Fischer and
Modersitzki, "Curvature based image registration", J Math Imaging Vis 18, 2003,
doi:10.1023/A:1021897212261.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from itk_ncr.fields import smooth

Regulariser = Callable[[Tensor], Tensor]
"""From a field, (1, D, *spatial), to a smoother one."""


def gaussian(variance: float) -> Regulariser:
    """Convolution with a Gaussian; variance in voxels squared."""
    return lambda field: smooth(field, math.sqrt(variance))


def diffusive(alpha: float) -> Regulariser:
    """One implicit step of diffusion, axis by axis, averaged (AOS); the ends are reflected.

    Each axis solves ``(1 - D alpha A) u = field`` with A the second difference.
    """

    def regularise(field: Tensor) -> Tensor:
        axes = range(2, field.ndim)
        total = torch.zeros_like(field)
        for axis in axes:
            n = field.shape[axis]
            inverse = _diffusion(n, len(axes) * alpha).to(field.dtype)
            total += _along(inverse, field, axis)
        return total / len(axes)

    return regularise


@cache
def _diffusion(n: int, alpha: float) -> Tensor:
    """Inverse of ``1 - alpha A`` for one axis, dense, float64.

    Its rows decay within a few voxels, so a product with it is exact; n^2 numbers are nothing.
    """
    system = torch.eye(n, dtype=torch.float64)
    index = torch.arange(n - 1)
    for one, two in ((index, index + 1), (index + 1, index)):
        system[one, two] -= alpha
        system[one, one] += alpha
    return torch.linalg.inv(system)


def curvature(alpha: float, *, itk_compat: bool = False) -> Regulariser:
    """One implicit step of the biharmonic flow, in the basis of cosines (reflected ends).

    Parameters
    ----------
    itk_compat : bool
        Frequencies from 1 instead of 0, as ITKVariationalRegistration has them: a constant field
        is damped a little.
    """

    def regularise(field: Tensor) -> Tensor:
        spatial = field.shape[2:]
        first = 1 if itk_compat else 0
        symbol = torch.zeros((), dtype=torch.float64)
        for position, n in enumerate(spatial):
            k = torch.arange(first, n + first, dtype=torch.float64)
            view = [1] * len(spatial)
            view[position] = n
            symbol = symbol + (2 * torch.cos(math.pi * k / n) - 2).view(view)
        spectrum = _each_axis(field, cosines, False)
        spectrum = spectrum / (1 + alpha * symbol.square()).to(field.dtype)
        return _each_axis(spectrum, cosines, True)

    return regularise


def laplacian(field: Tensor) -> Tensor:
    """Sum of the second differences along all axes; the ends are reflected."""
    total = torch.zeros_like(field)
    for axis in range(2, field.ndim):
        n = field.shape[axis]
        if n > 1:
            step = field.diff(dim=axis)
            total.narrow(axis, 0, n - 1).add_(step)
            total.narrow(axis, 1, n - 1).sub_(step)
    return total


def _each_axis(field: Tensor, basis: Callable[[int], Tensor], transpose: bool) -> Tensor:
    for axis in range(2, field.ndim):
        matrix = basis(field.shape[axis]).to(field.dtype)
        field = _along(matrix.T if transpose else matrix, field, axis)
    return field


@cache
def cosines(n: int) -> Tensor:
    """The orthonormal DCT-II as a matrix, (frequency, position), float64.

    For the lengths of images a product with it takes about the time of a fast transform, which
    torch has not.
    """
    k = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi / n * k[:, None] * (k[None] + 0.5)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def _along(matrix: Tensor, field: Tensor, axis: int) -> Tensor:
    """A matrix applied along one axis."""
    return torch.tensordot(matrix, field, dims=([1], [axis])).movedim(0, axis).contiguous()


def elastic(mu: float, lam: float) -> Regulariser:
    """One implicit step of the Navier-Lame equations, by the Fourier transform (periodic)."""

    def regularise(field: Tensor) -> Tensor:
        spatial = field.shape[2:]
        axes = tuple(range(2, field.ndim))
        spectrum = torch.fft.rfftn(field, dim=axes)[0].movedim(0, -1)
        found = torch.linalg.solve(elastic_symbol(spatial, mu, lam).to(spectrum.dtype), spectrum)
        back = found.movedim(-1, 0)[None]
        return torch.fft.irfftn(back, s=spatial, dim=axes)

    return regularise


def elastic_symbol(spatial: tuple[int, ...] | torch.Size, mu: float, lam: float) -> Tensor:
    """``1 - (mu Laplace + (lam + mu) grad div)`` per frequency: (*spectrum, D, D), real, float32.

    Second differences on the diagonal, central differences beside it.
    """
    dimension = len(spatial)
    angles = []
    for position, n in enumerate(spatial):
        last = position == dimension - 1
        k = torch.arange(n // 2 + 1 if last else n, dtype=torch.float64)
        view = [1] * dimension
        view[position] = len(k)
        angles.append((2 * math.pi * k / n).view(view))
    second = [2 - 2 * torch.cos(a) for a in angles]
    shape = torch.broadcast_shapes(*[a.shape for a in angles])
    symbol = torch.zeros(*shape, dimension, dimension, dtype=torch.float64)
    laplace = sum(second[1:], second[0])
    for i in range(dimension):
        symbol[..., i, i] = 1 + mu * laplace + (lam + mu) * second[i]
        for j in range(i):
            mixed = (lam + mu) * torch.sin(angles[i]) * torch.sin(angles[j])
            symbol[..., i, j] = symbol[..., j, i] = mixed.expand(shape)
    return symbol.float()


REGULARISERS = ("gaussian", "diffusive", "elastic", "curvature")


def regulariser_of(name: str, alpha: float, *, itk_compat: bool = False) -> Regulariser:
    """A row of ``REGULARISERS``; alpha is the Gaussian's variance, or mu and lambda of the body."""
    if name == "gaussian":
        return gaussian(alpha)
    if name == "diffusive":
        return diffusive(alpha)
    if name == "elastic":
        return elastic(alpha, alpha)
    return curvature(alpha, itk_compat=itk_compat)
