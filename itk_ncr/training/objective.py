"""Training objective: the functional at every scale plus supervised terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from itk_ncr.data import Batch
from itk_ncr.losses import FunctionalValue, dice, multi_resolution
from itk_ncr.networks import halve
from itk_ncr.ops import warp
from itk_ncr.prediction import Prediction
from itk_ncr.training.settings import WITHOUT_LABELS, TrainingSettings

# A lesion this small has no Dice to speak of at a coarse scale.
LEAST_VOXELS = 4


class Objective:
    """The loss of a batch, in named parts.

    Parameters
    ----------
    settings : TrainingSettings
        Functional, variant and weights of the truths.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        of_pair, of_mask = settings.functional, settings.mask_functional
        if of_mask is not None:  # it alone pays for the size of the mask
            of_pair = replace(of_pair, tau=0.0, kappa=0.0)
        self.functional = of_pair
        self.mask_functional = of_mask

    def __call__(
        self,
        prediction: Prediction,
        batch: Batch,
        generator: torch.Generator,
        label_values: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Evaluate the loss.

        Parameters
        ----------
        prediction : Prediction
            Without noncorrespondence: the registration loss.
        batch : Batch
        generator : torch.Generator
            Draws the labels of this step.
        label_values : Tensor, optional
            The values to draw from; default: those of the batch.

        Returns
        -------
        dict of str to Tensor
            Scalars; "total" is the sum of the others.
        """
        settings = self.settings
        planes = self._labels(batch, generator, label_values)
        fixed, moving, lesion = batch.fixed, batch.moving, batch.lesion
        values: list[FunctionalValue] = []
        mask_values: list[FunctionalValue] = []
        supervision = fixed.new_zeros(())
        weights = settings.functional.level_weights[: len(prediction.velocity)]
        for scale, (velocity, displacement) in enumerate(
            zip(prediction.velocity, prediction.displacement, strict=True)
        ):
            if scale:
                fixed, moving = halve(fixed), halve(moving)
                planes = None if planes is None else (halve(planes[0]), halve(planes[1]))
                lesion = None if lesion is None else halve(lesion)
            seen, features = self.functional.features(fixed), self.functional.features(moving)
            moved = warp(features, displacement)
            mask = prediction.noncorrespondence[scale] if prediction.noncorrespondence else None
            labels = None if planes is None else (warp(planes[0], displacement), planes[1])
            known = mask
            if mask is not None and self.mask_functional is not None:
                known = mask.detach()
                if lesion is not None and settings.mask_supervision > 0:
                    known = torch.maximum(known, lesion)
                found = self.mask_functional(
                    moved.detach(), seen, velocity.detach(), mask, level=scale
                )
                mask_values.append(_of_the_mask(found))
            values.append(self.functional(moved, seen, velocity, known, labels=labels, level=scale))
            if mask is not None and lesion is not None and settings.mask_supervision > 0:
                supervision = supervision + weights[scale] * supervised_mask(mask, lesion).mean()
        value = multi_resolution(values, weights)
        parts = {"registration": value.distance.mean(), **_means(value)}
        total = value.total.mean()
        if mask_values:
            of_mask = multi_resolution(mask_values, weights)
            parts |= {
                "mask": of_mask.distance.mean(),
                "volume": of_mask.volume.mean(),
                "perimeter": of_mask.perimeter.mean(),
            }
            total = total + of_mask.total.mean()
        if settings.mask_supervision > 0 and prediction.noncorrespondence:
            parts["mask_supervision"] = settings.mask_supervision * supervision
            total = total + parts["mask_supervision"]
        if settings.displacement_supervision > 0 and batch.displacement is not None:
            error = (prediction.displacement[0] - batch.displacement).square().sum(1)
            if batch.lesion is not None:
                error = error * (1 - batch.lesion[:, 0])
            parts["displacement"] = settings.displacement_supervision * error.mean()
            total = total + parts["displacement"]
        return {"total": total, **parts}

    def _labels(
        self, batch: Batch, generator: torch.Generator, shared: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """One plane per label, of the moving and of the fixed image."""
        settings = self.settings
        if settings.variant in WITHOUT_LABELS or settings.labels == "none":
            return None
        if settings.functional.lam == 0:
            return None
        fixed, moving = batch.fixed_labels, batch.moving_labels
        if fixed is None or moving is None:
            if settings.labels == "all":
                return None
            return (batch.moving > 0).to(batch.fixed), (batch.fixed > 0).to(batch.fixed)
        if settings.labels == "foreground":
            planes = [(labels > 0).to(batch.fixed.dtype)[:, None] for labels in (moving, fixed)]
            return planes[0], planes[1]
        shared = shared_labels(batch) if shared is None else shared.to(fixed)
        if len(shared) == 0:
            return None
        chosen = torch.randperm(len(shared), generator=generator)[: settings.most_labels]
        wanted = shared[chosen].view(1, -1, *(1,) * (fixed.ndim - 1))
        planes = [(labels[:, None] == wanted).to(batch.fixed.dtype) for labels in (moving, fixed)]
        return planes[0], planes[1]


def shared_labels(batch: Batch, values: Callable[[Tensor], Tensor] = torch.unique) -> Tensor:
    """Values but 0 that both label maps of a batch have, in rising order; none without labels."""
    nothing = batch.fixed.new_zeros(0, dtype=torch.int64)
    fixed = values(nothing if batch.fixed_labels is None else batch.fixed_labels)
    moving = values(nothing if batch.moving_labels is None else batch.moving_labels)
    return fixed[torch.isin(fixed, moving) & (fixed > 0)]


def supervised_mask(mask: Tensor, lesion: Tensor) -> Tensor:
    """Cross-entropy, and one minus Dice where there is a lesion; shape (N,)."""
    axes = tuple(range(1, mask.ndim))
    entropy = functional.binary_cross_entropy(mask, lesion, reduction="none").mean(axes)
    ill = (lesion.sum(axes) >= LEAST_VOXELS).to(mask.dtype)
    return entropy + ill * (1 - dice(mask, lesion))


def _of_the_mask(value: FunctionalValue) -> FunctionalValue:
    """Loss of the mask: its distance and its size, not the velocity."""
    none = torch.zeros_like(value.total)
    total = value.distance + value.volume + value.perimeter
    return replace(value, total=total, smoothness=none, overlap=none)


def _means(value: FunctionalValue) -> dict[str, Tensor]:
    return {name: part.mean() for name, part in value.parts().items() if name != "distance"}
