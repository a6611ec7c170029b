"""NCR-Net: one encoder, a decoder for the velocity, a decoder for the noncorrespondence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from itk_ncr.errors import ArgumentError
from itk_ncr.networks.grids import (
    INTEGRATIONS,
    POOLINGS,
    full_precision,
    padded,
    predict,
    require_pairs,
)
from itk_ncr.networks.layers import CHANNELS_LAST, Block, Head, double
from itk_ncr.prediction import Prediction

SCALES = 3
# S starts at sigmoid(-2) = 0.12: near "everything corresponds", yet not where its gradient dies.
MASK_START = -2.0


class Encoder(nn.Module):
    """Five resolutions of features, finest first; ``width``, 2, 4, 8 and 16 times as many."""

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(POOLINGS + 1)]
        inputs = [2, *widths[:-1]]
        self.blocks = nn.ModuleList(
            Block(dimension, before, after, after)
            for before, after in zip(inputs, widths, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features at full, 1/2, 1/4, 1/8 and 1/16 resolution."""
        pool = functional.max_pool2d if x.ndim == 4 else functional.max_pool3d
        features: list[Tensor] = []
        for level, block in enumerate(self.blocks):
            features.append(block(x if level == 0 else pool(features[-1], 2)))
        return features


class Decoder(nn.Module):
    """Walks up from 1/16 resolution, joining the encoder's features on the way.

    Parameters
    ----------
    dimension, width : int
    outputs : int
        Channels of a head.
    finest : int
        1: the last head is at half resolution (velocity); 0: at full resolution (mask).
    """

    def __init__(
        self, dimension: int, width: int, outputs: int, *, finest: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        joined = {3: (24, 16, 8), 2: (12, 8, 6), 1: (8, 6, 4), 0: (5, 4, 2)}
        self.levels = list(range(POOLINGS - 1, finest - 1, -1))
        self.blocks = nn.ModuleList(
            Block(dimension, *(width * n for n in joined[level]), last_bias=level == 0)
            for level in self.levels
        )
        self.heads = nn.ModuleList(
            Head(dimension, width * joined[level][-1], outputs) for level in self.levels[-SCALES:]
        )
        self.dropout = dropout

    def start_at(self, value: float, spread: float | None = None) -> None:
        """Initialise every head around one value, see :meth:`Head.start_at`."""
        for head in self.heads:
            assert isinstance(head, Head)
            head.start_at(value, spread)

    def forward(
        self,
        features: list[Tensor],
        scales: int = SCALES,
        *,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Outputs of the heads, finest first; a generator turns dropout on in evaluation mode."""
        x = features[-1]
        found: list[Tensor] = []
        heads = list(self.heads)
        for position, (level, block) in enumerate(zip(self.levels, self.blocks, strict=True)):
            x = block(torch.cat([double(x), features[level]], 1))
            if self.dropout > 0:
                x = self._drop(x, generator)
            scale = len(self.levels) - 1 - position
            if scale < scales:
                found.append(heads[SCALES - 1 - scale](x))
        return found[::-1]

    def _drop(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return functional.dropout(x, self.dropout, self.training)
        kept = torch.empty_like(x).bernoulli_(1 - self.dropout, generator=generator)
        return x * kept / (1 - self.dropout)


class NCRNet(nn.Module):
    """Registers a pair and finds what does not correspond, in one pass.

    Parameters
    ----------
    dimension : int
        2 or 3.
    width : int
        Channels at full resolution (n of the paper); 8 in the released 2D model.
    segmentation : bool
        False leaves out the decoder of the noncorrespondence: RegNet.
    integration : "full" or "half"
        The heads make velocities at half the resolution of their scale. "full" enlarges the
        velocity and exponentiates it there, as published; "half" exponentiates first, with an
        eighth of the voxels in 3D, and enlarges the displacement.
    dropout : float
        Probability of dropping a feature behind each block of the decoders.

    References
    ----------
    Andresen et al., Int J CARS 17, 2022, doi:10.1007/s11548-022-02577-4.
    """

    def __init__(
        self,
        dimension: int,
        width: int = 8,
        *,
        segmentation: bool = True,
        integration: str = "full",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if dimension not in (2, 3):
            raise ArgumentError(f"dimension must be 2 or 3; got {dimension}.")
        if width < 1 or not 0 <= dropout < 1 or integration not in INTEGRATIONS:
            raise ArgumentError(
                "width must be positive, dropout in [0, 1) and integration one of "
                f"{', '.join(INTEGRATIONS)}; got {width}, {dropout} and {integration!r}."
            )
        self.dimension, self.integration = dimension, integration
        self.settings: dict[str, Any] = {"width": width, "integration": integration}
        if dropout > 0:
            self.settings["dropout"] = dropout
        self.encoder = Encoder(dimension, width)
        self.registration = Decoder(dimension, width, dimension, finest=1, dropout=dropout)
        self.segmentation = (
            Decoder(dimension, width, 1, finest=0, dropout=dropout) if segmentation else None
        )
        self.registration.start_at(0.0, spread=0.05)
        if self.segmentation is not None:
            self.segmentation.start_at(MASK_START)
        nn.Module.to(self, memory_format=CHANNELS_LAST[dimension])  # type: ignore[call-overload]

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
        fixed, moving : Tensor, shape (N, 1, *spatial)
            On the scale of ``preprocessing.normalise``; any size: padded by the border values to
            multiples of 16, and cropped back.
        scales : int
            Number of scales to predict, from the finest, 1 to 3. The scales have the sizes of
            ``fixed`` divided by 1, 2 and 4, rounded up.
        find_mask : bool
            False does not run the decoder of the noncorrespondence, nor updates its statistics.
        generator : torch.Generator, optional
            Decides what is dropped, in evaluation mode too; on the device of the images. Default:
            torch's own, and nothing is dropped in evaluation mode.

        Returns
        -------
        Prediction
            Velocities, displacements and noncorrespondence, finest scale first.

        Raises
        ------
        ShapeError
            If the images do not fit each other or the network.
        """
        velocities, masks = self.maps(fixed, moving, scales, find_mask, generator)
        return predict(velocities, masks, fixed, self.integration)

    def maps(
        self,
        fixed: Tensor,
        moving: Tensor,
        scales: int = SCALES,
        find_mask: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the part of the network that consists of convolutions only.

        Parameters
        ----------
        fixed, moving, scales, find_mask, generator
            As for :meth:`forward`.

        Returns
        -------
        velocities : list of Tensor, shape (N, D, *padded / 2)
            Finest scale first, at half the size of their scale and in its voxels.
        noncorrespondences : list of Tensor, shape (N, 1, *padded)
            Probabilities at the size of their scale; empty without a mask decoder.
        """
        require_pairs(fixed, moving, self.dimension)
        features = self.encoder(padded(torch.cat([moving, fixed], 1)))
        velocities = self.registration(features, scales, generator=generator)
        velocities = [full_precision(v) for v in velocities]
        if self.segmentation is None or not find_mask:
            return velocities, []
        logits = self.segmentation(features, scales, generator=generator)
        return velocities, [full_precision(logit).sigmoid() for logit in logits]
