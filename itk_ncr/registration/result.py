"""Result of a registration: images in their own spaces, with quality figures and inputs.

The class is what users hold in their hands; most of its lines document it.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from torch import Tensor

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import (
    Image,
    as_image,
    map_values,
    resample,
    to_sitk_transform,
    transform_points,
)
from itk_ncr.registration.inputs import Inputs
from itk_ncr.registration.quality import Quality, masked_share

if TYPE_CHECKING:
    from itk_ncr.evaluation import Page
    from itk_ncr.registration.request import Request
    from itk_ncr.settings import RegistrationSettings


IMAGES = (
    *("warped", "displacement", "displacement_inverse", "deformation", "mask", "mask_moving"),
    *("noncorrespondence", "noncorrespondence_moving", "jacobian", "inverse_error"),
    *("foreground", "foreground_moving", "entropy", "displacement_std"),
)
"""Attributes of a :class:`RegistrationResult` that are images."""


@dataclass(frozen=True)
class ModelRecord:
    """The model whose weights were used.

    Attributes
    ----------
    name : str
        Its name or folder.
    sha256 : str
        Checksum of the file of weights.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class RegistrationResult:
    """Everything one registration found out about a pair.

    Attributes
    ----------
    displacement : Image, vector, mm, LPS, on the fixed grid
        ``d`` with ``warped(x) = moving(x + d(x))``; carries the affine.
    displacement_inverse : Image, vector, mm, LPS, on the moving grid
        ``y + d_inv(y)`` is the point of the fixed image that corresponds to ``y``.
    deformation : Image, vector, mm, LPS, on the fixed grid
        The part of the map without the affine: the map is ``x -> affine(x + deformation(x))``.
    warped : Image, float32, on the fixed grid
        The moving image in its own intensities; 0 where the map leaves it.
    noncorrespondence, noncorrespondence_moving : Image, float32 in [0, 1]
        Probability that a voxel of the fixed (moving) image has no partner.
    jacobian : Image, float32, on the fixed grid
        Determinant of ``x -> x + displacement(x)``, affine included.
    inverse_error : Image, float32, mm, on the fixed grid
        Length of ``phi^-1(phi(x)) - x``.
    foreground, foreground_moving : Image, uint8
        1 where the fixed (moving) image shows something: what the shares in ``quality`` are of.
    affine : AffineMap
        Fixed to moving points.
    quality : Quality
        The figures above, summed up.
    mask_threshold : float
        Where ``mask`` and ``mask_moving`` cut the probabilities.
    warnings : tuple of str
        What the reader should know before trusting the result.
    notes : tuple of str
        What was recognised in the images, and what was done about it.
    settings : RegistrationSettings
        Every setting the result was made with.
    engine : str
        The row of ``REGISTRATIONS`` that was used.
    model : ModelRecord or None
        The model of the network; None without one.
    finds_mask : bool
        Whether the method looked for noncorrespondence itself; else it is what was given.
    working_deformation : Image, vector, mm, LPS, or None
        The part of the map without the affine on the grid that the pair was solved on, of the same
        ends as the fixed one. Interpolated linearly it is ``deformation``, so that a transform made
        of it is the same map in fewer bytes. None where a result was made by hand.
    working_deformation_inverse : Image, vector, mm, LPS, or None
        The way back on the same grid: ``y -> z + working_deformation_inverse(z)`` with
        ``z = affine^-1(y)``.
    inputs : Inputs or None
        The images, masks and transforms it was made from; None where it was made by hand.
    displacement_std : Image, float32, mm, on the fixed grid, or None
        Standard deviation of the displacement, the root of the trace of its covariance, over the
        repetitions of ``uncertainty_runs``; None without them.

    Notes
    -----
    Images of more than 4 million voxels are computed when their ``array`` is asked for, and not
    kept: hold on to the array if you need it twice. See :class:`itk_ncr.images.DeferredImage`.
    """

    displacement: Image
    displacement_inverse: Image
    deformation: Image
    warped: Image
    noncorrespondence: Image
    noncorrespondence_moving: Image
    jacobian: Image
    inverse_error: Image
    foreground: Image
    foreground_moving: Image
    affine: AffineMap
    quality: Quality
    mask_threshold: float
    warnings: tuple[str, ...]
    settings: RegistrationSettings
    engine: str = "instance"
    model: ModelRecord | None = None
    working_deformation: Image | None = None
    working_deformation_inverse: Image | None = None
    inputs: Inputs | None = None
    finds_mask: bool = True
    notes: tuple[str, ...] = ()
    displacement_std: Image | None = None

    @property
    def entropy(self) -> Image:
        """Uncertainty of the mask, in nats: 0 where sure, log 2 = .69 where the odds are even."""
        return map_values(self.noncorrespondence, lambda p: entr(p) + entr(1 - p), np.float32)

    @property
    def transform_deformation(self) -> Image:
        """The part of the map without the affine, on the smallest grid that holds all of it."""
        return self.working_deformation or self.deformation

    @property
    def transform_back(self) -> tuple[AffineMap | None, Image]:
        """The way back as an affine and the deformation after it, on the smallest grid."""
        if self.working_deformation_inverse is None:
            return None, self.displacement_inverse
        return self.affine.inverse(), self.working_deformation_inverse

    @property
    def mask(self) -> Image:
        """1 where a fixed voxel has no partner (uint8, fixed grid)."""
        return _cut(self.noncorrespondence, self.mask_threshold)

    @property
    def mask_moving(self) -> Image:
        """1 where a moving voxel has no partner (uint8, moving grid)."""
        return _cut(self.noncorrespondence_moving, self.mask_threshold)

    def with_threshold(self, mask_threshold: float) -> RegistrationResult:
        """The same result with another mask threshold; nothing is registered again.

        Parameters
        ----------
        mask_threshold : float
            Probability in [0, 1] above which a voxel is in the mask.

        Returns
        -------
        RegistrationResult
            A copy with new masks and masked fractions.

        Raises
        ------
        ArgumentError
            If the threshold is out of range.
        """
        settings = dataclasses.replace(self.settings, mask_threshold=mask_threshold)
        mask_threshold = settings.mask_threshold
        quality = dataclasses.replace(
            self.quality,
            masked_fraction=masked_share(self.noncorrespondence, self.foreground, mask_threshold),
            masked_fraction_moving=masked_share(
                self.noncorrespondence_moving, self.foreground_moving, mask_threshold
            ),
        )
        return dataclasses.replace(self, mask_threshold=float(mask_threshold), quality=quality)

    def __repr__(self) -> str:
        """Method, grids and the main figures of quality."""
        fixed, moving = self.displacement.grid.size, self.displacement_inverse.grid.size
        return (
            f"<RegistrationResult by {self.engine}: fixed {fixed}, moving {moving}, "
            f"masked {100 * self.quality.masked_fraction:.3g} %, "
            f"folding {100 * self.quality.folding_fraction:.3g} %, {len(self.warnings)} warnings>"
        )

    def resample(self, image: Any, mode: str = "linear") -> Image:
        """An image or label map of the moving space on the fixed grid.

        Parameters
        ----------
        image : Image, itk.Image, SimpleITK.Image or array
            On any grid in the moving space. Arrays and tensors have no position: they must have the
            shape of the moving grid, and count as on it.
        mode : "linear" or "nearest"
            "nearest" for labels and masks.

        Returns
        -------
        Image
            0 where the map leaves ``image``.
        """
        image = _placed(image, self.displacement_inverse.grid)
        grid = self.displacement.grid
        return resample(image, grid, displacement=self.displacement, mode=mode)

    def resample_inverse(self, image: Any, mode: str = "linear") -> Image:
        """An image or label map of the fixed space on the moving grid.

        Parameters
        ----------
        image, mode
            As for :meth:`resample`, with fixed and moving exchanged.

        Returns
        -------
        Image
            0 where the map leaves ``image``.
        """
        image = _placed(image, self.displacement.grid)
        grid = self.displacement_inverse.grid
        return resample(image, grid, displacement=self.displacement_inverse, mode=mode)

    def image(self, name: str = "warped") -> Image:
        """One of the images, by the name of its attribute.

        Parameters
        ----------
        name : str
            "warped", "displacement", "noncorrespondence", "mask", ...; a wrong one lists them all.

        Returns
        -------
        Image
            That attribute.

        Raises
        ------
        ArgumentError
            If there is no image of that name, or it was not computed.
        """
        if name not in IMAGES:
            raise ArgumentError(f"name must be one of {', '.join(IMAGES)}; got {name!r}.")
        made: Image | None = getattr(self, name)
        if made is None:
            raise ArgumentError(
                f"name {name!r} needs a registration with uncertainty_runs; this one had none. "
                "Use uncertainty_runs=8."
            )
        return made

    def to_sitk(self, name: str = "warped") -> Any:
        """An image of the result for SimpleITK.

        Parameters
        ----------
        name : str
            As for :meth:`image`.

        Returns
        -------
        SimpleITK.Image
            A copy.
        """
        return self.image(name).to_sitk()

    def to_itk(self, name: str = "warped") -> Any:
        """An image of the result for ITK.

        Parameters
        ----------
        name : str
            As for :meth:`image`.

        Returns
        -------
        itk.Image
            A copy.
        """
        return self.image(name).to_itk()

    def to_nibabel(self, name: str = "warped") -> Any:
        """An image of the result for nibabel.

        Parameters
        ----------
        name : str
            As for :meth:`image`.

        Returns
        -------
        nibabel.Nifti1Image
            A copy.
        """
        return self.image(name).to_nibabel()

    def to_ants(self, name: str = "warped") -> Any:
        """An image of the result for ANTsPy.

        Parameters
        ----------
        name : str
            As for :meth:`image`.

        Returns
        -------
        ants.ANTsImage
            A copy.
        """
        return self.image(name).to_ants()

    def to_sitk_transform(self, inverse: bool = False) -> Any:
        """The map as a SimpleITK transform.

        ``SimpleITK.Resample(moving, fixed, transform)`` makes ``warped`` of it. Outside the fixed
        image, or for the inverse outside its affine image, only the affine acts.

        Parameters
        ----------
        inverse : bool
            Map moving to fixed points. Default: fixed to moving points.

        Returns
        -------
        SimpleITK.Transform
            A composite transform.
        """
        if not inverse:
            return to_sitk_transform(self.affine, self.transform_deformation)
        return to_sitk_transform(*self.transform_back, affine_first=True)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        labels: Any = None,
        fixed_labels: Any = None,
        ending: str | None = None,
        report: bool = True,
        overwrite: bool = False,
    ) -> Path:
        """Write everything to a folder, as ``itk-ncr register -o FOLDER`` does.

        The files appear together when everything is written, or not at all.

        Parameters
        ----------
        folder : path
            Made if it does not exist.
        labels, fixed_labels : image or path, optional
            Label maps of the moving and of the fixed image: the first is carried onto the fixed
            grid, and with the second their overlap is measured.
        ending : str, optional
            ".nii.gz", ".nii", ".nrrd" or ".mha". Default: that of the file of the fixed image; of
            arrays .nii.gz in 3D and .nrrd in 2D.
        report : bool
            Draw ``report.html`` and ``overview.png`` as well.
        overwrite : bool
            Replace the files of an earlier run in the folder.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        InputError
            If the folder cannot be written to, or holds files without ``overwrite``.
        ArgumentError
            If the result was not made by :func:`itk_ncr.register`.
        ImageWriteError
            If a file cannot be written; nothing is left behind.
        """
        from itk_ncr.runs import save_result

        return save_result(
            self,
            Path(folder),
            labels=labels,
            fixed_labels=fixed_labels,
            ending=ending,
            report=report,
            overwrite=overwrite,
        )

    def report(self) -> Page:
        """The page of ``report.html``: a notebook shows it, ``.save(path)`` writes it.

        Raises
        ------
        ArgumentError
            If the result was not made by :func:`itk_ncr.register`.
        """
        from itk_ncr.evaluation import result_page

        return result_page(self)

    def _repr_html_(self) -> str:
        """Images and figures at a glance, for notebooks."""
        from itk_ncr.evaluation import result_html

        return result_html(self)

    def required_inputs(self) -> Inputs:
        """The inputs, or an :class:`~itk_ncr.errors.ArgumentError` where there are none."""
        if self.inputs is None:
            raise ArgumentError(
                "result must know the images that it was made from; this one was made by hand. "
                "Use one that itk_ncr.register returned."
            )
        return self.inputs

    def transform_points(self, points: ArrayLike, inverse: bool = False) -> NDArray[np.float64]:
        """Map points of the fixed space to the moving space, or back.

        Parameters
        ----------
        points : array_like, shape (n, D)
            Points (x, y, z) in mm, LPS.
        inverse : bool
            Map moving to fixed points. Default: fixed to moving points.

        Returns
        -------
        ndarray of float64, shape (n, D)
            The mapped points in mm.

        Raises
        ------
        ShapeError, ArgumentError
            As :func:`itk_ncr.images.transform_points`.
        """
        field = self.displacement_inverse if inverse else self.displacement
        return transform_points(points, field)


def _placed(image: Any, grid: Grid) -> Image:
    """An image in space; what has no place lies on ``grid``."""
    if isinstance(image, Image):
        return image
    if not isinstance(image, (np.ndarray, Tensor)):
        return as_image(image)
    if tuple(image.shape)[-grid.dimension :] != grid.shape:
        raise ShapeError(
            f"image must have the shape of the grid it is from, {grid.shape}; got "
            f"{tuple(image.shape)}. Give one with a grid: itk_ncr.Image(array, grid)."
        )
    return as_image(image, grid.spacing, grid.origin, grid.direction)


def _cut(probability: Image, threshold: float) -> Image:
    return map_values(probability, lambda values: values > threshold, np.uint8)


class Registration(Protocol):
    """Aligns one pair; every way to register differs only behind this line."""

    def __call__(self, request: Request) -> RegistrationResult:
        """Register the moving to the fixed image."""
        ...
