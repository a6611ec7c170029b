"""NCR-Net with the sampling of the code that its authors released.

What differs from :class:`NCRNet`, each of it an oversight that weights have learnt to live with:

- 2D velocities are in units of half the image, x before y. The identity is built for corners that
  are aligned, the sampling is for corners that are not, and outside counts as 0. So even a
  velocity of 0 magnifies by n / (n - 1), and the rim loses half of its value with every sampling.
- The number of squarings starts at 8, depends on the Frobenius norm of the whole field, and is that
  of the first sample of a batch for all of them. 3D uses 7 and voxels; outside counts as 0 too.
- The 2D velocity is overwritten by the displacement, which is then what is regularised.
- The last block of the segmentation pads by 0; the 2D RegNet enlarges by repeating.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from itk_ncr.errors import require_choice
from itk_ncr.networks.grids import cropped_prediction, padded, require_pairs
from itk_ncr.networks.layers import double
from itk_ncr.networks.ncr import SCALES, Decoder, NCRNet
from itk_ncr.prediction import Prediction

LEAST_SQUARINGS = 8
SQUARINGS_3D = 7
REGULARIZE = ("displacement", "velocity")


class ReleasedNCRNet(nn.Module):
    """The released NCR-Net or RegNet, with its sampling; see the module.

    Parameters
    ----------
    dimension, width : int
    segmentation : bool
        False: RegNet.
    regularize : "displacement" or "velocity"
        What the prediction calls velocity in 2D. "displacement": what the released code makes of
        it, overwritten; that is what a loss on the velocity then sees.

    Notes
    -----
    Names and order of the weights are those of :class:`NCRNet`. Displacements are in voxels and
    include the magnification: :func:`warp_released` samples where the released code samples.
    """

    def __init__(
        self,
        dimension: int,
        width: int = 8,
        *,
        segmentation: bool = True,
        regularize: str = "displacement",
    ) -> None:
        super().__init__()
        require_choice("regularize", regularize, REGULARIZE)
        network = NCRNet(dimension, width, segmentation=segmentation)
        self.dimension, self.regularize = dimension, regularize
        self.settings: dict[str, Any] = {
            "width": width,
            "compat": "released",
            "regularize": regularize,
        }
        self.encoder, self.registration = network.encoder, network.registration
        self.segmentation = network.segmentation

    def forward(
        self, fixed: Tensor, moving: Tensor, *, scales: int = SCALES, find_mask: bool = True
    ) -> Prediction:
        """Predict for a batch of pairs.

        Parameters
        ----------
        fixed, moving, scales, find_mask
            As for :meth:`NCRNet.forward`. Only sizes divisible by 16 give the released results.

        Returns
        -------
        Prediction
            Velocities, displacements and noncorrespondence, finest scale first.

        Raises
        ------
        ShapeError
            If the images do not fit each other or the network.
        """
        raw, masks = self.maps(fixed, moving, scales, find_mask)
        fields = []
        for found in raw:
            velocity = double(found)
            if self.dimension == 3:
                fields.append((velocity, _exponential_3d(velocity)))
                continue
            overwritten = exponential_released(velocity)
            wanted = overwritten if self.regularize == "displacement" else velocity
            moved = _in_voxels(overwritten) + _magnification(overwritten)
            fields.append((_in_voxels(wanted), moved))
        return cropped_prediction(fields, masks, fixed)

    def maps(
        self, fixed: Tensor, moving: Tensor, scales: int = SCALES, find_mask: bool = True
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Velocities in the released units and noncorrespondences, on the padded grid.

        Parameters
        ----------
        fixed, moving, scales, find_mask
            As for :meth:`forward`.

        Returns
        -------
        velocities : list of Tensor, shape (N, D, *padded / 2)
            Finest scale first, at half the size of their scale.
        noncorrespondences : list of Tensor, shape (N, 1, *padded)
            Probabilities at the size of their scale; empty without a mask decoder.
        """
        require_pairs(fixed, moving, self.dimension)
        features = self.encoder(padded(torch.cat([moving, fixed], 1)))
        repeats = self.dimension == 2 and self.segmentation is None
        mode = "nearest" if repeats else None
        velocities = _decoded(self.registration, features, scales, mode)
        if self.segmentation is None or not find_mask:
            return velocities, []
        return velocities, [x.sigmoid() for x in _decoded(self.segmentation, features, scales)]


