"""Uncertainty by Monte Carlo dropout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError
from itk_ncr.fields import RunningSpread
from itk_ncr.networks.grids import padded, predict, require_pairs
from itk_ncr.networks.ncr import NCRNet


@dataclass(frozen=True)
class Uncertainty:
    """Statistics over passes with other features dropped, at full resolution.

    Attributes
    ----------
    displacement : Tensor, shape (N, D, *spatial)
        Mean, in voxels.
    displacement_std : Tensor, shape (N, 1, *spatial)
        Root of the trace of the covariance, in voxels.
    noncorrespondence : Tensor, shape (N, 1, *spatial), or None
        Mean probability; None if the network models none.
    entropy : Tensor, shape (N, 1, *spatial), or None
        Of the mean probability, in nats: 0 where sure, log 2 = .69 at one half.
    """

    displacement: Tensor
    displacement_std: Tensor
    noncorrespondence: Tensor | None
    entropy: Tensor | None


@torch.no_grad()
def predict_with_uncertainty(
    network: NCRNet,
    fixed: Tensor,
    moving: Tensor,
    *,
    generator: torch.Generator,
    passes: int = 20,
) -> Uncertainty:
    """Run the decoders many times with dropout, the encoder once.

    Parameters
    ----------
    network : NCRNet
        Trained with ``dropout`` above 0; without dropout the deviation is 0. Its normalisation is
        in evaluation mode here, whatever mode it is in.
    fixed, moving : Tensor, shape (N, 1, *spatial)
        As for the network.
    generator : torch.Generator
        Decides what is dropped; on the device of the images.
    passes : int
        At least 2; 20 to 50 are usual.

    Returns
    -------
    Uncertainty
        Mean and spread over the passes, at full resolution.

    Raises
    ------
    ArgumentError
        If the network has no dropout to use, or there are too few passes.
    ShapeError
        If the images do not fit.

    References
    ----------
    Yang et al., NeuroImage 158, 2017, doi:10.1016/j.neuroimage.2017.07.008.
    """
    if not isinstance(network, NCRNet):
        raise ArgumentError(
            f"network must be an NCR-Net or RegNet; got {type(network).__name__}. "
            "Load it for training, not prepared for inference."
        )
    if passes < 2:
        raise ArgumentError(f"passes must be at least 2; got {passes}. Use 20.")
    require_pairs(fixed, moving, network.dimension)
    was_training = network.training
    network.eval()
    try:
        features = network.encoder(padded(torch.cat([moving, fixed], 1)))
        spread = RunningSpread()
        probability = torch.zeros(())
        for _ in range(passes):
            velocities = network.registration(features, 1, generator=generator)
            masks = []
            if network.segmentation is not None:
                logits = network.segmentation(features, 1, generator=generator)
                masks = [logit.sigmoid() for logit in logits]
            found = predict(velocities, masks, fixed, network.integration)
            spread.add(found.displacement[0])
            if masks:
                probability = probability + found.noncorrespondence[0]
    finally:
        network.train(was_training)
    if network.segmentation is None:
        return Uncertainty(spread.mean, spread.deviation(), None, None)
    probability = probability / passes
    entropy = torch.special.entr(probability) + torch.special.entr(1 - probability)
    return Uncertainty(spread.mean, spread.deviation(), probability, entropy)
