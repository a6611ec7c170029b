"""The picture shows what is there, the right way up, whatever the storage order."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.errors import MissingDependencyError
from itk_ncr.evaluation import NOTICE, figures, summary
from itk_ncr.evaluation.overview import _panels, overview
from itk_ncr.evaluation.scene import Scene, plane_across
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, as_image, to_sitk
from itk_ncr.registration import Quality, RegistrationResult, RegistrationSettings


def scalar(grid: Grid, value: float = 0.0) -> Image:
    return Image(np.full(grid.shape, value, np.float32), grid)


def example(shape: tuple[int, ...], seed: int = 0) -> tuple[Image, Image, RegistrationResult]:
    """A pair and a result with something in every part of it."""
    generator = np.random.default_rng(seed)
    spacing = (3.0, 1.0, 1.5)[-len(shape) :]
    grid = Grid.of_array(shape, spacing=spacing[::-1])
    noise = generator.random((4, *shape)).astype(np.float32)
    inside = np.zeros(shape, np.float32)
    inside[tuple(slice(n // 4, n - n // 4) for n in shape)] = 100
    fixed, moving = Image(inside + noise[0], grid), Image(inside + noise[1], grid)
    probability = np.zeros(shape, np.float32)
    probability[tuple(slice(n // 3, n // 3 + 3) for n in shape)] = 0.9
    deformation = Image(generator.normal(size=(*shape, len(shape))).astype(np.float32), grid)
    quality = Quality(0.4, 0.1, 0.02, 0.03, 0.5, 0.001, 0.01, 0.2, 1.0, 100, 2.5)
    result = RegistrationResult(
        displacement=deformation,
        displacement_inverse=deformation,
        deformation=deformation,
        warped=Image(inside + noise[2], grid),
        noncorrespondence=Image(probability, grid),
        noncorrespondence_moving=scalar(grid),
        jacobian=Image(0.5 + noise[3], grid),
        inverse_error=scalar(grid),
        foreground=Image(np.ones(shape, np.uint8), grid),
        foreground_moving=Image(np.ones(shape, np.uint8), grid),
        affine=AffineMap.identity(len(shape)),
        quality=quality,
        mask_threshold=0.5,
        warnings=("look",),
        settings=RegistrationSettings(),
    )
    return fixed, moving, result


@pytest.mark.parametrize("shape", [(40, 52), (22, 30, 26), (3, 40, 36), (30, 2, 36), (18, 1, 5)])
def test_every_shape_is_drawn_without_a_warning(tmp_path, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        overview(*example(shape), tmp_path / "o.png")
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "o.png")))[..., :3]
    assert picture.std() > 10


@pytest.mark.parametrize("trouble", ["constant", "black", "nan", "masked", "folded"])
def test_images_that_show_nothing_are_drawn_all_the_same(tmp_path, trouble):
    fixed, moving, result = example((20, 24))
    grid = fixed.grid
    if trouble in ("constant", "black"):
        fixed = moving = scalar(grid, 0.0 if trouble == "black" else 7.0)
        result = dataclasses.replace(result, warped=fixed)
    elif trouble == "nan":
        array = moving.array.copy()
        array[3:9] = np.nan
        fixed, moving = Image(array, grid), Image(array, grid)
        result = dataclasses.replace(result, warped=moving)
    elif trouble == "masked":
        result = dataclasses.replace(result, noncorrespondence=scalar(grid, 1.0))
    else:
        result = dataclasses.replace(result, jacobian=scalar(grid, -1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        overview(fixed, moving, result, tmp_path / "o.png")
    assert (tmp_path / "o.png").stat().st_size > 10_000


@pytest.mark.parametrize("order", ["LPS", "RAS", "PSR", "SAL", "IRP"])
def test_the_patient_stands_upright_however_the_image_is_stored(order):
    fixed, moving, result = example((17, 20, 23))

    def stored(image: Image) -> Image:
        if image.is_vector:
            parts = [stored(Image(image.array[..., c], image.grid)) for c in range(3)]
            return Image(np.stack([p.array for p in parts], -1), parts[0].grid)
        return as_image(sitk.DICOMOrient(to_sitk(image), order))

    changes = {
        field.name: stored(value)
        for field in dataclasses.fields(result)
        if isinstance(value := getattr(result, field.name), Image)
    }
    expected = Scene.of(fixed, moving, result)
    scene = Scene.of(stored(fixed), stored(moving), dataclasses.replace(result, **changes))
    assert scene.spacing == expected.spacing == (3.0, 1.0, 1.5)
    for name in ("fixed", "before", "after", "mask", "probability", "jacobian"):
        assert np.allclose(getattr(scene, name), getattr(expected, name), atol=1e-3), name
    for axis in range(3):
        for plane in (plane_across(scene, across, 6) for across in range(3)):
            lines = scene.carried(plane, axis)
            assert np.allclose(lines, expected.carried(plane, axis), atol=1e-3)


def test_the_lines_are_the_voxels_that_points_are_carried_to():
    fixed, moving, result = example((20, 18, 16))
    deformation = np.zeros((20, 18, 16, 3), np.float32)
    deformation[8, 9, 7] = (1.0, 3.0, 6.0)  # mm along x, y, z; spacing 1.5, 1, 3
    changed = dataclasses.replace(result, deformation=Image(deformation, fixed.grid))
    scene = Scene.of(fixed, moving, changed)
    z, y, x = (int(a) for a in np.argwhere(scene.deformation[..., 2] == 6)[0])
    axial, coronal = plane_across(scene, 0, z), plane_across(scene, 1, y)
    assert scene.carried(axial, 2)[y, x] == pytest.approx(x + 1 / 1.5)
    assert scene.carried(axial, 1)[y, x] == pytest.approx(y + 3)
    assert scene.carried(axial, 1)[y, x + 1] == y
    from_below = scene.fixed.shape[0] - 1 - z  # superior is up, row 0 at the top
    assert scene.carried(coronal, 0)[from_below, x] == pytest.approx(z + 2)
    assert scene.carried(coronal, 0)[from_below, x + 1] == z


def test_the_planes_of_a_head_are_the_right_way_up():
    """A bright nose (anterior), hat (superior) and left hand, found in the planes."""
    array = np.zeros((20, 20, 20), np.float32)
    array[2:-2, 2:-2, 2:-2] = 50
    array[10, 2, 10] = 101  # LPS: anterior is y = 0
    array[-3, 10, 10] = 102  # superior is the last z
    array[10, 10, -3] = 103  # left is the last x
    grid = Grid.of_array(array.shape)
    _, _, result = example(array.shape)
    plain = dataclasses.replace(
        result,
        warped=Image(array, grid),
        noncorrespondence=scalar(grid),
        deformation=Image(np.zeros((*array.shape, 3), np.float32), grid),
    )
    scene = Scene.of(Image(array, grid), Image(array, grid), plain)
    across = [plane_across(scene, axis, scene.fixed.shape[axis] // 2) for axis in range(3)]
    axial, coronal, sagittal = (plane.cut(scene.fixed) for plane in across)

    def side(plane: np.ndarray, value: float) -> tuple[bool, bool]:
        row, column = np.argwhere(plane == value)[0]
        return row < plane.shape[0] / 3, column > 2 * plane.shape[1] / 3

    assert side(axial, 101) == (True, False)  # nose up
    assert side(axial, 103) == (False, True)  # patient's left on the right
    assert side(coronal, 102) == (True, False)  # hat up
    assert side(coronal, 103) == (False, True)
    assert side(sagittal, 102) == (True, False)
    assert np.argwhere(sagittal == 101)[0][1] < 5  # nose to the left


def test_two_contrasts_get_a_checkerboard_instead_of_a_difference():
    fixed, moving, result = example((30, 32))

    def titles(warped: np.ndarray) -> list[str]:
        changed = dataclasses.replace(result, warped=Image(warped, fixed.grid))
        return [panel.title for panel in _panels(Scene.of(fixed, moving, changed))]

    generator = np.random.default_rng(1)
    assert "difference after" in titles(3 * fixed.array + 5)
    assert "checkerboard after" in titles(generator.random((30, 32)).astype(np.float32) + 1)
    assert "checkerboard after" in titles(300 - fixed.array)


def test_the_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'itk_ncr\[report\]'"):
        overview(*example((20, 24)), tmp_path / "o.png")


def test_the_summary_is_plain_json_with_every_figure():
    result = example((12, 14))[2]
    told = json.loads(json.dumps(summary(result)))
    assert told["quality"] == result.quality.as_dict()
    assert told["settings"] == result.settings.as_dict()
    assert told["affine"]["matrix"] == [[1, 0], [0, 1]]
    assert told["warnings"] == ["look"]
    assert told["notice"] == NOTICE
    words = dict(figures(result))
    assert words["distance"] == "0.4 -> 0.1"
    assert words["no correspondence"].startswith("2.00%")
    assert words["field of view"] == f"{result.quality.overlap_fraction:.1%} shared"
    # With labels their Jaccard is told, and nothing else is called overlap.
    words = dict(figures(result, {"jaccard_before": 0.51, "jaccard": 0.82}))
    assert words["labels, Jaccard"] == "0.510 -> 0.820"
    assert "overlap" not in words
    assert "labels, Jaccard" not in dict(figures(result, {"jaccard_before": None, "jaccard": None}))
