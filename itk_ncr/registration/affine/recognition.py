"""Recognises from an alignment whether one image is stripped and whether the contrasts agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from itk_ncr.ops import box_sum
from itk_ncr.registration.affine.geometry import Array, Pose
from itk_ncr.registration.affine.points import PointPair, SampledImage

# A direction is bare where this share of the foreground in it is.
BARE = 0.25
# Whole heads with a stripped brain had a bare share of .45 to .52, in all directions; heads that
# were cut elsewhere, and other pairs, .24 in .38 of the directions at most. The same ratio of radii
# makes a smaller share of an area.
STRIPPED_SHARE, STRIPPED_AROUND, STRIPPED_OTHER = {2: 0.25, 3: 0.33}, 0.7, 0.1
# Windows of the local correlation: 3 voxels along every axis of a level. Noise below which a window
# is flat; bright tissue is 1.
RADIUS, NOISE = 1, 0.02
# Windows that show whether a contrast is inverted, and the correlation from which they do: nine
# pixels of anatomy that differs between two persons are as often inverted as not.
SIGN_RADIUS, CLEAR = {2: 3, 3: 1}, {2: 0.6, 3: 0.3}


@dataclass(frozen=True)
class Bareness:
    """Fraction of one image's foreground that meets no foreground of the other one.

    Attributes
    ----------
    share : float
        Of the foreground that the other image's field of view covers.
    around : float
        Share of all directions in which a good part of it is bare.
    """

    share: float
    around: float


def stripped(scene: PointPair, pose: Pose) -> str | None:
    """Which image, "fixed" or "moving", shows a part of what the other one shows; else None.

    A brain without its skull lies inside a whole head, which surrounds it on all sides. An image
    that is merely cut somewhere leaves the other one bare on that side only.
    """
    fixed = _bareness(scene.fixed, scene.moving, pose.forward(scene.fixed.shown()))
    moving = _bareness(scene.moving, scene.fixed, pose.backward(scene.moving.shown()))
    for name, inner, outer in (("fixed", fixed, moving), ("moving", moving, fixed)):
        if (
            outer.share >= STRIPPED_SHARE[len(pose.centre)]
            and outer.around >= STRIPPED_AROUND
            and inner.share <= STRIPPED_OTHER
        ):
            return name
    return None


def _bareness(image: SampledImage, other: SampledImage, there: Array) -> Bareness:
    """Of an image's foreground, whose points lie ``there`` (D, n) in the other image."""
    del image
    usable, shown = other.shows(there)
    there, bare = there[:, usable], ~shown[usable]
    if not len(bare):
        return Bareness(0.0, 0.0)
    offsets = there - other.shown().mean(1)[:, None]
    # Directions: the faces of a cube (or square), each cut into four (two).
    face = np.abs(offsets).argmax(0)
    code = 2 * face + (np.take_along_axis(offsets, face[None], 0)[0] > 0)
    for step in range(1, len(offsets)):
        along = np.take_along_axis(offsets, ((face + step) % len(offsets))[None], 0)[0]
        code = 2 * code + (along > 0)
    count = np.bincount(code)
    shares = np.bincount(code, bare)[count > 0] / count[count > 0]
    return Bareness(float(bare.mean()), float((shares > BARE).mean()))


@dataclass(frozen=True)
class Agreement:
    """Local correlation of two aligned images.

    Attributes
    ----------
    alike : float
        Mean absolute correlation over the foreground; 0 where only one of the images shows
        something. Blind to contrast: how well the images are aligned.
    inverted : float
        Of the windows with a clear correlation, the share where it is negative.
    """

    alike: float
    inverted: float


def agreement(scene: PointPair, pose: Pose, compared: str) -> Agreement:
    """The agreement of both images over the foreground of both or one of them."""
    fixed, moving = scene.fixed, scene.moving
    shape = fixed.grid.shape
    there = pose.forward(np.ascontiguousarray(fixed.grid.points().reshape(-1, len(shape)).T))
    values, _, usable = moving.at(there)
    shows = moving.shows(there, 1)[1].reshape(shape)
    usable = usable.reshape(shape)
    if fixed.allowed is not None:
        usable = usable & fixed.allowed
    images = fixed.tensor[0, 0].double(), torch.from_numpy(values.reshape(shape))
    weight = torch.from_numpy((usable & shows & fixed.foreground).astype(np.float64))
    found = _local_correlation(*images, weight, RADIUS)
    among = {
        "both": fixed.foreground | shows,
        "fixed": fixed.foreground,
        "moving": shows,
    }[compared]
    count = max(int((among & usable).sum()), 1)
    radius, clear = SIGN_RADIUS[len(shape)], CLEAR[len(shape)]
    signed = found if radius == RADIUS else _local_correlation(*images, weight, radius)
    negative = float((signed < -clear).sum()) / max(int((signed.abs() > clear).sum()), 1)
    return Agreement(float(found.abs().sum()) / count, negative)


def _local_correlation(fixed: Tensor, moving: Tensor, weight: Tensor, radius: int) -> Tensor:
    """Correlation in the window around every voxel; 0 where less than half of a window weighs."""
    size = box_sum(weight[None, None], radius)[0, 0]

    def mean(values: Tensor) -> Tensor:
        return box_sum((values * weight)[None, None], radius)[0, 0] / size.clamp(min=1e-9)

    mean_fixed, mean_moving = mean(fixed), mean(moving)
    covariance = mean(fixed * moving) - mean_fixed * mean_moving
    energy = [
        (mean(values.square()) - centre.square()).clamp(min=0) + NOISE**2
        for values, centre in ((fixed, mean_fixed), (moving, mean_moving))
    ]
    full = (size > 0.5 * (2 * radius + 1) ** fixed.ndim) & (weight > 0)
    return torch.where(full, covariance / (energy[0] * energy[1]).sqrt(), 0.0)
