"""Random appearances and deformations of synthetic pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itk_ncr.data.augmentation import Affine, affine_displacement, uniform
from itk_ncr.fields import smooth
from itk_ncr.ops import resize, warp

# Random intensities leave out the darkest tenth, so that tissue never looks like background.
DARKEST = 0.1
# Tissues of one intensity: a label map of many labels shows fewer, as images do.
FEWEST_LEVELS, MOST_LEVELS = 3, 12
LEVEL_SPREAD = 0.03
CURVE_KNOTS = 7
# Fraction of the image, at each end of an axis, over which a velocity rises from 0.
TAPER = 0.1


@dataclass(frozen=True, eq=False)
class Look:
    """How an anatomy is rendered: as is, through an intensity curve, or by label intensities.

    Attributes
    ----------
    curve : Tensor, shape (K,), optional
        New intensities at K evenly spaced old ones from 0 to 1.
    intensities : Tensor, shape (L,), optional
        Intensity of every label.
    texture, blur_voxels : float
        Deviation within labels, and Gaussian sigma.
    """

    curve: Tensor | None = None
    intensities: Tensor | None = None
    texture: float = 0.0
    blur_voxels: float = 0.0

    def show(
        self,
        image: Tensor | None,
        labels: Tensor | None,
        displacement: Tensor,
        generator: torch.Generator,
        *,
        padding: str = "fill",
    ) -> Tensor:
        """The anatomy as an image, (1, *spatial).

        Parameters
        ----------
        image : Tensor, shape (1, *spatial), optional
            Not moved yet.
        labels : Tensor, shape (*spatial), optional
            Moved already.
        displacement : Tensor, shape (1, D, *spatial)
        generator : torch.Generator
        padding : str
            "fill": what was outside the image becomes background; "border": its border repeats.
        """
        if self.intensities is None:
            assert image is not None
            shown = image if self.curve is None else through_curve(image, self.curve)
            return warp(shown[None], displacement, padding=padding)[0]
        assert labels is not None
        flat = self.intensities[labels.long()][None]
        noise = torch.randn(flat.shape, generator=generator)
        rough = torch.where(flat > 0, (flat + self.texture * noise).clamp_(min=0.01), flat)
        return smooth(rough[None], self.blur_voxels)[0]


def random_curve(generator: torch.Generator) -> Tensor:
    """A random map of intensities for :func:`through_curve`; 0 stays 0, nothing else becomes 0."""
    knots = DARKEST + (1 - DARKEST) * torch.rand(CURVE_KNOTS, generator=generator)
    knots[0] = 0.0
    return knots


def through_curve(image: Tensor, curve: Tensor) -> Tensor:
    """Each intensity replaced by the curve's, which is linear between its knots over [0, 1]."""
    position = image.clamp(0, 1) * (len(curve) - 1)
    lower = position.floor().clamp_(max=len(curve) - 2)
    values = curve[lower.long()]
    return values + (position - lower) * (curve[lower.long() + 1] - values)


def random_intensities(most: int, generator: torch.Generator, *, background: bool = True) -> Tensor:
    """(most + 1,): an intensity for every label; labels share a few levels, roughly.

    ``background`` says whether label 0 is one and stays 0.
    """
    count = int(uniform(generator, FEWEST_LEVELS, MOST_LEVELS + 1))
    levels = DARKEST + (1 - DARKEST) * torch.rand(count, generator=generator)
    chosen = torch.randint(count, (most + 1,), generator=generator)
    spread = LEVEL_SPREAD * torch.randn(most + 1, generator=generator)
    intensities = (levels[chosen] + spread).clamp(min=DARKEST / 2)
    if background:
        intensities[0] = 0.0
    return intensities


def random_shapes(shape: Sequence[int], generator: torch.Generator, *, count: int = 16) -> Tensor:
    """A label map of random smooth shapes: where which of ``count`` random fields is largest.

    Returns
    -------
    Tensor, shape (*shape), uint8
        Values 1 to count.

    References
    ----------
    Hoffmann et al., SynthMorph, 2022, doi:10.1109/TMI.2021.3116879.
    """
    best = torch.full((1, *shape), -math.inf)
    labels = torch.zeros(1, *shape, dtype=torch.uint8)
    for label in range(1, count + 1):
        # From a fifth to a twelfth of the image.
        parts = uniform(generator, 5, 12)
        field = _smooth_noise(shape, [max(2.0, n / parts) for n in shape], 1, generator)[0]
        larger = field > best
        best = torch.where(larger, field, best)
        labels.masked_fill_(larger, label)
    return labels[0]


def random_velocity(
    shape: Sequence[int],
    generator: torch.Generator,
    *,
    peak_voxels: Sequence[float],
    scale_voxels: Sequence[float],
) -> Tensor:
    """A smooth stationary velocity that is 0 at the border of the image.

    Two fields of different scale are added, each of unit energy, the coarser one counting double.

    Parameters
    ----------
    shape : spatial shape
    generator : torch.Generator
    peak_voxels : (low, high)
        Length of its longest vector, drawn uniformly.
    scale_voxels : (low, high)
        Scales, drawn on a logarithmic scale.

    Returns
    -------
    Tensor, shape (1, D, *shape)
    """
    dimension = len(shape)
    scales = sorted(
        math.exp(uniform(generator, *(math.log(s) for s in scale_voxels))) for _ in range(2)
    )
    velocity = torch.zeros(1, dimension, *shape)
    for weight, scale in zip((1.0, 2.0), scales, strict=True):
        velocity += weight * _smooth_noise(shape, (scale,) * dimension, dimension, generator)
    for axis, n in enumerate(shape):
        line = torch.arange(n, dtype=torch.float32)
        rise = torch.minimum(line, n - 1 - line) / max(1.0, TAPER * n)
        ramp = rise.clamp(0, 1)
        velocity *= (ramp * ramp * (3 - 2 * ramp)).view(-1, *(1,) * (dimension - 1 - axis))
    longest = float(velocity.square().sum(1).max().sqrt())
    return velocity * (uniform(generator, *peak_voxels) / max(longest, 1e-6))


def _smooth_noise(
    shape: Sequence[int], scale_voxels: Sequence[float], channels: int, generator: torch.Generator
) -> Tensor:
    """(1, channels, *shape): Gaussian noise smooth over a scale, of mean square 1."""
    coarse = [max(2, math.ceil(2 * n / s) + 1) for n, s in zip(shape, scale_voxels, strict=True)]
    noise = torch.randn(1, channels, *coarse, generator=generator)
    field = resize(smooth(noise, 1.0), tuple(shape))
    return field / field.square().mean().sqrt().clamp_min(1e-6)


def posed(displacement: Tensor, pose: Affine | None) -> Tensor:
    """The displacement of ``pose o (id + displacement)``: deformed first, then posed."""
    if pose is None:
        return displacement
    dimension = displacement.shape[1]
    linear = torch.tensor(pose[:, :dimension], dtype=displacement.dtype)
    turned = torch.einsum("ij,nj...->ni...", linear, displacement)
    return turned + affine_displacement(pose, displacement.shape[2:])


def upper_quartile(values: Tensor) -> float:
    """Upper quartile; of many values, a regular sample is used."""
    if not len(values):
        return 1.0
    return float(torch.quantile(values[:: max(1, len(values) // 100_000)], 0.75))
