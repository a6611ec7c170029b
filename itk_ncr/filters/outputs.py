"""Outputs of the filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from itk_ncr.filters import transforms
from itk_ncr.filters.pipeline import RegistrationPipeline
from itk_ncr.registration import Quality, RegistrationResult


class Outputs:
    """The outputs of a filter whose stages are in ``_pipeline``.

    Images are pipeline objects: they have voxels after an Update of theirs, of the filter, or of a
    filter downstream. Transforms and figures are computed on access.
    """

    GetOutput: Callable[[], Any]  # of ITK
    Update: Any

    @property
    def _pipeline(self) -> RegistrationPipeline:
        raise NotImplementedError

    def GetDisplacementField(self) -> Any:
        """``GetOutput()``: vectors in mm, LPS, on the fixed grid, affine included."""
        return self.GetOutput()

    def GetInverseDisplacementField(self) -> Any:
        """Vectors in mm on the moving grid: ``y + d(y)`` is the fixed point of ``y``."""
        return self._pipeline.output("inverse displacement")

    def GetDeformationField(self) -> Any:
        """Vectors in mm on the fixed grid: the part of the map without the affine."""
        return self._pipeline.output("deformation")

    def GetWarpedImage(self) -> Any:
        """The moving image on the fixed grid, float; 0 where the map leaves it."""
        return self._pipeline.output("warped")

    def GetMaskProbability(self) -> Any:
        """Probability that a fixed voxel has no counterpart, float."""
        return self._pipeline.output("probability")

    def GetMovingMaskProbability(self) -> Any:
        """Probability that a moving voxel has no counterpart, float, on the moving grid."""
        return self._pipeline.output("moving probability")

    def GetMask(self) -> Any:
        """1 where the probability is above the mask threshold, unsigned char."""
        return self._pipeline.output("mask")

    def GetMovingMask(self) -> Any:
        """The same on the moving grid."""
        return self._pipeline.output("moving mask")

    def GetJacobian(self) -> Any:
        """Determinant of the Jacobian of ``x -> x + d(x)``, float; above 1 where it expands."""
        return self._pipeline.output("jacobian")

    def GetInverseError(self) -> Any:
        """Inverse-consistency error in mm, float."""
        return self._pipeline.output("inverse error")

    def GetTransform(self, composite: bool = False) -> Any:
        """The map from fixed to moving points, after an :meth:`Update` if one is due.

        Parameters
        ----------
        composite : bool
            Return the deformation followed by the affine, which also moves points outside the fixed
            image. Default: a displacement field, which leaves those points in place.

        Returns
        -------
        itk.DisplacementFieldTransform or itk.CompositeTransform, [itk.D, D]
            A copy.
        """
        result = self.GetResult()
        if composite:
            return transforms.composite_transform(result.transform_deformation, result.affine)
        return transforms.displacement_transform(result.displacement)

    def GetInverseTransform(self) -> Any:
        """The map from moving to fixed points, ``itk.DisplacementFieldTransform[itk.D, D]``."""
        return transforms.displacement_transform(self.GetResult().displacement_inverse)

    def GetQuality(self) -> Quality:
        """The figures of the registration, after an :meth:`Update` if one is due."""
        return self.GetResult().quality

    def GetResult(self) -> RegistrationResult:
        """The whole result as arrays, after an :meth:`Update` if one is due."""
        if not self._pipeline.is_current():
            self.Update()
        return self._pipeline.thresholded()
