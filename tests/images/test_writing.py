"""What is written is complete and right, or was never there."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.errors import ArgumentError, ImageWriteError
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import (
    Image,
    read_affine,
    read_displacement,
    read_image,
    write_image,
    write_transform,
    writing,
)

GRID = Grid.of_array((4, 5, 6), spacing=(1, 2, 3))
IMAGE = Image(np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32), GRID)
MEDICAL = [".nii", ".nii.gz", ".nrrd", ".mha"]


def refuses(image, path, reason):
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    with pytest.raises(ImageWriteError, match=reason) as caught:
        write_image(image, path)
    assert str(caught.value).startswith(f"cannot write {os.fspath(path)!r}: ")
    assert "\n" not in str(caught.value)
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("suffix", MEDICAL)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_format_keeps_values_type_and_place(oblique_image, here, suffix, dtype):
    values = np.clip(oblique_image.array, 0, 120).astype(dtype)
    image = Image(values, oblique_image.grid)
    write_image(image, "x" + suffix)
    back = read_image("x" + suffix)
    assert back.array.dtype == dtype
    assert np.array_equal(back.array, values)
    assert back.grid.equals(image.grid)
    theirs = sitk.ReadImage("x" + suffix)
    assert np.array_equal(sitk.GetArrayViewFromImage(theirs), values)
    np.testing.assert_allclose(theirs.GetOrigin(), image.grid.origin, atol=1e-4)
    np.testing.assert_allclose(theirs.GetDirection(), np.ravel(image.grid.direction), atol=1e-6)
    assert os.listdir() == ["x" + suffix]


@pytest.mark.parametrize("suffix", MEDICAL)
def test_every_format_keeps_a_displacement(oblique_image, here, suffix):
    dimension = oblique_image.dimension
    values = np.random.default_rng(1).normal(size=(*oblique_image.grid.shape, dimension))
    field = Image(values.astype(np.float32), oblique_image.grid)
    write_image(field, "d" + suffix)
    back = read_displacement("d" + suffix)
    assert np.array_equal(back.array, field.array)
    assert back.grid.equals(field.grid)
    if suffix == ".nii.gz":
        header = gzip.decompress(Path("d.nii.gz").read_bytes())
        assert struct.unpack_from("<h", header, 68) == (1007,)  # "vector", as ANTs expects
        assert struct.unpack_from("<6h", header, 40)[0::5] == (5, dimension)


def test_a_displacement_must_be_finite_and_complete(here):
    vectors = np.zeros((*GRID.shape, 3), np.float32)
    refuses(Image(vectors[..., :2], GRID), "d.nii.gz", "has 2 components; 3 can be written")
    vectors[1, 1, 1, 1] = np.nan
    refuses(Image(vectors, GRID), "d.nii.gz", "some of its vectors are NaN or Inf")


@pytest.mark.parametrize("suffix", MEDICAL)
def test_values_that_are_not_finite_survive(here, suffix):
    values = IMAGE.array.copy()
    values[0, 0, :3] = np.nan, np.inf, -np.inf
    write_image(Image(values, GRID), "x" + suffix)
    assert np.array_equal(read_image("x" + suffix).array, values, equal_nan=True)


def test_one_slice_stays_one_slice(here):
    image = Image(IMAGE.array[:1], GRID.cropped((0, 0, 0), (1, 5, 6)))
    for suffix in MEDICAL:
        write_image(image, "x" + suffix)
        assert read_image("x" + suffix).grid.equals(image.grid)


@pytest.mark.parametrize("suffix", MEDICAL)
@pytest.mark.parametrize("left_handed", [False, True])
def test_a_displacement_of_one_slice_keeps_its_place(here, make_grid, suffix, left_handed):
    # ITK alone takes the vectors of one slice in a NIfTI file for a flat image.
    grid = make_grid((1, 5, 6), (0.7, 1.3, 4.0), 5, left_handed, shift=9.0)
    vectors = np.random.default_rng(6).normal(size=(*grid.shape, 3)).astype(np.float32)
    write_image(Image(vectors, grid), "d" + suffix)
    back = read_displacement("d" + suffix)
    assert np.array_equal(back.array, vectors)
    assert back.grid.equals(grid)


@pytest.mark.parametrize("suffix", MEDICAL)
def test_the_grid_of_a_microscope_is_kept(here, suffix):
    image = Image(IMAGE.array, Grid.of_array(GRID.shape, (2e-6, 3e-6, 5e-6)))
    write_image(image, "x" + suffix)
    assert read_image("x" + suffix).grid.equals(image.grid)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_hold_small_whole_numbers_and_no_geometry(here, suffix):
    grid = Grid.of_array((5, 6))
    for dtype in (np.uint8, np.uint16):
        image = Image((np.arange(30) * 8).reshape(5, 6).astype(dtype), grid)
        write_image(image, "x" + suffix)
        assert np.array_equal(read_image("x" + suffix).array, image.array)
    turned = Image(image.array, Grid.of_array((5, 6), origin=(7, 8)))
    refuses(turned, "y" + suffix, "cannot hold its geometry; write .nii.gz")


def test_a_picture_does_not_hold_floats_or_volumes(here):
    refuses(Image(np.full((5, 6), 0.5), Grid.of_array((5, 6))), "x.png", "cannot|differently")
    refuses(IMAGE, "x.png", "cannot|differently")
    refuses(Image(np.zeros((5, 6, 2)), Grid.of_array((5, 6))), "x.png", "must end in one of .nii")


def test_a_file_of_that_name_is_replaced(here):
    Path("x.nii.gz").write_text("old")
    write_image(IMAGE, "x.nii.gz")
    assert np.array_equal(read_image("x.nii.gz").array, IMAGE.array)


def test_places_that_cannot_be_written_to_are_named(here):
    refuses(IMAGE, "nowhere/x.nii", "the folder 'nowhere' does not exist")
    Path("taken.nii").mkdir()
    refuses(IMAGE, "taken.nii", "is a folder")
    refuses(IMAGE, "x.xyz", r"its name must end in one of \.nii")
    refuses(IMAGE, "x.mhd", r"its name must end in one of \.nii")
    refuses(IMAGE, os.fsdecode(b"caf\xe9.nii"), "not valid UTF-8")
    refuses(IMAGE, "/proc/x.nii", r"cannot write")


def test_a_read_only_folder_is_named(here, monkeypatch):
    Path("locked").mkdir()
    opened = Path.open

    def forbidden(self, *args, **kwargs):  # the tests may run as root, who may write everywhere
        if self.parent.name == "locked":
            raise OSError(30, "Read-only file system")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(ImageWriteError, match=r"read-only file system$"):
        write_image(IMAGE, "locked/x.nii")


def test_names_with_spaces_and_accents_are_written(here):
    Path("räum lich").mkdir()
    write_image(IMAGE, "räum lich/bild ü 像.nii.gz")
    assert np.array_equal(read_image("räum lich/bild ü 像.nii.gz").array, IMAGE.array)


@contextmanager
def files_of_at_most(count):
    """As on a full disk: nothing can be written beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("suffix", MEDICAL)
