"""The filter as a stage: what runs when, regions, grids, pixel types, inputs and outputs."""

from __future__ import annotations

from typing import Any

import itk
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from itk_ncr import NCRRegistrationFilter
from itk_ncr.errors import ShapeError
from itk_ncr.images import Image, as_image, to_itk

from .conftest import KnownShift, constant_field, oblique_grid, ramp, smooth_image


def new_filter(pair: tuple[Image, Image], shift: KnownShift, **settings: Any) -> Any:
    return NCRRegistrationFilter.New(
        to_itk(pair[0]), to_itk(pair[1]), registration=shift, **settings
    )


def runs_of(output: Any) -> list[int]:
    """Counts how often the stage above an output runs, in the list's length."""
    runs: list[int] = []
    output.GetSource().AddObserver(itk.EndEvent(), lambda: runs.append(1))
    return runs


def test_it_is_a_process_object_with_a_true_vector_output(dimension, pair, shift):
    stage = new_filter(pair, shift)
    assert isinstance(stage, itk.ProcessObject)
    assert isinstance(stage, NCRRegistrationFilter)
    assert type(stage.GetOutput()) is itk.Image[itk.Vector[itk.F, dimension], dimension]
    assert stage.GetOutput().GetSource().this == stage.this
    assert shift.calls == []  # nothing runs before Update


def test_every_output_is_what_the_registration_said_on_the_grid_it_belongs_to(
    dimension, pair, shift
):
    stage = new_filter(pair, shift)
    stage.Update()
    fixed, moving = pair
    total = (shift.deformation_mm + shift.affine_mm)[:dimension]
    expected = {
        "GetDisplacementField": constant_field(fixed.grid, total),
        "GetInverseDisplacementField": constant_field(moving.grid, -total),
        "GetDeformationField": constant_field(fixed.grid, shift.deformation_mm[:dimension]),
        "GetMaskProbability": ramp(fixed.grid, dimension - 1),
        "GetMovingMaskProbability": ramp(moving.grid, 0),
        "GetJacobian": Image(np.full(fixed.grid.shape, 1.25), fixed.grid),
        "GetInverseError": Image(np.full(fixed.grid.shape, 0.125), fixed.grid),
    }
    for name, image in expected.items():
        got = as_image(getattr(stage, name)(), vector=image.is_vector)
        assert got.grid.equals(image.grid), name
        assert_array_equal(got.array, image.array, err_msg=name)
    for name, probability in (("GetMask", "GetMaskProbability"), ("GetMovingMask",) * 2):
        if name == "GetMovingMask":
            probability = "GetMovingMaskProbability"
        mask = as_image(getattr(stage, name)())
        assert mask.array.dtype == np.uint8
        likely = itk.array_from_image(getattr(stage, probability)()) > 0.5
        assert_array_equal(mask.array, likely)
        assert 0 < mask.array.mean() < 1
    assert len(shift.calls) == 1


def test_an_output_asked_for_before_update_has_voxels_after_it(pair, shift):
    stage = new_filter(pair, shift)
    jacobian, inverse = stage.GetJacobian(), stage.GetInverseDisplacementField()
    stage.Update()
    assert (itk.array_from_image(jacobian) == 1.25).all()
    assert itk.array_from_image(inverse).shape[:-1] == pair[1].grid.shape
    assert len(shift.calls) == 1


def test_any_single_output_pulls_the_registration(pair, shift):
    stage = new_filter(pair, shift)
    stage.GetMovingMask().Update()
    stage.GetWarpedImage().Update()
    stage.GetOutput().Update()
    assert len(shift.calls) == 1


def test_nothing_runs_again_while_nothing_changes(pair, shift):
    fixed, moving = map(to_itk, pair)
    stage = NCRRegistrationFilter.New(fixed, moving, registration=shift, smoothness=2)
    mask = stage.GetMask()
    stage.Update()
    runs = runs_of(mask), runs_of(stage.GetOutput())
    before = stage.GetMTime()
    stage.SetSmoothness(2.0)
    stage.SetMaskThreshold(stage.GetMaskThreshold())
    stage.SetFixedImage(fixed)
    stage.SetInput(1, moving)
    stage.SetRegistration(shift)
    stage.SetLesionMask(None)
    assert stage.GetMTime() == before
    stage.Update()
    stage.UpdateLargestPossibleRegion()
    mask.Update()
    assert len(shift.calls) == 1
    assert runs == ([], [])


