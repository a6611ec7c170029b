"""The faces with the package's own registration: one result, whichever door it was asked at."""

from __future__ import annotations

from typing import Any

import itk
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_array_equal

import itk_ncr
from itk_ncr import Image, NCRRegistrationFilter
from itk_ncr.errors import ImageValueError, RegistrationAborted
from itk_ncr.images import to_itk, to_sitk

from .conftest import oblique_grid


def blobs(points: np.ndarray, shift: float) -> np.ndarray:
    """A bright body with two dark holes, moved along x by some mm."""

    def gauss(center: tuple[float, ...], width: float) -> np.ndarray:
        offset = points - np.array(center[: points.shape[-1]])
        offset[..., 0] -= shift
        return np.exp(-(offset**2).sum(-1) / (2 * width**2))

    return 100 * gauss((0, 0, 0), 14) - 60 * gauss((8, 6, 2), 4) - 50 * gauss((-7, -5, 0), 3)


@pytest.fixture(scope="module")
def blob_pair() -> tuple[Image, Image]:
    """Two small 2D images on different oblique grids; the moving one 3 mm to the side."""
    fixed, moving = oblique_grid((40, 44), 1), oblique_grid((46, 38), 2)
    return (
        Image(blobs(fixed.points(), 0).astype(np.float32), fixed),
        Image(blobs(moving.points(), 3).astype(np.float32), moving),
    )


@pytest.fixture(scope="module")
def truth(blob_pair: Any) -> Any:
    return itk_ncr.register(*blob_pair, threads=1, seed=3)


def test_the_itk_filter_gives_the_very_result_of_the_function(blob_pair, truth):
    stage = NCRRegistrationFilter.New(*map(to_itk, blob_pair), threads=1, seed=3)
    progress: list[float] = []
    stage.AddObserver(itk.ProgressEvent(), lambda: progress.append(stage.GetProgress()))
    stage.Update()
    outputs = {
        "GetOutput": truth.displacement,
        "GetInverseDisplacementField": truth.displacement_inverse,
        "GetDeformationField": truth.deformation,
        "GetWarpedImage": truth.warped,
        "GetMaskProbability": truth.noncorrespondence,
        "GetMovingMaskProbability": truth.noncorrespondence_moving,
        "GetMask": truth.mask,
        "GetMovingMask": truth.mask_moving,
        "GetJacobian": truth.jacobian,
        "GetInverseError": truth.inverse_error,
    }
    for name, image in outputs.items():
        assert_array_equal(itk.array_from_image(getattr(stage, name)()), image.array, err_msg=name)
    assert progress == sorted(progress)
    assert progress[-1] == 1
    assert len(progress) > 10
    # The registration found the shift: 3 mm along x where the body is.
    body = blob_pair[0].array > 40
    assert abs(itk.array_from_image(stage.GetOutput())[body].mean(0) - [3, 0]).max() < 0.5


def test_the_simpleitk_filter_gives_the_very_result_of_the_function(blob_pair, truth):
    registration = itk_ncr.sitk.NCRRegistration()
    registration.SetThreads(1)
    registration.SetSeed(3)
    field = registration.Execute(*map(to_sitk, blob_pair))
    assert_array_equal(sitk.GetArrayFromImage(field), truth.displacement.array)
    for name, image in (("GetWarpedImage", truth.warped), ("GetMovingMask", truth.mask_moving)):
        array = sitk.GetArrayFromImage(getattr(registration, name)())
        assert_array_equal(array, image.array, err_msg=name)


def test_another_pixel_type_changes_no_more_than_its_rounding(blob_pair, truth):
    fixed, moving = (Image(np.round(i.array * 100).astype(np.int16), i.grid) for i in blob_pair)
    stage = NCRRegistrationFilter.New(to_itk(fixed), to_itk(moving), threads=1, seed=3)
    stage.Update()
    body = blob_pair[0].array > 40
    difference = itk.array_from_image(stage.GetOutput()) - truth.displacement.array
    assert np.abs(difference[body]).max() < 0.2


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_abort_stops_it_in_the_middle(blob_pair, share):
    stage = NCRRegistrationFilter.New(*map(to_itk, blob_pair), threads=1)
    tag = stage.AddObserver(
        itk.ProgressEvent(),
        lambda: stage.AbortGenerateDataOn() if stage.GetProgress() >= share else None,
    )
    with pytest.raises(RegistrationAborted):
        stage.Update()
    assert stage.GetProgress() < 0.9
    stage.RemoveObserver(tag)


def test_a_bad_image_is_refused_by_name_through_every_face(blob_pair):
    flat = Image(np.full_like(blob_pair[0].array, 3), blob_pair[0].grid)
    with pytest.raises(ImageValueError) as plain:
        itk_ncr.register(flat, blob_pair[1])
    stage = NCRRegistrationFilter.New(to_itk(flat), to_itk(blob_pair[1]))
    with pytest.raises(ImageValueError) as through_itk:
        stage.Update()
    with pytest.raises(ImageValueError) as through_sitk:
        itk_ncr.sitk.NCRRegistration().Execute(to_sitk(flat), to_sitk(blob_pair[1]))
    assert str(plain.value) == str(through_itk.value) == str(through_sitk.value)


def test_three_dimensions_in_a_pipeline():
    grids = oblique_grid((16, 18, 20), 4), oblique_grid((18, 17, 19), 5)
    fixed, moving = (
        Image(blobs(grid.points(), shift).astype(np.float32), grid)
        for grid, shift in zip(grids, (0, 2), strict=True)
    )
    stage = NCRRegistrationFilter.New(to_itk(fixed), to_itk(moving), threads=1, mask="none")
    warp = itk.WarpImageFilter.New(to_itk(moving), displacement_field=stage.GetOutput())
    warp.SetOutputParametersFromImage(to_itk(fixed))
    warp.Update()
    warped = itk.array_from_image(warp.GetOutput())
    ours = itk.array_from_image(stage.GetWarpedImage())
    inside = (warped != 0) & (ours != 0)
    assert inside.mean() > 0.3
    assert np.abs(warped - ours)[inside].max() < 1e-3 * np.ptp(moving.array)
    assert stage.GetQuality().folding_fraction == 0
    body = fixed.array > 40
    assert abs(itk.array_from_image(stage.GetOutput())[body].mean(0) - [2, 0, 0]).max() < 0.5
