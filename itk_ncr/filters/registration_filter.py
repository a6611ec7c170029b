"""``NCRRegistrationFilter``: registration with non-correspondence as a stage of an ITK pipeline."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import itk
from itk.support import template_class

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.filters.events import CoreEvents, Observers
from itk_ncr.filters.inputs import dimension_of
from itk_ncr.filters.outputs import Outputs
from itk_ncr.filters.parameters import Accessors, Parameters, apply_keywords
from itk_ncr.filters.pipeline import (
    FIXED,
    INPUTS,
    MOVING,
    RegistrationPipeline,
    prepare_request,
    vector_type,
)
from itk_ncr.images import as_image
from itk_ncr.registration import RegistrationResult

if TYPE_CHECKING:  # they ask the metaclass what NCRRegistrationFilter[3] is, not __class_getitem__

    class _Template(type):
        def __getitem__(cls, key: Any) -> type[NCRRegistrationFilter]: ...

else:
    _Template = type


class NCRRegistrationFilter(Accessors, Outputs, CoreEvents, metaclass=_Template):
    """Register a moving to a fixed image and find the regions that have no counterpart.

    A true stage of a pipeline (``isinstance(x, itk.ProcessObject)``): filters downstream pull
    through it, filters upstream are updated by it, and it runs again only if an input or a setting
    changed. Its first output is the displacement field, ``itk.Image[itk.Vector[itk.F, D], D]`` in
    mm on the fixed grid with ``warped(x) = moving(x + displacement(x))``.

    ``NCRRegistrationFilter.New(fixed, moving, smoothness=2)`` picks the dimension from the image,
    ``NCRRegistrationFilter[3].New()`` and ``NCRRegistrationFilter[type(fixed)].New()`` fix it;
    a bare ``NCRRegistrationFilter.New()`` takes it from the first image that is set. Inputs are 2D
    or 3D, of any scalar pixel type (used as float32), each on its own grid: ``itk`` images or
    filters, and whatever :func:`itk_ncr.images.as_image` takes. Settings are those of
    :class:`itk_ncr.RegistrationSettings`, with ``Set`` and ``Get`` or as keywords of ``New``.

    Errors keep their type and text when they come out of ``Update`` of this object. If another
    filter pulled, ITK turns them into a RuntimeError; the original is in ``last_exception``, and
    that other filter needs ``ResetPipeline()``. As with all ITK filters, the object must be kept
    alive while its outputs are to be updated.
    """

    dimension: int | None = None
    """Number of axes; None until the first image is set."""

    this: Any

    def __init__(self) -> None:
        self._parameters = Parameters()
        self._pipeline_or_none: RegistrationPipeline | None = None
        if self.dimension is not None:
            self._bind(self.dimension)

    def __class_getitem__(cls, key: Any) -> type[NCRRegistrationFilter]:
        """The class for a number of dimensions, ``[3]``, or for a type of image."""
        while isinstance(key, (tuple, list)) and key:
            key = key[0]
        if hasattr(key, "GetImageDimension"):  # a type of image, or an image
            image: Any = key.New() if isinstance(key, type) else key  # type: ignore[attr-defined]
            key = image.GetImageDimension()
        if isinstance(key, bool) or key not in (2, 3):
            raise ArgumentError(
                f"NCRRegistrationFilter[...] must get 2, 3 or a type of ITK image; got {key!r}."
            )
        return _class_of(int(key))

    @classmethod
    def New(cls, *inputs: Any, **keywords: Any) -> NCRRegistrationFilter:
        """A new filter.

        Parameters
        ----------
        *inputs : images, in the order of ``SetInput``
            Fixed image, moving image, lesion mask, moving lesion mask, ROI mask.
        **keywords
            Every ``SetX`` as ``x`` or ``X``, in snake or camel case: ``fixed_image``,
            ``MovingImage``, ``mask_threshold``, ``registration``; also ``fixed`` and ``moving``.
        """
        new = cls()
        for index, image in enumerate(inputs):
            new.SetInput(index, image)
        progress = {k: keywords.pop(k) for k in ("auto_progress",) if k in keywords}
        apply_keywords(new, keywords)
        if new.dimension is not None:
            template_class.New(new, **progress)  # ITK's own progress display and auto_pipeline
        return new

    # Inputs

    def SetInput(self, *arguments: Any) -> None:
        """``SetInput(fixed)`` or ``SetInput(index, image)``, in the order of :meth:`New`."""
        index, image = arguments if len(arguments) == 2 else (0, *arguments)
        if index not in range(len(INPUTS)):
            raise ArgumentError(f"index must lie in 0..{len(INPUTS) - 1}; got {index!r}.")
        self._set_input(INPUTS[index], image)

    def SetInput1(self, image: Any) -> None:
        """The fixed image."""
        self._set_input(FIXED, image)

    def SetInput2(self, image: Any) -> None:
        """The moving image."""
        self._set_input(MOVING, image)

    def SetFixedImage(self, image: Any) -> None:
        """The image that stays; its grid is that of the outputs."""
        self._set_input(FIXED, image)

    def SetMovingImage(self, image: Any) -> None:
        """The image that is warped."""
        self._set_input(MOVING, image)

    def GetInput(self, index: int = 0) -> Any:
        """The image set as an input.

        Parameters
        ----------
        index : int
            Position in the order of :meth:`New`.

        Returns
        -------
        itk.Image or None
            None if it is not set.
        """
        return self._get_input(INPUTS[index])

    def GetFixedImage(self) -> Any:
        """The fixed image, or None."""
        return self._get_input(FIXED)

    def GetMovingImage(self) -> Any:
        """The moving image, or None."""
        return self._get_input(MOVING)

    # Running

    @property
    def _core(self) -> Any:
        return self._pipeline.core

    @property
    def _observers(self) -> Observers:
        return self._pipeline.observers

    def GetProgressMessage(self) -> str:
        """Current stage of the registration, in words."""
        return self._pipeline.message

    @property
    def last_exception(self) -> BaseException | None:
        """Error of the last run; the original, also where ITK reported a RuntimeError."""
        return self._pipeline.last_exception

    def Update(self) -> None:
        """Update all outputs that have been requested.

        Raises
        ------
        NCRError
            What the registration raised: ImageValueError, RegistrationAborted and so on.
        """
        self._run("Update", whole=False)

    def UpdateLargestPossibleRegion(self) -> None:
        """:meth:`Update` for whole images, whatever region a downstream filter asked for last."""
        self._run("UpdateLargestPossibleRegion", whole=True)

    def UpdateOutputInformation(self) -> None:
        """Bring the grid of the output up to date; nothing is registered."""
        if self._pipeline_or_none is None:
            return  # no image yet, so no grid
        try:
            super().UpdateOutputInformation()  # type: ignore[misc]
        except BaseException:
            self.ResetPipeline()
            raise

    def ResetPipeline(self) -> None:
        """Make this filter and all upstream ready to run again after an error."""
        pipeline = self._pipeline
        super().ResetPipeline()  # type: ignore[misc]
        pipeline.reset()

    def GetMTime(self) -> int:
        """When the filter was last changed, the mask threshold included."""
        return max(self._pipeline.modified_time(), super().GetMTime())  # type: ignore[misc]

    def Modified(self) -> None:
        """Make the next Update register again."""
        self._pipeline.modified()

    # What ITK shows

    @classmethod
    def GetTypes(cls) -> list[type[NCRRegistrationFilter]]:
        """The classes there are, as of an ITK template."""
        return [_class_of(2), _class_of(3)]

    def GetNameOfClass(self) -> str:
        """The name without the dimension."""
        return "NCRRegistrationFilter"

    def __repr__(self) -> str:
        dimension = "unbound" if self.dimension is None else f"{self.dimension}D"
        settings = self._parameters.as_options()
        return f"<NCRRegistrationFilter {dimension}, {settings}>"

    __str__ = __repr__  # that of ITK would tell of the C++ filter inside

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled are the settings and the images as they are now, not the pipeline around them."""
        images: dict[str, Any] = {}
        if self._pipeline_or_none is not None:
            for name in INPUTS:
                image = self._pipeline.get_input(name)
                if image is not None:
                    image.Update()
                    images[name] = as_image(image, role=name)
        state = (self._parameters.as_options(), self._parameters.registration, images)
        return _restore, (self.dimension, *state)

    def __getattr__(self, name: str) -> Any:
        if self.dimension is None and not name.startswith("_") and name != "this":
            raise AttributeError(
                f"NCRRegistrationFilter has {name!r} only once its dimension is known: set an "
                "image first, or use NCRRegistrationFilter[3].New()."
            )
        raise AttributeError(f"NCRRegistrationFilter has no attribute {name!r}")

    # Private

    @property
    def _pipeline(self) -> RegistrationPipeline:
        if self._pipeline_or_none is None:
            raise ArgumentError(
                "NCRRegistrationFilter must know its dimension; got no image yet. "
                "Set the fixed image first, or use NCRRegistrationFilter[3].New()."
            )
        return self._pipeline_or_none

    def _bind(self, dimension: int) -> None:
        """Become the class of this dimension: adopt a C++ filter and build the stages above it."""
        self.__class__ = _class_of(dimension)
        self.this = _composition(dimension).New().this
        self._pipeline_or_none = RegistrationPipeline(dimension, self._parameters)
        self._pipeline_or_none.feed(super().SetInput, "displacement")  # type: ignore[misc]

    def _set_input(self, name: str, image: Any) -> None:
        if self.dimension is None:
            if image is None:
                return
            dimension = dimension_of(image, name)
            if dimension not in (2, 3):
                raise ShapeError(f"{name} must be 2D or 3D; got {dimension} dimensions.")
            self._bind(dimension)
        self._pipeline.set_input(name, image)

    def _get_input(self, name: str) -> Any:
        return None if self._pipeline_or_none is None else self._pipeline.get_input(name)

    def _setting_changed(self, name: str) -> None:
        if self._pipeline_or_none is not None:
            self._pipeline.setting_changed(name)

    def _run(self, update: str, whole: bool) -> None:
        for name in (FIXED, MOVING):
            if self._get_input(name) is None:
                raise ArgumentError(
                    f"{name} must be set before Update; got none. Call SetFixedImage and "
                    "SetMovingImage, or give both to New."
                )
        pipeline, native_update = self._pipeline, getattr(super(), update)

        def update_all() -> None:
            prepare_request(self.GetOutput())
            native_update()
            pipeline.update_outputs(whole)

        if not pipeline.running:
            # An error met while another filter pulled leaves ITK's marks of a running update, with
            # which this one would do nothing and say nothing.
            self.ResetPipeline()
        try:
            pipeline.run(update_all)
        except BaseException:
            self.ResetPipeline()
            raise


