"""Diffeomorphic VoxelMorph, which models no noncorrespondence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from itk_ncr.errors import ArgumentError
from itk_ncr.networks.grids import (
    INTEGRATIONS,
    cut_back,
    full_precision,
    integrate_doubled,
    padded,
    require_pairs,
)
from itk_ncr.networks.layers import CHANNELS_LAST, CONVOLUTIONS, double, draw_weights, halve
from itk_ncr.ops import exponential
from itk_ncr.prediction import Prediction

ENCODER = (16, 32, 32, 32)
DECODER = (32, 32, 32, 32)
# Convolutions behind the decoder, and whether they see the full resolution. "miccai": Dalca 2018,
# "tmi": Balakrishnan 2019.
TAILS: dict[str, tuple[tuple[int, ...], bool]] = {
    "miccai": ((16,), False),
    "tmi": ((32, 16, 16), True),
}
SLOPE = 0.2
SPREAD = 1e-5  # standard deviation of the first weights of the head, as published


class VoxelMorph(nn.Module):
    """U-Net that predicts one stationary velocity: the mean of the published distribution.

    Parameters
    ----------
    dimension : int
        2 or 3.
    filters : "miccai" or "tmi"
        "miccai": the head is at half resolution. "tmi": two times as many layers at full
        resolution; the head is there.
    integration : "full" or "half"
        Where the velocity is exponentiated; "half", as published, enlarges the displacement.

    References
    ----------
    Dalca et al., MICCAI 2018, doi:10.1007/978-3-030-00928-1_82; Balakrishnan et al., IEEE TMI 38,
    2019, doi:10.1109/TMI.2019.2897538.
    """

    def __init__(
        self,
        dimension: int,
        *,
        filters: str = "miccai",
        integration: str = "half",
    ) -> None:
        super().__init__()
        if dimension not in (2, 3):
            raise ArgumentError(f"dimension must be 2 or 3; got {dimension}.")
        if filters not in TAILS or integration not in INTEGRATIONS:
            raise ArgumentError(
                f"filters must be one of {', '.join(TAILS)} and integration one of "
                f"{', '.join(INTEGRATIONS)}; got {filters!r} and {integration!r}."
            )
        self.dimension, self.integration = dimension, integration
        self.settings: dict[str, Any] = {"filters": filters, "integration": integration}
        convolution = CONVOLUTIONS[dimension]
        tail, self.reaches_full = TAILS[filters]
        self.encoder = nn.ModuleList(
            convolution(before, after, 3, stride=2, padding=1)
            for before, after in zip((2, *ENCODER[:-1]), ENCODER, strict=True)
        )
        skips = (0, *ENCODER[-2::-1])
        self.decoder = nn.ModuleList(
            convolution(before + skip, after, 3, padding=1)
            for before, skip, after in zip(
                (ENCODER[-1], *DECODER[:-1]), skips, DECODER, strict=True
            )
        )
        first = DECODER[-1] + (2 if self.reaches_full else 0)
        self.tail = nn.ModuleList(
            convolution(before, after, 3, padding=1)
            for before, after in zip((first, *tail[:-1]), tail, strict=True)
        )
        self.velocity = convolution(tail[-1], dimension, 3, padding=1)
        draw_weights(self.velocity.weight, SPREAD)
        nn.init.zeros_(self.velocity.bias)  # type: ignore[arg-type]
        nn.Module.to(self, memory_format=CHANNELS_LAST[dimension])  # type: ignore[call-overload]

    def forward(
        self, fixed: Tensor, moving: Tensor, *, scales: int = 1, find_mask: bool = True
    ) -> Prediction:
        """Predict for a batch of pairs.

        Parameters
        ----------
        fixed, moving : Tensor, shape (N, 1, *spatial)
            Any size; on the scale of ``preprocessing.normalise``.
        scales : int
            Accepted as by the other networks; this one has a single scale.
        find_mask : bool
            Accepted likewise; there is no noncorrespondence to find.

        Returns
        -------
        Prediction
            One scale, without noncorrespondence.

        Raises
        ------
        ShapeError
            If the images do not fit.
        """
        del scales, find_mask
        return self._prediction(self.maps(fixed, moving), fixed)

    def maps(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Run the part of the network that consists of convolutions only.

        Parameters
        ----------
        fixed, moving
            As for :meth:`forward`.

        Returns
        -------
        Tensor, shape (N, D, *grid of the head)
            Velocity on the padded grid.
        """
        require_pairs(fixed, moving, self.dimension)
        pair = padded(torch.cat([moving, fixed], 1))
        features = [pair]
        for layer in self.encoder:
            features.append(functional.leaky_relu(layer(features[-1]), SLOPE))
        x = features.pop()
        for position, layer in enumerate(self.decoder):
            if position > 0:
                x = torch.cat([double(x, "nearest"), features.pop()], 1)
            x = functional.leaky_relu(layer(x), SLOPE)
        if self.reaches_full:
            x = torch.cat([double(x, "nearest"), pair], 1)
        for layer in self.tail:
            x = functional.leaky_relu(layer(x), SLOPE)
        return full_precision(self.velocity(x))

    def _prediction(self, velocity: Tensor, fixed: Tensor) -> Prediction:
        """From a velocity on the grid of the head, in voxels of the fixed image."""
        if not self.reaches_full:
            velocity, displacement = integrate_doubled(velocity, self.integration)
        elif self.integration == "half":
            displacement = integrate_doubled(halve(velocity), "half")[1]
        else:
            displacement = exponential(velocity.contiguous())
        return Prediction((cut_back(velocity, fixed),), (cut_back(displacement, fixed),))
