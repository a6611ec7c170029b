"""Models of realistic lesions: filling, surroundings and contrast.

Intensities are shares of landmarks of the image at hand, so that the same model fits a T1, T2 or
FLAIR image of any scale. Ranges were set beside real images: a chronic stroke and two tumours in
T1, a glioma in T2, lesions of multiple sclerosis in T1, T2 and FLAIR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from itk_ncr.fields import smooth

Range = tuple[float, float]

# Quantiles of the tissue: fluid in T1 and FLAIR; grey matter in T1; white matter in T1.
DARK, MIDDLE, BRIGHT = 0.05, 0.5, 0.75
# Noise is estimated in blocks of this many voxels along every axis, and in the calmest of them.
NOISE_BLOCK = {2: 6, 3: 4}
CALMEST = 0.1
# A T2 image has a bright tail (fluid); a FLAIR image has tissue of nearly one intensity.
T2_TAIL, FLAIR_SPREAD = 1.4, 0.25


@dataclass(frozen=True)
class Intensity:
    """Intensity of a substance as a share of a landmark, drawn uniformly.

    Attributes
    ----------
    of : str
        "dark", "middle", "bright": a landmark of the image; "tissue": what was there before.
    share : (low, high)
    """

    of: str
    share: Range


@dataclass(frozen=True)
class LesionModel:
    """Parameters of one kind of lesion; every range is drawn from uniformly.

    Attributes
    ----------
    core : str
        Substance inside, a key of the rows of ``CONTRASTS``.
    size_ml : (low, high)
        Volume, drawn on a logarithmic scale. A 2D lesion has the radius of the ball of that volume.
    edge_mm : (low, high)
        Gaussian sigma of the edge, drawn on a logarithmic scale.
    texture : (low, high)
        Relative deviation of a smooth pattern inside.
    strands : (low, high)
        Fraction of the inside that is surviving tissue.
    ring, halo : str, optional
        Substance of a ring along the inner side of the edge, and of what surrounds the lesion.
    ring_mm, halo_mm : (low, high)
        Their widths.
    ring_probability, halo_probability : float
    halo_in_white_matter : bool
        Whether the halo spares cortex and fluid.
    push : (low, high)
        Largest displacement of the surroundings as a share of the lesion's radius: positive away
        from it (mass effect), negative towards it (widening ex vacuo).
    pieces : (low, high)
        Number of parts.
    in_white_matter : bool
        Whether every piece begins in white matter.
    real_shapes : float
        Fraction of real masks among its shapes, where there are any.
    """

    core: str
    size_ml: Range = (0.3, 150.0)
    edge_mm: Range = (0.5, 2.0)
    texture: Range = (0.0, 0.1)
    strands: Range = (0.0, 0.0)
    ring: str | None = None
    ring_mm: Range = (1.5, 4.0)
    ring_probability: float = 1.0
    halo: str | None = None
    halo_mm: Range = (2.0, 6.0)
    halo_probability: float = 1.0
    halo_in_white_matter: bool = False
    push: Range = (0.0, 0.0)
    pieces: tuple[int, int] = (1, 1)
    in_white_matter: bool = False
    real_shapes: float = 0.5


# Lesions with structure and surroundings, by their kind.
LESION_MODELS: dict[str, LesionModel] = {
    # A chronic infarct: fluid crossed by strands of tissue, a gliotic rim, neighbours drawn in.
    "cavity": LesionModel(
        "fluid", size_ml=(1.0, 150.0), edge_mm=(0.8, 3.0), texture=(0.05, 0.2),
        strands=(0.15, 0.6), halo="gliosis", halo_mm=(2.0, 7.0), push=(-0.3, 0.0),
        pieces=(1, 2), real_shapes=0.75,
    ),
    # A resection cavity or cyst: even fluid with a sharp edge.
    "cyst": LesionModel(
        "fluid", edge_mm=(0.4, 1.0), texture=(0.0, 0.05), halo="gliosis",
        halo_probability=0.4, push=(-0.1, 0.25), real_shapes=0.3,
    ),
    # An acute or subacute infarct: swollen tissue that is still visible.
    "infarct": LesionModel(
        "ischaemia", edge_mm=(0.8, 3.0), texture=(0.02, 0.12), push=(0.0, 0.15),
        pieces=(1, 3), real_shapes=0.85,
    ),
    # A tumour: necrosis, enhancing ring, oedema in the white matter around, mass effect.
    "tumour": LesionModel(
        "necrosis", size_ml=(2.0, 120.0), edge_mm=(0.5, 1.2), texture=(0.05, 0.2),
        ring="enhancement", ring_mm=(1.5, 5.0), ring_probability=0.8, halo="oedema",
        halo_mm=(4.0, 20.0), halo_in_white_matter=True, push=(0.05, 0.35), pieces=(1, 2),
        real_shapes=0.0,
    ),
    # Oedema or a diffuse tumour: tissue changed, its borders indistinct.
    "oedema": LesionModel(
        "oedema", size_ml=(2.0, 150.0), edge_mm=(2.0, 5.0), texture=(0.03, 0.1),
        push=(0.0, 0.15), in_white_matter=True, real_shapes=0.3,
    ),
    # A haemorrhage or a solidly enhancing tumour: brighter than all tissue.
    "haemorrhage": LesionModel(
        "blood", edge_mm=(0.4, 1.5), texture=(0.0, 0.06), halo="oedema",
        halo_mm=(2.0, 10.0), halo_probability=0.5, halo_in_white_matter=True, push=(0.0, 0.3),
        real_shapes=0.4,
    ),
    # A solid tumour without contrast agent: near grey matter.
    "isointense": LesionModel(
        "solid", edge_mm=(0.5, 2.5), texture=(0.03, 0.15), push=(0.0, 0.3), real_shapes=0.3,
    ),
    # Multiple sclerosis, small vessel disease: many small pieces in the white matter.
    "spots": LesionModel(
        "gliosis", size_ml=(0.3, 25.0), edge_mm=(0.5, 1.2), texture=(0.02, 0.1), pieces=(3, 25),
        in_white_matter=True, real_shapes=0.0,
    ),
}  # fmt: skip

_T1 = {
    "fluid": Intensity("dark", (0.7, 1.3)),
    "gliosis": Intensity("tissue", (0.6, 0.85)),
    "ischaemia": Intensity("tissue", (0.65, 0.9)),
    "necrosis": Intensity("dark", (0.9, 1.6)),
    "enhancement": Intensity("bright", (1.05, 1.5)),
    "oedema": Intensity("tissue", (0.7, 0.88)),
    "blood": Intensity("bright", (1.1, 1.7)),
    "solid": Intensity("middle", (0.8, 1.1)),
}
# What a substance looks like, by the weighting of the image.
CONTRASTS: dict[str, dict[str, Intensity]] = {
    "t1": _T1,
    "t2": {
        "fluid": Intensity("bright", (1.5, 1.9)),
        "gliosis": Intensity("tissue", (1.35, 1.8)),
        "ischaemia": Intensity("tissue", (1.15, 1.6)),
        "necrosis": Intensity("bright", (1.2, 1.8)),
        "enhancement": Intensity("middle", (0.9, 1.3)),
        "oedema": Intensity("tissue", (1.25, 1.7)),
        "blood": Intensity("dark", (0.3, 0.9)),
        "solid": Intensity("middle", (0.9, 1.25)),
    },
    "flair": {
        "fluid": Intensity("dark", (0.5, 1.3)),
        "gliosis": Intensity("tissue", (1.15, 1.5)),
        "ischaemia": Intensity("tissue", (1.1, 1.4)),
        "necrosis": Intensity("middle", (0.5, 1.1)),
        "enhancement": Intensity("bright", (1.1, 1.5)),
        "oedema": Intensity("tissue", (1.15, 1.45)),
        "blood": Intensity("bright", (1.1, 1.7)),
        "solid": Intensity("middle", (0.95, 1.2)),
    },
}


@dataclass(frozen=True)
class Landmarks:
    """Reference intensities of an image's tissues.

    Attributes
    ----------
    dark, middle, bright : float
        Quantiles 5, 50 and 75 % of the tissue.
    contrast : str
        The row of ``CONTRASTS`` that fits.
    noise : float
        Standard deviation.
    noise_sigma : float
        Gaussian sigma, in voxels, that makes white noise as smooth as that of the image.
    """

    dark: float
    middle: float
    bright: float
    contrast: str
    noise: float
    noise_sigma: float

    def of(self, name: str) -> float:
        """The landmark of that name."""
        return {"dark": self.dark, "middle": self.middle, "bright": self.bright}[name]


def landmarks(image: Tensor, inside: Tensor, contrast: str | None = None) -> Landmarks:
    """Measure the landmarks of an image.

    Parameters
    ----------
    image : Tensor, shape (1, *spatial)
    inside : Tensor, shape (*spatial), bool
        The tissue; not empty.
    contrast : str, optional
        A row of ``CONTRASTS``. Default: guessed from the histogram.
    """
    values = image[0][inside]
    values = values[:: max(1, len(values) // 50_000)].float()
    levels = torch.tensor([DARK, 0.25, MIDDLE, BRIGHT, 0.95])
    dark, low, middle, bright, top = torch.quantile(values, levels).tolist()
    if contrast is None:
        tail = (top - middle) / max(middle - dark, 1e-6)
        spread = (bright - low) / max(middle, 1e-6)
        narrow = spread < FLAIR_SPREAD and tail < 1
        contrast = "t2" if tail > T2_TAIL else "flair" if narrow else "t1"
    return Landmarks(dark, middle, bright, contrast, *_noise(image, inside))


def _noise(image: Tensor, inside: Tensor) -> tuple[float, float]:
    """Deviation of the noise and how smooth it is, from the blocks that show least anatomy."""
    values, whole = _blocks(image[0].float()), _blocks(inside).flatten(1).all(1)
    values = values[whole]
    if len(values) < 5:
        return 0.0, 0.0
    # What a plane explains is anatomy or a bias field.
    edge, dimension = values.shape[-1], inside.ndim
    line = torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2
    rest = values - values.flatten(1).mean(1).view(-1, *(1,) * dimension)
    for axis in range(dimension):
        ramp = (line / line.norm()).view(-1, *(1,) * (dimension - 1 - axis))
        ramp = ramp / math.sqrt(edge ** (dimension - 1))
        slope = (rest * ramp).flatten(1).sum(1).view(-1, *(1,) * dimension)
        rest = rest - slope * ramp
    variance = rest.square().flatten(1).sum(1) / (edge**dimension - dimension - 1)
    limit = torch.quantile(variance[:100_000], CALMEST)
    calm = rest[variance <= limit]
    likeness = float(
        (calm[..., 1:] * calm[..., :-1]).mean() / calm.square().mean().clamp_min(1e-12)
    )
    # White noise under a Gaussian of sigma s correlates by exp(-1 / (4 s^2)) with its neighbour.
    likeness = min(likeness, 0.85)
    sigma = 0.0 if likeness < 0.02 else 0.5 / math.sqrt(-math.log(likeness))
    return math.sqrt(float(limit)), sigma


def _blocks(array: Tensor) -> Tensor:
    """An array cut into cubes or squares: (B, edge, ...)."""
    edge = NOISE_BLOCK[array.ndim]
    for axis in range(array.ndim):
        array = array.narrow(axis, 0, array.shape[axis] // edge * edge)
    for axis in range(array.ndim):
        # Each axis becomes one of blocks in front and one of voxels at the end.
        array = array.unfold(axis, edge, edge)
    return array.flatten(0, len(array.shape) // 2 - 1)


def white_matter(image: Tensor, marks: Landmarks) -> Tensor:
    """Similarity to white matter, 0 to 1: (*spatial)."""
    share = smooth(image[None].float(), 0.7)[0, 0] / max(marks.middle, 1e-6)
    if marks.contrast == "t1":
        rise = (share - 0.85) / 0.15
    elif marks.contrast == "t2":
        rise = (1.25 - share) / 0.25
    else:
        rise = (share - 0.6) / 0.2
    return rise.clamp(0, 1)
