"""Python stages of a C++ pipeline on ``itk.PyImageFilter``.

``itk.PyImageFilter`` calls Python from GenerateData, but only for scalar images, with one output,
and with sharp edges:

- It borrows the pointer given to ``_SetSelf`` and counts the one given to ``SetPyGenerateData``.
  So one object, the :class:`PipelineStage`, is both: it lives as long as the C++ filter and knows
  it, and its owner, by weak references only. Never call ``Update`` of the proxy: it exchanges the
  pointer.
- It never releases the callables for output information and for enlarging: they are plain
  functions, where it does not matter.
- It prints a Python exception and forgets it: :meth:`PipelineStage.__call__` keeps it for the
  owner first.
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
    """Owner of stages, which keeps the first error of a run."""

    def keep(self, error: BaseException) -> None:
        """Remember an error that ITK would lose."""
        ...


class PipelineStage:
    """The Python half of one ``PyImageFilter``.

    Parameters
    ----------
    work : callable
        ``work(owner, output)`` fills the output image; must not refer to the owner itself.
    grid_of : callable, optional
        ``grid_of(owner)`` is the image whose grid the output has; default: the input's.
    """

    def __init__(
        self,
        owner: Owner,
        proxy: Any,
        work: Callable[[Any, Any], None],
        grid_of: Callable[[Any], Any] | None,
    ) -> None:
        self._owner = weakref.ref(owner)
        self._proxy = weakref.ref(proxy)
        self._work = work
        self._grid_of = grid_of

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

    def copy_grid(self) -> None:
        """GenerateOutputInformation: the grid of another image."""
        owner, output = self._owner(), self.GetOutput()
        image = self._grid_of(owner) if self._grid_of and owner is not None else None
        if image is not None and output is not None:
            output.CopyInformation(image)


class _RequestWhole:
    """GenerateInputRequestedRegion of a stage: all of every input.

    The inputs of one stage may lie on different grids, so no part of them matches the output's.
    """

    def __init__(self, proxy: Any) -> None:
        self._proxy = weakref.ref(proxy)

    def __call__(self, _: Any) -> None:
        proxy = self._proxy()
        if proxy is None:
            return
        for index in range(proxy.GetNumberOfIndexedInputs()):
            image = proxy.GetInput(index)
            if image is not None:
                image.SetRequestedRegionToLargestPossibleRegion()


def new_stage(
    owner: Owner,
    output_type: Any,
    work: Callable[[Any, Any], None],
    *,
    grid_of: Callable[[Any], Any] | None = None,
    whole_output: bool = False,
) -> Any:
    """A ``PyImageFilter`` from float images to ``output_type`` that runs ``work``.

    It asks for all of its inputs; ``whole_output`` makes it produce all of its output even where
    only a part is asked for. The caller keeps the returned filter alive.
    """
    dimension = output_type.New().GetImageDimension()
    proxy = itk.PyImageFilter[itk.Image[itk.F, dimension], output_type].New()
    stage = PipelineStage(owner, proxy, work, grid_of)
    proxy._SetSelf(stage)
    proxy.SetPyGenerateData(stage)
    proxy.SetPyGenerateInputRequestedRegion(_RequestWhole(proxy))
    if whole_output:
        proxy.SetPyEnlargeOutputRequestedRegion(_enlarge)
    if grid_of is not None:
        proxy.SetPyGenerateOutputInformation(PipelineStage.copy_grid)
    # Fixed and moving images meet here; they need not lie on one grid.
    proxy.SetCoordinateTolerance(float("inf"))
    proxy.SetDirectionTolerance(float("inf"))
    return proxy


def _enlarge(_: Any, output: Any) -> None:
    output.SetRequestedRegionToLargestPossibleRegion()


def fill(output: Any, values: NDArray[Any]) -> None:
    """Allocate the requested region of an output; copy it from ``values`` of the whole grid."""
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
