"""Pyramid network: one encoder per image, velocity refined from 1/8 to 1/2 resolution."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from itk_ncr.errors import ArgumentError
from itk_ncr.networks.grids import (
    INTEGRATIONS,
    cropped_prediction,
    full_precision,
    integrate_doubled,
    padded,
    require_pairs,
)
from itk_ncr.networks.layers import Block, Convolution, Head, double, repeat_border
from itk_ncr.ops import exponential, warp
from itk_ncr.prediction import Prediction

SCALES = 3
MASK_START = -2.0  # sigmoid(-2) = .12, as in NCR-Net
# Channels of the features of an image at full, 1/2, 1/4 and 1/8 resolution, in units of the width.
WIDTHS = (1, 2, 4, 4)
# Same unit: output of the mask decoder at these resolutions.
MASK_WIDTHS = (1, 2, 2, 4)
COARSEST = len(WIDTHS) - 1
# Deviation of the first weights of the velocity heads: the coarsest counts eight times.
SPREAD = 0.01


class ImageEncoder(nn.Module):
    """Features of one image at four resolutions, finest first; both images share the weights."""

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        widths = [width * n for n in WIDTHS]
        self.first = Convolution(dimension, 1, widths[0])
        self.blocks = nn.ModuleList(
            Block(dimension, before, after, after) for before, after in pairwise(widths)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at full, 1/2, 1/4 and 1/8 resolution."""
        pool = functional.max_pool2d if image.ndim == 4 else functional.max_pool3d
        features = [self.first(image)]
        for block in self.blocks:
            features.append(block(pool(features[-1], 2)))
        return features


