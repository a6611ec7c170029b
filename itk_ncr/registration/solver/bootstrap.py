"""Uncertainty of the displacement by a parametric bootstrap.

The coarse levels are descended several times from rest, the mask held fixed, each time with other
noise on the fixed image. The noise is as strong as what the registration left unexplained. Where
edges hold the map all runs agree; where noise decides, they do not. An area without any texture has
nothing that would pull in any run: it looks sure and is not.

References
----------
Kybic, "Bootstrap resampling for image registration uncertainty estimation without ground truth",
IEEE TIP 19, 2010, doi:10.1109/TIP.2009.2030955. Ours adds noise instead of drawing voxels: on eight
slices with a known deformation, weights of voxels had a median rank correlation of .22 with the
error, noise of .38.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from itk_ncr.fields import RunningSpread, resize_displacement
from itk_ncr.ops import exponential
from itk_ncr.registration.request import Abort, Progress
from itk_ncr.registration.solver.evidence import unexplained
from itk_ncr.registration.solver.pair import Pair
from itk_ncr.registration.solver.settings import InstanceSettings
from itk_ncr.registration.solver.solve import Track, descend


def displacement_deviation(
    pair: Pair,
    settings: InstanceSettings,
    moved: Tensor,
    to_mm: Tensor,
    runs: int,
    generator: torch.Generator,
    *,
    progress: Progress | None = None,
    abort: Abort | None = None,
) -> Tensor:
    """Standard deviation of the displacement over runs with other noise.

    Parameters
    ----------
    pair : Pair
        Its ``suspected`` mask is the one that was found.
    settings : InstanceSettings
    moved : Tensor, shape (1, 1, *spatial)
        The moving image as registered.
    to_mm : Tensor, shape (D, D)
        Takes a displacement in voxels, in array order, to mm.
    runs : int
        At least 2; 8 are usual.
    generator : torch.Generator
        Draws the noise.
    progress, abort : callable, optional
        As for :func:`itk_ncr.registration.solver.solve`.

    Returns
    -------
    Tensor, shape (1, 1, *spatial)
        Root of the trace of the covariance, mm, on the grid of the pair.
    """
    levels = settings.coarse_levels or settings.levels
    spatial = tuple(pair.fixed.shape[2:])
    noise = unexplained(moved, pair.fixed, pair.compared())
    track = Track(runs * sum(level.iterations for level in levels), progress, abort)
    spread = RunningSpread()
    for _ in range(runs):
        drawn = noise * torch.randn(pair.fixed.shape, generator=generator) * pair.foreground
        noisy = replace(pair, fixed=pair.fixed + drawn)
        velocity = descend(noisy, levels, settings, track)
        with torch.no_grad():
            u = resize_displacement(exponential(velocity), spatial)
            spread.add(torch.einsum("ij,nj...->ni...", to_mm, u))
    return spread.deviation()