def _decoded(
    decoder: Decoder, features: list[Tensor], scales: int, mode: str | None = None
) -> list[Tensor]:
    """``Decoder.forward`` with another enlargement, and borders of 0 at full resolution."""
    x, found = features[-1], []
    for level, block in zip(decoder.levels, decoder.blocks, strict=True):
        x = torch.cat([double(x, mode), features[level]], 1)
        x = _block_of_zeros(block, x) if level == 0 else block(x)
        found.append(x)
    found = found[-SCALES:]
    said = [head(x) for head, x in zip(decoder.heads, found, strict=True)]
    return said[::-1][:scales]


def _block_of_zeros(block: Any, x: Tensor) -> Tensor:
    for layer in block:
        x = functional.pad(x, (1,) * (2 * (x.ndim - 2)))
        x = functional.relu(layer.norm(layer.convolution(x)))
    return x


def sample_released(image: Tensor, field: Tensor) -> Tensor:
    """The released 2D sampling.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
    field : Tensor, shape (N, 2, H, W)
        In units of half the image, x before y.
    """
    axes = [
        torch.linspace(-1, 1, n, dtype=field.dtype, device=field.device) for n in field.shape[2:]
    ]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)
    return functional.grid_sample(image, identity + field.movedim(1, -1), align_corners=False)


def exponential_released(velocity: Tensor) -> Tensor:
    """The released 2D exponential; velocity and displacement as in :func:`sample_released`."""
    squarings = LEAST_SQUARINGS
    # Of the first sample only, as released.
    norm = velocity[0].detach().norm().item()
    while norm / 2**squarings > 0.5:
        squarings += 1
    displacement = velocity / 2**squarings
    for _ in range(squarings):
        displacement = displacement + sample_released(displacement, displacement)
    return displacement


def warp_released(image: Tensor, displacement: Tensor) -> Tensor:
    """``ops.warp`` where outside counts as 0, fading over one voxel.

    Parameters
    ----------
    image : Tensor, shape (N, C, *spatial)
        In any intensity unit.
    displacement : Tensor, shape (N, D, *spatial)
        In voxels, as in the prediction of :class:`ReleasedNCRNet`.

    Returns
    -------
    Tensor, shape (N, C, *spatial)
        The warped image.
    """
    positions = []
    for axis, n in enumerate(displacement.shape[2:]):
        shape = [1] * (displacement.ndim - 1)
        shape[axis + 1] = n
        index = torch.arange(n, dtype=displacement.dtype, device=displacement.device).view(shape)
        positions.append((displacement[:, axis] + index) * (2 / (n - 1)) - 1)
    return functional.grid_sample(image, torch.stack(positions[::-1], -1), align_corners=True)


def _exponential_3d(velocity: Tensor) -> Tensor:
    displacement = velocity / 2**SQUARINGS_3D
    for _ in range(SQUARINGS_3D):
        displacement = displacement + warp_released(displacement, displacement)
    return displacement


def _in_voxels(field: Tensor) -> Tensor:
    """From units of half the image, x first, to voxels, y first."""
    sizes = field.new_tensor(field.shape[2:]).view(1, 2, 1, 1)
    return field.flip(1) * sizes / 2


def _magnification(like: Tensor) -> Tensor:
    """Offset between the released sampling and the correct one for a field of 0."""
    along = [
        torch.linspace(-0.5, 0.5, n, dtype=like.dtype, device=like.device) for n in like.shape[2:]
    ]
    return torch.stack(torch.meshgrid(*along, indexing="ij"))[None]
