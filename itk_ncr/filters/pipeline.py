"""The registration as a graph of pipeline stages.

The core stage reads the inputs, registers, and keeps the result; its own output is the warped
image. Every other output is a small stage below it, which copies the requested part of one array of
the result. So ITK itself decides what has to run again: the core when an input or a setting
changed, the mask alone when its threshold did, nothing when nothing did.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import itk

from itk_ncr.errors import ArgumentError, RegistrationAborted, ShapeError
from itk_ncr.filters import stages
from itk_ncr.filters.events import Observers, unprinted
from itk_ncr.filters.inputs import as_input, float_cast
from itk_ncr.filters.parameters import MASKS, Parameters
from itk_ncr.images import Image
from itk_ncr.registration import RegistrationResult, register

FIXED, MOVING = "fixed image", "moving image"
INPUTS = (FIXED, MOVING, *MASKS.values())


@dataclass(frozen=True)
class Output:
    """One row of :data:`OUTPUTS`: what a stage below the core copies."""

    read: Callable[[RegistrationResult], Image]
    on_moving_grid: bool = False
    pixel: str = "float"  # or "vector" or "mask"


OUTPUTS: dict[str, Output] = {
    "displacement": Output(lambda r: r.displacement, pixel="vector"),
    "inverse displacement": Output(
        lambda r: r.displacement_inverse, on_moving_grid=True, pixel="vector"
    ),
    "deformation": Output(lambda r: r.deformation, pixel="vector"),
    "probability": Output(lambda r: r.noncorrespondence),
    "moving probability": Output(lambda r: r.noncorrespondence_moving, on_moving_grid=True),
    "mask": Output(lambda r: r.mask, pixel="mask"),
    "moving mask": Output(lambda r: r.mask_moving, on_moving_grid=True, pixel="mask"),
    "jacobian": Output(lambda r: r.jacobian),
    "inverse error": Output(lambda r: r.inverse_error),
}


class RegistrationPipeline:
    """The stages of one filter, its inputs and the result of its last run.

    Parameters
    ----------
    dimension : int
        2 or 3.
    parameters : Parameters
        Read at every run; call :meth:`setting_changed` after a change.

    Attributes
    ----------
    core : itk.PyImageFilter
        The stage that registers; progress, start, end and abort events are its own.
    last_exception : BaseException or None
        What stopped the last run.
    result : RegistrationResult or None
        Of the last run that went well.
    running : bool
        Whether an update is running now; an observer may ask for another one then.
    """

    def __init__(self, dimension: int, parameters: Parameters) -> None:
        self.dimension = dimension
        self.parameters = parameters
        self.observers = Observers()
        self.result: RegistrationResult | None = None
        self.last_exception: BaseException | None = None
        self.message = ""
        self.running = False
        self._result_key: tuple[Any, ...] = ()
        self._changes = 0
        self._inputs: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        self._stages: list[Any] = []  # keeps alive what only weak references know
        self._masks: list[Any] = []
        self._outputs: dict[str, Any] = {}
        self.core = stages.new_stage(self, self._float, _run_core, whole_output=True)

    @property
    def _float(self) -> Any:
        return itk.Image[itk.F, self.dimension]

    def get_input(self, name: str) -> Any:
        """The image that was set, or None."""
        return self._inputs.get(name)

    def set_input(self, name: str, image: Any) -> None:
        """Connect an image, the output of a filter, or an array; None takes it away.

        Raises
        ------
        ArgumentError, ShapeError, ImageValueError
            If it is not an image this filter can take; the old input stays.
        """
        new, old = None, self._inputs.get(name)
        cast, connection = None, None
        if image is not None:
            new = as_input(image, name, self.dimension)
            if old is not None and int(old.this) == int(new.this):
                return
            cast, connection = float_cast(new)
        elif old is None:
            return
        self.core.SetInput(INPUTS.index(name), connection)
        self._inputs[name] = new
        # An image does not keep the filter that makes it alive.
        self._kept[name] = (image, cast, new and new.GetSource())

    def setting_changed(self, name: str) -> None:
        """Mark what depends on a setting as out of date."""
        if name != "mask_threshold":
            self.modified()
            return
        for mask in self._masks:
            mask.Modified()

    def modified(self) -> None:
        """Make the next run register again."""
        self._changes += 1
        self.core.Modified()

    def feed(self, connect: Callable[[int, Any], None], name: str) -> None:
        """Call ``connect(component, image)``, a ``SetInput``, for all components of an output."""
        for component in range(self.dimension):
            stage = self._stage(self._float, OUTPUTS[name], component)
            stage.ReleaseDataFlagOn()  # only a copy for the composition
            connect(component, stage.GetOutput())

    def output(self, name: str) -> Any:
        """The ITK image of one output; its stage is made when it is first asked for."""
        if name not in self._outputs:
            self._outputs[name] = self._source(name)
            if self.is_current():  # asked for after Update: the caller expects voxels
                self.run(self._outputs[name].GetOutput().Update)
        return self._outputs[name].GetOutput()

    def update_outputs(self, whole: bool) -> None:
        """Update every output that has been requested."""
        for source in self._outputs.values():
            image = source.GetOutput()
            prepare_request(image, whole)
            image.Update()

    def is_current(self) -> bool:
        """Whether the result is that of the present inputs and settings."""
        if self.result is None:
            return False
        try:
            self.core.GetOutput().UpdateOutputInformation()
        except RuntimeError:  # an upstream filter fails; the next Update will say so
            self.reset()
            return False
        image = self.core.GetOutput()
        return bool(image.GetUpdateMTime() >= image.GetPipelineMTime())

    def run(self, update: Callable[[], None]) -> None:
        """Call ``update`` of some stage; errors of Python stages come out as what they were.

        After an error every stage here can run again; a filter fed by them needs its own reset.
        """
        self.last_exception = None
        try:
            with unprinted(), self.busy():
                update()
        except Exception:
            self.reset()
            if self.last_exception is not None:
                raise self.last_exception from None
            raise
        self.observers.reraise()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Within, :attr:`running` is set."""
        before, self.running = self.running, True
        try:
            yield
        finally:
            self.running = before

    def reset(self) -> None:
        """After an error: let every stage, and all upstream of it, run again."""
        for source in [self.core, *self._stages, *self._outputs.values()]:
            source.ResetPipeline()

    def keep(self, error: BaseException) -> None:
        """Remember what stopped a stage (see :class:`stages.Owner`)."""
        self.last_exception = error

    def thresholded(self) -> RegistrationResult:
        """The result with its masks cut at the present threshold."""
        assert self.result is not None, "a stage below the core runs after it"
        return self.result.with_threshold(self.parameters.get("mask_threshold"))

    def modified_time(self) -> int:
        """When a setting or an input was last changed, in ITK's count."""
        return max(int(stage.GetMTime()) for stage in [self.core, *self._masks])

    def _source(self, name: str) -> Any:
        """The filter that makes one output."""
        if name == "warped":
            return self.core
        row = OUTPUTS[name]
        if row.pixel == "vector":
            compose = itk.ComposeImageFilter[self._float, vector_type(self.dimension)].New()
            self.feed(compose.SetInput, name)
            return compose
        if row.pixel == "float":
            return self._stage(self._float, row)
        mask = self._stage(itk.Image[itk.UC, self.dimension], row)
        self._masks.append(mask)
        return mask

    def _stage(self, kind: Any, row: Output, component: int | None = None) -> Any:
        work = functools.partial(_copy_output, row=row, component=component)
        grid_of = _moving_image if row.on_moving_grid else None
        stage = stages.new_stage(self, kind, work, grid_of=grid_of)
        stage.SetInput(0, self.core.GetOutput())
        self._stages.append(stage)
        return stage

    def _key(self) -> tuple[Any, ...]:
        """Time stamps of all inputs and settings that the result depends on.

        Not that of the core: it also changes when an output is filled again.
        """
        inputs = []
        for index, name in enumerate(INPUTS):
            if self._inputs.get(name) is None:
                continue
            image = self.core.GetInput(index)
            _, cast, _ = self._kept[name]
            # The caller may write into an image and call its Modified. The output of a cast of ours
            # hears of that through the pipeline, and its own time also changes at a mere refill.
            own = int(image.GetMTime()) if cast is None else 0
            inputs.append((index, int(image.this), int(image.GetPipelineMTime()), own))
        return (self._changes, *inputs)

    def _register(self) -> RegistrationResult:
        fixed, moving = self._read(FIXED), self._read(MOVING)
        if fixed is None or moving is None:
            raise ArgumentError(
                f"{FIXED if fixed is None else MOVING} must be set; got none. "
                "Call SetFixedImage and SetMovingImage before Update."
            )
        registration: Callable[..., RegistrationResult] = self.parameters.registration or register
        result = registration(
            fixed,
            moving,
            **{keyword: self._read(name) for keyword, name in MASKS.items()},
            progress=self._progress,
            abort=self._aborted,
            **self.parameters.as_options(),
        )
        for image, target in ((result.warped, fixed), (result.displacement_inverse, moving)):
            if image.grid.shape != target.grid.shape:
                raise ShapeError(
                    f"registration must return images of shape {target.grid.shape}; "
                    f"got {image.grid.shape}. Correct the registration given to the filter."
                )
        return result

    def _read(self, name: str) -> Image | None:
        if self._inputs.get(name) is None:
            return None
        return stages.read(self.core.GetInput(INPUTS.index(name)), name)

    def _progress(self, fraction: float, message: str) -> None:
        self.message = message
        self.core.UpdateProgress(min(max(float(fraction), 0.0), 1.0))
        self.observers.reraise()
        if self._aborted():
            raise RegistrationAborted("registration must run to its end for a result; got aborted.")

    def _aborted(self) -> bool:
        return bool(self.core.GetAbortGenerateData())