@pytest.mark.parametrize("room", [0, 300, 20_000])
def test_a_full_disk_is_an_error_and_leaves_the_old_file(here, suffix, room):
    noise = np.random.default_rng(0).normal(size=(30, 30, 30)).astype(np.float32)
    Path("x" + suffix).write_text("old")
    big = Image(noise, Grid.of_array(noise.shape))
    with files_of_at_most(room), pytest.raises(ImageWriteError, match="cannot write") as caught:
        write_image(big, "x" + suffix)
    assert "\n" not in str(caught.value)
    assert os.listdir() == ["x" + suffix]
    assert Path("x" + suffix).read_text() == "old"


def test_a_disk_too_full_for_a_field_is_told_before_hdf5_meets_it(here, monkeypatch, capfd):
    import shutil

    field = Image(np.ones((*GRID.shape, 3), np.float32), GRID)
    room = shutil.disk_usage(".")._replace(free=field.array.size * 8 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(ImageWriteError, match=r"cannot write 't\.h5': no space left on device"):
        write_transform("t.h5", None, field)
    assert os.listdir() == []
    assert capfd.readouterr().err == ""


FULL_DISK = """
import os, resource, signal, sys
import numpy as np
from itk_ncr.errors import ImageWriteError
from itk_ncr.geometry import Grid
from itk_ncr.images import Image, write_transform

field = Image(np.ones((20, 20, 20, 3), np.float32), Grid.of_array((20, 20, 20)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    write_transform("t" + sys.argv[1], None, field)
except ImageWriteError:
    # HDF5 itself crashes when a process ends that could not flush a file: leave without its leave.
    os._exit(7)
"""


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_a_full_disk_is_an_error_for_transforms_too(here, suffix):
    command = [sys.executable, "-c", FULL_DISK, suffix]
    assert subprocess.run(command, capture_output=True).returncode == 7
    assert os.listdir() == []


def test_what_reads_back_differently_is_not_kept(here, monkeypatch):
    def wrong(path, role="image"):
        return Image(IMAGE.array + 1, GRID)

    monkeypatch.setattr(writing, "read_image", wrong)
    refuses(IMAGE, "x.nii", "read back differently")


def test_an_interrupted_write_leaves_nothing(here, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(sitk, "WriteImage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_image(IMAGE, "x.nii")
    assert os.listdir() == []


def test_two_writers_of_one_name_do_not_mix(here):
    images = [
        Image(np.full((20, 30, 30), n, np.float32), Grid.of_array((20, 30, 30))) for n in (1, 2)
    ]
    failures = []

    def write(image):
        try:
            for _ in range(5):
                write_image(image, "x.nii.gz")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(image,)) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert os.listdir() == ["x.nii.gz"]
    values = read_image("x.nii.gz").array
    assert values.min() == values.max()


# --- transforms -----------------------------------------------------------------------------------


def affine(dimension):
    generator = np.random.default_rng(dimension)
    matrix = np.eye(dimension) + 0.1 * generator.normal(size=(dimension, dimension))
    return AffineMap(matrix, 30 * generator.normal(size=dimension))


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt", ".mat"])
def test_an_affine_comes_back_as_it_was(here, dimension, suffix):
    write_transform("a" + suffix, affine(dimension))
    back = read_affine("a" + suffix, dimension)
    np.testing.assert_allclose(back.homogeneous, affine(dimension).homogeneous, atol=1e-12)
    theirs = sitk.ReadTransform("a" + suffix)
    point = (3.0, -4.0, 5.0)[:dimension]
    np.testing.assert_allclose(theirs.TransformPoint(point), affine(dimension)(point), atol=1e-10)


def test_rigid_and_composed_transforms_are_affine_too(here):
    rigid = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (4.0, 5.0, 6.0))
    scale = sitk.ScaleTransform(3, (1.1, 0.9, 1.2))
    both = sitk.CompositeTransform([rigid, scale])
    for number, transform in enumerate(
        [rigid, scale, sitk.TranslationTransform(3, (1, 2, 3)), both]
    ):
        sitk.WriteTransform(transform, f"t{number}.tfm")
        point = (10.0, -20.0, 30.0)
        ours = read_affine(f"t{number}.tfm")(point)
        np.testing.assert_allclose(ours, transform.TransformPoint(point), atol=1e-9)


def test_an_affine_of_ants_is_read(here, oblique_image):
    ants = pytest.importorskip("ants")
    if oblique_image.dimension != 3:
        pytest.skip("once is enough")
    theirs = ants.create_ants_transform(
        transform_type="AffineTransform",
        dimension=3,
        matrix=np.asarray(affine(3).matrix),
        translation=np.asarray(affine(3).translation),
        center=np.array([1.0, 2.0, 3.0]),
    )
    ants.write_transform(theirs, "0GenericAffine.mat")
    point = [10.0, -20.0, 30.0]
    expected = theirs.apply_to_point(point)
    np.testing.assert_allclose(read_affine("0GenericAffine.mat")(point), expected, atol=1e-3)


def test_what_is_no_affine_is_refused(here):
    field = Image(np.ones((4, 5, 6, 3), np.float32), GRID)
    write_transform("t.h5", affine(3), field)
    write_transform("a2.tfm", affine(2))
    Path("text.tfm").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    Path("nan.tfm").write_text(
        Path("a2.tfm").read_text().replace("Parameters: ", "Parameters: nan ")
    )
    Path("cut.h5").write_bytes(Path("t.h5").read_bytes()[:3000])
    Path("empty.mat").touch()
    Path("x.nii").write_bytes(b"1")
    cases = {
        "t.h5": "its transform is not affine",
        "a2.tfm": "it is for 2D images, these are 3D",
        "text.tfm": "not a transform file of ITK, or damaged",
        "cut.h5": "not a transform file of ITK, or damaged",
        "empty.mat": "is empty",
        "missing.mat": "no such file",
        "x.nii": "its name must end in one of .tfm",
    }
    for name, reason in cases.items():
        with pytest.raises(OSError, match=f"^cannot read affine '{name}': {reason}"):
            read_affine(name, 3)
    with pytest.raises(OSError, match="cannot read affine 'nan"):
        read_affine("nan.tfm")


def test_transforms_that_cannot_be_written_are_refused(here):
    field = Image(np.ones((4, 5, 6, 3), np.float32), GRID)
    for arguments, reason in [
        (("t.h5",), "neither affine nor deformation"),
        (("t.mat", None, field), r"must end in one of \.h5"),
        (("t.xyz", affine(3)), r"must end in one of \.h5"),
        (("nowhere/t.h5", affine(3)), "does not exist"),
    ]:
        with pytest.raises(ImageWriteError, match=reason):
            write_transform(*arguments)
    assert os.listdir() == []


def test_images_of_other_libraries_are_written_too(here):
    theirs = sitk.GetImageFromArray(IMAGE.array)
    theirs.SetSpacing(GRID.spacing)
    write_image(theirs, "theirs.nrrd")
    back = read_image("theirs.nrrd")
    assert back.grid.equals(GRID)
    np.testing.assert_array_equal(back.array, IMAGE.array)
    with pytest.raises(ArgumentError, match="got the path 'theirs"):
        write_image("theirs.nrrd", IMAGE)
