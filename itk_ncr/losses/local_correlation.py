r"""Local normalised cross-correlation with the mask inside the windows.

All window sums are weighted by the correspondence w (normalised convolution), so a window that
straddles a lesion sees its healthy part only; with :math:`n = \mathrm{box}(w)`

.. math::
    \bar a = \frac{\mathrm{box}(w a)}{n}, \quad
    s_{ab} = \frac{\mathrm{box}(w a b)}{n} - \bar a \bar b, \quad
    cc = \frac{s_{fm}^2}{s_{ff} s_{mm} + \epsilon}, \quad
    q = \frac{s_{ff}}{s_{ff} + \sigma^2}, \quad
    d = \frac{1}{N} \sum_x w q (1 - cc).

q takes out windows in which the fixed image is flat but for noise. There cc is 0 or chance; with
q = 1 they would count as unlike, and a mask would spread over the whole background.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from itk_ncr.errors import ArgumentError
from itk_ncr.losses.weighting import extent, product, require_weight, total, total_double, weighted
from itk_ncr.ops import box_sum
from itk_ncr.ops.checks import require_same_shape


class LocalNCC:
    """Local NCC against one fixed image; what depends on it and its weights is computed once.

    Parameters
    ----------
    fixed : Tensor, shape (N, C, *spatial)
        Channels are compared one by one and averaged.
    correspondence : Tensor, shape (N, 1, *spatial), optional
        Weight in [0, 1] of every voxel in every window. Default: 1 everywhere.
    foreground : Tensor, shape (N, 1, *spatial), optional
        Window centres over which the mean is taken, with weights >= 0. Default: all.
    radius : int
        Windows of 2r + 1 voxels per axis, cut at the border.
    noise : float
        Standard deviation of noise, in the unit of the images: windows with less do not count.
    eps : float, optional
        Added to the product of the variances. Default: ``(noise**2 / 10)**2``, low enough that a
        window as flat as the noise is alike to itself within 1 %.

    Raises
    ------
    ShapeError
        If a weight is not one channel on the grid of the image.
    ArgumentError
        If ``noise`` or ``eps`` is not positive.
    """

    def __init__(
        self,
        fixed: Tensor,
        correspondence: Tensor | None = None,
        *,
        foreground: Tensor | None = None,
        radius: int = 2,
        noise: float = 0.01,
        eps: float | None = None,
    ) -> None:
        require_same_shape(fixed=fixed)
        require_weight("correspondence", correspondence, fixed)
        require_weight("foreground", foreground, fixed)
        self.radius = radius
        self.eps = window_eps(noise, eps)
        self._shape = fixed.shape
        with torch.no_grad():
            fixed = fixed.detach()
            weight = _each_channel(correspondence, fixed)
            images = _channels_apart(fixed)
            self._offset = _offset(images)
            self.fixed = images - self._offset
            self.weight = weight
            count = box_sum(torch.ones_like(images) if weight is None else weight, radius)
            self.inverse_count = torch.where(count > 0, 1 / count, torch.zeros_like(count))
            first = weighted(self.fixed, weight)
            self.mean = box_sum(first, radius) * self.inverse_count
            self.variance = box_sum(first * self.fixed, radius).mul_(self.inverse_count)
            self.variance.addcmul_(self.mean, self.mean, value=-1).clamp_(min=0)
            self.texture = self.variance / (self.variance + noise**2)
            size = extent(fixed, foreground) * fixed.shape[1]
            per_voxel = (1 / size).repeat_interleave(fixed.shape[1])
            per_voxel = per_voxel.view(-1, *(1,) * (images.ndim - 1))
            centres = product(weight, _each_channel(foreground, fixed))
            self.importance = weighted(self.texture * per_voxel, centres)

    def __call__(self, moved: Tensor) -> Tensor:
        """Give the distance, (N,): 0 where all windows are linearly related, at most 1."""
        require_same_shape(fixed=self.fixed.view(self._shape), moved=moved)
        distances: Tensor = _LocalNCC.apply(_channels_apart(moved), self)
        return distances.view(self._shape[:2]).sum(1)

    def statistics(self, moved: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Window statistics of a moved image.

        Parameters
        ----------
        moved : Tensor, shape (N * C, 1, *spatial)
            The moved image, its channels in the batch axis.

        Returns
        -------
        tuple of four Tensors, shape (N * C, 1, *spatial)
            ``moved`` less its offset, its window mean, s_fm, and 1 / (s_ff s_mm + eps).
        """
        moved = moved - self._offset
        products = torch.empty((3, *moved.shape), dtype=moved.dtype, device=moved.device)
        if self.weight is None:
            products[0] = moved
        else:
            torch.mul(moved, self.weight, out=products[0])
        torch.mul(products[0], moved, out=products[1])
        torch.mul(products[0], self.fixed, out=products[2])
        sums = box_sum(products.flatten(0, 1), self.radius).view_as(products)
        mean, variance, covariance = sums.mul_(self.inverse_count)
        variance.addcmul_(mean, mean, value=-1).clamp_(min=0)
        covariance.addcmul_(mean, self.mean, value=-1)
        inverse = variance.mul_(self.variance).add_(self.eps).reciprocal_()
        return moved, mean, covariance, inverse