def test_a_setting_that_changes_registers_once_more(pair, shift):
    stage = new_filter(pair, shift)
    stage.Update()
    for count, (name, value) in enumerate(
        [
            ("Smoothness", 3),
            ("MaskPrice", 0.5),
            ("Affine", "none"),
            ("MaskMode", "none"),
            ("Seed", 7),
        ],
        start=2,
    ):
        before = stage.GetMTime()
        getattr(stage, f"Set{name}")(value)
        assert stage.GetMTime() > before
        stage.Update()
        stage.Update()
        assert len(shift.calls) == count, name
        assert getattr(stage, f"Get{name}")() == value
    assert shift.calls[-1]["smoothness"] == 3
    assert shift.calls[-1]["affine"] == "none"


def test_a_new_mask_threshold_reruns_the_masks_alone(pair, shift):
    stage = new_filter(pair, shift)
    mask, moving_mask = stage.GetMask(), stage.GetMovingMask()
    stage.Update()
    share = itk.array_from_image(mask).mean()
    masks = runs_of(mask), runs_of(moving_mask)
    others = runs_of(stage.GetOutput()), runs_of(stage.GetMaskProbability())
    before = stage.GetMTime()
    stage.SetMaskThreshold(0.8)
    assert stage.GetMTime() > before
    stage.Update()
    assert len(shift.calls) == 1
    assert masks == ([1], [1])
    assert others == ([], [])
    expected = itk.array_from_image(stage.GetMaskProbability()) > 0.8
    assert_array_equal(itk.array_from_image(mask), expected)
    assert itk.array_from_image(mask).mean() < share
    assert stage.GetResult().mask_threshold == 0.8
    assert len(shift.calls) == 1


def test_an_upstream_change_registers_once_and_a_downstream_change_not_at_all(shift):
    source = to_itk(smooth_image((9, 11), seed=1, dtype=np.int16))
    upstream = itk.CastImageFilter[type(source), itk.Image[itk.F, 2]].New(source)
    moving = to_itk(smooth_image((12, 10), seed=2))
    stage = NCRRegistrationFilter.New(upstream, moving, registration=shift)
    warp = itk.WarpImageFilter.New(moving, displacement_field=stage.GetOutput())
    warp.SetOutputParametersFromImage(source)
    warp.Update()
    assert len(shift.calls) == 1
    warp.SetEdgePaddingValue(5)
    warp.Update()
    assert len(shift.calls) == 1
    source.SetPixel([3, 4], 77)
    source.Modified()
    warp.Update()
    assert len(shift.calls) == 2
    assert shift.calls[1]["fixed"].array[4, 3] == 77
    upstream.Modified()
    warp.Update()
    assert len(shift.calls) == 3
    moving.FillBuffer(3)
    moving.Modified()
    warp.Update()
    assert len(shift.calls) == 4
    assert (shift.calls[3]["moving"].array == 3).all()


@pytest.mark.parametrize("kind", [itk.F, itk.SS], ids=["F", "SS"])
def test_writing_into_the_output_of_an_upstream_filter_counts_as_a_change(shift, kind):
    source = to_itk(smooth_image((9, 11), 1))
    upstream = itk.CastImageFilter[type(source), itk.Image[kind, 2]].New(source, in_place=False)
    stage = NCRRegistrationFilter.New(upstream, source, registration=shift)
    stage.Update()
    image = upstream.GetOutput()
    image.SetPixel([3, 4], 88)
    image.Modified()
    stage.Update()
    assert [call["fixed"].array[4, 3] == 88 for call in shift.calls] == [False, True]


def test_a_released_output_comes_back_without_a_second_registration(pair, shift):
    fixed, moving = pair
    stage = NCRRegistrationFilter.New(
        to_itk(Image(fixed.array.astype(np.int16), fixed.grid)),
        to_itk(Image(moving.array.astype(np.uint8), moving.grid)),
        registration=shift,
    )
    stage.ReleaseDataFlagOn()
    warped = stage.GetWarpedImage()
    warped.ReleaseDataFlagOn()
    part = itk.ExtractImageFilter.New(stage.GetOutput())
    part.SetExtractionRegion(stage_region(stage, start=1, size=3))
    part.SetDirectionCollapseToSubmatrix()
    part.Update()
    assert stage.GetOutput().GetDataReleased()
    warped.ReleaseData()
    stage.GetJacobian().Update()
    warped.ReleaseDataFlagOff()
    stage.Update()
    assert itk.array_from_image(warped).shape == fixed.grid.shape
    assert len(shift.calls) == 1


def stage_region(stage: Any, start: int, size: int) -> Any:
    stage.UpdateOutputInformation()
    region = stage.GetOutput().GetLargestPossibleRegion()
    for axis in range(stage.dimension):
        region.SetIndex(axis, start)
        region.SetSize(axis, size)
    return region


