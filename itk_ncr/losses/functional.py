r"""The functional that trains the network and that the per-pair solver minimises.

.. math:: L = D_S + \alpha R(v) + \tau \, \mathrm{mean}(S) + \kappa \, \mathrm{mean}(P(S))
    + \lambda (1 - \mathrm{Dice})

with D a mean over *all* N voxels. So masking a voxel pays where it lowers D by more than
:math:`\tau / N`. Without S it is the plain registration loss.

A training differentiates all of it through a network. The per-pair solver alternates: it descends
:math:`D_S + \alpha R(v)` with the mask held fixed, and the mask step finds S with the velocity held
fixed. There the evidence e of a voxel is the odds that it has no partner, which are learnt, and the
mask step works on their logarithm: it minimises :math:`\mathrm{mean}(S \log(\tau / e)) +
\kappa \, \mathrm{mean}(P(S))`, then moves the rim of S to edges of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError, require_choice
from itk_ncr.losses.local_correlation import local_ncc_to
from itk_ncr.losses.overlap import dice
from itk_ncr.losses.regions import perimeter, volume
from itk_ncr.losses.self_similarity import mind_descriptor
from itk_ncr.losses.similarity import SIMILARITIES
from itk_ncr.losses.smoothness import smoothness
from itk_ncr.losses.weighting import require_weight
from itk_ncr.ops import resize
from itk_ncr.ops.checks import require_same_shape

VOLUME_REDUCTIONS = ("mean", "paper-sum", "mean-as-released")

# Features compared in place of the image: (N, C, *spatial) -> (N, more channels, *spatial).
DESCRIPTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda image: image,
    "mind": mind_descriptor,
}


@dataclass(frozen=True)
class FunctionalValue:
    """Contribution of each term to the total.

    Attributes
    ----------
    total, distance, smoothness, volume, perimeter, overlap : Tensor, shape (N,)
        One value per pair; ``total`` is the sum of the others.
    """

    total: Tensor
    distance: Tensor
    smoothness: Tensor
    volume: Tensor
    perimeter: Tensor
    overlap: Tensor

    def parts(self) -> dict[str, Tensor]:
        """Give the terms by name, without the total."""
        names = [f.name for f in fields(self) if f.name != "total"]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Functional:
    """The functional: its terms, and their weights in canonical units.

    Attributes
    ----------
    similarity : str
        A row of :data:`SIMILARITIES`.
    descriptor : str
        A row of :data:`DESCRIPTORS`: features warped and compared in place of the images. "mind"
        with the similarity "mse" describes both images once; the similarity "mind" describes every
        moved image anew, at a hundred times the cost.
    alpha : float or one per component in array order
        Price of the mean squared gradient of the velocity, in voxels.
    tau : float
        Price of a masked voxel, in the unit of the distance.
    kappa : float
        Price of a unit of the mask's boundary; for the mask step in log-odds x voxels.
    lam : float
        Price of 1 - Dice (lambda).
    overlap_per_class : bool
        Take the Dice of every label separately, then their mean; default: pooled, as published.
    level_weights : tuple of float
        Weights of the scales in a multi-resolution sum, finest first.
    level_spacing : tuple of float
        Voxel size in the gradient of the velocity, finest first. 1: level voxels.
    smoothness_kind : "gradient" or "curvature"
        See :func:`smoothness`.
    stiffness : float
        The velocity is (1 + this * S) times as smooth; 0 is the published form, 9 "ten times".
    perimeter_form, sobel3d : str
        See :func:`perimeter`.
    volume_reduction : str
        ``"mean"``: tau and kappa times means. ``"paper-sum"``: the paper's weights tau / N_ref and
        kappa / N_ref times *sums*: the same at N_ref voxels, cheaper masks on smaller grids.
        ``"mean-as-released"``: those weights times *means*, as in the published code: the price is
        N_ref times too low. For comparison only; it masks half of a healthy brain.
    reference_voxels : int
        N_ref, only used by the last two.
    similarity_settings : mapping
        Keyword arguments of the similarity.

    Raises
    ------
    ArgumentError
        If a choice is unknown or a weight out of its range.
    """

    similarity: str = "mse"
    descriptor: str = "none"
    alpha: float | tuple[float, ...] = 0.01
    tau: float = 0.05
    kappa: float = 0.02
    lam: float = 0.0
    overlap_per_class: bool = False
    level_weights: tuple[float, ...] = (1.0,)
    level_spacing: tuple[float, ...] = (1.0,)
    smoothness_kind: str = "gradient"
    stiffness: float = 0.0
    perimeter_form: str = "tv"
    sobel3d: str = "correct"
    volume_reduction: str = "mean"
    reference_voxels: int = 1
    similarity_settings: Mapping[str, float | int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_choice("similarity", self.similarity, SIMILARITIES)
        require_choice("descriptor", self.descriptor, DESCRIPTORS)
        require_choice("volume_reduction", self.volume_reduction, VOLUME_REDUCTIONS)
        alphas = self.alpha if isinstance(self.alpha, tuple) else (self.alpha,)
        prices = {
            "alpha": alphas,
            "tau": (self.tau,),
            "kappa": (self.kappa,),
            "lam": (self.lam,),
            "level_weights": self.level_weights,
            "stiffness": (self.stiffness,),
        }
        for name, values in prices.items():
            if not values or any(not 0 <= value < math.inf for value in values):
                raise ArgumentError(
                    f"{name} must be finite and not negative; got {getattr(self, name)}. "
                    "Use 0 to leave the term out."
                )
        positive = {
            "level_spacing": self.level_spacing,
            "reference_voxels": (self.reference_voxels,),
        }
        for name, values in positive.items():
            if not values or any(not 0 < value < math.inf for value in values):
                raise ArgumentError(
                    f"{name} must be positive; got {getattr(self, name)}. Leave it out for 1."
                )

    def with_windows(self, radius: int) -> Functional:
        """The same with other windows of local correlation; itself if it has none.

        Parameters
        ----------
        radius : int
            In voxels; positive.

        Returns
        -------
        Functional
            With ``radius`` among its ``similarity_settings``.
        """
        if self.similarity != "lncc":
            return self
        return replace(self, similarity_settings={**self.similarity_settings, "radius": radius})

    def features(self, image: Tensor) -> Tensor:
        """Features of an image that are warped and compared; by default the image itself.

        Parameters
        ----------
        image : Tensor, shape (N, C, *spatial)
            In any intensity unit.

        Returns
        -------
        Tensor, shape (N, channels, *spatial)
            Features on the same grid.
        """
        return DESCRIPTORS[self.descriptor](image)

    def distance_to(
        self,
        fixed: Tensor,
        correspondence: Tensor | None = None,
        *,
        foreground: Tensor | None = None,
    ) -> Callable[[Tensor], Tensor]:
        """Distance of moved features to fixed ones, with what never changes computed once.

        Parameters
        ----------
        fixed : Tensor, shape (N, channels, *spatial)
            Features of the fixed image.
        correspondence : Tensor, shape (N, 1, *spatial), optional
            1 - S. Default: 1 everywhere.
        foreground : Tensor, shape (N, 1, *spatial), optional
            Voxels over which the mean is taken.

        Returns
        -------
        callable
            From moved features, of the shape of ``fixed``, to the distance, (N,).
        """
        settings = self.similarity_settings
        if self.similarity == "lncc":
            return local_ncc_to(fixed, correspondence, foreground=foreground, **settings)  # type: ignore[arg-type]  # by name
        similarity = SIMILARITIES[self.similarity]
        return lambda moved: similarity(
            moved, fixed, correspondence, foreground=foreground, **settings
        )

    def smoothness(
        self,
        velocity: Tensor,
        correspondence: Tensor | None = None,
        *,
        spacing: Sequence[float] | None = None,
        level: int = 0,
    ) -> Tensor:
        """Alpha times the roughness of a velocity.

        Parameters
        ----------
        velocity : Tensor, shape (N, D, *spatial)
            In voxels of its own grid.
        correspondence : Tensor, shape (N, 1, *spatial or finer), optional
            In [0, 1]; the field is stiffer where it is low. No gradient flows to it. Default: 1.
        spacing : D floats in array order, optional
            Voxel size of the velocity's grid; matters where it differs between axes.
        level : int
            Index into ``level_spacing``; beyond its end, the last entry.

        Returns
        -------
        Tensor, shape (N,)
            The weighted term.
        """
        weight = None
        if correspondence is not None and self.stiffness > 0:
            # The mask decides where the field is stiff; the stiffness must not shape the mask.
            inside = 1 - resize(correspondence.detach(), velocity.shape[2:])
            weight = 1 + self.stiffness * inside
        per_component = self.alpha if isinstance(self.alpha, tuple) else None
        alpha = 1.0 if isinstance(self.alpha, tuple) else self.alpha
        roughness = smoothness(
            velocity,
            kind=self.smoothness_kind,
            spacing=spacing,
            component_weights=per_component,
            weight=weight,
        )
        step = self.level_spacing[min(level, len(self.level_spacing) - 1)]
        return alpha / step**2 * roughness

    def __call__(
        self,
        moved: Tensor,
        fixed: Tensor,
        velocity: Tensor,
        noncorrespondence: Tensor | None = None,
        *,
        labels: tuple[Tensor, Tensor] | None = None,
        foreground: Tensor | None = None,
        spacing: Sequence[float] | None = None,
        level: int = 0,
    ) -> FunctionalValue:
        """Evaluate every term for a batch.

        Parameters
        ----------
        moved, fixed : Tensor, shape (N, C, *spatial)
            Features of the images, see :meth:`features`.
        velocity : Tensor, shape (N, D, *spatial or coarser)
            In voxels of its own grid.
        noncorrespondence : Tensor, shape (N, 1, *spatial), optional
            S, in [0, 1]. Without it: the registration loss, nothing masked.
        labels : (moved, fixed), each a Tensor of shape (N, classes, *spatial), optional
        foreground : Tensor, shape (N, 1, *spatial), optional
            Voxels over which the means are taken.
        spacing : D floats in array order, optional
            Voxel size of the velocity's grid; matters where it differs between axes.
        level : int
            Which entry of ``level_spacing`` holds; beyond the last, the last.

        Raises
        ------
        ShapeError
            If the tensors do not fit each other.
        ArgumentError
            If a foreground is given to a setting without one (released perimeter, sums).
        """
        require_same_shape(fixed=fixed, moved=moved)
        require_weight("noncorrespondence", noncorrespondence, fixed)
        none = torch.zeros(fixed.shape[0], dtype=fixed.dtype, device=fixed.device)
        mask = noncorrespondence
        correspondence = None if mask is None else 1 - mask
        distance = self.distance_to(fixed, correspondence, foreground=foreground)(moved)
        roughness = self.smoothness(velocity, correspondence, spacing=spacing, level=level)
        # Autograd adds up gradients in reverse order of these lines: another order changes the last
        # bits of trained weights.
        length = size = overlap = none
        if mask is not None:
            scale = self._scale(mask, foreground)
            length = perimeter(
                mask, self.perimeter_form, sobel3d=self.sobel3d, foreground=foreground
            )
            length = self.kappa * scale * length
            size = self.tau * scale * volume(mask, foreground=foreground)
        if labels is not None and self.lam > 0:
            found = dice(*labels, per_class=self.overlap_per_class)
            overlap = self.lam * (1 - found.view(len(fixed), -1).mean(1))
        parts = {
            "distance": distance,
            "smoothness": roughness,
            "volume": size,
            "perimeter": length,
            "overlap": overlap,
        }
        return FunctionalValue(total=sum(parts.values(), none), **parts)

    def _scale(self, noncorrespondence: Tensor, foreground: Tensor | None) -> float:
        """Factor on tau and kappa."""
        if self.volume_reduction == "mean":
            return 1.0
        scale = 1 / self.reference_voxels
        if self.volume_reduction == "mean-as-released":
            return scale
        if foreground is not None:
            raise ArgumentError(
                'foreground must be left out with volume_reduction "paper-sum"; got a tensor. '
                'Use volume_reduction="mean".'
            )
        return scale * noncorrespondence[0, 0].numel()


def multi_resolution(
    values: Sequence[FunctionalValue], weights: Sequence[float]
) -> FunctionalValue:
    """Add up the scales, every term separately.

    Parameters
    ----------
    values : sequence of FunctionalValue
        One per scale, finest first.
    weights : sequence of float
        One per scale.

    Returns
    -------
    FunctionalValue
        Weighted sums.

    Raises
    ------
    ShapeError
        If there is not one weight per scale, or no scale at all.
    """
    if not values or len(values) != len(weights):
        raise ShapeError(
            f"weights must have one entry per scale, {len(values)}; got {len(weights)}. "
            "Take level_weights of a preset with as many levels."
        )
    summed = {
        f.name: torch.stack(
            [w * getattr(value, f.name) for w, value in zip(weights, values, strict=True)]
        ).sum(0)
        for f in fields(FunctionalValue)
    }
    return FunctionalValue(**summed)