class _LocalNCC(torch.autograd.Function):
    r"""The distance and its gradient for the moved image.

    With :math:`P = -2 h\,s_{fm} / (n Q)` and :math:`R = 2 h\,cc\,s_{ff} / (n Q)`, where h is the
    importance of a window and :math:`Q = s_{ff} s_{mm} + \epsilon`,

    .. math:: \frac{\partial d}{\partial m_y} = w_y \left( f_y \mathrm{box}(P) + m_y \mathrm{box}(R)
        - \mathrm{box}(P \bar f + R \bar m) \right)_y .
    """

    @staticmethod
    def forward(ctx: Any, moved: Tensor, model: LocalNCC) -> Tensor:
        centred, mean, covariance, inverse = model.statistics(moved)
        ratio = covariance * inverse
        similarity = covariance.mul_(ratio)
        distance = total(torch.addcmul(model.importance, model.importance, similarity, value=-1))
        if ctx.needs_input_grad[0]:
            scale = model.inverse_count * model.importance
            windows = torch.empty((3, *moved.shape), dtype=moved.dtype, device=moved.device)
            of_fixed, of_moved, of_one = windows
            torch.mul(ratio, scale, out=of_fixed).mul_(-2)
            torch.mul(similarity, inverse, out=of_moved).mul_(model.variance).mul_(scale).mul_(2)
            torch.mul(of_fixed, model.mean, out=of_one).addcmul_(of_moved, mean)
            ctx.model = model
            ctx.save_for_backward(centred, windows)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        centred, windows = ctx.saved_tensors
        model: LocalNCC = ctx.model
        sums = box_sum(windows.flatten(0, 1), model.radius).view_as(windows)
        slope = (sums[0] * model.fixed).addcmul_(sums[1], centred).sub_(sums[2])
        if model.weight is not None:
            slope.mul_(model.weight)
        return slope.mul_(grad.view(-1, *(1,) * (slope.ndim - 1))), None


def local_ncc(
    moved: Tensor,
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    radius: int = 2,
    noise: float = 0.01,
    eps: float | None = None,
) -> Tensor:
    """Local NCC as a distance; see the module for the formula.

    Differentiable for every argument. Where only ``moved`` changes from call to call, a
    :class:`LocalNCC` saves half of the work.

    Parameters
    ----------
    moved, fixed : Tensor, shape (N, C, *spatial)
        Images in any intensity unit; channels are compared one by one and averaged.
    correspondence, foreground, radius, noise, eps : optional
        As for :class:`LocalNCC`.

    Returns
    -------
    Tensor, shape (N,)
        0 where all windows are linearly related (also with inverted contrast), at most 1.

    Raises
    ------
    ShapeError
        If the images differ in shape, or a weight is not one channel on their grid.
    """
    distance = local_ncc_to(
        fixed, correspondence, foreground=foreground, radius=radius, noise=noise, eps=eps
    )
    return distance(moved)


