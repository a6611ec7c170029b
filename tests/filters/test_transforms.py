"""The outputs used by ITK's own filters and transforms: all move the image alike."""

from __future__ import annotations

from typing import Any

import itk
import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr import NCRRegistrationFilter
from itk_ncr.images import Image, as_image, to_itk, to_sitk

from .conftest import KnownShift


class Wobble(KnownShift):
    """A registration that answers with a smooth, varying field and a real affine."""

    def __call__(self, fixed: Image, moving: Image, **options: Any) -> Any:
        import dataclasses

        from itk_ncr.geometry import AffineMap
        from itk_ncr.images import resample

        result = super().__call__(fixed, moving, **options)
        dimension = fixed.grid.dimension
        points = fixed.grid.points()
        # Waves long against the voxel, so that linear interpolation of the field is exact enough.
        waves = np.stack([np.sin(0.05 * points.sum(-1) + a) for a in range(dimension)], -1)
        matrix = np.eye(dimension) + 0.05 * np.arange(dimension**2).reshape(dimension, -1) / 9
        affine = AffineMap(tuple(map(tuple, matrix.tolist())), (1.0, -0.5, 0.3)[:dimension])
        displacement = Image((affine(points + waves) - points).astype(np.float32), fixed.grid)
        return dataclasses.replace(
            result,
            affine=affine,
            deformation=Image(waves.astype(np.float32), fixed.grid),
            displacement=displacement,
            warped=resample(moving, fixed.grid, displacement=displacement),
        )


def differences(got: Any, expected: np.ndarray) -> np.ndarray:
    """Differences in shares of the range 0..100, where both are inside the moving image."""
    array = itk.array_from_image(got) if isinstance(got, itk.Object) else got
    inside = (array != 0) & (expected != 0)
    assert inside.mean() > 0.3
    # At the very rim, rounding decides who is inside: a voxel or two.
    assert ((array != 0) != (expected != 0)).mean() < 0.01
    return np.abs(array - expected)[inside] / 100


@pytest.fixture
def stage(pair: Any) -> Any:
    return NCRRegistrationFilter.New(to_itk(pair[0]), to_itk(pair[1]), registration=Wobble())


def test_warp_and_resample_filters_agree_with_our_warped_image(dimension, pair, stage):
    fixed, moving = stage.GetFixedImage(), stage.GetMovingImage()
    warp = itk.WarpImageFilter.New(moving, displacement_field=stage.GetOutput())
    warp.SetOutputParametersFromImage(fixed)
    warp.Update()  # pulls the registration
    ours = itk.array_from_image(stage.GetWarpedImage())
    assert differences(warp.GetOutput(), ours).max() < 1e-3
    for composite in (False, True):
        resample = itk.ResampleImageFilter.New(
            moving, reference_image=fixed, use_reference_image=True
        )
        resample.SetTransform(stage.GetTransform(composite=composite))
        resample.Update()
        assert differences(resample.GetOutput(), ours).max() < 1e-3, composite
    field = sitk.Cast(to_sitk(as_image(stage.GetOutput(), vector=True)), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(field)
    theirs = sitk.Resample(to_sitk(pair[1]), to_sitk(pair[0]), transform, sitk.sitkLinear, 0.0)
    assert differences(sitk.GetArrayFromImage(theirs), ours).max() < 1e-3
    assert len(stage.GetRegistration().calls) == 1


def test_both_transforms_map_points_as_the_field_does(dimension, pair, stage):
    result = stage.GetResult()
    plain, composite = stage.GetTransform(), stage.GetTransform(composite=True)
    assert type(plain) is itk.DisplacementFieldTransform[itk.D, dimension]
    assert type(composite) is itk.CompositeTransform[itk.D, dimension]
    index = (2, 5, 3)[:dimension]
    point = pair[0].grid.points()[index]
    expected = point + result.displacement.array[index]
    for transform in (plain, composite):
        np.testing.assert_allclose(
            list(transform.TransformPoint(point.tolist())), expected, atol=1e-4
        )
    far = (point + 1000).tolist()  # outside, the field is zero and the affine goes on
    np.testing.assert_allclose(list(composite.TransformPoint(far)), result.affine(far), atol=1e-6)
    inverse = stage.GetInverseTransform()
    index = (1, 4, 2)[:dimension]
    there = pair[1].grid.points()[index]
    back = there + result.displacement_inverse.array[index]
    np.testing.assert_allclose(list(inverse.TransformPoint(there.tolist())), back, atol=1e-4)


def test_a_written_transform_is_read_back_by_both_libraries(dimension, pair, stage, tmp_path):
    path = str(tmp_path / "transform.h5")
    itk.transformwrite([stage.GetTransform(composite=True)], path)
    point = pair[0].grid.points()[(2, 5, 3)[:dimension]].tolist()
    expected = list(stage.GetTransform().TransformPoint(point))
    np.testing.assert_allclose(sitk.ReadTransform(path).TransformPoint(point), expected, atol=1e-4)


def test_a_transform_is_a_copy_that_a_later_run_does_not_touch(dimension, stage):
    transform = stage.GetTransform()
    field = itk.array_from_image(transform.GetDisplacementField())
    stage.SetRegistration(KnownShift((9, 9, 9)))
    stage.Update()
    np.testing.assert_array_equal(itk.array_from_image(transform.GetDisplacementField()), field)


def test_quality_and_result_follow_the_settings(stage):
    assert stage.GetQuality().iterations == 12
    assert stage.GetResult().warnings == ()
    stage.SetSmoothness(2)
    stage.GetQuality()
    assert len(stage.GetRegistration().calls) == 2
    stage.GetInverseTransform()
    assert len(stage.GetRegistration().calls) == 2
