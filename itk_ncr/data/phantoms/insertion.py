"""Insert a lesion into a healthy image, with ground truth."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itk_ncr.data.augmentation import uniform
from itk_ncr.data.manifest import image_stem
from itk_ncr.data.phantoms.appearance import APPEARANCES, Appearance, insert_lesion
from itk_ncr.data.phantoms.blobs import random_centre, sized_blob
from itk_ncr.data.phantoms.models import CONTRASTS, LESION_MODELS, landmarks
from itk_ncr.data.phantoms.named import NAMED_LESIONS
from itk_ncr.data.phantoms.realistic import draw_mask, draw_push, fill, unit_spacing
from itk_ncr.data.placement import Placement
from itk_ncr.data.rendering import upper_quartile
from itk_ncr.data.store import filled
from itk_ncr.errors import ArgumentError, ImageReadError, require_choice
from itk_ncr.fields import smooth
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, physical_displacement, read_image, resample
from itk_ncr.ops import exponential, jacobian_determinant
from itk_ncr.preprocessing import ScaledImage, normalise

# Draws one of LESION_MODELS.
ANY_MODEL = "realistic"
# The kinds that :func:`make_phantom` knows.
LESION_KINDS = (*NAMED_LESIONS, *APPEARANCES, ANY_MODEL, *LESION_MODELS)
# Default radius of a lesion in mm; drawn on a logarithmic scale.
RADIUS_MM = (5.0, 20.0)
# No lesion fills more of the object.
LARGEST_SHARE = 0.5
# Fraction of white matter's intensity: darker is fluid or air, where no lesion begins.
TISSUE = 0.5
# A push fades over this share of the lesion's radius (Gaussian sigma).
PUSH_REACH = 0.5


@dataclass(frozen=True, eq=False)
class Phantom:
    """An image with an inserted lesion and its ground truth, on the grid of the healthy image.

    Attributes
    ----------
    image : Image
        Of the healthy image's type.
    lesion : Image, uint8
        1 where it is.
    displacement : Image, vector, mm, LPS, optional
        Mass effect: away from the lesion, ``image(x)`` shows ``healthy(x + displacement(x))``. It
        is what a registration of the healthy image (moving) to the phantom (fixed) should find.
    affected : Image, uint8, optional
        1 in the lesion and where it made tissue visibly brighter or darker: gliosis, oedema, soft
        edges. Known for the kinds of ``LESION_MODELS``.
    kind : str
        What was inserted, drawn or given.
    """

    image: Image
    lesion: Image
    displacement: Image | None = None
    affected: Image | None = None
    kind: str = ""

    @property
    def size_mm(self) -> float:
        """Volume of the lesion in mm3; of a 2D image its area in mm2."""
        return float(self.lesion.array.sum()) * math.prod(self.lesion.grid.spacing)


def make_phantom(
    image: Image,
    kind: str,
    generator: torch.Generator,
    *,
    mask: Image | None = None,
    masks: str | os.PathLike[str] | None = None,
    at_mm: Sequence[float] | None = None,
    size_mm: float | None = None,
    mass_effect_mm: float | None = None,
    contrast: str | None = None,
) -> Phantom:
    """Insert a lesion into a healthy image.

    Parameters
    ----------
    image : Image
        2D or 3D, scalar; bright tissue on dark background, such as a T1 image of a brain.
    kind : str
        One of ``LESION_KINDS``: an appearance of ``APPEARANCES``, L1 to L4 with appearance and
        size of those of ``NAMED_LESIONS``, a model of ``LESION_MODELS``, or "realistic": one of
        these models, drawn.
    generator : torch.Generator
        For place, outline, brightness and texture, as far as they are not given.
    mask : Image, optional
        Shape and place of the lesion, in its own physical space; every voxel above 0 belongs to it.
    masks : folder, optional
        Where the masks of L1 to L4 are; without it a random shape of their size stands in.
    at_mm : sequence of float, optional
        Centre of the lesion, (x, y, z), LPS. Default: the mask's own, or drawn from the tissue.
    size_mm : float, optional
        Volume in mm3, area in mm2 for 2D. A mask is scaled to it.
    mass_effect_mm : float, optional
        How far, at most, tissue is pushed away from the lesion. Default: as the model draws it,
        for other kinds 0.
    contrast : str, optional
        Weighting of the image, a row of ``CONTRASTS``; for models only. Default: guessed.

    Returns
    -------
    Phantom
        The changed image, the lesion and its properties.

    Raises
    ------
    ArgumentError
        If there is no such kind, the lesion does not fit into the object, or the push would fold.
    ImageReadError
        If ``masks`` lacks the mask of that lesion.
    """
    require_choice("lesion", kind, LESION_KINDS)
    for name, value in (("size_mm", size_mm), ("mass_effect_mm", mass_effect_mm)):
        if value is not None and not (0 <= value < math.inf and (value or name != "size_mm")):
            raise ArgumentError(f"{name} must be finite and positive; got {value}.")
    if at_mm is not None and len(at_mm) != image.dimension:
        raise ArgumentError(
            f"centre of the lesion must have {image.dimension} numbers; got {len(at_mm)}."
        )
    if contrast is not None:
        require_choice("contrast", contrast, CONTRASTS)
    if kind == ANY_MODEL:
        kind = list(LESION_MODELS)[int(uniform(generator, 0, len(LESION_MODELS)))]
    named = NAMED_LESIONS.get(kind)
    if mask is None and masks is not None and named is not None:
        mask = _named_mask(masks, named.mask)
    if mask is None and named is not None and size_mm is None:
        size_mm = named.volume_mm3 if image.dimension == 3 else named.area_mm2
    scaled = normalise(image.array)
    inside = filled(torch.from_numpy(scaled.foreground))
    if mask is not None:
        where = _placed(mask, image.grid, at_mm, size_mm) & inside
        if not where.any():
            raise ArgumentError(
                "mask must overlap with what the image shows; got nothing in common. Give the "
                "mask in the image's space, or the centre of the lesion."
            )
    elif kind in LESION_MODELS:
        where = _modelled(scaled, image.grid, inside, kind, generator, at_mm, size_mm, contrast)
    else:
        tissue = torch.from_numpy(scaled.values > TISSUE * _white(scaled.values, scaled.foreground))
        where = _drawn(image.grid, inside, tissue, generator, at_mm, size_mm)
    if kind in LESION_MODELS:
        return _realistic(image, where, inside, kind, generator, mass_effect_mm, contrast)
    displacement = None
    if mass_effect_mm:
        displacement = _push(where, image.grid, mass_effect_mm)
        image = Image(_moved(image, displacement), image.grid)
    appearance = APPEARANCES[kind] if named is None else named.appearance
    array = _with_lesion(image, where, appearance, generator)
    return Phantom(Image(array, image.grid), _mask(where, image.grid), displacement, kind=kind)


def _modelled(
    scaled: ScaledImage,
    grid: Grid,
    inside: Tensor,
    kind: str,
    generator: torch.Generator,
    at_mm: Sequence[float] | None,
    size_mm: float | None,
    contrast: str | None,
) -> Tensor:
    """A shape that a model draws, bool (*spatial)."""
    values = torch.from_numpy(scaled.values)[None]
    voxels = None if size_mm is None else _voxels(size_mm, grid, inside)
    return draw_mask(
        values,
        inside,
        Placement.of(grid),
        LESION_MODELS[kind],
        landmarks(values, inside, contrast),
        generator,
        voxels=voxels,
        centre=None if at_mm is None else _centre(at_mm, grid, inside),
    )


def _realistic(
    image: Image,
    where: Tensor,
    inside: Tensor,
    kind: str,
    generator: torch.Generator,
    mass_effect_mm: float | None,
    contrast: str | None,
) -> Phantom:
    """The image with a lesion that a model fills."""
    grid = image.grid
    spacing = unit_spacing(inside, grid.spacing[::-1])
    peak = None if mass_effect_mm is None else mass_effect_mm * spacing[-1] / grid.spacing[0]
    push = draw_push(where, inside, kind, generator, spacing_mm=spacing, peak_mm=peak)
    displacement = None
    if push is not None:
        displacement = physical_displacement(push, grid, grid)
        image = Image(_moved(image, displacement), grid)
    scaled = normalise(image.array)
    healthy = torch.from_numpy(scaled.values)[None]
    marks = landmarks(healthy, inside, contrast)
    ill, affected = fill(healthy, where, inside, kind, marks, generator, spacing_mm=spacing)
    array = _changed(image, scaled.values, ill)
    return Phantom(
        Image(array, grid), _mask(where, grid), displacement, _mask(affected, grid), kind
    )


def _mask(where: Tensor, grid: Grid) -> Image:
    return Image(where.numpy().astype(np.uint8), grid)


def _named_mask(folder: str | os.PathLike[str], name: str) -> Image:
    for file in sorted(Path(folder).iterdir()) if Path(folder).is_dir() else ():
        if image_stem(file.name) == name:
            return read_image(file, "lesion mask")
    raise ImageReadError(
        f"cannot read lesion mask {name!r}: no image of that name in {str(folder)!r}. "
        "Without a folder of masks a random shape of its size is taken."
    )


def _white(values: NDArray[np.float32], foreground: NDArray[np.bool_]) -> float:
    return upper_quartile(torch.from_numpy(values[foreground]))


def _drawn(
    grid: Grid,
    inside: Tensor,
    tissue: Tensor,
    generator: torch.Generator,
    at_mm: Sequence[float] | None,
    size_mm: float | None,
) -> Tensor:
    """A random shape, bool (*spatial)."""
    voxel = math.prod(grid.spacing)
    if size_mm is None:
        radius = math.exp(uniform(generator, *(math.log(r) for r in RADIUS_MM)))
        ball = math.pi * radius**2 if grid.dimension == 2 else 4 / 3 * math.pi * radius**3
        size_mm = min(ball, LARGEST_SHARE * int(inside.sum()) * voxel)
    voxels = _voxels(size_mm, grid, inside)
    if at_mm is None:
        centre = random_centre(inside, generator, tissue)
    else:
        centre = _centre(at_mm, grid, inside)
    return sized_blob(inside, grid.spacing[::-1], generator, voxels=voxels, centre=centre)


def _voxels(size_mm: float, grid: Grid, inside: Tensor) -> int:
    """Number of voxels of a lesion of a size in mm3, in 2D mm2."""
    voxel = math.prod(grid.spacing)
    room = LARGEST_SHARE * int(inside.sum()) * voxel
    if size_mm > room:
        unit = "mm2" if grid.dimension == 2 else "mm3"
        raise ArgumentError(
            f"size of the lesion must be at most half of what the image shows, {room:.6g} {unit}; "
            f"got {size_mm:g}. Give a smaller size."
        )
    return max(1, round(size_mm / voxel))


def _centre(at_mm: Sequence[float], grid: Grid, inside: Tensor) -> list[int]:
    """The voxel of a point, array order."""
    index = np.rint(grid.continuous_index(np.asarray(at_mm, np.float64))).astype(int)[::-1]
    centre: list[int] = index.tolist()
    if (index < 0).any() or (index >= grid.shape).any() or not inside[tuple(centre)]:
        raise ArgumentError(
            f"centre of the lesion must lie in what the image shows; got {tuple(at_mm)}, voxel "
            f"{tuple(centre[::-1])} of size {grid.size}. Is it LPS, in the order x, y, z?"
        )
    return centre


def _placed(
    mask: Image, grid: Grid, at_mm: Sequence[float] | None, size_mm: float | None
) -> Tensor:
    """A mask on another grid, moved and scaled about its centre: bool (*spatial)."""
    voxels = mask.array > 0
    if not voxels.any():
        raise ArgumentError("mask must hold a voxel above 0; got none. Check the file.")
    centre = mask.grid.points()[voxels].mean(0)
    target = centre if at_mm is None else np.asarray(at_mm, np.float64)
    shrink = 1.0
    if size_mm is not None:
        size = voxels.sum() * math.prod(mask.grid.spacing)
        shrink = float(size / size_mm) ** (1 / mask.dimension)
    back = AffineMap(np.eye(mask.dimension) * shrink, tuple(centre - shrink * target))  # type: ignore[arg-type]
    found = resample(Image(voxels.astype(np.float32), mask.grid), grid, back)
    return torch.from_numpy(found.array >= 0.5)


def _push(where: Tensor, grid: Grid, peak_mm: float) -> Image:
    """A diffeomorphism that makes room for a lesion: mm on the grid, towards the lesion."""
    spacing = grid.spacing[::-1]
    dimension = grid.dimension
    size = float(where.sum()) * math.prod(spacing)
    radius = math.sqrt(size / math.pi) if dimension == 2 else (size * 0.75 / math.pi) ** (1 / 3)
    soft = smooth(where.float()[None, None], PUSH_REACH * radius, spacing=spacing)[0, 0]
    slopes = torch.stack(torch.gradient(soft, spacing=list(spacing)))
    velocity = slopes * (peak_mm / float(slopes.square().sum(0).max().sqrt().clamp_min(1e-12)))
    steps = torch.tensor(spacing, dtype=torch.float32).view(-1, *(1,) * dimension)
    u = exponential((velocity / steps)[None])
    if float(jacobian_determinant(u).min()) <= 0:
        raise ArgumentError(
            f"mass effect must be small against the lesion, whose radius is {radius:.3g} mm; "
            f"got {peak_mm:g} mm, which would fold. Give less."
        )
    return physical_displacement(u, grid, grid)


def _moved(image: Image, displacement: Image) -> NDArray[np.generic]:
    """The image through a displacement, in its own type; what comes from outside is its border."""
    moved = resample(image, image.grid, displacement=displacement, padding="border").array
    return _as_type(moved, image.array.dtype)


def _with_lesion(
    image: Image, where: Tensor, appearance: Appearance, generator: torch.Generator
) -> NDArray[np.generic]:
    """The image with a lesion; all that is far from it is as it was, bit by bit."""
    scaled = normalise(image.array)
    healthy = torch.from_numpy(scaled.values)[None]
    ill = insert_lesion(
        healthy,
        where,
        appearance,
        generator,
        white=_white(scaled.values, scaled.foreground),
        spacing_mm=image.grid.spacing[::-1],
    )
    return _changed(image, scaled.values, ill)


def _changed(image: Image, healthy: NDArray[np.float32], ill: Tensor) -> NDArray[np.generic]:
    """The image with a change that is given on the scale of ``normalise``."""
    change = (ill[0].numpy() - healthy).astype(np.float64) * _unit(image.array, healthy)
    array = np.where(change == 0, image.array, image.array + change)
    return _as_type(array, image.array.dtype)


def _unit(array: NDArray[np.generic], scaled: NDArray[np.float32]) -> float:
    """Intensity that became 1 when the image was scaled."""
    values, shown = np.asarray(array, np.float64), scaled.astype(np.float64)
    # At the ends of the scale several intensities are one.
    kept = (shown > 0) & (shown < shown.max())
    if not kept.any() or np.ptp(shown[kept]) == 0:
        kept = np.isfinite(values)
    low, high = (pick(np.where(kept, shown, np.nan)) for pick in (np.nanargmin, np.nanargmax))
    return float((values.flat[high] - values.flat[low]) / (shown.flat[high] - shown.flat[low]))


def _as_type(array: NDArray[np.generic], dtype: np.dtype) -> NDArray[np.generic]:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        array = np.clip(np.rint(array), limits.min, limits.max)
    return array.astype(dtype)