def test_a_region_downstream_gets_its_part_and_no_more_is_copied(pair, shift):
    stage = new_filter(pair, shift)
    probability = stage.GetMovingMaskProbability()
    for output in (stage.GetOutput(), probability):
        cut = itk.ExtractImageFilter.New(output)
        cut.SetExtractionRegion(stage_region(stage, start=2, size=3))
        cut.SetDirectionCollapseToSubmatrix()
        cut.Update()
        assert tuple(output.GetBufferedRegion().GetSize()) == (3,) * stage.dimension
    part = (slice(2, 5),) * stage.dimension
    expected = ramp(pair[1].grid, 0).array[part]
    assert_array_equal(itk.array_from_image(cut.GetOutput()), expected)
    assert len(shift.calls) == 1
    stage.UpdateLargestPossibleRegion()
    assert_array_equal(itk.array_from_image(probability), ramp(pair[1].grid, 0).array)


def test_streaming_downstream_registers_once_and_puts_the_pieces_together(pair, shift):
    stage = new_filter(pair, shift)
    stream = itk.StreamingImageFilter.New(stage.GetMaskProbability(), number_of_stream_divisions=4)
    stream.Update()
    assert len(shift.calls) == 1
    assert_array_equal(
        itk.array_from_image(stream.GetOutput()), ramp(pair[0].grid, -1 % stage.dimension).array
    )
    vectors = itk.CastImageFilter[(type(stage.GetOutput()),) * 2].New(stage)
    vectors.UpdateLargestPossibleRegion()
    assert len(shift.calls) == 1


def test_images_whose_region_does_not_start_at_zero_keep_their_place(dimension, pair, shift):
    whole = [to_itk(image) for image in pair]
    cuts = []
    for image in whole:
        region = image.GetLargestPossibleRegion()
        for axis in range(dimension):
            region.SetIndex(axis, 2)
            region.SetSize(axis, 5)
        cut = itk.ExtractImageFilter.New(image, extraction_region=region)
        cut.SetDirectionCollapseToSubmatrix()
        cuts.append(cut)
    stage = NCRRegistrationFilter.New(*cuts, registration=shift)
    mask = stage.GetMovingMaskProbability()
    stage.Update()
    for name, image in (("fixed", pair[0]), ("moving", pair[1])):
        part = (slice(2, 7),) * dimension
        assert_array_equal(shift.calls[0][name].array, image.array[part])
        point = image.grid.matrix @ ([2] * dimension) + image.grid.origin
        assert_allclose(shift.calls[0][name].grid.origin, point)
    assert list(stage.GetOutput().GetLargestPossibleRegion().GetIndex()) == [2] * dimension
    assert as_image(mask).grid.equals(shift.calls[0]["moving"].grid)
    assert_array_equal(itk.array_from_image(mask), ramp(as_image(mask).grid, 0).array)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "u8", "f4", "f8"])
def test_any_scalar_pixel_type_is_cast_inside(shift, dtype):
    fixed, moving = smooth_image((9, 11), 1, dtype), smooth_image((12, 10), 2, np.float32)
    stage = NCRRegistrationFilter.New(to_itk(fixed), to_itk(moving), registration=shift)
    stage.Update()
    stage.SetInput(0, to_itk(moving))
    stage.SetInput(1, to_itk(fixed))
    stage.Update()
    for call, name in ((0, "fixed"), (1, "moving")):
        got = shift.calls[call][name]
        assert got.array.dtype == np.float32
        assert_array_equal(got.array, fixed.array.astype(np.float32))
        assert got.grid.equals(fixed.grid)


def test_masks_reach_the_registration_in_their_own_space_and_can_be_taken_away(
    dimension, pair, shift
):
    lesion = Image(np.ones((4, 5, 6)[:dimension], np.uint8), oblique_grid((4, 5, 6)[:dimension], 3))
    roi = Image(np.ones((6, 4, 5)[:dimension], np.int16), oblique_grid((6, 4, 5)[:dimension], 4))
    stage = new_filter(pair, shift, roi_mask=to_itk(roi))
    stage.Update()
    assert shift.calls[0]["lesion_mask"] is None
    assert shift.calls[0]["roi_mask"].grid.equals(roi.grid)
    lesion_image = to_itk(lesion)
    stage.SetLesionMask(lesion_image)
    stage.Update()
    assert shift.calls[1]["lesion_mask"].grid.equals(lesion.grid)
    assert (shift.calls[1]["lesion_mask"].array == 1).all()
    lesion_image.FillBuffer(0)
    lesion_image.Modified()
    stage.Update()
    assert (shift.calls[2]["lesion_mask"].array == 0).all()
    stage.SetROIMask(None)
    stage.SetLesionMask(None)
    stage.Update()
    assert len(shift.calls) == 4
    assert shift.calls[3]["lesion_mask"] is shift.calls[3]["roi_mask"] is None
    assert stage.GetLesionMask() is None


