"""The SimpleITK face: the same registration, spoken to as SimpleITK's filters are."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

import itk_ncr
from itk_ncr.errors import ArgumentError, ImageValueError, RegistrationAborted, ShapeError
from itk_ncr.images import Image, as_image, to_sitk
from itk_ncr.sitk import NCRRegistration

from .conftest import KnownShift, constant_field, ramp
from .test_construction import EXAMPLES, itk_camel
from .test_transforms import Wobble, differences


@pytest.fixture
def filter_(shift: KnownShift) -> NCRRegistration:
    new = NCRRegistration()
    new.SetRegistration(shift)
    return new


@pytest.fixture
def images(pair: Any) -> tuple[sitk.Image, sitk.Image]:
    return to_sitk(pair[0]), to_sitk(pair[1])


def test_every_result_is_an_image_on_its_own_grid(dimension, pair, images, shift, filter_):
    field = filter_.Execute(*images)
    fixed, moving = pair[0].grid, pair[1].grid
    total = (shift.deformation_mm + shift.affine_mm)[:dimension]
    assert field.GetPixelID() == sitk.sitkVectorFloat64
    assert field.IsSameImageGeometryAs(images[0])
    expected = {
        "GetDisplacementField": constant_field(fixed, total),
        "GetInverseDisplacementField": constant_field(moving, -total),
        "GetDeformationField": constant_field(fixed, shift.deformation_mm[:dimension]),
        "GetMaskProbability": ramp(fixed, dimension - 1),
        "GetMovingMaskProbability": ramp(moving, 0),
        "GetMask": Image((ramp(fixed, dimension - 1).array > 0.5).astype("u1"), fixed),
        "GetMovingMask": Image((ramp(moving, 0).array > 0.5).astype("u1"), moving),
        "GetJacobian": Image(np.full(fixed.shape, 1.25), fixed),
        "GetInverseError": Image(np.full(fixed.shape, 0.125), fixed),
    }
    for name, image in expected.items():
        got = as_image(getattr(filter_, name)(), vector=image.is_vector)
        assert got.grid.equals(image.grid), name
        assert_array_equal(got.array, image.array, err_msg=name)
    assert filter_.GetMask().GetPixelID() == sitk.sitkUInt8
    assert filter_.GetQuality().iterations == 12
    assert len(shift.calls) == 1


def test_a_threshold_set_afterwards_cuts_the_masks_and_registers_nothing(images, shift, filter_):
    filter_.Execute(*images)
    filter_.SetMaskThreshold(0.8)
    probability = sitk.GetArrayFromImage(filter_.GetMaskProbability())
    assert_array_equal(sitk.GetArrayFromImage(filter_.GetMask()), probability > 0.8)
    assert len(shift.calls) == 1


def test_transforms_and_fields_move_images_and_points_alike(dimension, pair, images):
    registration = NCRRegistration()
    registration.SetRegistration(Wobble())
    field = registration.Execute(*images)
    ours = sitk.GetArrayFromImage(registration.GetWarpedImage())
    for transform in (registration.GetTransform(), registration.GetTransform(composite=True)):
        theirs = sitk.Resample(images[1], images[0], transform, sitk.sitkLinear, 0.0)
        assert differences(sitk.GetArrayFromImage(theirs), ours).max() < 1e-3
    warp = sitk.WarpImageFilter()
    warp.SetOutputParameteresFromImage(images[0])
    warped = sitk.GetArrayFromImage(warp.Execute(images[1], field))
    assert differences(warped, ours).max() < 1e-3
    result, index = registration.GetResult(), (1, 4, 2)[:dimension]
    point = pair[1].grid.points()[index]
    back = registration.GetInverseTransform().TransformPoint(point.tolist())
    assert_allclose(back, point + result.displacement_inverse.array[index], atol=1e-4)


def test_commands_hear_of_start_progress_and_end(images, filter_):
    class Counter(sitk.Command):
        count = 0

        def Execute(self) -> None:
            self.count += 1

    seen: list[Any] = []
    counter = Counter()
    filter_.AddCommand(sitk.sitkStartEvent, lambda: seen.append("start"))
    filter_.AddCommand(sitk.sitkProgressEvent, lambda: seen.append(filter_.GetProgress()))
    filter_.AddCommand(sitk.sitkEndEvent, lambda: seen.append("end"))
    filter_.AddCommand(sitk.sitkAnyEvent, counter)
    assert filter_.HasCommand(sitk.sitkEndEvent)
    assert not filter_.HasCommand(sitk.sitkAbortEvent)
    filter_.Execute(*images)
    assert seen == ["start", 0, 0.25, 0.5, 0.75, 1, "end"]
    assert counter.count == 7
    assert filter_.GetProgressMessage() == "step 3"
    filter_.RemoveAllCommands()
    filter_.Execute(*images)
    assert len(seen) == 7
    with pytest.raises(ArgumentError, match="event must be"):
        filter_.AddCommand(sitk.sitkUserEvent, lambda: None)


def test_abort_raises_tells_and_leaves_no_result(images, filter_):
    seen: list[str] = []
    filter_.Execute(*images)
    filter_.AddCommand(sitk.sitkProgressEvent, filter_.Abort)
    filter_.AddCommand(sitk.sitkAbortEvent, lambda: seen.append("abort"))
    filter_.AddCommand(sitk.sitkEndEvent, lambda: seen.append("end"))
    with pytest.raises(RegistrationAborted):
        filter_.Execute(*images)
    assert seen == ["abort"]
    with pytest.raises(ArgumentError, match="Call Execute"):
        filter_.GetMask()
    filter_.RemoveAllCommands()
    filter_.Execute(*images)


def test_errors_keep_their_type_and_text(images, shift, filter_):
    shift.error = ImageValueError("fixed image must vary; got 3 everywhere.")
    with pytest.raises(ImageValueError) as caught:
        filter_.Execute(*images)
    assert caught.value is shift.error

    def observer() -> None:
        raise LookupError("in the command")

    shift.error = None
    filter_.AddCommand(sitk.sitkProgressEvent, observer)
    with pytest.raises(LookupError, match="in the command"):
        filter_.Execute(*images)
    with pytest.raises(ShapeError, match="fixed image must be scalar"):
        filter_.Execute(sitk.Image([8, 8], sitk.sitkVectorFloat32, 2), images[1])


@pytest.mark.parametrize(
    "field", dataclasses.fields(itk_ncr.RegistrationSettings), ids=lambda f: f.name
)
def test_every_setting_has_accessors_and_reaches_the_registration(field, shift, filter_):
    camel = "MaskMode" if field.name == "mask" else itk_camel(field.name)
    assert getattr(filter_, f"Get{camel}")() == field.default
    getattr(filter_, f"Set{camel}")(EXAMPLES[field.name])
    assert getattr(filter_, f"Get{camel}")() == EXAMPLES[field.name]
    filter_.Execute(sitk.Image([6, 5], sitk.sitkUInt8), sitk.Image([4, 5], sitk.sitkInt16))
    assert shift.calls[0][field.name] == EXAMPLES[field.name]
    assert set(shift.calls[0]) == set(inspect.signature(itk_ncr.register).parameters)


def test_masks_and_the_start_reach_the_registration(dimension, images, shift, filter_):
    roi = sitk.Image([7, 6, 5][:dimension], sitk.sitkUInt8) + 1
    roi.SetSpacing([2.0] * dimension)
    start = sitk.TranslationTransform(dimension, [3.0] * dimension)
    filter_.SetROIMask(roi)
    filter_.SetMovingLesionMask(images[1])
    filter_.SetInitialTransform(start)
    filter_.Execute(*images)
    call = shift.calls[0]
    assert call["roi_mask"].grid.spacing == (2.0,) * dimension
    assert call["moving_lesion_mask"].grid.equals(call["moving"].grid)
    assert call["lesion_mask"] is filter_.GetLesionMask() is None
    assert call["initial_transform"].translation == (3.0,) * dimension
    assert filter_.GetROIMask().GetSpacing() == (2.0,) * dimension
    filter_.SetROIMask(None)
    filter_.Execute(*images)
    assert shift.calls[1]["roi_mask"] is None


def test_itk_is_not_needed():
    code = (
        "import sys, itk_ncr\n"
        "itk_ncr.sitk.NCRRegistration()\n"
        "assert 'itk' not in sys.modules, 'itk was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
