"""How a filter is made and set: the template look, keywords, accessors, pickles, imports."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from typing import Any

import itk
import numpy as np
import pytest
import SimpleITK as sitk

import itk_ncr
from itk_ncr import NCRRegistrationFilter, RegistrationSettings, ncr_registration_filter
from itk_ncr.errors import ArgumentError, ImageReadError, ImageValueError, ShapeError
from itk_ncr.filters import parameters as parameters_module
from itk_ncr.filters.parameters import Parameters
from itk_ncr.geometry import AffineMap
from itk_ncr.images import as_image, to_itk, to_sitk
from itk_ncr.sitk import NCRRegistration

from .conftest import KnownShift, constant_field, smooth_image


@pytest.fixture
def images(pair: Any) -> list[Any]:
    return [to_itk(image) for image in pair]


def passing(image: Any) -> Any:
    """A filter that hands the image on."""
    return itk.CastImageFilter[type(image), type(image)].New(image, in_place=False)


def test_every_way_to_make_a_filter_makes_the_same(dimension, pair, images, shift):
    def set_later(new: Any) -> Any:
        new.SetFixedImage(images[0])
        new.SetMovingImage(images[1])
        return new

    def set_inputs(new: Any) -> Any:
        new.SetInput(images[0])
        new.SetInput(1, images[1])
        return new

    made = [
        NCRRegistrationFilter.New(*images),
        NCRRegistrationFilter.New(fixed=images[0], moving=images[1]),
        NCRRegistrationFilter.New(FixedImage=images[0], moving_image=images[1]),
        NCRRegistrationFilter[dimension].New(*images),
        NCRRegistrationFilter[type(images[0])].New(*images),
        NCRRegistrationFilter[type(images[0]), type(images[1])].New(*images),
        set_later(NCRRegistrationFilter.New()),
        set_inputs(NCRRegistrationFilter[dimension].New()),
        set_inputs(NCRRegistrationFilter.New(moving=images[1])),
        NCRRegistrationFilter.New(*map(passing, images)),
    ]
    for stage in made:
        assert type(stage) is NCRRegistrationFilter[dimension]
        assert isinstance(stage, itk.ProcessObject)
        stage.SetRegistration(shift)
        stage.Update()
    assert len(shift.calls) == len(made)
    for call in shift.calls:
        assert call["fixed"].grid.equals(pair[0].grid)
        assert call["moving"].grid.equals(pair[1].grid)


def test_filters_and_arrays_of_other_libraries_are_images_too(pair, shift):
    stage = NCRRegistrationFilter.New(to_sitk(pair[0]), pair[1], registration=shift)
    stage.Update()
    assert shift.calls[0]["fixed"].grid.equals(pair[0].grid)
    assert shift.calls[0]["moving"].grid.equals(pair[1].grid)
    plain = NCRRegistrationFilter.New(pair[0].array, pair[1].array, registration=shift)
    plain.Update()
    assert shift.calls[1]["fixed"].grid.spacing == (1.0,) * stage.dimension


def test_the_function_returns_a_field_that_outlives_its_filter(dimension, pair, images, shift):
    field = ncr_registration_filter(*images, registration=shift, mask_threshold=0.25)
    assert type(field) is itk.Image[itk.Vector[itk.F, dimension], dimension]
    assert field.GetSource() is None
    total = (shift.deformation_mm + shift.affine_mm)[:dimension]
    np.testing.assert_array_equal(
        itk.array_from_image(field), constant_field(pair[0].grid, total).array
    )
    assert shift.calls[0]["mask_threshold"] == 0.25


EXAMPLES: dict[str, Any] = {
    "method": "demons",
    "preset": "brain-t1",
    "engine": "network",
    "method_options": (("alpha", 2.0),),
    "model": "a-model",
    "refine": 7,
    "affine": "none",
    "smoothness": 2.5,
    "mask_price": 0.5,
    "mask": "none",
    "mask_threshold": 0.25,
    "uncertainty_runs": 4,
    "seed": 11,
    "threads": 1,
    "working_voxels": 5000,
}


@pytest.mark.parametrize("field", dataclasses.fields(RegistrationSettings), ids=lambda f: f.name)
def test_every_setting_has_accessors_and_reaches_the_registration(field, shift):
    images = [to_itk(smooth_image((9, 11), seed)) for seed in (1, 2)]
    camel = "MaskMode" if field.name == "mask" else itk_camel(field.name)
    stage = NCRRegistrationFilter.New(*images, registration=shift)
    assert getattr(stage, f"Get{camel}")() == field.default
    getattr(stage, f"Set{camel}")(EXAMPLES[field.name])
    assert getattr(stage, f"Get{camel}")() == EXAMPLES[field.name]
    stage.Update()
    assert shift.calls[0][field.name] == EXAMPLES[field.name]
    for keyword in (field.name, camel):
        other = NCRRegistrationFilter[2].New(**{keyword: EXAMPLES[field.name]})
        assert getattr(other, f"Get{camel}")() == EXAMPLES[field.name]


def test_editors_are_told_of_every_accessor():
    """Type checkers do not run code: what they see has to be what there is."""
    tree = ast.parse(inspect.getsource(parameters_module))
    (told,) = (node for node in tree.body if getattr(node, "name", "") == "Accessors")
    (stubs,) = (node for node in told.body if isinstance(node, ast.If))  # under TYPE_CHECKING
    names = {node.name for node in stubs.body}
    assert len(names) == 2 * len(dataclasses.fields(RegistrationSettings))
    for name in names:
        assert callable(getattr(NCRRegistration, name))
        assert callable(getattr(NCRRegistrationFilter, name))


def itk_camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def test_the_filter_says_to_the_registration_what_it_understands(shift):
    """The default registration has no **options: a keyword it does not know would be an error."""
    stage = NCRRegistrationFilter.New(np.zeros((4, 5)), np.ones((4, 5)), registration=shift)
    stage.Update()
    known = inspect.signature(itk_ncr.register).parameters
    assert set(shift.calls[0]) <= set(known)
    assert set(known) <= set(shift.calls[0])  # nor does the filter lack an option it has


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("smoothness", 0, "smoothness must be a positive number from 1e-06 to 1e+06; got 0"),
        (
            "smoothness",
            "stiff",
            "smoothness must be a positive number from 1e-06 to 1e+06; got 'stiff'",
        ),
        ("mask_threshold", 1.5, "mask_threshold must lie in"),
        ("mask", "given", "mask must be 'auto' or 'none'"),
        ("threads", 0, "threads must be a whole number from 1 to"),
        ("threads", 10_000, "threads must be a whole number from 1 to"),
        ("seed", "7", "seed must be a whole number from 0 to"),
        ("working_voxels", 0, "working_voxels must be a whole number, 512 or more; got 0"),
        (
            "mask",
            np.ones((4, 5)),
            "mask must be 'auto' or 'none'; got ndarray. Give a known lesion",
        ),
        (
            "affine",
            "given",
            "affine must be 'auto', 'none', an AffineMap or the path of a transform",
        ),
        ("affine", None, "got 'NoneType'"),
        ("affine", "rigid", "affine must be 'auto', 'none', an AffineMap or"),
        ("initial_transform", "auto", "initial_transform must be an AffineMap, a linear"),
        ("registration", 3, "registration must be callable"),
        ("smothness", 1, "got 'smothness'. Did you mean Smoothness"),
        ("output", 1, "keyword must name a setting; got 'output'"),
    ],
)
def test_a_wrong_setting_is_refused_at_once_and_changes_nothing(name, value, text):
    with pytest.raises(ArgumentError) as caught:
        NCRRegistrationFilter[2].New(**{name: value})
    assert text in str(caught.value)
    parameters = Parameters()
    if name in EXAMPLES:
        before = parameters.as_options()
        with pytest.raises(ArgumentError):
            parameters.set(name, value)
        assert parameters.as_options() == before


def test_affine_maps_come_from_linear_transforms_of_both_libraries():
    matrix, center, translation = [[0.9, 0.2], [-0.1, 1.1]], [3.0, -4.0], [5.0, 6.0]
    theirs = sitk.AffineTransform(2)
    theirs.SetMatrix(np.ravel(matrix).tolist())
    theirs.SetCenter(center)
    theirs.SetTranslation(translation)
    ours = itk.AffineTransform[itk.D, 2].New()
    ours.SetMatrix(itk.matrix_from_array(np.array(matrix)))
    ours.SetCenter(center)
    ours.SetTranslation(translation)
    points = np.array([[0.0, 0.0], [7.0, -2.0]])
    expected = (points - center) @ np.array(matrix).T + center + translation
    stage = NCRRegistrationFilter[2].New()
    for transform in (theirs, ours, AffineMap(((1.0, 0.0), (0.0, 1.0)), (2.0, 3.0))):
        stage.SetAffine(transform)
        stage.SetInitialTransform(transform)
        assert stage.GetAffine() == stage.GetInitialTransform()
        if isinstance(transform, AffineMap):
            assert stage.GetAffine() == transform
        else:
            np.testing.assert_allclose(stage.GetAffine()(points), expected, atol=1e-9)
    with pytest.raises(ArgumentError, match="affine must be linear; got a Displacement"):
        stage.SetAffine(sitk.DisplacementFieldTransform(2))


@pytest.mark.parametrize("key", [4, 1, "3D", True, itk.Image[itk.F, 4], itk.F])
def test_only_two_and_three_dimensions_are_wrapped(key):
    with pytest.raises(ArgumentError, match=r"must get 2, 3 or a type of ITK image"):
        NCRRegistrationFilter[key]


def test_images_that_cannot_be_registered_are_refused_when_they_are_set():
    stage = NCRRegistrationFilter[2].New()
    with pytest.raises(ShapeError, match="fixed image must have 2 dimensions; got 3"):
        stage.SetFixedImage(itk.Image[itk.F, 3].New())
    with pytest.raises(ShapeError, match="must be 2D or 3D; got 4"):
        NCRRegistrationFilter.New(itk.Image[itk.F, 4].New())
    for kind in (
        itk.Image[itk.RGBPixel[itk.UC], 2],
        itk.Image[itk.Vector[itk.F, 2], 2],
        itk.VectorImage[itk.F, 2],
        itk.Image[itk.complex[itk.F], 2],
    ):
        with pytest.raises(ImageValueError, match="moving image must have real scalar pixels"):
            stage.SetMovingImage(kind.New())
    with pytest.raises(ImageReadError, match="no such file"):
        stage.SetFixedImage("brain.nii")
    with pytest.raises(ArgumentError, match="fixed image must be"):
        stage.SetFixedImage(object())
    with pytest.raises(ArgumentError, match="index must lie in"):
        stage.SetInput(9, itk.Image[itk.F, 2].New())
    assert stage.GetFixedImage() is None
    assert stage.GetMovingImage() is None


def test_a_filter_without_an_image_says_what_it_needs():
    stage = NCRRegistrationFilter.New(smoothness=3)
    assert stage.GetSmoothness() == 3
    assert "unbound" in str(stage)
    assert "'smoothness': 3" in str(stage)
    assert str(NCRRegistrationFilter[3].New()).startswith("<NCRRegistrationFilter 3D")
    with pytest.raises(ArgumentError, match=r"NCRRegistrationFilter\[3\]"):
        stage.GetMask()
    with pytest.raises(AttributeError, match=r"NCRRegistrationFilter\[3\]"):
        stage.GetOutput()
    with pytest.raises(ArgumentError, match="fixed image must be set"):
        stage.Update()


def test_a_pickle_holds_settings_and_images_and_not_the_pipeline(pair, images):
    roi = to_itk(smooth_image((6, 7, 8)[: pair[0].grid.dimension], 4, np.uint8))
    stage = NCRRegistrationFilter.New(
        passing(images[0]),
        images[1],
        registration=KnownShift(),
        smoothness=2,
        affine=AffineMap.identity(pair[0].grid.dimension),
        roi_mask=roi,
    )
    stage.AddObserver(itk.ProgressEvent(), lambda: None)  # a lambda cannot be pickled
    stage.Update()
    stage.GetRegistration().calls.clear()  # they hold the filter's callbacks
    for twin in (pickle.loads(pickle.dumps(stage)), copy.deepcopy(stage)):
        assert type(twin) is type(stage)
        assert twin.GetSmoothness() == 2
        assert twin.GetAffine() == stage.GetAffine()
        assert as_image(twin.GetROIMask()).array.dtype == np.uint8
        twin.Update()
        for get in ("GetOutput", "GetMovingMask", "GetWarpedImage"):
            mine, other = getattr(stage, get)(), getattr(twin, get)()
            np.testing.assert_array_equal(itk.array_from_image(mine), itk.array_from_image(other))
            assert mine.IsSameImageGeometryAs(other)
    unbound = pickle.loads(pickle.dumps(NCRRegistrationFilter.New(seed=5)))
    assert unbound.GetSeed() == 5


def test_itk_is_imported_when_the_filter_is_touched_and_not_before():
    code = (
        "import sys, itk_ncr, itk_ncr.filters\n"
        "assert 'itk' not in sys.modules and 'torch' not in sys.modules\n"
        "itk_ncr.NCRRegistrationFilter\n"
        "assert 'itk' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_missing_itk_is_named_with_the_way_to_get_it():
    code = (
        "import sys; sys.modules['itk'] = None\n"
        "import itk_ncr\n"
        "try:\n"
        "    itk_ncr.NCRRegistrationFilter\n"
        "except itk_ncr.errors.MissingDependencyError as error:\n"
        "    assert 'pip install' in str(error)\n"
        "    sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 7


def test_auto_progress_is_that_of_itk():
    images = [np.zeros((4, 5)), np.ones((4, 5))]
    for level in (False, True):
        stage = NCRRegistrationFilter.New(*images, auto_progress=level)
        assert stage.HasObserver(itk.ProgressEvent()) is level