class Estimator(nn.Module):
    """Velocity update of one level, from both features, their correlation and the level below."""

    def __init__(self, dimension: int, features: int, context: int) -> None:
        super().__init__()
        joined = 2 * features + 3**dimension + context
        self.first = Convolution(dimension, joined, features)
        self.block = Block(dimension, features, features, features)
        self.head = Head(dimension, features, dimension)
        self.head.start_at(0.0, SPREAD)

    def forward(
        self, fixed: Tensor, moved: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Hidden features (N, C, *spatial), and the update (N, D, *spatial) in voxels."""
        parts = [fixed, moved, local_correlation(fixed, moved).to(fixed.dtype)]
        if context is not None:
            parts.append(double(context))
        hidden = self.block(self.first(torch.cat(parts, 1)))
        return hidden, full_precision(self.head(hidden))


class MaskDecoder(nn.Module):
    """Noncorrespondence from the features of the fixed and of the *moved* image."""

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        features = [width * n for n in WIDTHS]
        outputs = [width * n for n in MASK_WIDTHS]
        below = [*outputs[1:], 0]
        self.blocks = nn.ModuleList(
            Block(dimension, 2 * n + under, out, out, last_bias=level == 0)
            for level, (n, under, out) in enumerate(zip(features, below, outputs, strict=True))
        )
        self.heads = nn.ModuleList(Head(dimension, n, 1) for n in outputs[:SCALES])
        for head in self.heads:
            assert isinstance(head, Head)
            head.start_at(MASK_START)

    def forward(self, fixed: list[Tensor], moved: list[Tensor], scales: int) -> list[Tensor]:
        """Logits, finest first."""
        found: list[Tensor] = []
        x: Tensor | None = None
        for level in range(COARSEST, -1, -1):
            parts = [fixed[level], moved[level]]
            if x is not None:
                parts.append(double(x))
            x = self.blocks[level](torch.cat(parts, 1))
            if level < scales:
                found.append(self.heads[level](x))
        return found[::-1]


class NCRPyramid(nn.Module):
    """Registers a pair coarse to fine on warped features, and masks what stays different.

    At 1/8, 1/4 and 1/2 of the resolution, an estimator sees the features of the fixed image, those
    of the moving image warped by the velocity so far, and their local correlation; its output is
    added to that velocity. The mask decoder sees the features of the moved image, so it finds the
    residual instead of having to guess it.

    Parameters
    ----------
    dimension : int
        2 or 3.
    width : int
        Channels at full resolution; two and four times as many at the coarser ones.
    segmentation : bool
        False leaves out the mask decoder.
    integration : "full" or "half"
        As for :class:`NCRNet`; inside the pyramid velocities are integrated on their own grids.

    References
    ----------
    Mok and Chung (LapIRN), MICCAI 2020, doi:10.1007/978-3-030-59716-0_21; Meng et al. (NICE-Net),
    MICCAI 2022, doi:10.1007/978-3-031-16446-0_8; Andresen et al., Int J CARS 17, 2022,
    doi:10.1007/s11548-022-02577-4, for the mask.
    """

    # An exported graph has its own, without choices by the data.
    warp: Callable[[Tensor, Tensor], Tensor] = staticmethod(warp)
    exponential: Callable[[Tensor], Tensor] = staticmethod(exponential)

    def __init__(
        self,
        dimension: int,
        width: int = 8,
        *,
        segmentation: bool = True,
        integration: str = "half",
    ) -> None:
        super().__init__()
        if dimension not in (2, 3):
            raise ArgumentError(f"dimension must be 2 or 3; got {dimension}.")
        if width < 2 or integration not in INTEGRATIONS:
            raise ArgumentError(
                "width must be at least 2 and integration one of "
                f"{', '.join(INTEGRATIONS)}; got {width} and {integration!r}."
            )
        self.dimension, self.integration = dimension, integration
        self.settings: dict[str, Any] = {"width": width, "integration": integration}
        if not segmentation:
            self.settings["segmentation"] = False
        self.encoder = ImageEncoder(dimension, width)
        features = [width * n for n in WIDTHS]
        self.registration = nn.ModuleList(
            Estimator(dimension, features[level], features[level + 1] if level < COARSEST else 0)
            for level in range(1, COARSEST + 1)
        )
        self.segmentation = MaskDecoder(dimension, width) if segmentation else None

    def forward(
        self,
        fixed: Tensor,
        moving: Tensor,
        *,
        scales: int = SCALES,
        find_mask: bool = True,
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """Predict for a batch of pairs.

        Parameters
        ----------
        fixed, moving, scales, find_mask
            As for :meth:`NCRNet.forward`.
        generator : torch.Generator, optional
            Ignored: nothing here is random.

        Returns
        -------
        Prediction
            Velocities, displacements and noncorrespondence, finest scale first.

        Raises
        ------
        ShapeError
            If the images do not fit each other or the network.
        """
        del generator
        velocities, displacements, masks = self._levels(fixed, moving, scales, find_mask)
        fields = [
            (double(v), 2 * double(u))
            if self.integration == "half"
            else integrate_doubled(v, self.integration)
            for v, u in zip(velocities, displacements, strict=True)
        ]
        return cropped_prediction(fields, masks, fixed)

    def maps(
        self, fixed: Tensor, moving: Tensor, scales: int = SCALES, find_mask: bool = True
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Velocities and noncorrespondences on the padded grid.

        Parameters
        ----------
        fixed, moving, scales, find_mask
            As for :meth:`forward`.

        Returns
        -------
        velocities : list of Tensor, shape (N, D, *padded / 2)
            Finest scale first, at half the size of their scale and in its voxels.
        noncorrespondences : list of Tensor, shape (N, 1, *padded)
            Probabilities at the size of their scale; empty without a mask decoder.
        """
        velocities, _, masks = self._levels(fixed, moving, scales, find_mask)
        return velocities, masks

    def _levels(
        self, fixed: Tensor, moving: Tensor, scales: int, find_mask: bool
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Velocities in voxels of their scales, displacements in voxels of the grid, masks."""
        require_pairs(fixed, moving, self.dimension)
        count = fixed.shape[0]  # len() would be a constant of an exported graph
        # Not channels last: the warps want the other layout, and a 2D step took a fourth longer.
        both = self.encoder(padded(torch.cat([moving, fixed])).contiguous())
        of_moving = [full_precision(x[:count]) for x in both]
        of_fixed = [x[count:] for x in both]
        velocities: list[Tensor] = []
        displacements: list[Tensor] = []
        context = velocity = None
        for level in range(COARSEST, 0, -1):
            moved = of_moving[level]
            if velocity is not None:
                velocity = 2 * double(velocity)
                moved = self.warp(moved, 2 * double(displacements[0]))
            estimate = self.registration[level - 1]
            context, update = estimate(of_fixed[level], moved.to(of_fixed[level].dtype), context)
            velocity = update if velocity is None else velocity + update
            velocities.insert(0, 2 * velocity)
            displacements.insert(0, self.exponential(velocity))
        masks = []
        if self.segmentation is not None and find_mask:
            # The mask must not shape the deformation: it would learn to leave residuals.
            fields = [u.detach() for u in displacements]
            fields.insert(0, 2 * double(fields[0]))
            moved_features = [
                self.warp(x, u).to(f.dtype)
                for x, u, f in zip(of_moving, fields, of_fixed, strict=True)
            ]
            logits = self.segmentation(of_fixed, moved_features, scales)
            masks = [full_precision(logit).sigmoid() for logit in logits]
        return velocities[:scales], displacements[:scales], masks


def local_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the angle between the features of a voxel and those of each neighbour.

    Parameters
    ----------
    first, second : Tensor, shape (N, C, *spatial)

    Returns
    -------
    Tensor, shape (N, 3**D, *spatial), float32
        Neighbours within one voxel in every axis, the last axis running fastest; beyond the border
        the values at the border.
    """
    first, second = _unit(first), repeat_border(_unit(second))
    sizes = first.shape[2:]
    found = []
    for number in range(3 ** len(sizes)):
        neighbour, rest = second, number
        for axis in range(len(sizes) - 1, -1, -1):
            rest, shift = divmod(rest, 3)
            neighbour = neighbour.narrow(axis + 2, shift, sizes[axis])
        found.append((first * neighbour).sum(1))
    return torch.stack(found, 1)


def _unit(features: Tensor) -> Tensor:
    features = full_precision(features)
    centred = features - features.mean(1, keepdim=True)
    return centred * (centred.square().sum(1, keepdim=True) + 1e-6).rsqrt()
