"""Every door lets the same image in, and the wrong ones are told what to do."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from itk_ncr.errors import ArgumentError, GeometryError, ImageValueError, ShapeError
from itk_ncr.geometry import Grid
from itk_ncr.images import Image, as_image, to_itk, to_sitk, to_xarray

itk = pytest.importorskip("itk")
GEOMETRY = {"spacing": (0.5, 1.5, 2.5), "origin": (1.0, 2.0, 3.0)}


def same(one: Image, other: Image) -> bool:
    return one.grid.equals(other.grid, 1e-6) and np.array_equal(one.array, other.array)


def with_components(image: Image, count: int | None = None) -> Image:
    count = image.dimension if count is None else count
    values = np.random.default_rng(0).normal(size=(*image.grid.shape, count))
    return Image(values.astype(np.float32), image.grid)


# --- there and back -------------------------------------------------------------------------------


def test_an_image_passes_through_every_library_unchanged(oblique_image):
    assert as_image(oblique_image) is oblique_image
    for there in (to_sitk, to_itk, to_xarray):
        assert same(as_image(there(oblique_image)), oblique_image)


def test_a_displacement_passes_through_every_library_unchanged(oblique_image):
    field = with_components(oblique_image)
    for there in (to_sitk, to_itk, to_xarray):
        assert same(as_image(there(field), vector=True), field)
    dimension = oblique_image.dimension
    assert isinstance(to_itk(field), itk.Image[itk.Vector[itk.F, dimension], dimension])


@pytest.mark.parametrize(
    "shape", [(7, 1), (1, 7), (5, 1, 1), (1, 1, 5), (1, 4, 3), (1, 1)], ids=str
)
def test_thin_images_are_not_turned_on_their_side(shape):
    image = as_image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
    for convert in (to_itk, to_sitk):
        back = as_image(convert(image))
        assert back.grid.equals(image.grid)
        np.testing.assert_array_equal(back.array, image.array)


def test_the_libraries_agree_on_where_a_voxel_is(oblique_image):
    index = [1] * oblique_image.dimension
    expected = oblique_image.grid.points()[tuple(index)]
    for theirs in (to_sitk(oblique_image), to_itk(oblique_image)):
        point = theirs.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose([point[axis] for axis in range(len(index))], expected)


def test_xarray_is_written_as_itk_writes_it(oblique_image):
    ours, theirs = to_xarray(oblique_image), itk.xarray_from_image(to_itk(oblique_image))
    assert ours.dims == theirs.dims
    np.testing.assert_array_equal(ours.values, theirs.values)
    np.testing.assert_allclose(ours.attrs["direction"], theirs.attrs["direction"])
    for dim in ours.dims:
        np.testing.assert_allclose(ours.coords[dim], theirs.coords[dim])
    assert same(as_image(theirs), oblique_image)
    assert same(as_image(itk.image_from_xarray(ours)), oblique_image)


@pytest.mark.parametrize("pixel", ["UC", "SS", "US", "F", "D"])
def test_every_pixel_type_that_itk_wraps_is_taken(pixel):
    image = itk.Image[getattr(itk, pixel), 3].New()
    image.SetRegions([4, 3, 2])
    image.Allocate()
    image.FillBuffer(7)
    image.SetSpacing([1.0, 2.0, 3.0])
    taken = as_image(image)
    assert taken.grid.size == (4, 3, 2)
    assert taken.grid.spacing == (1, 2, 3)
    assert (taken.array == 7).all()


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_number_type_passes_through_simpleitk(dtype):
    image = Image(np.arange(24).reshape(2, 3, 4).astype(dtype), Grid.of_array((2, 3, 4)))
    back = as_image(to_sitk(image))
    assert same(back, image)
    assert back.array.dtype == dtype


def test_a_region_cut_out_of_an_itk_image_stays_in_its_place(oblique_image):
    """Its index does not start at 0, and its origin is still that of the whole image."""
    whole = to_itk(oblique_image)
    dimension = oblique_image.dimension
    region = itk.ImageRegion[dimension]([1] * dimension, [3] * dimension)
    part = as_image(itk.region_of_interest_image_filter(whole, region_of_interest=region))
    expected = Image(
        oblique_image.array[(slice(1, 4),) * dimension],
        oblique_image.grid.cropped([1] * dimension, [3] * dimension),
    )
    assert same(part, expected)
    cut = itk.extract_image_filter(whole, extraction_region=region)
    assert cut.GetLargestPossibleRegion().GetIndex()[0] == 1  # this one keeps its index
    assert same(as_image(cut), expected)


def test_the_output_of_a_pipeline_that_has_not_run_is_run(oblique_image):
    source = to_itk(oblique_image)
    stage = itk.ShiftScaleImageFilter.New(source, shift=3.0)
    taken = as_image(stage.GetOutput())
    np.testing.assert_allclose(taken.array, oblique_image.array + 3, rtol=1e-6)


# --- arrays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_arrays_take_their_geometry_from_the_caller(wrap):
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    taken = as_image(wrap(values), **GEOMETRY)
    assert taken.grid == Grid.of_array(values.shape, **GEOMETRY)
    assert np.array_equal(taken.array, values)
    assert as_image(wrap(values)).grid == Grid.of_array(values.shape)


def test_a_direction_may_be_flat_as_in_simpleitk():
    turned = np.array([[0.0, -1.0], [1.0, 0.0]])
    flat = as_image(np.zeros((3, 4)), direction=turned.ravel())
    assert flat.grid == as_image(np.zeros((3, 4)), direction=turned).grid
    assert np.array_equal(flat.grid.direction, turned)


def strange_layouts(values):
    read_only = values.copy()
    read_only.setflags(write=False)
    backwards = values[::-1, :, ::-1].copy()[::-1, :, ::-1]
    assert backwards.strides[0] < 0
    return {
        "Fortran order": np.asfortranarray(values),
        "transposed": np.ascontiguousarray(values.transpose(2, 0, 1)).transpose(1, 2, 0),
        "negative strides": backwards,
        "byte-swapped": values.astype(values.dtype.newbyteorder(">")),
        "read-only": read_only,
        "every second": np.repeat(values, 2, axis=1)[:, ::2],
    }


@pytest.mark.parametrize("layout", list(strange_layouts(np.zeros((1, 1, 1)) + np.zeros((2, 2, 2)))))
@pytest.mark.parametrize("dtype", ["i2", "f4", "f8"])
def test_however_an_array_lies_in_memory_its_values_arrive(layout, dtype):
    values = (np.random.default_rng(0).normal(size=(3, 4, 5)) * 100).astype(dtype)
    taken = as_image(strange_layouts(values)[layout])
    assert np.array_equal(taken.array, values)
    assert taken.array.flags.c_contiguous
    assert taken.array.dtype == np.dtype(dtype)
    assert np.array_equal(itk.array_from_image(to_itk(taken)), values)
    assert np.array_equal(sitk.GetArrayFromImage(to_sitk(taken)), values)


def test_small_and_odd_number_types_become_what_the_kernels_know():
    for dtype, expected in [
        (bool, np.uint8),
        (np.float16, np.float32),
        (np.longdouble, np.float64),
    ]:
        taken = as_image(np.ones((3, 4), dtype))
        assert taken.array.dtype == expected
        assert (taken.array == 1).all()


def test_values_that_are_not_finite_are_kept():
    values = np.array([[np.nan, np.inf], [-np.inf, 1]])
    assert np.array_equal(as_image(values).array, values, equal_nan=True)


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((4, 5), None, (4, 5)),
        ((3, 4, 5), None, (3, 4, 5)),
        ((1, 3, 4, 5), None, (3, 4, 5)),
        ((1, 1, 3, 4, 5), None, (3, 4, 5)),
        ((1, 1, 4, 5), None, (4, 5)),
        ((1, 1, 4, 5), (1, 1, 1), (1, 4, 5)),
        ((1, 4, 5), (1, 1), (4, 5)),
        ((1, 4, 5), (1, 1, 1), (1, 4, 5)),
        ((1, 1, 1, 4, 5), None, (1, 4, 5)),
    ],
)
def test_the_layout_of_networks_is_understood_where_it_is_clear(shape, spacing, expected):
    values = torch.rand(shape)
    taken = as_image(values, spacing=spacing)
    assert taken.grid.shape == expected
    assert np.array_equal(taken.array, values.reshape(expected).numpy())


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((1, 4, 5), "Pass tensor\\[0\\] for the 2D image, or a spacing of three values"),
        ((2, 3, 4, 5), "a batch or several channels. Pass one at a time"),
        ((1, 2, 3, 4, 5), "a batch or several channels. Pass one at a time"),
        ((7,), "be \\(z, y, x\\) or \\(y, x\\)"),
        ((0, 4, 5), "at least one voxel"),
    ],
)
def test_a_tensor_that_may_be_several_things_is_refused(shape, advice):
    with pytest.raises(ShapeError, match=f"^fixed image must.*{advice}"):
        as_image(torch.zeros(shape), role="fixed image")


def test_tensors_with_gradients_and_of_bfloat16_are_taken():
    leaf = torch.ones(3, 4, requires_grad=True)
    assert (as_image(leaf * 2).array == 2).all()
    assert as_image(torch.ones(3, 4, dtype=torch.bfloat16)).array.dtype == np.float32
    assert (as_image(torch.ones(4, 5).T).array.shape) == (5, 4)


def test_subclasses_of_arrays_and_tensors_are_taken():
    class MetaTensor(torch.Tensor):
        pass

    assert (as_image(torch.ones(3, 4).as_subclass(MetaTensor)).array == 1).all()
    assert (as_image(np.ma.masked_array(np.ones((3, 4)))).array == 1).all()
    view = itk.array_view_from_image(to_itk(as_image(np.ones((3, 4), np.float32))))
    assert type(view) is not np.ndarray
    assert type(as_image(view).array) is np.ndarray


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_gpu_are_fetched():
    assert (as_image(torch.ones(3, 4, device="cuda")).array == 1).all()


# --- xarray ---------------------------------------------------------------------------------------


def test_plain_coordinates_are_spacing_and_origin():
    xarray = pytest.importorskip("xarray")
    values = np.random.default_rng(0).normal(size=(3, 4))
    plain = xarray.DataArray(values, dims=("y", "x"), coords={"y": [5, 7, 9], "x": [1, 2, 3, 4]})
    taken = as_image(plain)
    assert taken.grid.spacing == (1, 2)
    assert taken.grid.origin == (1, 5)
    # In another order of the dimensions it is the same image.
    assert same(as_image(plain.transpose("x", "y")), taken)
    # Coordinates that fall are an axis that runs the other way.
    down = as_image(plain.isel(y=slice(None, None, -1)))
    assert down.grid.spacing == (1, 2)
    assert down.grid.direction == ((1, 0), (0, -1))
    np.testing.assert_allclose(down.grid.points()[::-1], taken.grid.points())
    assert np.array_equal(down.array[::-1], taken.array)
    # Without coordinates, and with names that say nothing, it is an array.
    assert as_image(xarray.DataArray(values)).grid == Grid.of_array((3, 4))


def test_uneven_coordinates_and_further_axes_are_refused():
    xarray = pytest.importorskip("xarray")
    uneven = xarray.DataArray(np.zeros((3, 4)), dims=("y", "x"), coords={"y": [0, 1, 3]})
    with pytest.raises(GeometryError, match="uneven ones along 'y'"):
        as_image(uneven)
    days = {"y": np.arange(3).astype("datetime64[D]")}
    with pytest.raises(GeometryError, match=r"in mm; got datetime64.* along 'y'"):
        as_image(xarray.DataArray(np.zeros((3, 4)), dims=("y", "x"), coords=days))
    with pytest.raises(ShapeError, match="at least one voxel"):
        as_image(xarray.DataArray(np.zeros((0, 4)), dims=("y", "x")))
    with pytest.raises(ShapeError, match="Select one image"):
        as_image(xarray.DataArray(np.zeros((2, 3, 4)), dims=("t", "y", "x")))
    with pytest.raises(ShapeError, match="isel\\(c=0\\)"):
        as_image(xarray.DataArray(np.zeros((3, 4, 3)), dims=("y", "x", "c")))


# --- the wrong guests -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: np.zeros((2, 3, 4, 5)), ShapeError, r"Pass one volume: array\[0\]"),
        (lambda: np.zeros(5), ShapeError, "must be"),
        (lambda: np.zeros((3, 0)), ShapeError, "at least one voxel"),
        (lambda: np.zeros((3, 4), complex), ImageValueError, "real numbers; got complex"),
        (lambda: np.ma.masked_less(np.eye(3), 0.5), ImageValueError, "must not hide voxels"),
        (lambda: np.array([["a", "b"]]), ImageValueError, "must hold numbers"),
        (lambda: np.array([[None, 1]]), ImageValueError, "must hold numbers; got object"),
        (lambda: torch.zeros(3, 4, dtype=torch.complex64), ImageValueError, "real numbers"),
        (lambda: sitk.Image([3, 4], sitk.sitkVectorFloat32, 3), ShapeError, "scalar; got 3"),
        (lambda: sitk.Image([3, 4], sitk.sitkComplexFloat32), ImageValueError, "real numbers"),
        (lambda: sitk.Image([3, 4, 5, 6], sitk.sitkUInt8), ShapeError, "2D or 3D"),
        (lambda: sitk.Image([3, 4], sitk.sitkLabelUInt8), ImageValueError, "got label of"),
        (lambda: itk_image("RGBPixel"), ShapeError, "scalar; got 3 components"),
        (lambda: itk_image("Vector"), ShapeError, "scalar; got 2 components"),
        (lambda: None, ArgumentError, "got builtins.NoneType"),
        (lambda: [[1, 2]], ArgumentError, "got builtins.list. Write it"),
        (lambda: torch.eye(3).to_sparse(), ImageValueError, "dense tensor .* layout torch.sparse"),
        (lambda: torch.zeros(3, 4, device="meta"), ImageValueError, "dense tensor .* on meta"),
    ],
)
def test_what_is_no_scalar_image_is_refused_with_advice(make, error, reason):
    with pytest.raises(error, match=reason) as caught:
        as_image(make(), role="moving image")
    assert str(caught.value).startswith("moving image must ")
    assert "\n" not in str(caught.value)


def itk_image(pixel):
    kind = itk.RGBPixel[itk.UC] if pixel == "RGBPixel" else itk.Vector[itk.F, 2]
    image = itk.Image[kind, 2].New()
    image.SetRegions([3, 4])
    image.Allocate()
    image.SetPixel([0, 0], [9, 5, 2] if pixel == "RGBPixel" else [9, 5])
    return image


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_equal_channels_are_grey(channels):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colours = np.repeat(grey[..., None], channels, -1)
    colours[..., 3:] = 255
    image = sitk.GetImageFromArray(colours, isVector=True)
    image.SetSpacing((0.5, 2.0))
    found = as_image(image)
    assert np.array_equal(found.array, grey)
    assert found.grid.spacing == (0.5, 2.0)
    if channels == 3:
        assert np.array_equal(as_image(itk.image_from_array(colours, is_vector=True)).array, grey)
    colours[1, 1, -1] = 7
    with pytest.raises(ShapeError, match="convert colour to grey"):
        as_image(sitk.GetImageFromArray(colours, isVector=True))


def test_geometry_is_not_given_twice(oblique_image):
    for image in (oblique_image, to_sitk(oblique_image)):
        with pytest.raises(ArgumentError, match="must not be given spacing"):
            as_image(image, spacing=(1,) * oblique_image.dimension)


def test_a_displacement_has_as_many_components_as_axes():
    with pytest.raises(ShapeError, match="must have 3 components"):
        as_image(np.zeros((4, 5, 6, 2)), vector=True)
    with pytest.raises(ShapeError, match=r"\(z, y, x, 3\) or \(y, x, 2\)"):
        as_image(np.zeros((4, 5)), vector=True)
    with pytest.raises(ShapeError, match="must have 2 components"):
        as_image(Image(np.zeros((4, 5)), Grid.of_array((4, 5))), vector=True)


def test_a_pixel_type_that_itk_does_not_wrap_is_named():
    image = Image(np.zeros((4, 5, 7), np.float32), Grid.of_array((4, 5)))
    with pytest.raises(ImageValueError, match=r"7 component\(s\). Convert it"):
        to_itk(image)


def test_an_array_must_lie_on_its_grid():
    with pytest.raises(ShapeError, match="array must have the shape of the grid"):
        Image(np.zeros((4, 5)), Grid.of_array((5, 4)))
    with pytest.raises(ShapeError, match="array must have the shape of the grid"):
        Image(np.zeros((4, 5, 2, 2)), Grid.of_array((4, 5)))


def test_arrays_cost_neither_itk_nor_torch_nor_simpleitk():
    code = (
        "import sys, numpy; from itk_ncr.images import as_image; as_image(numpy.zeros((3, 4))); "
        "print({'itk', 'torch', 'SimpleITK', 'xarray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_image_says_what_it_is_in_one_line_and_is_an_array_to_numpy(oblique_image):
    line = repr(oblique_image)
    assert "\n" not in line
    assert len(line) < 200
    for part in (oblique_image.grid.size, oblique_image.array.dtype):
        assert str(part) in line
    values = np.asarray(oblique_image)
    assert values.shape == oblique_image.grid.shape
    assert np.shares_memory(values, oblique_image.array)
    assert not np.shares_memory(np.array(oblique_image), oblique_image.array)
    assert np.asarray(oblique_image, np.float64).dtype == np.float64
