"""Python code as stages of a C++ pipeline, and the traps of ``itk.PyImageFilter`` closed.

``itk.PyImageFilter`` calls Python from GenerateData, but only for scalar images, with one output,
and with sharp edges:

- It borrows the pointer given to ``_SetSelf`` and counts the one given to ``SetPyGenerateData``.
  So one object, the :class:`Stage`, is both: it lives as long as the C++ filter and knows it, and
  its owner, by weak references only. Never call ``Update`` of the proxy: it exchanges the pointer.
- It never releases the callables for output information and for enlarging: they are functions of
  this module, where it does not matter.
- It prints a Python exception and forgets it: :meth:`Stage.__call__` keeps it for the owner first.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

import itk
import numpy as np
from numpy.typing import NDArray

from itk_ncr.filters.events import StageFailed
from itk_ncr.images import Image, as_image


class Owner(Protocol):
    """Who has stages: it keeps the first error of a run."""

    def keep(self, error: BaseException) -> None:
        """Remember an error that ITK would lose."""
        ...


class Stage:
    """The Python half of one ``PyImageFilter``: GenerateData, and the regions it asks for.

    Parameters
    ----------
    work : callable
        ``work(owner, output)`` fills the output image; must not refer to the owner itself.
    request : callable
        ``request(filter)`` sets the requested regions of the filter's inputs.
    """

    def __init__(
        self,
        owner: Owner,
        proxy: Any,
        work: Callable[[Any, Any], None],
        request: Callable[[Any], None] | None,
    ) -> None:
        self._owner = weakref.ref(owner)
        self._proxy = weakref.ref(proxy)
        self._work = work
        self.request = _Request(self, request) if request else None

    def __call__(self, _: Any) -> None:
        """GenerateData: ITK calls this."""
        owner, proxy = self._owner(), self._proxy()
        if owner is None or proxy is None:
            raise StageFailed("the filter is gone; keep it alive while its outputs are pulled")
        failure = ""
        try:
            self._work(owner, proxy.GetOutput())
        except BaseException as error:  # SystemExit inside ITK would end the process
            owner.keep(error)
            failure = f"{type(error).__name__}: {error}"
        if failure:  # raised here and not above: what ITK keeps shall not hold the frames alive
            del owner, proxy
            raise StageFailed(failure)

    def GetOutput(self) -> Any:
        """The output; C++ asks for it by this name."""
        proxy = self._proxy()
        return None if proxy is None else proxy.GetOutput()


class _Request:
    """GenerateInputRequestedRegion of a stage."""

    def __init__(self, stage: Stage, request: Callable[[Any], None]) -> None:
        self._proxy = stage._proxy
        self._request = request

    def __call__(self, _: Any) -> None:
        proxy = self._proxy()
        if proxy is not None:
            self._request(proxy)


def new_stage(
    owner: Owner,
    output_type: Any,
    work: Callable[[Any, Any], None],
    *,
    request: Callable[[Any], None] | None = None,
    whole_output: bool = False,
) -> Any:
    """A ``PyImageFilter`` from float images to ``output_type`` that runs ``work``.

    ``whole_output`` makes it produce all of its output even where only a part is asked for.
    The caller keeps the returned filter alive.
    """
    dimension = output_type.New().GetImageDimension()
    proxy = itk.PyImageFilter[itk.Image[itk.F, dimension], output_type].New()
    stage = Stage(owner, proxy, work, request)
    proxy._SetSelf(stage)
    proxy.SetPyGenerateData(stage)
    if stage.request is not None:
        proxy.SetPyGenerateInputRequestedRegion(stage.request)
    if whole_output:
        proxy.SetPyEnlargeOutputRequestedRegion(_enlarge)
    # Fixed and moving images meet here; they need not lie on one grid.
    proxy.SetCoordinateTolerance(float("inf"))
    proxy.SetDirectionTolerance(float("inf"))
    return proxy


def _enlarge(_: Any, output: Any) -> None:
    output.SetRequestedRegionToLargestPossibleRegion()


def request_whole(proxy: Any) -> None:
    """Ask for all of every input."""
    for index in range(proxy.GetNumberOfIndexedInputs()):
        image = proxy.GetInput(index)
        if image is not None:
            image.SetRequestedRegionToLargestPossibleRegion()


def request_geometry_of_first(proxy: Any) -> None:
    """Ask for no voxel of the first input, which only lends its grid, and for all of the others.

    ITK does not update an image of which nothing is requested.
    """
    request_whole(proxy)
    image = proxy.GetInput(0)
    region = image.GetLargestPossibleRegion()
    size = region.GetSize()
    size.Fill(0)
    region.SetSize(size)
    image.SetRequestedRegion(region)


def fill(output: Any, values: NDArray[Any]) -> None:
    """Allocate what is requested of an output; copy it from ``values``, those of the whole grid."""
    region, whole = output.GetRequestedRegion(), output.GetLargestPossibleRegion()
    axes = range(output.GetImageDimension())
    start = [int(region.GetIndex()[a]) - int(whole.GetIndex()[a]) for a in axes]
    part = tuple(slice(start[a], start[a] + int(region.GetSize()[a])) for a in axes)[::-1]
    output.SetBufferedRegion(region)
    output.Allocate()
    # update=False: otherwise the view would re-enter the pipeline that is running.
    view = itk.PyBuffer[type(output)].GetArrayViewFromImage(output, False, False)
    np.copyto(view, values[part], casting="same_kind")


def read(image: Any, role: str) -> Image:
    """The image at an input, copied; its pipeline is left alone."""
    detached = type(image).New()
    detached.Graft(image)
    return as_image(detached, role=role)
