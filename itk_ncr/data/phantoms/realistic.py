"""Lesions whose shape, filling, surroundings and mass effect are drawn after real ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itk_ncr.data.augmentation import uniform
from itk_ncr.data.phantoms.appearance import bounding_box
from itk_ncr.data.phantoms.bank import LesionBank
from itk_ncr.data.phantoms.blobs import irregular_blob, random_centre
from itk_ncr.data.phantoms.models import (
    CONTRASTS,
    LESION_MODELS,
    Intensity,
    Landmarks,
    LesionModel,
    Range,
    landmarks,
    white_matter,
)
from itk_ncr.data.placement import Placement
from itk_ncr.errors import ArgumentError, ShapeError, require_choice
from itk_ncr.fields import downsample, reduced_shape, resize_displacement, smooth
from itk_ncr.ops import exponential, jacobian_determinant, resize, warp

# Volume of a brain in mm3, area of its section in mm2. An object that is far from it in size, such
# as a slice of tissue under a microscope, gets lesions in proportion.
BRAIN = {2: 1.4e4, 3: 1.4e6}
BRAIN_SIZES = 8.0
# No lesion fills more of the object, nor has fewer voxels.
LARGEST_SHARE, FEWEST_VOXELS = 0.3, 8
# Edges are at least as wide as this in voxels (Gaussian sigma): partial volume.
PARTIAL_VOLUME = 0.45
# A push fades over this share of the lesion's radius (Gaussian sigma).
PUSH_REACH = 0.6
# The outline of the object stays where it is: a push rises from 0 over this many mm.
RIGID_MM = 10.0
# No voxel shrinks or grows to less than this share in a push.
LEAST_VOLUME = 0.15
# Draws of a real mask of a suitable size before a blob stands in.
MASK_DRAWS = 4
# A change counts if it exceeds the noise this many times, or this share of bright tissue.
VISIBLE_NOISE, VISIBLE_SHARE = 2.0, 0.03


@dataclass(frozen=True, eq=False)
class RealisticLesion:
    """An image with an inserted lesion and its ground truth.

    Attributes
    ----------
    image : Tensor, shape (1, *spatial), float32
        On the scale of the healthy image, clipped to [0, 1.5].
    mask : Tensor, shape (*spatial), bool
        The lesion: cavity, necrosis and ring, spots; what has no partner.
    affected : Tensor, shape (*spatial), bool
        The mask and all else that the lesion made visibly brighter or darker: gliosis, oedema and
        soft edges. Its tissue has a partner that looks different.
    kind : str
        The row of ``LESION_MODELS``.
    contrast : str
        The row of ``CONTRASTS``.
    displacement : Tensor, shape (1, D, *spatial), voxels, optional
        Away from the lesion, ``image(x)`` shows ``healthy(x + displacement(x))``. None: nothing was
        pushed.
    """

    image: Tensor
    mask: Tensor
    affected: Tensor
    kind: str
    contrast: str
    displacement: Tensor | None


def random_lesion(
    image: Tensor,
    inside: Tensor,
    placement: Placement,
    generator: torch.Generator,
    *,
    bank: LesionBank | None = None,
    kind: str | None = None,
    contrast: str | None = None,
    size_ml: Range = (0.3, 150.0),
) -> RealisticLesion:
    """Draw a lesion of random kind, shape, place and appearance.

    Parameters
    ----------
    image : Tensor, shape (1, *spatial), 2D or 3D
        A healthy image on the scale of ``preprocessing.normalise``.
    inside : Tensor, shape (*spatial), bool
        Where a lesion may be: the brain, holes filled. Nothing outside changes.
    placement : Placement
        Voxel size, and where the masks of ``bank`` lie.
    generator : torch.Generator
        The same state draws the same lesion.
    bank : LesionBank, optional
        Real masks. Default: drawn shapes only.
    kind : str, optional
        A row of ``LESION_MODELS``. Default: drawn, all alike.
    contrast : str, optional
        A row of ``CONTRASTS``. Default: guessed from the histogram of the tissue.
    size_ml : (low, high)
        Allowed volumes; the model's own range is cut to it. A 2D lesion has the radius of the ball
        of that volume.

    Returns
    -------
    RealisticLesion
        The changed image, the lesion and its properties.

    Raises
    ------
    ShapeError
        If ``inside`` has not the image's spatial shape.
    ArgumentError
        If ``inside`` is empty, or there is no such kind or contrast.
    """
    _check(image, inside, kind, contrast)
    if kind is None:
        kind = list(LESION_MODELS)[int(uniform(generator, 0, len(LESION_MODELS)))]
    marks = landmarks(image, inside, contrast)
    mask = draw_mask(
        image, inside, placement, LESION_MODELS[kind], marks, generator, bank=bank, size_ml=size_ml
    )
    spacing = unit_spacing(inside, placement.spacing_mm)
    push = draw_push(mask, inside, kind, generator, spacing_mm=spacing)
    pushed = image if push is None else warp(image[None], push)[0]
    ill, affected = fill(pushed, mask, inside, kind, marks, generator, spacing_mm=spacing)
    return RealisticLesion(ill, mask, affected, kind, marks.contrast, push)


def _check(image: Tensor, inside: Tensor, kind: str | None, contrast: str | None) -> None:
    if inside.shape != image.shape[1:]:
        raise ShapeError(
            f"inside must have the shape of image, {tuple(image.shape[1:])}; got "
            f"{tuple(inside.shape)}. Resample it first."
        )
    for name, value, table in (("kind", kind, LESION_MODELS), ("contrast", contrast, CONTRASTS)):
        if value is not None:
            require_choice(name, value, table)
    if not inside.any():
        raise ArgumentError("inside must hold a voxel; got none. Give the brain's mask.")


def unit_spacing(inside: Tensor, spacing_mm: Sequence[float]) -> tuple[float, ...]:
    """Voxel size in mm, scaled as if the object had the size of a brain."""
    size = int(inside.sum()) * math.prod(spacing_mm)
    ratio = BRAIN[inside.ndim] / size
    if 1 / BRAIN_SIZES <= ratio <= BRAIN_SIZES:
        return tuple(spacing_mm)
    scale = ratio ** (1 / inside.ndim)
    return tuple(s * scale for s in spacing_mm)


def draw_mask(
    image: Tensor,
    inside: Tensor,
    placement: Placement,
    model: LesionModel,
    marks: Landmarks,
    generator: torch.Generator,
    *,
    bank: LesionBank | None = None,
    size_ml: Range = (0.3, 150.0),
    voxels: int | None = None,
    centre: Sequence[int] | None = None,
) -> Tensor:
    """A lesion's shape and place: bool (*spatial).

    Its number of voxels and the centre of its first piece are drawn unless they are given. A given
    centre makes one piece.
    """
    low, high = (min(max(s, size_ml[0]), size_ml[1]) for s in model.size_ml)
    spacing = unit_spacing(inside, placement.spacing_mm)
    fewest, most = (_voxels(size, inside, spacing) for size in (low, high))
    drawn = voxels is None and centre is None
    if bank is not None and drawn and uniform(generator, 0, 1) < model.real_shapes:
        for _ in range(MASK_DRAWS):
            found = bank.draw(placement, inside, generator)
            if found is not None and fewest <= int(found.sum()) <= most:
                return found
    if voxels is None:
        size = math.exp(uniform(generator, math.log(low), math.log(high)))
        voxels = _voxels(size, inside, spacing)
    most_pieces = max(1, voxels // FEWEST_VOXELS) if centre is None else 1
    pieces = min(int(uniform(generator, model.pieces[0], model.pieces[1] + 1)), most_pieces)
    tissue = (image[0] > 0.5 * (marks.dark + marks.middle)) & inside
    if model.in_white_matter:
        white = white_matter(image, marks) > 0.8
        tissue = tissue & white if (tissue & white).any() else tissue
    weights = [uniform(generator, 0.3, 1.0) ** 2 for _ in range(pieces)]
    ends = [round(voxels * sum(weights[:n]) / sum(weights)) for n in range(pieces + 1)]
    result = torch.zeros_like(inside)
    for start, end in itertools.pairwise(ends):
        free = inside & ~result
        place = centre or random_centre(free, generator, tissue)
        result |= irregular_blob(free, spacing, generator, voxels=end - start, centre=place)
    return result


def _voxels(size_ml: float, inside: Tensor, spacing_mm: Sequence[float]) -> int:
    size = size_ml * 1000
    if inside.ndim == 2:
        size = math.pi * (0.75 * size / math.pi) ** (2 / 3)
    total = int(inside.sum())
    count = round(size / math.prod(spacing_mm))
    return max(1, min(max(count, FEWEST_VOXELS), int(LARGEST_SHARE * total)))


def draw_push(
    mask: Tensor,
    inside: Tensor,
    kind: str,
    generator: torch.Generator,
    *,
    spacing_mm: Sequence[float],
    peak_mm: float | None = None,
) -> Tensor | None:
    """The displacement of a lesion's surroundings, (1, D, *spatial), voxels; None if there is none.

    Its length is drawn from the model unless ``peak_mm`` gives it: positive away from the lesion.
    The outline of the object stays in place, and the map is invertible.
    """
    share = uniform(generator, *LESION_MODELS[kind].push)
    radius = _radius(mask, spacing_mm)
    peak = share * radius if peak_mm is None else peak_mm
    if not mask.any() or abs(peak) < 0.1 * min(spacing_mm):
        return None
    sigma = PUSH_REACH * radius
    box = bounding_box(mask, [math.ceil(4 * sigma / s) + 2 for s in spacing_mm])
    shape = mask[box].shape
    factors = [max(1.0, sigma / (3 * s)) for s in spacing_mm]
    coarse = reduced_shape(shape, factors, minimum=2)
    steps = [s * (n - 1) / max(m - 1, 1) for s, n, m in zip(spacing_mm, shape, coarse, strict=True)]
    soft = smooth(downsample(mask[box].float()[None, None], coarse), sigma, spacing=steps)[0, 0]
    slopes = torch.stack([torch.gradient(soft, spacing=h, dim=a)[0] for a, h in enumerate(steps)])
    room = smooth(downsample(inside[box].float()[None, None], coarse), RIGID_MM / 2, spacing=steps)
    rise = (2 * room[0] - 1).clamp(0, 1)
    slopes = slopes * (rise * rise * (3 - 2 * rise))
    longest = float(slopes.square().sum(0).max().sqrt())
    if longest < 1e-9:
        return None
    unit = torch.tensor(steps).view(-1, *(1,) * mask.ndim)
    velocity = (slopes * (peak / longest) / unit)[None]
    u = exponential(velocity)
    while float(jacobian_determinant(u).min()) < LEAST_VOLUME:
        velocity = 0.7 * velocity
        u = exponential(velocity)
    result = torch.zeros(1, mask.ndim, *mask.shape)
    # What was too small to see at the outline is 0 beyond it.
    result[(slice(None), slice(None), *box)] = resize_displacement(u, shape) * inside[box]
    return result


def _radius(mask: Tensor, spacing_mm: Sequence[float]) -> float:
    """Radius in mm of the ball of a mask's size."""
    size = float(mask.sum()) * math.prod(spacing_mm)
    return math.sqrt(size / math.pi) if mask.ndim == 2 else (0.75 * size / math.pi) ** (1 / 3)


