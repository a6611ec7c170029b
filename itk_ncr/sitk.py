"""SimpleITK-style filter class for registration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK as sitk

from itk_ncr.errors import ArgumentError
from itk_ncr.filters.parameters import MASKS, Accessors, Parameters
from itk_ncr.images import Image, as_image, to_sitk
from itk_ncr.registration import Quality, RegistrationResult, register

__all__ = ["NCRRegistration"]

EVENTS = {
    sitk.sitkAnyEvent: "any",
    sitk.sitkStartEvent: "start",
    sitk.sitkProgressEvent: "progress",
    sitk.sitkEndEvent: "end",
    sitk.sitkAbortEvent: "abort",
}


class NCRRegistration(Accessors):
    """Register two SimpleITK images and find the regions that have no counterpart.

    ``Set`` and ``Get`` for every setting of :class:`itk_ncr.RegistrationSettings`, then
    ``Execute``, then ``Get`` for the results. The images may be 2D or 3D, of any real scalar pixel
    type, each on its own grid. Vectors and points are in mm, LPS, as everywhere in SimpleITK.

    >>> registration = NCRRegistration()
    >>> registration.SetSmoothness(2)
    >>> field = registration.Execute(fixed, moving)  # doctest: +SKIP
    >>> mask = registration.GetMask()  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._parameters = Parameters()
        self._masks: dict[str, Image] = {}
        self._commands: list[tuple[int, Callable[[], Any]]] = []
        self._result: RegistrationResult | None = None
        self._progress = 0.0
        self._message = ""
        self._abort = False

    def Execute(self, fixed: Any, moving: Any) -> sitk.Image:
        """Register ``moving`` to ``fixed``.

        Parameters
        ----------
        fixed, moving : SimpleITK.Image
            Or whatever else :func:`itk_ncr.images.as_image` takes.

        Returns
        -------
        SimpleITK.Image, sitkVectorFloat64, on the fixed grid
            The displacement field: ``warped(x) = moving(x + displacement(x))``.

        Raises
        ------
        NCRError
            What :func:`itk_ncr.register` raises; RegistrationAborted, a RuntimeError, after
            :meth:`Abort`.
        """
        images = as_image(fixed, role="fixed image"), as_image(moving, role="moving image")
        self._result, self._abort, self._progress = None, False, 0.0
        registration: Callable[..., RegistrationResult] = self._parameters.registration or register
        self._invoke(sitk.sitkStartEvent)
        try:
            result = registration(
                *images,
                progress=self._on_progress,
                abort=lambda: self._abort,
                **{keyword: self._masks.get(name) for keyword, name in MASKS.items()},
                **self._parameters.as_options(),
            )
        except BaseException:
            if self._abort:
                self._invoke(sitk.sitkAbortEvent)
            raise
        self._result = result
        if self._progress < 1:
            self._on_progress(1.0, self._message)
        self._invoke(sitk.sitkEndEvent)
        return self.GetDisplacementField()

    # Results

    def GetDisplacementField(self) -> sitk.Image:
        """Vectors in mm on the fixed grid, affine included; sitkVectorFloat64."""
        return _field(self.GetResult().displacement)

    def GetInverseDisplacementField(self) -> sitk.Image:
        """Vectors in mm on the moving grid: ``y + d(y)`` is the fixed point of ``y``."""
        return _field(self.GetResult().displacement_inverse)

    def GetDeformationField(self) -> sitk.Image:
        """Vectors in mm on the fixed grid: the part of the map without the affine."""
        return _field(self.GetResult().deformation)

    def GetWarpedImage(self) -> sitk.Image:
        """The moving image on the fixed grid, sitkFloat32; 0 where the map leaves it."""
        return to_sitk(self.GetResult().warped)

    def GetMaskProbability(self) -> sitk.Image:
        """Probability that a fixed voxel has no counterpart, sitkFloat32."""
        return to_sitk(self.GetResult().noncorrespondence)

    def GetMovingMaskProbability(self) -> sitk.Image:
        """Probability that a moving voxel has no counterpart, on the moving grid."""
        return to_sitk(self.GetResult().noncorrespondence_moving)

    def GetMask(self) -> sitk.Image:
        """1 where the probability is above the mask threshold, sitkUInt8.

        A threshold set after ``Execute`` counts at once; nothing is registered again.
        """
        return to_sitk(self.GetResult().mask)

    def GetMovingMask(self) -> sitk.Image:
        """The same on the moving grid."""
        return to_sitk(self.GetResult().mask_moving)

    def GetJacobian(self) -> sitk.Image:
        """Determinant of the Jacobian of ``x -> x + d(x)``; above 1 where it expands."""
        return to_sitk(self.GetResult().jacobian)

    def GetInverseError(self) -> sitk.Image:
        """Inverse-consistency error in mm."""
        return to_sitk(self.GetResult().inverse_error)

    def GetTransform(self, composite: bool = False) -> sitk.Transform:
        """The map from fixed to moving points.

        Parameters
        ----------
        composite : bool
            Return the deformation followed by the affine, which also moves points outside the fixed
            image. Default: a displacement field, which leaves those points in place.

        Returns
        -------
        SimpleITK.DisplacementFieldTransform or SimpleITK.CompositeTransform
            A copy.
        """
        result = self.GetResult()
        if not composite:
            return sitk.DisplacementFieldTransform(self.GetDisplacementField())
        affine = sitk.AffineTransform(result.affine.dimension)
        affine.SetMatrix(np.ravel(result.affine.matrix).tolist())
        affine.SetTranslation(result.affine.translation)
        # SimpleITK applies the last one first.
        return sitk.CompositeTransform(
            [affine, sitk.DisplacementFieldTransform(self.GetDeformationField())]
        )

    def GetInverseTransform(self) -> sitk.Transform:
        """The map from moving to fixed points, a displacement field transform."""
        return sitk.DisplacementFieldTransform(self.GetInverseDisplacementField())

    def GetQuality(self) -> Quality:
        """The figures of the registration."""
        return self.GetResult().quality

    def GetResult(self) -> RegistrationResult:
        """The whole result, as arrays.

        Raises
        ------
        ArgumentError
            If nothing has been executed.
        """
        if self._result is None:
            raise ArgumentError(
                "NCRRegistration must be executed before its results are asked for; got none. "
                "Call Execute(fixed, moving) first."
            )
        return self._result.with_threshold(self._parameters.get("mask_threshold"))

    # Running

    def AddCommand(self, event: int, command: Callable[[], Any] | sitk.Command) -> int:
        """Call a command at an event.

        Parameters
        ----------
        event : int
            ``sitk.sitkProgressEvent``, Start, End, Abort or AnyEvent.
        command : callable or SimpleITK.Command
            Called without arguments; its exception stops the registration and leaves
            :meth:`Execute`.

        Returns
        -------
        int
            Always 0, as in SimpleITK.

        Raises
        ------
        ArgumentError
            If the event is another.
        """
        if event not in EVENTS:
            raise ArgumentError(
                f"event must be sitkStartEvent, sitkProgressEvent, sitkEndEvent, sitkAbortEvent or "
                f"sitkAnyEvent; got {event!r}."
            )
        self._commands.append(
            (event, command.Execute if isinstance(command, sitk.Command) else command)
        )
        return 0

    def RemoveAllCommands(self) -> None:
        """Remove all commands."""
        self._commands.clear()

    def HasCommand(self, event: int) -> bool:
        """Whether a command was added for an event.

        Parameters
        ----------
        event : int
            As for :meth:`AddCommand`.

        Returns
        -------
        bool
            True if one was added for exactly this event.
        """
        return any(event == other for other, _ in self._commands)

    def GetProgress(self) -> float:
        """Progress of the registration, in [0, 1]."""
        return self._progress

    def GetProgressMessage(self) -> str:
        """Current stage of the registration, in words."""
        return self._message

    def Abort(self) -> None:
        """Ask the running registration to stop: its Execute raises RegistrationAborted."""
        self._abort = True

    def GetName(self) -> str:
        """The name of the filter."""
        return "NCRRegistration"

    def __repr__(self) -> str:
        return f"<NCRRegistration {self._parameters.as_options()}>"

    # Private

    def _set_input(self, name: str, image: Any) -> None:
        self._masks.pop(name, None)
        if image is not None:
            self._masks[name] = as_image(image, role=name)

    def _get_input(self, name: str) -> sitk.Image | None:
        return to_sitk(self._masks[name]) if name in self._masks else None

    def _on_progress(self, fraction: float, message: str) -> None:
        self._progress, self._message = min(max(float(fraction), 0.0), 1.0), message
        self._invoke(sitk.sitkProgressEvent)

    def _invoke(self, event: int) -> None:
        for wanted, command in tuple(self._commands):
            if wanted in (event, sitk.sitkAnyEvent):
                command()


def _field(image: Image) -> sitk.Image:
    """Vectors in double precision, as SimpleITK's transforms require."""
    return to_sitk(Image(image.array.astype(np.float64), image.grid))
