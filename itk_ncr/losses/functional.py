r"""The one functional that trains the network and drives the per-pair solver.

.. math:: L = D_S + \alpha R(v) + \tau \, \mathrm{mean}(S) + \kappa \, \mathrm{mean}(P(S))
    + \lambda (1 - \mathrm{Dice})

with D a mean over *all* voxels. So :math:`\tau` is the evidence from which a voxel is masked,
whatever the size of the image. Without S it is the plain registration loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.losses.overlap import dice
from itk_ncr.losses.regions import perimeter, volume
from itk_ncr.losses.similarity import SIMILARITIES
from itk_ncr.losses.smoothness import smoothness
from itk_ncr.losses.weighting import require_same_shape, require_weight
from itk_ncr.ops import resize

VOLUME_REDUCTIONS = ("mean", "paper-sum", "mean-as-released")


@dataclass(frozen=True)
class FunctionalSettings:
    """Weights and choices of the functional, in canonical units.

    Attributes
    ----------
    similarity : str
        A row of :data:`SIMILARITIES`, with ``similarity_settings`` as its keyword arguments.
    alpha : float or one per component in array order
        Price of the mean squared gradient of the velocity, in voxels.
    tau, kappa : float
        Price of a masked voxel, and of a unit of the mask's boundary.
    overlap_weight : float
        Price of 1 - Dice (lambda).
    overlap_per_class : bool
        Dice of every label by itself, then their mean; default: pooled, as published.
    level_weights : tuple of float
        Weights of the scales in a multi-resolution sum, finest first.
    level_spacing : tuple of float
        What a voxel counts as in the gradient of the velocity, finest first. 1: level voxels.
    smoothness_kind : "gradient" or "curvature"
    stiffness_inside : float
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
    """

    similarity: str = "mse"
    alpha: float | tuple[float, ...] = 0.01
    tau: float = 0.05
    kappa: float = 0.02
    overlap_weight: float = 0.0
    overlap_per_class: bool = False
    level_weights: tuple[float, ...] = (1.0,)
    level_spacing: tuple[float, ...] = (1.0,)
    smoothness_kind: str = "gradient"
    stiffness_inside: float = 0.0
    perimeter_form: str = "tv"
    sobel3d: str = "correct"
    volume_reduction: str = "mean"
    reference_voxels: int = 1
    similarity_settings: Mapping[str, float | int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choices in (
            ("similarity", tuple(SIMILARITIES)),
            ("volume_reduction", VOLUME_REDUCTIONS),
        ):
            if getattr(self, name) not in choices:
                raise ArgumentError(
                    f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}. "
                    "Check the spelling."
                )
        alphas = self.alpha if isinstance(self.alpha, tuple) else (self.alpha,)
        prices = {
            "alpha": alphas,
            "tau": (self.tau,),
            "kappa": (self.kappa,),
            "overlap_weight": (self.overlap_weight,),
            "level_weights": self.level_weights,
            "stiffness_inside": (self.stiffness_inside,),
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


@dataclass(frozen=True)
class FunctionalValue:
    """What each term adds to the total; every entry has shape (N,)."""

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


class MumfordShahFunctional:
    """The functional with its settings: call it with images, velocity and mask.

    Parameters
    ----------
    settings : FunctionalSettings
    """

    def __init__(self, settings: FunctionalSettings) -> None:
        self.settings = settings

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
        velocity : Tensor, shape (N, D, *spatial or coarser)
            In voxels of its own grid.
        noncorrespondence : Tensor, shape (N, 1, *spatial), optional
            S, in [0, 1]. Without it: the registration loss, nothing masked.
        labels : (moved, fixed), each a Tensor of shape (N, classes, *spatial), optional
        foreground : Tensor, shape (N, 1, *spatial), optional
            The voxels the means are about.
        spacing : D floats in array order, optional
            Voxel size of the velocity's grid; matters where it differs between axes.
        level : int
            Which entry of ``level_spacing`` holds; beyond the last, the last.

        Raises
        ------
        ShapeError
            If the tensors do not fit each other.
        ArgumentError
            If a foreground is given to a setting that knows none (released perimeter, sums).
        """
        settings = self.settings
        require_same_shape(fixed=fixed, moved=moved)
        require_weight("noncorrespondence", noncorrespondence, fixed)
        none = torch.zeros(fixed.shape[0], dtype=fixed.dtype, device=fixed.device)
        distance = SIMILARITIES[settings.similarity](
            moved,
            fixed,
            None if noncorrespondence is None else 1 - noncorrespondence,
            foreground=foreground,
            **settings.similarity_settings,
        )
        parts = {
            "distance": distance,
            "smoothness": self._smoothness(velocity, noncorrespondence, spacing, level),
            "volume": none,
            "perimeter": none,
            "overlap": none,
        }
        if noncorrespondence is not None:
            parts["volume"], parts["perimeter"] = self._regions(noncorrespondence, foreground)
        if labels is not None and settings.overlap_weight > 0:
            overlap = dice(*labels, per_class=settings.overlap_per_class)
            parts["overlap"] = settings.overlap_weight * (1 - overlap.view(len(fixed), -1).mean(1))
        return FunctionalValue(total=sum(parts.values(), none), **parts)

    def _smoothness(
        self,
        velocity: Tensor,
        noncorrespondence: Tensor | None,
        spacing: Sequence[float] | None,
        level: int,
    ) -> Tensor:
        settings = self.settings
        weight = None
        if noncorrespondence is not None and settings.stiffness_inside > 0:
            # The mask decides where the field is stiff; the stiffness must not shape the mask.
            inside = noncorrespondence.detach()
            if inside.shape[2:] != velocity.shape[2:]:
                inside = resize(inside, velocity.shape[2:])
            weight = 1 + settings.stiffness_inside * inside
        per_component = settings.alpha if isinstance(settings.alpha, tuple) else None
        alpha = 1.0 if isinstance(settings.alpha, tuple) else settings.alpha
        roughness = smoothness(
            velocity,
            kind=settings.smoothness_kind,
            spacing=spacing,
            component_weights=per_component,
            weight=weight,
        )
        step = settings.level_spacing[min(level, len(settings.level_spacing) - 1)]
        return alpha / step**2 * roughness

    def _regions(
        self, noncorrespondence: Tensor, foreground: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        settings = self.settings
        scale = 1.0
        if settings.volume_reduction != "mean":
            scale /= settings.reference_voxels
        if settings.volume_reduction == "paper-sum":
            if foreground is not None:
                raise ArgumentError(
                    'foreground must be left out with volume_reduction "paper-sum"; got a tensor. '
                    'Use volume_reduction="mean".'
                )
            scale *= noncorrespondence[0, 0].numel()
        length = perimeter(
            noncorrespondence,
            settings.perimeter_form,
            sobel3d=settings.sobel3d,
            foreground=foreground,
        )
        return (
            settings.tau * scale * volume(noncorrespondence, foreground=foreground),
            settings.kappa * scale * length,
        )


def multi_resolution(
    values: Sequence[FunctionalValue], weights: Sequence[float]
) -> FunctionalValue:
    """Add up the scales, every term by itself.

    Parameters
    ----------
    values : sequence of FunctionalValue, finest first
    weights : one float per scale

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
