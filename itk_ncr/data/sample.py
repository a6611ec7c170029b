"""Training samples and batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError


@dataclass(frozen=True, eq=False)
class Sample:
    """A training pair with its optional ground truth.

    Attributes
    ----------
    name : str
        For messages and logs: "fixed <- moving".
    fixed, moving : Tensor, shape (1, *spatial), float32
        On the scale of ``preprocessing.normalise``: 0 is background, about 1 the brightest tissue.
    fixed_labels, moving_labels : Tensor, shape (*spatial), uint8 or int16, optional
        0 is not a label; both or none are given.
    lesion : Tensor, shape (1, *spatial), float32, optional
        1 where the fixed image has no partner, as far as that is known; 0 elsewhere.
    displacement : Tensor, shape (D, *spatial), float32, optional
        Truth in voxels: ``moving(x + u(x))`` shows what ``fixed(x)`` does.
    velocity : Tensor, shape (D, *spatial), float32, optional
        Stationary velocity whose exponential ``displacement`` is.
    """

    name: str
    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor | None = None
    moving_labels: Tensor | None = None
    lesion: Tensor | None = None
    displacement: Tensor | None = None
    velocity: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one size, stacked: the fields of :class:`Sample` with a leading axis N.

    Attributes
    ----------
    names : tuple of str
        One per sample.
    fixed, moving : Tensor, shape (N, 1, *spatial)
        Images.
    fixed_labels, moving_labels : Tensor, shape (N, *spatial), optional
        Label maps; 0 is not a label.
    lesion : Tensor, shape (N, 1, *spatial), optional
        1 where the fixed image has no partner.
    displacement, velocity : Tensor, shape (N, D, *spatial), optional
        Truth in voxels.
    """

    names: tuple[str, ...]
    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor | None = None
    moving_labels: Tensor | None = None
    lesion: Tensor | None = None
    displacement: Tensor | None = None
    velocity: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Copy the batch to a device.

        Parameters
        ----------
        device : torch.device or str
            Target device.

        Returns
        -------
        Batch
            The same batch there.
        """
        moved = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)  # type: ignore[arg-type]


class Source(Protocol):
    """Pairs by index; stateless, all randomness comes from the generator."""

    def __len__(self) -> int:
        """Number of pairs in an epoch."""

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """Draw the pair of an index.

        Parameters
        ----------
        index : int
            Position of the pair, 0 to ``len(source) - 1``.
        generator : torch.Generator
            Source of all randomness: the same state draws the same sample.

        Returns
        -------
        Sample
            The pair, augmented.
        """


OPTIONAL = ("fixed_labels", "moving_labels", "lesion", "displacement", "velocity")


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch.

    Labels that only some samples have become 0 (no label) in the others, and overlap measures
    leave them out. A lesion or a true displacement must be known for all samples or for none: an
    unknown one is not the same as none.

    Parameters
    ----------
    samples : sequence of Sample
        Of one size.

    Returns
    -------
    Batch
        In the order of ``samples``.

    Raises
    ------
    ArgumentError
        If there is no sample, or a truth is known for some samples only.
    ShapeError
        If the images differ in size.
    """
    if not samples:
        raise ArgumentError("samples must hold at least one; got none. Pass a list of samples.")
    first = samples[0]
    for sample in samples:
        for name in ("fixed", "moving"):
            if getattr(sample, name).shape != first.fixed.shape:
                raise ShapeError(
                    f"{name} of {sample.name!r} must have the shape of the first sample, "
                    f"{tuple(first.fixed.shape)}; got {tuple(getattr(sample, name).shape)}. "
                    "Give a common size to crop or pad to."
                )
    fields = {name: _stack([getattr(s, name) for s in samples], name) for name in OPTIONAL}
    return Batch(
        names=tuple(s.name for s in samples),
        fixed=torch.stack([s.fixed for s in samples]),
        moving=torch.stack([s.moving for s in samples]),
        **fields,
    )


def _stack(values: list[Tensor | None], name: str) -> Tensor | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(known) < len(values) and not name.endswith("labels"):
        raise ArgumentError(
            f"{name} must be known for all samples of a batch or for none; got {len(known)} of "
            f"{len(values)}. Draw a batch from one kind of source."
        )
    kind = torch.int16 if any(v.dtype == torch.int16 for v in known) else known[0].dtype
    blank = torch.zeros_like(known[0])
    return torch.stack([(blank if value is None else value).to(kind) for value in values])