def test_one_filter_can_work_on_the_output_of_another(pair, shift):
    first, second = new_filter(pair, shift), new_filter(pair, KnownShift())
    second.SetMovingImage(first.GetWarpedImage())
    second.SetLesionMask(first.GetMask())
    second.Update()
    assert len(shift.calls) == 1
    call = second.GetRegistration().calls[0]
    assert_array_equal(call["moving"].array, itk.array_from_image(first.GetWarpedImage()))
    assert_array_equal(call["lesion_mask"].array, itk.array_from_image(first.GetMask()))
    first.SetMaskThreshold(0.9)  # changes the lesion mask of the second, and nothing of the first
    second.Update()
    assert (len(shift.calls), len(second.GetRegistration().calls)) == (1, 2)


def test_an_upstream_filter_is_asked_for_whole_images_and_only_when_the_registration_runs(
    pair, shift
):
    moving = to_itk(pair[1])
    upstream = itk.CastImageFilter[type(moving), type(moving)].New(moving, in_place=False)
    upstream.ReleaseDataFlagOn()  # so that every further request would run it again
    runs = runs_of(upstream.GetOutput())
    stage = NCRRegistrationFilter.New(to_itk(pair[0]), upstream, registration=shift)
    stage.Update()
    for name in ("GetMovingMask", "GetInverseDisplacementField", "GetMask"):
        getattr(stage, name)()
    stage.SetMaskThreshold(0.7)
    stage.Update()
    assert (len(runs), len(shift.calls)) == (1, 1)
    moving.Modified()
    upstream.Update()  # another filter's: all of it, whatever the stage requested last
    assert itk.array_from_image(upstream.GetOutput()).shape == pair[1].grid.shape
    assert len(runs) == 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (1, 1, 1), (5, 1, 1), (1, 6, 7)], ids=str)
def test_images_one_voxel_thin_pass_through(shape, shift):
    fixed, moving = np.ones(shape, np.float32), np.ones(shape[::-1], np.int16)
    stage = NCRRegistrationFilter.New(fixed, moving, registration=shift)
    stage.GetMovingMask()
    stage.Update()
    assert itk.array_from_image(stage.GetOutput()).shape == (*shape, len(shape))
    assert itk.array_from_image(stage.GetMovingMask()).shape == shape[::-1]


def test_an_empty_image_is_refused(shift):
    empty = itk.Image[itk.F, 2].New()
    with pytest.raises(ShapeError, match="fixed image must have at least one voxel"):
        NCRRegistrationFilter.New(empty, empty, registration=shift).Update()


def test_one_image_can_be_fixed_and_moving(pair, shift):
    image = to_itk(pair[0])
    stage = NCRRegistrationFilter.New(image, image, registration=shift)
    moving_mask = stage.GetMovingMask()
    stage.Update()
    assert moving_mask.IsSameImageGeometryAs(stage.GetMask())


def test_the_filters_upstream_are_kept_alive(pair, shift):
    sources = [to_itk(image) for image in pair]

    def cast(image: Any) -> Any:
        return itk.CastImageFilter[type(image), type(image)].New(image, in_place=False)

    stage = NCRRegistrationFilter.New(cast(sources[0]), registration=shift)
    upstream = cast(sources[1])
    stage.SetMovingImage(upstream.GetOutput())
    del upstream
    stage.Update()
    assert_array_equal(shift.calls[0]["moving"].array, pair[1].array)
    sources[0].FillBuffer(7)
    sources[0].Modified()
    stage.Update()
    assert (shift.calls[1]["fixed"].array == 7).all()


def test_a_new_moving_image_brings_its_grid_along(dimension, pair, shift):
    stage = new_filter(pair, shift)
    mask = stage.GetMovingMask()
    stage.Update()
    other = smooth_image((5, 6, 8)[:dimension], seed=5)
    stage.SetMovingImage(to_itk(other))
    stage.UpdateLargestPossibleRegion()
    assert as_image(mask).grid.equals(other.grid)


def test_a_registration_that_answers_on_another_grid_is_refused(pair, shift):
    class Wrong(KnownShift):
        def __call__(self, fixed: Image, moving: Image, **options: Any) -> Any:
            return super().__call__(moving, fixed, **options)

    stage = new_filter(pair, Wrong())
    with pytest.raises(ShapeError, match="registration must return"):
        stage.Update()
