"""The files of one registration, by the role they play."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from itk_ncr.errors import InputError


@dataclass(frozen=True)
class PairFiles:
    """The files of one registration by role; None for those not given.

    Attributes
    ----------
    fixed, moving : Path
        Scalar images of one dimension, or folders with one DICOM series.
    lesion_mask, roi_mask, brain_mask : Path, optional
        In the space of fixed: 1 = ignore, 1 = use, 1 = brain.
    moving_lesion_mask, moving_roi_mask, moving_brain_mask : Path, optional
        The same in the space of moving.
    labels : Path, optional
        Label map in the space of moving, to be carried onto fixed.
    fixed_labels : Path, optional
        Label map in the space of fixed; ``labels`` are compared with it.
    affine, initial_transform : Path, optional
        Affine transforms, fixed to moving points.
    """

    fixed: Path
    moving: Path
    lesion_mask: Path | None = None
    moving_lesion_mask: Path | None = None
    roi_mask: Path | None = None
    moving_roi_mask: Path | None = None
    brain_mask: Path | None = None
    moving_brain_mask: Path | None = None
    labels: Path | None = None
    fixed_labels: Path | None = None
    affine: Path | None = None
    initial_transform: Path | None = None

    def __post_init__(self) -> None:
        if self.fixed_labels is not None and self.labels is None:
            raise InputError(
                f"fixed labels '{self.fixed_labels}' must come with labels of the moving image to "
                "compare them with. Add those, or leave these out."
            )

    def given(self) -> dict[str, Path]:
        """The files there are, by role; fixed first."""
        return {role: path for role, path in vars(self).items() if path is not None}