def ncr_registration_filter(*inputs: Any, **keywords: Any) -> Any:
    """Register and return the displacement field, as ITK's functions in snake case do.

    For all other outputs use the class, or :func:`itk_ncr.register`.

    Parameters
    ----------
    *inputs, **keywords
        As for :meth:`NCRRegistrationFilter.New`.

    Returns
    -------
    itk.Image[itk.Vector[itk.F, D], D]
        Displacement in mm, on the fixed grid.
    """
    registration = NCRRegistrationFilter.New(*inputs, **keywords)
    registration.UpdateLargestPossibleRegion()
    field = registration.GetOutput()
    field.DisconnectPipeline()
    return field


def _composition(dimension: int) -> Any:
    """The wrapped C++ filter with a vector output whose object a filter adopts."""
    return itk.ComposeImageFilter[itk.Image[itk.F, dimension], vector_type(dimension)]


@functools.cache
def _class_of(dimension: int) -> type[NCRRegistrationFilter]:
    members = {"dimension": dimension, "__doc__": NCRRegistrationFilter.__doc__}
    bases = (NCRRegistrationFilter, _composition(dimension))
    return type(f"NCRRegistrationFilter{dimension}D", bases, members)


def _restore(
    dimension: int | None,
    settings: dict[str, Any],
    registration: Callable[..., RegistrationResult] | None,
    images: dict[str, Any],
) -> NCRRegistrationFilter:
    """The filter that ``__reduce__`` took apart."""
    new = NCRRegistrationFilter() if dimension is None else _class_of(dimension)()
    for name, value in settings.items():
        new._set(name, value)
    new.SetRegistration(registration)
    for name, image in images.items():
        new._set_input(name, image)
    return new