def prepare_request(image: Any, whole: bool = False) -> None:
    """Request all of an output if ``whole``, or if the input it was last asked for was larger."""
    image.UpdateOutputInformation()
    if whole or not image.VerifyRequestedRegion():
        image.SetRequestedRegionToLargestPossibleRegion()


def vector_type(dimension: int) -> Any:
    """The image type of a displacement field."""
    return itk.Image[itk.Vector[itk.F, dimension], dimension]


def _run_core(pipeline: RegistrationPipeline, output: Any) -> None:
    """Register, unless only the voxels of the output were released since; fill the warped image."""
    with pipeline.busy():
        _register_and_fill(pipeline, output)


def _register_and_fill(pipeline: RegistrationPipeline, output: Any) -> None:
    pipeline.observers.reraise()
    key = pipeline._key()
    if pipeline.result is None or key != pipeline._result_key:
        pipeline.result = None
        try:
            pipeline.result = pipeline._register()
        except RegistrationAborted:
            pipeline.core.InvokeEvent(itk.AbortEvent())
            raise
        pipeline._result_key = key
    stages.fill(output, pipeline.result.warped.array)
    if pipeline.core.GetProgress() < 1:
        pipeline.core.UpdateProgress(1.0)
    pipeline.observers.reraise()


def _moving_image(pipeline: RegistrationPipeline) -> Any:
    return pipeline.core.GetInput(INPUTS.index(MOVING))


def _copy_output(
    pipeline: RegistrationPipeline, output: Any, row: Output, component: int | None
) -> None:
    values = row.read(pipeline.thresholded()).array
    stages.fill(output, values if component is None else values[..., component])