def fill(
    image: Tensor,
    mask: Tensor,
    inside: Tensor,
    kind: str,
    marks: Landmarks,
    generator: torch.Generator,
    *,
    spacing_mm: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """The image, (1, *spatial), with a mask filled; and the affected voxels, bool (*spatial)."""
    model = LESION_MODELS[kind]
    halo_mm = uniform(generator, *model.halo_mm)
    has_halo = uniform(generator, 0, 1) < model.halo_probability and model.halo is not None
    # Edges of small lesions are sharper: a soft one would leave nothing of them.
    radius = _radius(mask, spacing_mm)
    edge_mm = min(math.exp(uniform(generator, *(math.log(e) for e in model.edge_mm))), radius / 3)
    reach_mm = max(4 * max(edge_mm, max(spacing_mm)), 2 * halo_mm * has_halo)
    box = bounding_box(mask, [math.ceil(reach_mm / s) + 1 for s in spacing_mm])
    parts = _Parts(image[(slice(None), *box)][0], mask[box], spacing_mm, marks, generator)
    ill = parts.core(model)
    if model.ring and uniform(generator, 0, 1) < model.ring_probability:
        ill = parts.ring(ill, CONTRASTS[marks.contrast][model.ring], model.ring_mm, radius)
    ill = parts.cover(ill, edge_mm)
    if has_halo and model.halo is not None:
        level = CONTRASTS[marks.contrast][model.halo]
        ill = parts.halo(ill, level, halo_mm, model.halo_in_white_matter)
    change = (ill - parts.tissue).abs()
    visible = max(VISIBLE_NOISE * marks.noise, VISIBLE_SHARE * marks.bright)
    affected = mask.clone()
    affected[box] |= (change > visible) & inside[box]
    noisy = ill + parts.noise()
    # As a magnitude image, never negative; and tissue never becomes exactly background.
    shown = noisy.abs().clamp(1e-3 * max(marks.bright, 1e-3), 1.5)
    result = image.clone()
    changed = inside[box] & (change > 0)
    result[(slice(None), *box)] = torch.where(changed, shown, parts.tissue)
    return result, affected


class _Parts:
    """The parts of one lesion, drawn in a box around it."""

    def __init__(
        self,
        tissue: Tensor,
        mask: Tensor,
        spacing_mm: Sequence[float],
        marks: Landmarks,
        generator: torch.Generator,
    ) -> None:
        self.tissue, self.mask, self.marks = tissue, mask, marks
        self.spacing_mm, self.generator = spacing_mm, generator
        self.distance = signed_distance(mask, spacing_mm)
        # Fraction of each voxel whose own noise is gone.
        self.replaced = torch.zeros_like(tissue)
        self.coverage = mask.float()

    def core(self, model: LesionModel) -> Tensor:
        """The substance inside, with texture and strands, everywhere in the box."""
        level = CONTRASTS[self.marks.contrast][model.core]
        texture = uniform(self.generator, *model.texture)
        scale_mm = uniform(self.generator, 2.0, 8.0)
        ill = self._substance(level) * (1 + texture * self._pattern(scale_mm))
        if level.of != "tissue":
            self.replaced = torch.ones_like(self.tissue)
        share = uniform(self.generator, *model.strands)
        if share > 0:
            strands = self._strands(share)
            left = uniform(self.generator, 0.6, 0.95) * self.tissue
            ill = ill + strands * (left - ill)
            self.replaced = self.replaced * (1 - strands)
        return ill

    def ring(self, ill: Tensor, level: Intensity, width_mm: Range, radius_mm: float) -> Tensor:
        """A ring along the inner side of the edge, of uneven width and with gaps."""
        width = min(uniform(self.generator, *width_mm), 0.5 * radius_mm)
        uneven = (width * (1 + 0.5 * self._pattern(max(4.0, 0.5 * radius_mm)))).clamp_min(0)
        soft = max(0.4, PARTIAL_VOLUME * min(self.spacing_mm))
        weight = _rise((self.distance + uneven) / soft)
        bright = self._substance(level) * (1 + 0.08 * self._pattern(2.5))
        self.replaced = self.replaced + weight * (1 - self.replaced)
        return ill + weight * (bright - ill)

    def cover(self, ill: Tensor, edge_mm: float) -> Tensor:
        """The lesion over the tissue, with an edge that is softer in some places than in others."""
        sigma = max(edge_mm, PARTIAL_VOLUME * max(self.spacing_mm))
        uneven = sigma * (1 + 0.4 * self._pattern(6.0)).clamp(0.4, 2)
        coverage = _rise(-self.distance / uneven)
        # Gaussian edges end somewhere.
        coverage = torch.where(self.distance > 4 * sigma, 0.0, coverage)
        self.coverage = coverage
        self.replaced = self.replaced * coverage
        return self.tissue + coverage * (ill - self.tissue)

    def halo(self, ill: Tensor, level: Intensity, width_mm: float, in_white_matter: bool) -> Tensor:
        """Changed tissue around the lesion, that reaches unevenly far."""
        reach = width_mm * (1 + 0.5 * self._pattern(max(5.0, width_mm))).clamp(0, 1.8)
        soft = 0.2 * width_mm + PARTIAL_VOLUME * max(self.spacing_mm)
        weight = _rise((reach - self.distance) / soft) * (1 - self.coverage)
        weight = torch.where(self.distance > 2 * width_mm, 0.0, weight)
        if in_white_matter:
            weight = weight * white_matter(self.tissue[None], self.marks)
        changed = self._substance(level)
        # Voxels of the edge show what the halo makes of their share of tissue.
        return ill + weight * (changed - self.tissue)

    def noise(self) -> Tensor:
        """The image's own noise where the lesion has replaced it."""
        level = self.marks.noise * (1 - (1 - self.replaced).square()).clamp_min(0).sqrt()
        sigma = self.marks.noise_sigma
        return level * _unit_noise(self.tissue.shape, [sigma] * self.tissue.ndim, self.generator)

    def _substance(self, level: Intensity) -> Tensor:
        share = uniform(self.generator, *level.share)
        return share * (
            self.tissue
            if level.of == "tissue"
            else torch.full_like(self.tissue, self.marks.of(level.of))
        )

    def _pattern(self, scale_mm: float) -> Tensor:
        """Smooth noise of mean 0 and deviation 1."""
        return _pattern(self.tissue.shape, scale_mm, self.spacing_mm, self.generator)

    def _strands(self, share: float) -> Tensor:
        """Threads and sheets of tissue, 0 to 1, thicker towards the edge."""
        scale = uniform(self.generator, 5.0, 12.0)
        # Folds as wide as gyri, frayed.
        ridge = (self._pattern(scale) + 0.3 * self._pattern(0.4 * scale)).abs()
        clumps = self._pattern(2 * scale)
        depth = (-self.distance).clamp_min(0)
        deepest = float(depth.max().clamp_min(1e-6))
        nearness = 1 - depth / deepest
        # Half of the voxels of a normal pattern lie within 0.67 deviations of 0.
        limit = 1.2 * share * (0.5 + nearness) * (1 + 0.5 * clumps).clamp(0, 2)
        return ((limit - ridge) / uniform(self.generator, 0.6, 1.6) + 0.5).clamp(0, 1)


def signed_distance(mask: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Distance in mm to the edge of a mask, negative inside: float32 (*spatial)."""
    import SimpleITK as sitk

    whole = sitk.GetImageFromArray(mask.numpy().astype("uint8"))
    whole.SetSpacing([float(s) for s in reversed(spacing_mm)])
    settings = {"squaredDistance": False, "useImageSpacing": True, "insideIsPositive": False}
    # Voxels on both sides of the edge are at distance 0 of their own side.
    outer = sitk.SignedMaurerDistanceMap(whole, **settings)
    inner = sitk.SignedMaurerDistanceMap(1 - whole, **settings)
    both = torch.from_numpy(sitk.GetArrayFromImage(outer) - sitk.GetArrayFromImage(inner)) / 2
    # The steps of voxels are not the lesion's outline.
    return smooth(both[None, None], 0.6)[0, 0]


def _rise(value: Tensor) -> Tensor:
    """The Gaussian step: 0 far below, 0.5 at 0, 1 far above."""
    return torch.special.ndtr(value)


def _pattern(
    shape: Sequence[int],
    scale_mm: float,
    spacing_mm: Sequence[float],
    generator: torch.Generator,
) -> Tensor:
    """Smooth noise of mean 0 and deviation 1, made on a grid that suits its scale."""
    coarse = [
        max(2, min(n, math.ceil(2 * n * s / scale_mm) + 1))
        for n, s in zip(shape, spacing_mm, strict=True)
    ]
    return _standard(resize(smooth(torch.randn(1, 1, *coarse, generator=generator), 0.8), shape))


def _unit_noise(shape: Sequence[int], sigma: Sequence[float], generator: torch.Generator) -> Tensor:
    """Noise of deviation 1, as smooth as a Gaussian makes it."""
    return _standard(smooth(torch.randn(1, 1, *shape, generator=generator), sigma))


def _standard(noise: Tensor) -> Tensor:
    noise = noise[0, 0] - noise.mean()
    return noise / noise.square().mean().sqrt().clamp_min(1e-6)
