"""Synthetic lesion shapes: balls with a varying radius."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from itk_ncr.data.augmentation import uniform
from itk_ncr.errors import ArgumentError
from itk_ncr.ops import resize

# The radius wobbles by this share (deviation).
WOBBLE = 0.25
# An irregular outline is moved by these shares, at the scale of the radius and a third of it.
LOBES, RAGS = 0.3, 0.15


def random_blob(
    inside: Tensor,
    spacing_mm: Sequence[float],
    generator: torch.Generator,
    *,
    radius_mm: tuple[float, float] = (4.0, 30.0),
    centres: Tensor | None = None,
) -> Tensor:
    """A lesion of random place, size and outline within the object.

    A ball whose radius varies: smooth noise moves the outline by a quarter of it.

    Parameters
    ----------
    inside : Tensor of bool, shape (*spatial)
        The object.
    spacing_mm : sequence of float
        Voxel size in array order.
    generator : torch.Generator
        The same state draws the same lesion.
    radius_mm : (low, high)
        Range of the radius; its logarithm is drawn uniformly.
    centres : Tensor of bool, shape (*spatial), optional
        Voxels that may be the centre. Default: ``inside``.

    Returns
    -------
    Tensor of bool, shape (*spatial)
        True in the lesion.
    """
    low, high = (math.log(r) for r in radius_mm)
    radius = math.exp(uniform(generator, low, high))
    centre = random_centre(inside, generator, centres)
    box, share = _ball(inside.shape, centre, 1.75 * radius, radius, spacing_mm, generator)
    result = torch.zeros_like(inside)
    result[box] = share < 1
    return result & inside


def sized_blob(
    inside: Tensor,
    spacing_mm: Sequence[float],
    generator: torch.Generator,
    *,
    voxels: int,
    centre: Sequence[int] | None = None,
) -> Tensor:
    """A lesion of random outline and a given number of voxels within the object.

    Where the object cuts off a part of its ball, the rest grows to keep the number.

    Parameters
    ----------
    inside : Tensor of bool, shape (*spatial)
        The object.
    spacing_mm : sequence of float
        Voxel size in array order.
    generator : torch.Generator
        The same state draws the same lesion.
    voxels : int
        Number of voxels, from 1 to those of the object.
    centre : sequence of int, optional
        Centre voxel, in array order. Default: drawn from ``inside``.

    Returns
    -------
    Tensor of bool, shape (*spatial)
        True in the lesion.

    Raises
    ------
    ArgumentError
        If the object has fewer voxels.
    """
    if not 1 <= voxels <= int(inside.sum()):
        raise ArgumentError(
            f"voxels must be from 1 to those of the object, {int(inside.sum())}; got {voxels}."
        )
    dimension = len(spacing_mm)
    unit_ball = math.pi if dimension == 2 else 4 / 3 * math.pi
    radius = (voxels * math.prod(spacing_mm) / unit_ball) ** (1 / dimension)
    if centre is None:
        centre = random_centre(inside, generator)
    # As far as a corner of the grid: at the rim of the object, half a ball needs more room.
    reach = radius * 4
    box, share = _ball(inside.shape, centre, reach, radius, spacing_mm, generator)
    if int(inside[box].sum()) < voxels:
        reach = math.dist(
            [0] * dimension, [n * s for n, s in zip(inside.shape, spacing_mm, strict=True)]
        )
        box, share = _ball(inside.shape, centre, reach, radius, spacing_mm, generator)
    share = share.masked_fill(~inside[box], math.inf)
    nearest = share.flatten().topk(voxels, largest=False).indices
    part = torch.zeros(share.numel(), dtype=torch.bool)
    part[nearest] = True
    result = torch.zeros_like(inside)
    result[box] = part.view(share.shape)
    return result


def random_centre(
    inside: Tensor, generator: torch.Generator, centres: Tensor | None = None
) -> list[int]:
    """A voxel of the object, in ``centres`` if the object has some of them."""
    possible = inside if centres is None else inside & centres
    candidates = torch.nonzero(possible if possible.any() else inside)
    return candidates[int(uniform(generator, 0, len(candidates)))].tolist()


def _ball(
    shape: Sequence[int],
    centre: Sequence[int],
    reach_mm: float,
    radius_mm: float,
    spacing_mm: Sequence[float],
    generator: torch.Generator,
) -> tuple[tuple[slice, ...], Tensor]:
    """A box around a centre, and distances in it as shares of a wobbling radius."""
    reach = [math.ceil(reach_mm / s) for s in spacing_mm]
    box = tuple(
        slice(max(0, c - r), min(n, c + r + 1))
        for c, r, n in zip(centre, reach, shape, strict=True)
    )
    sizes = [part.stop - part.start for part in box]
    distance = torch.zeros(sizes)
    for axis, (part, c, s) in enumerate(zip(box, centre, spacing_mm, strict=True)):
        line = (torch.arange(part.start, part.stop, dtype=torch.float32) - c) * s
        distance += line.square().view(-1, *(1,) * (len(sizes) - 1 - axis))
    # The outline's wobble is half as coarse as the blob is wide.
    coarse = [
        max(2, math.ceil(2 * n * s / radius_mm)) for n, s in zip(sizes, spacing_mm, strict=True)
    ]
    wobble = resize(torch.randn(1, 1, *coarse, generator=generator), sizes)[0, 0]
    # A radius is positive, however far the noise goes.
    return box, distance.sqrt() / (radius_mm * (1 + WOBBLE * wobble).clamp_min(0.1))


def irregular_blob(
    inside: Tensor,
    spacing_mm: Sequence[float],
    generator: torch.Generator,
    *,
    voxels: int,
    centre: Sequence[int],
) -> Tensor:
    """An ellipsoid with a lobed and ragged outline and a given size: bool (*spatial).

    Fewer voxels only if the object is smaller.
    """
    dimension = len(spacing_mm)
    unit_ball = math.pi if dimension == 2 else 4 / 3 * math.pi
    radius = (voxels * math.prod(spacing_mm) / unit_ball) ** (1 / dimension)
    reach = [math.ceil(2.5 * radius / s) + 1 for s in spacing_mm]
    box = tuple(
        slice(max(0, c - r), min(n, c + r + 1))
        for c, r, n in zip(centre, reach, inside.shape, strict=True)
    )
    if int(inside[box].sum()) < voxels:
        box = tuple(slice(0, n) for n in inside.shape)
    lines = [
        (torch.arange(part.start, part.stop, dtype=torch.float32) - c) * s
        for part, c, s in zip(box, centre, spacing_mm, strict=True)
    ]
    points = torch.stack(torch.meshgrid(*lines, indexing="ij"))
    # Random principal axes, the longest up to 1.8 times the shortest.
    turn = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator))[0]
    axes = torch.tensor([math.exp(uniform(generator, -0.3, 0.3)) for _ in range(dimension)])
    share = ((turn @ points.flatten(1)) / axes[:, None]).square().sum(0).sqrt()
    share = share.view(points.shape[1:]) / radius
    for depth, width in ((LOBES, 1.0), (RAGS, 0.35)):
        parts = [
            max(2, math.ceil(n * s / (width * radius)) + 1)
            for n, s in zip(share.shape, spacing_mm, strict=True)
        ]
        # No finer than the voxels are.
        parts = [min(p, max(2, n)) for p, n in zip(parts, share.shape, strict=True)]
        noise = resize(torch.randn(1, 1, *parts, generator=generator), share.shape)[0, 0]
        share = share / (1 + depth * noise).clamp_min(0.3)
    share = share.masked_fill(~inside[box], math.inf)
    count = min(voxels, int(inside[box].sum()))
    part = torch.zeros(share.numel(), dtype=torch.bool)
    part[share.flatten().topk(count, largest=False).indices] = True
    result = torch.zeros_like(inside)
    result[box] = part.view(share.shape)
    return result
