"""Progress, abort, errors, and what is left behind: nothing."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest

from itk_ncr import NCRRegistrationFilter
from itk_ncr.errors import ArgumentError, ImageValueError, RegistrationAborted
from itk_ncr.images import to_itk
from itk_ncr.images.memory import return_memory

from .conftest import KnownShift, smooth_image


@pytest.fixture
def stage(shift: KnownShift) -> Any:
    fixed, moving = to_itk(smooth_image((9, 11), 1)), to_itk(smooth_image((12, 10), 2))
    return NCRRegistrationFilter.New(fixed, moving, registration=shift)


def test_progress_start_and_end_events_are_seen_in_order(stage):
    seen: list[Any] = []
    stage.AddObserver(itk.StartEvent(), lambda: seen.append("start"))
    stage.AddObserver(itk.EndEvent(), lambda: seen.append("end"))
    tag = stage.AddObserver(itk.ProgressEvent(), lambda: seen.append(stage.GetProgress()))
    assert stage.HasObserver(itk.ProgressEvent())
    stage.Update()
    np.testing.assert_allclose(
        seen[1:-1], [0, 0.25, 0.5, 0.75, 1], atol=1e-6
    )  # ITK counts in 2^-32
    assert (seen[0], seen[-1]) == ("start", "end")
    assert stage.GetProgressMessage() == "step 3"
    seen.clear()
    stage.RemoveObserver(tag)
    stage.Modified()
    stage.Update()
    assert seen == ["start", "end"]
    stage.RemoveAllObservers()
    stage.Modified()
    stage.Update()
    assert seen == ["start", "end"]
    assert not stage.HasObserver(itk.StartEvent())


def test_a_command_of_itk_is_an_observer_too(stage):
    command, seen = itk.PyCommand.New(), []
    command.SetCommandCallable(lambda: seen.append(1))
    stage.AddObserver(itk.EndEvent(), command)
    stage.Update()
    assert seen == [1]


def test_abort_from_an_observer_raises_and_the_next_update_runs(stage, shift):
    aborted: list[int] = []
    stage.AddObserver(itk.AbortEvent(), lambda: aborted.append(1))
    tag = stage.AddObserver(itk.ProgressEvent(), stage.AbortGenerateDataOn)
    with pytest.raises(RegistrationAborted):
        stage.Update()
    assert aborted == [1]
    assert isinstance(stage.last_exception, RegistrationAborted)
    stage.RemoveObserver(tag)
    stage.Update()
    assert stage.last_exception is None
    assert len(shift.calls) == 2
    assert stage.GetQuality().iterations == 12


def test_two_filters_run_in_two_threads(capfd):
    images = [to_itk(smooth_image((9, 11), seed)) for seed in (1, 2)]
    shifts = [KnownShift((float(number),) * 3) for number in range(2)]
    meeting = threading.Barrier(2, timeout=20)
    found: dict[int, Any] = {}

    def update(number: int) -> None:
        shifts[number].during = meeting.wait  # both are inside ITK at the same time
        stage = NCRRegistrationFilter.New(*images, registration=shifts[number])
        stage.Update()
        found[number] = itk.array_from_image(stage.GetOutput())
        shifts[number].error = ImageValueError(f"number {number}")
        stage.Modified()
        with pytest.raises(ImageValueError, match=f"number {number}"):
            stage.Update()

    hook = sys.excepthook
    threads = [threading.Thread(target=update, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number in range(2):
        expected = shifts[number].deformation_mm[:2] + shifts[number].affine_mm[:2]
        np.testing.assert_allclose(found[number][0, 0], expected)
    assert sys.excepthook is hook
    assert "Traceback" not in capfd.readouterr().err


def test_abort_works_from_another_thread(stage, shift):
    started = threading.Event()

    def registration(fixed: Any, moving: Any, **options: Any) -> Any:
        started.set()
        for _ in range(1000):
            time.sleep(0.002)
            if options["abort"]():
                raise RegistrationAborted("stopped by the other thread")
        return shift(fixed, moving, **options)

    stage.SetRegistration(registration)
    thread = threading.Thread(target=lambda: (started.wait(), stage.AbortGenerateDataOn()))
    thread.start()
    with pytest.raises(RegistrationAborted, match="other thread"):
        stage.Update()
    thread.join()


@pytest.mark.parametrize(
    "error",
    [
        ImageValueError("fixed image must vary; got 3 everywhere."),
        SystemExit(7),
        KeyboardInterrupt(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_the_error_of_a_registration_keeps_its_type_and_text(stage, shift, error, capfd):
    shift.error = error
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            stage.Update()
        assert caught.value is error
        assert stage.last_exception is error
    assert "Traceback" not in capfd.readouterr().err  # the caller has the error: no second report
    shift.error = None
    stage.Update()
    assert stage.last_exception is None
    assert len(shift.calls) == 3


def test_the_error_comes_through_whatever_output_is_updated_first(stage, shift):
    stage.GetMovingMask()
    shift.error = ImageValueError("moving image must vary; got 0 everywhere.")
    with pytest.raises(ImageValueError):
        stage.UpdateLargestPossibleRegion()
    with pytest.raises(ImageValueError):
        stage.GetResult()
    with pytest.raises(ImageValueError):
        stage.GetTransform()


def test_another_filter_that_pulls_reports_a_runtime_error_and_the_original_is_kept(
    stage, shift, capfd
):
    shift.error = ImageValueError("moving image must vary; got 0 everywhere.")
    pulling = itk.StreamingImageFilter.New(stage.GetOutput())
    with pytest.raises(RuntimeError):
        pulling.Update()
    assert stage.last_exception is shift.error
    assert "ImageValueError: moving image must vary" in capfd.readouterr().err
    shift.error = None
    pulling.ResetPipeline()
    pulling.Update()
    assert len(shift.calls) == 2
    assert np.isfinite(itk.array_from_image(pulling.GetOutput())).all()


def test_after_an_error_met_by_another_filter_our_own_update_runs(shift, tmp_path):
    path = tmp_path / "late.mha"
    reader = itk.ImageFileReader[itk.Image[itk.F, 2]].New(FileName=str(path))
    stage = NCRRegistrationFilter.New(reader, to_itk(smooth_image((9, 11))), registration=shift)
    pulling = itk.StreamingImageFilter.New(stage.GetOutput())
    with pytest.raises(RuntimeError, match=r"late\.mha"):
        stage.UpdateOutputInformation()
    with pytest.raises(RuntimeError):
        pulling.Update()
    itk.imwrite(to_itk(smooth_image((9, 11))), str(path))
    shift.error = ImageValueError("fixed image must vary; got 3 everywhere.")
    with pytest.raises(ImageValueError):
        stage.Update()
    pulling.ResetPipeline()
    with pytest.raises(RuntimeError):
        pulling.Update()
    shift.error = None
    stage.Update()  # without a reset by the caller
    assert len(shift.calls) == 3
    assert itk.array_from_image(stage.GetOutput()).any()


@pytest.mark.parametrize("event", [itk.StartEvent, itk.ProgressEvent, itk.EndEvent])
@pytest.mark.parametrize("pulled", [False, True])
def test_an_observer_that_updates_the_filter_does_not_start_it_again(stage, shift, event, pulled):
    stage.AddObserver(event(), stage.Update)
    last = itk.StreamingImageFilter.New(stage.GetOutput()) if pulled else stage
    last.Update()
    assert len(shift.calls) == 1
    assert itk.array_from_image(last.GetOutput()).any()


def test_an_error_upstream_is_not_taken_for_ours(shift, tmp_path):
    kind = itk.Image[itk.F, 2]
    reader = itk.ImageFileReader[kind].New(FileName=str(tmp_path / "missing.mha"))
    stage = NCRRegistrationFilter.New(reader, to_itk(smooth_image((9, 11))), registration=shift)
    stage.GetMask()
    with pytest.raises(RuntimeError, match=r"missing\.mha"):
        stage.Update()
    assert shift.calls == []
    itk.imwrite(to_itk(smooth_image((9, 11))), str(tmp_path / "missing.mha"))
    stage.Update()
    assert len(shift.calls) == 1
    reader.SetFileName(str(tmp_path / "gone.mha"))
    stage.GetMovingMask()  # new, but there is nothing current to fill it with
    with pytest.raises(RuntimeError, match=r"gone\.mha"):
        stage.GetQuality()


@pytest.mark.parametrize("event", [itk.StartEvent, itk.ProgressEvent, itk.EndEvent])
def test_what_an_observer_raises_comes_out_of_update(stage, event):
    def observer() -> None:
        raise LookupError("in the observer")

    tag = stage.AddObserver(event(), observer)
    with pytest.raises(LookupError, match="in the observer"):
        stage.Update()
    stage.RemoveObserver(tag)
    stage.Update()
    assert stage.GetQuality().iterations == 12


def test_a_missing_image_is_named(stage):
    fixed = NCRRegistrationFilter.New(stage.GetFixedImage())
    with pytest.raises(ArgumentError, match="moving image must be set"):
        fixed.Update()
    with pytest.raises(ArgumentError, match="fixed image must be set"):
        NCRRegistrationFilter[3].New().Update()
    stage.SetMovingImage(None)
    with pytest.raises(ArgumentError, match="moving image must be set"):
        stage.Update()
    with pytest.raises(RuntimeError):  # pulled from elsewhere: an error, not a crash
        stage.GetMaskProbability().Update()


def test_a_failed_run_leaves_the_hook_for_errors_as_it_was(stage, shift):
    before = sys.excepthook
    shift.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        stage.Update()
    assert sys.excepthook is before


def test_observers_that_know_the_filter_do_not_keep_it_alive(stage, shift):
    stage.AddObserver(itk.ProgressEvent(), lambda: stage.GetProgress())
    stage.Update()
    cycle = NCRRegistrationFilter.New(stage.GetFixedImage(), stage.GetMovingImage())
    cycle.SetRegistration(shift)
    cycle.AddObserver(itk.ProgressEvent(), lambda: cycle.GetProgress())
    cycle.Update()
    watch = weakref.ref(cycle)
    watched_core = weakref.ref(cycle._pipeline)
    shift.calls.clear()  # the callbacks given to the registration know the filter
    cycle = None
    gc.collect()
    assert watch() is None
    assert watched_core() is None


def test_errors_do_not_keep_a_dead_filter_alive(shift):
    fixed, moving = to_itk(smooth_image((9, 11))), to_itk(smooth_image((12, 10)))
    shift.error = ValueError("no")
    failing = NCRRegistrationFilter.New(fixed, moving, registration=shift)
    pulling = itk.StreamingImageFilter.New(failing.GetOutput())
    with pytest.raises(RuntimeError):
        pulling.Update()
    watch = weakref.ref(failing)
    shift.error = None
    del failing
    gc.collect()
    assert watch() is None


def resident_kilobytes() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")
    return next(
        int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS")
    )


def test_two_hundred_updates_leave_nothing_behind():
    fixed = to_itk(smooth_image((240, 256), 1, np.int16))
    moving = to_itk(smooth_image((200, 280), 2))
    alive: list[weakref.ref[Any]] = []

    def use() -> None:
        shift = KnownShift()
        stage = NCRRegistrationFilter.New(fixed, moving, registration=shift)
        stage.AddObserver(itk.ProgressEvent(), lambda: stage.GetProgress())
        warp = itk.WarpImageFilter.New(moving, displacement_field=stage.GetOutput())
        warp.SetOutputParametersFromImage(fixed)
        stage.GetMovingMask()
        stage.GetInverseDisplacementField()
        warp.Update()
        stage.SetSmoothness(2)
        stage.Update()
        shift.calls.clear()
        alive.append(weakref.ref(stage))

    def run(count: int) -> int:
        for _ in range(count):
            use()
        gc.collect()
        return_memory()  # what the allocator keeps is no leak
        return resident_kilobytes()

    before, objects = run(60), len(gc.get_objects())
    counts = fixed.GetReferenceCount(), moving.GetReferenceCount()
    after = run(140)
    assert not any(ref() for ref in alive)
    # One leaked image of floats a run would be 34 MB; steps of the allocator of 8 MB were seen.
    assert after - before < 17_000
    assert len(gc.get_objects()) - objects < 500
    assert (fixed.GetReferenceCount(), moving.GetReferenceCount()) == counts


def test_one_filter_updated_two_hundred_times_does_not_grow(stage, shift):
    def run(count: int) -> int:
        for _ in range(count):
            stage.Modified()
            stage.Update()
            shift.calls.clear()
        gc.collect()
        return resident_kilobytes()

    stage.GetMovingMask()
    before = run(50)
    assert run(200) - before < 2000


def test_the_registration_runs_with_the_gil_held(stage, shift):
    held: list[int] = []
    shift.during = lambda: held.append(ctypes.pythonapi.PyGILState_Check())
    stage.Update()
    assert held == [1]


def test_itk_holds_the_gil_during_update():
    """PyImageFilter calls Python without taking the GIL: it must be held when ITK runs.

    If this fails after an upgrade of ITK, see whether its PyImageFilter takes the GIL itself now;
    if it does not, the filter is not safe with that version.
    """
    image = itk.image_from_array(np.zeros((180, 180, 180), np.float32))
    field = itk.Image[itk.Vector[itk.F, 3], 3].New()
    field.SetRegions(image.GetLargestPossibleRegion())
    field.Allocate(True)
    slow = itk.WarpImageFilter.New(image, displacement_field=field, number_of_work_units=1)
    slow.SetOutputParametersFromImage(image)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    time.sleep(0.05)
    start = time.perf_counter()
    slow.Update()
    end = time.perf_counter()
    stop.set()
    thread.join()
    assert end - start > 0.05, "too short to tell"
    # The switch interval of Python is 5 ms: at the ends, the other thread may have its turn.
    assert not [t for t in ticks if start + 0.015 < t < end - 0.015]