def local_ncc_to(
    fixed: Tensor,
    correspondence: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    radius: int = 2,
    noise: float = 0.01,
    eps: float | None = None,
) -> Callable[[Tensor], Tensor]:
    """Local NCC of a moved image to a fixed one, as a function of the moved image.

    Parameters are those of :class:`LocalNCC`, which is the result unless the fixed image or a
    weight wants a gradient.
    """
    if not any(t is not None and t.requires_grad for t in (fixed, correspondence, foreground)):
        return LocalNCC(
            fixed, correspondence, foreground=foreground, radius=radius, noise=noise, eps=eps
        )
    require_weight("correspondence", correspondence, fixed)
    require_weight("foreground", foreground, fixed)
    eps = window_eps(noise, eps)
    weight = product(correspondence, foreground)

    def distance(moved: Tensor) -> Tensor:
        require_same_shape(fixed=fixed, moved=moved)
        unlike = _unlike(moved, fixed, correspondence, radius, noise, eps)
        return total(weighted(unlike, weight)) / extent(fixed, foreground)

    return distance


def window_eps(noise: float, eps: float | None) -> float:
    """Check the two, and give eps its default."""
    eps = (noise**2 / 10) ** 2 if eps is None else eps
    if not (noise > 0 and eps > 0):
        raise ArgumentError(
            f"noise and eps must be positive; got {noise} and {eps}. "
            "Give the standard deviation of the noise in the unit of the images."
        )
    return eps


def _unlike(
    moved: Tensor, fixed: Tensor, weight: Tensor | None, radius: int, noise: float, eps: float
) -> Tensor:
    """``q (1 - cc)`` of every window, in plain differentiable steps; (N, 1, *spatial)."""
    images_moved, images_fixed = _channels_apart(moved), _channels_apart(fixed)
    offset = _offset(images_fixed)
    images_moved, images_fixed = images_moved - offset, images_fixed - offset
    weight = _each_channel(weight, fixed)
    count = box_sum(torch.ones_like(images_fixed) if weight is None else weight, radius)
    seen = count > 0
    count = torch.where(seen, count, torch.ones_like(count))

    def local_mean(values: Tensor) -> Tensor:
        return box_sum(weighted(values, weight), radius) / count

    mean_fixed, mean_moved = local_mean(images_fixed), local_mean(images_moved)
    variance_fixed = (local_mean(images_fixed.square()) - mean_fixed.square()).clamp_min(0)
    variance_moved = (local_mean(images_moved.square()) - mean_moved.square()).clamp_min(0)
    covariance = local_mean(images_fixed * images_moved) - mean_fixed * mean_moved
    similarity = covariance.square() / (variance_fixed * variance_moved + eps)
    texture = variance_fixed / (variance_fixed + noise**2)
    return (texture * (1 - similarity)).view_as(moved).mean(1, keepdim=True)


def _offset(images: Tensor) -> Tensor:
    """Give the mean of every image: less any constant cc is the same, less this one precise."""
    mean = total_double(images.detach()) / math.prod(images.shape[1:])
    return mean.to(images.dtype).view(-1, *(1,) * (images.ndim - 1))


def _channels_apart(image: Tensor) -> Tensor:
    """(N, C, *spatial) -> (N * C, 1, *spatial)."""
    return image.flatten(0, 1).unsqueeze(1)


def _each_channel(weight: Tensor | None, image: Tensor) -> Tensor | None:
    """(N, 1, *spatial) -> (N * C, 1, *spatial), without gradient history of its own."""
    if weight is None or image.shape[1] == 1:
        return weight
    return weight.repeat_interleave(image.shape[1], dim=0)
