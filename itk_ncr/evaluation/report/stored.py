"""A registration read back from the files of a run, for reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from itk_ncr.errors import ImageReadError
from itk_ncr.geometry import AffineMap
from itk_ncr.images import Image, read_displacement, read_image


@dataclass(frozen=True)
class StoredRegistration:
    """The stored part of a result in the folder of a run, on the fixed grid."""

    warped: Image
    noncorrespondence: Image
    mask: Image
    jacobian: Image
    displacement: Image
    affine: AffineMap

    @classmethod
    def read(cls, folder: Path, record: Mapping[str, Any]) -> StoredRegistration:
        """Read the files that a run's record names.

        Parameters
        ----------
        folder : Path
            Written by ``itk-ncr register``.
        record : mapping
            Its ``summary.json``.

        Raises
        ------
        ImageReadError
            If a file is missing or not named in the record.
        """
        names = record.get("outputs")

        def file(name: str) -> Path:
            stored = names.get(name) if isinstance(names, dict) else None
            if not isinstance(stored, str) or Path(stored).name != stored:
                raise ImageReadError(
                    f"the record of '{folder}' names no {name}. Run `itk-ncr register` again."
                )
            return folder / stored

        try:
            affine = AffineMap(
                np.asarray(record["affine"]["matrix"], dtype=np.float64),  # type: ignore[arg-type]
                np.asarray(record["affine"]["translation"], dtype=np.float64),  # type: ignore[arg-type]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ImageReadError(
                f"the record of '{folder}' holds no affine. Run `itk-ncr register` again."
            ) from error
        return cls(
            read_image(file("warped"), "warped image"),
            read_image(file("mask_probability"), "probability of the mask"),
            read_image(file("mask"), "mask"),
            read_image(file("jacobian"), "Jacobian map"),
            read_displacement(file("displacement")),
            affine,
        )

    @cached_property
    def deformation(self) -> Image:
        """The map without the affine, ``affine^-1(x + displacement(x)) - x``; mm, LPS."""
        grid, back = self.displacement.grid, self.affine.inverse()
        array = np.empty(self.displacement.array.shape, np.float32)
        for start, field in enumerate(self.displacement.array):
            points = grid.points(start, start + 1)[0]
            array[start] = back(points + field) - points
        return Image(array, grid)

    @property
    def transform_deformation(self) -> Image:
        """The same: its files hold it on no other grid."""
        return self.deformation
