"""Lesions that a source of pairs inserts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itk_ncr.data.augmentation import uniform
from itk_ncr.data.phantoms import APPEARANCES, LesionBank, insert_lesion, random_blob
from itk_ncr.data.placement import Placement
from itk_ncr.errors import ArgumentError

SIDES = ("fixed", "moving", "both")
# Fraction of white matter's intensity: darker is fluid or, in OCT, the vitreous.
TISSUE = 0.5


@dataclass(frozen=True, eq=False)
class Lesions:
    """Which lesions a source inserts.

    Attributes
    ----------
    bank : LesionBank, optional
        Real masks; None: blobs only.
    probability : float
        Of a lesion in an image that may have one.
    where : str
        "fixed", "moving", or "both": each image by itself.
    appearances : sequence of str
        Rows of ``phantoms.APPEARANCES``, drawn alike.
    blobs : float
        Fraction of random blobs among the lesions; where no mask of the bank fits a blob is used,
        too.
    """

    bank: LesionBank | None
    probability: float = 0.8
    where: str = "fixed"
    appearances: tuple[str, ...] = tuple(APPEARANCES)
    blobs: float = 0.2

    def __post_init__(self) -> None:
        unknown = [name for name in self.appearances if name not in APPEARANCES]
        if self.where not in SIDES or unknown or not self.appearances:
            raise ArgumentError(
                f"where must be one of {', '.join(SIDES)} and appearances of "
                f"{', '.join(APPEARANCES)}; got {self.where!r} and {self.appearances}."
            )
        for name in ("probability", "blobs"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} must be in [0, 1]; got {getattr(self, name)}.")

    def insert(
        self,
        image: Tensor,
        role: str,
        generator: torch.Generator,
        *,
        placement: Placement,
        inside: Tensor,
        white: float,
    ) -> tuple[Tensor, Tensor | None]:
        """Insert a lesion with the configured probability.

        Parameters
        ----------
        image : Tensor, shape (1, *spatial)
            On the scale of ``preprocessing.normalise``; it has to be normalised again afterwards.
        role : str
            "fixed" or "moving".
        generator : torch.Generator
        placement : Placement
            Where the voxels lie.
        inside : Tensor, shape (*spatial), bool
            Where a lesion may be.
        white : float
            Intensity of white matter in this image.

        Returns
        -------
        Tensor, shape (1, *spatial)
            The image, with a lesion or as it was.
        Tensor, shape (*spatial), bool, or None
            Where the lesion is, if there is one.
        """
        if self.where not in (role, "both") or not inside.any():
            return image, None
        if uniform(generator, 0, 1) >= self.probability:
            return image, None
        mask = None
        if self.bank is not None and uniform(generator, 0, 1) >= self.blobs:
            mask = self.bank.draw(placement, inside, generator)
        if mask is None:
            tissue = image[0] > TISSUE * white
            mask = random_blob(inside, placement.spacing_mm, generator, centres=tissue)
        name = self.appearances[int(uniform(generator, 0, len(self.appearances)))]
        ill = insert_lesion(
            image,
            mask,
            APPEARANCES[name],
            generator,
            white=white,
            spacing_mm=placement.spacing_mm,
        )
        return ill, mask
