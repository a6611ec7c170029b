"""Every bad file gets one line that names it and says why; nothing is read wrong in silence."""

from __future__ import annotations

import bz2
import gzip
import itertools
import locale
import os
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk

from itk_ncr.errors import GeometryError, ImageReadError, MemoryLimitError, NCRError
from itk_ncr.geometry import Grid
from itk_ncr.images import Image, ImageWarning, memory, read_displacement, read_image, write_image


def refuses(path, pattern, error=ImageReadError):
    """Reading raises one line with the image's role, its name and the reason."""
    with pytest.raises(error, match=pattern) as caught:
        read_image(path, role="moving image")
    text = str(caught.value)
    assert text.startswith(f"cannot read moving image {os.fspath(path)!r}: ")
    assert "\n" not in text
    assert isinstance(caught.value, NCRError)


def damaged(content: bytes, at: float = 0.6) -> bytes:
    """One bit flipped."""
    place = int(len(content) * at)
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


NOISE = np.random.default_rng(0).normal(size=(20, 24, 22)).astype(np.float32)


# --- paths ----------------------------------------------------------------------------------------


def test_a_missing_file_is_named(here):
    refuses("x.nii", "no such file$")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".jpg"])
def test_an_empty_file_is_named(here, suffix):
    Path("x" + suffix).touch()
    refuses("x" + suffix, "is empty")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".jpg"])
def test_a_text_file_with_an_images_name_is_refused(here, suffix):
    Path("x" + suffix).write_text("what a nice day\n" * 50)
    refuses("x" + suffix, "is not a")


def test_an_unknown_ending_is_refused(here):
    Path("x.xyz").write_text("1")
    refuses("x.xyz", r"its format is unknown; one of \.nii")


def test_a_folder_without_dicom_is_refused(here, capfd):
    Path("folder.nii").mkdir()
    refuses("folder.nii", "is a folder without a DICOM series")
    assert capfd.readouterr().err == ""


def test_a_pipe_is_refused_instead_of_waited_for(here):
    os.mkfifo("x.nii")
    refuses("x.nii", "not a regular file")


def test_names_that_no_file_system_text_holds_are_refused(here):
    refuses("x\0y.nii", "null byte")
    name = os.fsdecode(b"caf\xe9.nii")
    Path(name).write_bytes(b"1")
    refuses(name, "not valid UTF-8")


def test_an_unreadable_file_is_named(here, monkeypatch):
    Path("x.nii").write_bytes(b"1" * 400)
    opened = Path.open

    def forbidden(self, *args, **kwargs):  # the tests may run as root, who may read everything
        if self.name == "x.nii":
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", forbidden)
    refuses("x.nii", "permission denied")


def test_names_with_spaces_and_accents_are_read(here, nifti_bytes):
    Path("räum lich").mkdir()
    path = Path("räum lich") / "bild ü 像.nii"
    path.write_bytes(nifti_bytes(NOISE))
    assert np.array_equal(read_image(path).array, NOISE)


# --- NIfTI ----------------------------------------------------------------------------------------


def test_a_truncated_nifti_says_how_much_is_missing(here, nifti_bytes):
    whole = nifti_bytes(NOISE)
    Path("x.nii").write_bytes(whole[: len(whole) // 2])
    refuses("x.nii", rf"truncated \(header needs {len(whole)} bytes, file has {len(whole) // 2}\)")
    # Negative control: ITK alone reads it without a word.
    assert sitk.ReadImage("x.nii").GetSize() == (22, 24, 20)
    Path("y.nii").write_bytes(whole[:200])
    refuses("y.nii", "truncated")


def test_a_cut_gzip_is_truncated(here, nifti_bytes):
    whole = gzip.compress(nifti_bytes(NOISE))
    Path("x.nii.gz").write_bytes(whole[: len(whole) // 2])
    refuses("x.nii.gz", "truncated")
    Path("y.nii.gz").write_bytes(whole[:-6])
    refuses("y.nii.gz", "truncated")


def test_a_gzip_of_a_truncated_nifti_is_truncated(here, nifti_bytes):
    whole = nifti_bytes(NOISE)
    Path("x.nii.gz").write_bytes(gzip.compress(whole[: len(whole) // 2]))
    refuses("x.nii.gz", rf"header needs {len(whole)} bytes, file has {len(whole) // 2}")


@pytest.mark.parametrize("level", [0, 6])
def test_one_flipped_bit_in_a_gzip_is_found(here, nifti_bytes, level):
    Path("x.nii.gz").write_bytes(damaged(gzip.compress(nifti_bytes(NOISE), level)))
    refuses("x.nii.gz", "damaged gzip file|truncated")


def test_a_small_file_cannot_claim_gigabytes(here, nifti_bytes):
    lie = nifti_bytes(np.zeros(900, np.float32), dim=(3, 2048, 1024, 1024))
    Path("x.nii").write_bytes(lie)
    refuses("x.nii", "truncated|needs", NCRError)
    Path("x.nii.gz").write_bytes(gzip.compress(lie))
    refuses("x.nii.gz", r"truncated \(header needs 8589934592 bytes, file can hold at most")


def test_an_image_larger_than_the_memory_is_refused(here, nifti_bytes, monkeypatch):
    Path("x.nii").write_bytes(nifti_bytes(NOISE))
    monkeypatch.setattr(memory, "available_memory", lambda: 50_000)
    refuses("x.nii", "needs 0.0 GB, 0.0 GB available", MemoryLimitError)


def test_a_wrong_ending_is_explained(here, nifti_bytes):
    Path("x.nii").write_bytes(gzip.compress(nifti_bytes(NOISE)))
    refuses("x.nii", "rename it to .nii.gz")
    Path("x.nii.gz").write_bytes(nifti_bytes(NOISE))
    refuses("x.nii.gz", "rename it to .nii$")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dim": (0, 6, 5, 4)}, "0 dimensions"),
        ({"dim": (99, 6, 5, 4)}, "99 dimensions"),
        ({"dim": (3, 6, -5, 4)}, r"claims the size \(6, -5, 4\)"),
        ({"dim": (4, 6, 5, 2, 2)}, r"is 4D \(2 volumes\)"),
        ({"dim": (5, 2, 5, 4, 1, 3), "datatype": 16}, r"has 3 values in every voxel"),
        ({"dim": (1, 120)}, "is 1D"),
        ({"dim": (4, 6, 5, 4, 0)}, "claims the size"),
        ({"dim": (6, 6, 5, 2, 1, 1, 2)}, "has 6 dimensions"),
        ({"datatype": 128, "bitpix": 24}, "RGB colours"),
        ({"datatype": 32, "bitpix": 64}, "complex numbers"),
        ({"datatype": 77}, "unknown data type"),
        ({"bitpix": 16}, "contradicts itself"),
        ({"offset": 10.0}, "inside the header"),
        ({"offset": float("nan")}, "puts the voxels at byte nan"),
        ({"pixdim": (1, 1, float("nan"), 1)}, "spacing must be positive and finite; got"),
        ({"pixdim": (1, 1, 0, 1)}, "spacing must be positive and finite; got"),
        ({"qform": (0.9, 0.9, 0.9, 0, 0, 0)}, "qform is not a rotation"),
        ({"qform": (0, 0, 0, float("inf"), 0, 0)}, "qform is not finite"),
        ({"sform": np.full((3, 4), np.nan)}, "sform is not finite"),
        ({"sform": np.ones((3, 4)), "qform_code": 0}, "sform is singular"),
        ({"magic": b"\0\0\0\0"}, "Analyze 7.5 is not supported"),
        ({"magic": b"ni1\0"}, r"its data file 'x.img' is missing"),
    ],
)
def test_a_nifti_header_that_makes_no_sense_is_refused(here, nifti_bytes, fields, reason):
    Path("x.nii").write_bytes(nifti_bytes(**fields))
    refuses("x.nii", reason)


def test_a_sheared_sform_is_refused(here, nifti_bytes):
    sheared = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    Path("x.nii").write_bytes(nifti_bytes(NOISE, sform=sheared, qform_code=0))
    refuses("x.nii", "sheared")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("slope", [0.0, -2.0])
def test_nan_and_inf_in_a_nifti_stay_what_they_are(here, nifti_bytes, order, slope):
    array = NOISE.copy()
    array[0, 0, 0], array[1, 2, 3], array[-1, -1, -1] = np.nan, np.inf, -np.inf
    scaled = array * slope if slope else array
    content = nifti_bytes(array, order=order, slope=slope)
    for name, packed in [("x.nii", content), ("y.nii.gz", gzip.compress(content))]:
        Path(name).write_bytes(packed)
        np.testing.assert_allclose(read_image(name).array, scaled, rtol=1e-6)
    # Negative control: ITK alone makes them 0.
    assert np.isfinite(sitk.GetArrayViewFromImage(sitk.ReadImage("x.nii"))).all()


def test_sform_and_qform_that_disagree_are_reported(here, nifti_bytes):
    moved = np.eye(3, 4)
    moved[0, 3] = 25.0
    Path("x.nii").write_bytes(nifti_bytes(NOISE, sform=moved))
    with pytest.warns(ImageWarning, match="sform and qform disagree by up to 25 mm; the .form is"):
        image = read_image("x.nii")
    used = image.grid.origin[0]
    assert used in (0.0, -25.0)
    same = nifti_bytes(NOISE, sform=np.eye(3, 4))
    Path("y.nii").write_bytes(same)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image("y.nii")


def test_a_nifti_without_orientation_is_reported(here, nifti_bytes):
    Path("x.nii").write_bytes(nifti_bytes(NOISE, qform_code=0))
    with pytest.warns(ImageWarning, match="no orientation"):
        read_image("x.nii")


def test_surplus_bytes_are_reported(here, nifti_bytes):
    """A header that claims a smaller image than there is shows a sheared one."""
    Path("x.nii").write_bytes(nifti_bytes(NOISE) + b"12345")
    Path("x.nrrd").write_bytes(NRRD.encode() + NOISE.tobytes() + b"12345")
    Path("x.raw").write_bytes(NOISE.tobytes() + b"12345")
    Path("x.mhd").write_text(META.replace("LOCAL", "x.raw"))
    Path("x.nii.gz").write_bytes(gzip.compress(nifti_bytes(NOISE)) + gzip.compress(b"12345"))
    header = NRRD.replace("raw", "bzip2").encode()
    Path("b.nrrd").write_bytes(header + bz2.compress(NOISE.tobytes() + b"12345"))
    for name in ("x.nii", "x.nrrd", "x.mhd", "x.nii.gz", "b.nrrd"):
        with pytest.warns(ImageWarning, match="5 bytes more than its header needs"):
            assert np.array_equal(read_image(name).array, NOISE)


def test_bytes_behind_compressed_data_are_reported(here, nifti_bytes):
    packed = gzip.compress(nifti_bytes(NOISE))
    Path("x.nii.gz").write_bytes(packed + bytes(512))  # padding, as of tapes
    read_image("x.nii.gz")
    Path("x.nii.gz").write_bytes(packed + b"12345")
    meta = META.replace("LOCAL", "x.zraw").replace(
        "CompressedData = False", "CompressedData = True"
    )
    Path("x.mhd").write_text(meta)
    Path("x.zraw").write_bytes(zlib.compress(NOISE.tobytes()) + b"12345")
    for name in ("x.nii.gz", "x.mhd"):
        with pytest.warns(ImageWarning, match="what follows its compressed data was not read"):
            assert np.array_equal(read_image(name).array, NOISE)


def test_a_header_is_not_its_own_data(here):
    Path("x.mhd").write_text(META.replace("LOCAL", "x.mhd"))
    Path("x.nhdr").write_text(NRRD.replace("encoding: raw", "encoding: raw\ndata file: x.nhdr"))
    for name in ("x.mhd", "x.nhdr"):
        refuses(name, "its data file .* is the header itself")


@pytest.mark.parametrize(("units", "factor"), [(1, 1000.0), (3, 0.001)])
def test_metres_and_micrometres_become_millimetres(here, nifti_bytes, units, factor):
    content = nifti_bytes(NOISE, units=units, pixdim=(1, 2, 2, 2), qform=(0, 0, 0, 4, 5, 6))
    Path("x.nii").write_bytes(content)
    grid = read_image("x.nii").grid
    np.testing.assert_allclose(grid.spacing, np.full(3, 2 * factor), rtol=1e-6)
    np.testing.assert_allclose(grid.origin, np.array([-4, -5, 6]) * factor, rtol=1e-6)


def test_a_sform_that_contradicts_the_spacing_is_refused(here, nifti_bytes):
    Path("x.nii").write_bytes(nifti_bytes(NOISE, sform=2 * np.eye(3, 4), qform_code=0))
    refuses("x.nii", r"the sform has a spacing of \(2, 2, 2\) mm, pixdim says \(1, 1, 1\) mm")


@pytest.mark.parametrize("rounding", [1e-5, 1e-4, 5e-4])
def test_a_rounded_sform_is_accepted_and_repaired(here, nifti_bytes, rounding):
    rounded = np.eye(3, 4) + rounding * np.random.default_rng(1).uniform(-1, 1, (3, 4))
    Path("x.nii").write_bytes(nifti_bytes(NOISE, sform=rounded, qform_code=0))
    direction = np.asarray(read_image("x.nii").grid.direction)
    np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-6)


def test_reading_says_nothing_on_the_side(here, nifti_bytes, capfd):
    Path("x.nii").write_bytes(nifti_bytes(NOISE, sform=2 * np.eye(3, 4)))
    with pytest.warns(ImageWarning, match="disagree"):
        read_image("x.nii")
    assert capfd.readouterr().err == ""
    assert sitk.ProcessObject.GetGlobalWarningDisplay()


def test_a_neighbour_of_almost_the_same_name_is_not_read_instead(here, nifti_bytes):
    Path("x.nii").write_bytes(nifti_bytes(NOISE))
    Path("x.nii.gz").write_bytes(gzip.compress(nifti_bytes(NOISE + 1)))
    assert np.array_equal(read_image("x.nii.gz").array, NOISE + 1)
    assert np.array_equal(read_image("x.nii").array, NOISE)
    # Negative control: ITK alone opens the neighbour.
    assert np.array_equal(sitk.GetArrayViewFromImage(sitk.ReadImage("x.nii.gz")), NOISE)


def test_a_pair_of_header_and_image_is_read_and_checked(here, nifti_bytes):
    content = nifti_bytes(NOISE, magic=b"ni1\0", offset=0.0)
    Path("x.hdr").write_bytes(content[:348])
    Path("x.img").write_bytes(content[352:])
    assert np.array_equal(read_image("x.hdr").array, NOISE)
    Path("x.img").write_bytes(content[352:-4])
    refuses("x.hdr", "truncated")


def test_the_voxels_of_a_pair_name_their_header(here, nifti_bytes):
    Path("x.img").write_bytes(nifti_bytes(NOISE)[352:])
    refuses("x.img", r"name its header, x\.hdr")
    Path("x.img.gz").write_bytes(b"1")
    refuses("x.img.gz", r"name its header, x\.hdr")


def test_a_path_that_is_too_long_is_refused(here):
    refuses("x" * 300 + ".nii", "file name too long")
    refuses("a/" * 3000 + "x.nii", "file name too long")


@pytest.mark.parametrize("seed", range(6))
def test_an_sform_with_cosines_of_three_digits_is_read(here, nifti_bytes, seed):
    generator = np.random.default_rng(seed)
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    spacing = generator.uniform(0.5, 4, 3)
    sform = np.concatenate([rotation.round(3) * spacing, generator.normal(size=(3, 1)) * 80], 1)
    content = nifti_bytes(NOISE, sform=sform, qform_code=0, pixdim=(1, *spacing))
    Path("x.nii").write_bytes(content)
    grid = read_image("x.nii").grid
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in grid.size])))
    expected = (corners @ sform[:, :3].T + sform[:, 3]) * (-1, -1, 1)
    extent = np.linalg.norm((np.array(grid.size) - 1) * spacing)
    assert np.linalg.norm(expected - grid.corners(), axis=1).max() < 1e-3 * extent


@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (2, 0)])
def test_a_shear_of_a_twentieth_is_refused_by_its_name(here, nifti_bytes, axes):
    sheared = np.eye(3, 4)
    sheared[axes] = 0.05
    Path("x.nii").write_bytes(nifti_bytes(NOISE, sform=sheared, qform_code=0))
    refuses("x.nii", "sheared")
    # With a good qform that one is used, and the difference is told.
    Path("x.nii").write_bytes(nifti_bytes(NOISE, sform=sheared))
    with pytest.warns(ImageWarning, match=r"disagree by up to [01]\.?\d* mm; the qform is used"):
        assert np.array_equal(read_image("x.nii").grid.direction, np.diag([-1, -1, 1]))


@pytest.mark.parametrize(("intent", "sign"), [(1006, -1), (1007, 1)])
def test_displacements_have_the_signs_of_their_intent(here, nifti_bytes, intent, sign):
    vectors = np.random.default_rng(0).normal(size=(3, 1, 4, 5, 6)).astype(np.float32)
    content = bytearray(nifti_bytes(vectors, dim=(5, 6, 5, 4, 1, 3)))
    content[68:70] = intent.to_bytes(2, "little")
    Path("x.nii").write_bytes(content)
    array = read_displacement("x.nii").array
    assert np.array_equal(array, np.moveaxis(vectors[:, 0], 0, -1) * (sign, sign, 1))
    assert np.array_equal(array, sitk.GetArrayViewFromImage(sitk.ReadImage("x.nii")))


@pytest.mark.parametrize("dim", [(4, 6, 5, 4, 3), (5, 6, 5, 4, 1, 3), (6, 6, 5, 4, 1, 1, 3)])
def test_fields_of_another_layout_are_told_the_right_one(here, nifti_bytes, dim):
    Path("x.nii").write_bytes(nifti_bytes(np.zeros(360, np.float32), dim=dim))
    with pytest.raises(ImageReadError, match=r"\(x, y, z, 1, 3\).* and intent 1006 or 1007"):
        read_displacement("x.nii")


# --- MetaImage and NRRD ---------------------------------------------------------------------------

GRID = Grid.of_array(NOISE.shape, spacing=(1, 2, 3))


@pytest.mark.parametrize("name", ["x.mha", "x.mhd", "x.nrrd", "x.nhdr"])
@pytest.mark.parametrize("packed", [False, True])
def test_cut_or_damaged_data_are_found(here, name, packed):
    image = sitk.GetImageFromArray(NOISE)
    sitk.WriteImage(image, name, useCompression=packed)
    assert np.array_equal(read_image(name).array, NOISE)
    files = [p for p in Path().iterdir() if p.suffix not in (".mhd", ".nhdr")]
    assert len(files) == 1
    data, whole = files[0], files[0].read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    refuses(name, "truncated")
    data.write_bytes(whole[:-1])
    refuses(name, "truncated|damaged")
    if packed:
        data.write_bytes(damaged(whole))
        refuses(name, "damaged|truncated")
    if name in ("x.mhd", "x.nhdr"):
        data.unlink()
        refuses(name, r"its data file 'x\.z?raw(\.gz)?' is missing")


META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 2 3
DimSize = 22 24 20
ElementType = MET_FLOAT
ElementDataFile = LOCAL
"""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 0 3", "spacing must be positive"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 nan 3", "spacing must be positive"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 2", "wrong number of spacings"),
        ("Offset = 0 0 0", "Offset = 0 inf 0", "geometry is not finite"),
        ("1 0 0 0 1 0 0 0 1", "1 0.3 0 0 1 0 0 0 1", "direction must be orthonormal"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 1 0 0 0 0 1", "direction must be|ITK"),
        ("NDims = 3", "NDims = 4", "contradicts itself"),
        ("NDims = 3\n", "NDims = 4\n", "contradicts itself"),
        ("DimSize = 22 24 20", "DimSize = 22 two 20", "unreadable DimSize"),
        ("DimSize = 22 24 20", "DimSize = 22 0 20", "claims the size"),
        ("MET_FLOAT", "MET_COMPLEX", "ElementType is unknown"),
        ("MET_FLOAT\n", "MET_UCHAR\nElementNumberOfChannels = 4\n", "has 4 values in every voxel"),
        ("LOCAL", "LIST", "several files"),
        ("LOCAL", "slice%03d.raw 1 20 1", "several files"),
        ("ElementDataFile = LOCAL\n", "", "no ElementDataFile|is not a MetaImage"),
    ],
)
def test_a_meta_header_that_makes_no_sense_is_refused(here, old, new, reason):
    assert old in META
    Path("x.mha").write_bytes(META.replace(old, new).encode() + NOISE.tobytes())
    refuses("x.mha", reason, NCRError)


@pytest.mark.parametrize("size", [None, 0, 20, 10**9, "exact"])
@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
@pytest.mark.parametrize("trail", [b"", b"0" * 5000])
def test_compressed_meta_images_need_no_size_of_their_data(here, size, pack, trail):
    packed = pack(NOISE.tobytes())
    line = "CompressedData = True\n"
    if size is not None:
        line += f"CompressedDataSize = {len(packed) if size == 'exact' else size}\n"
    header = META.replace("CompressedData = False\n", line)
    Path("x.mha").write_bytes(header.encode() + packed + trail)
    assert np.array_equal(read_image("x.mha").array, NOISE)
    Path("x.mhd").write_bytes(header.replace("LOCAL", "x.zraw").encode())
    Path("x.zraw").write_bytes(packed + trail)
    assert np.array_equal(read_image("x.mhd").array, NOISE)
    Path("x.mha").write_bytes(header.encode() + pack(NOISE.tobytes()[:-4]) + trail)
    refuses("x.mha", "truncated")


@pytest.mark.parametrize("count", ["0", "6", "12000", "9" * 5000])
def test_a_meta_image_of_many_axes_is_refused_at_once(here, count):
    sizes = " ".join(["1"] * min(12000, int(count[:9])))
    header = META.replace("NDims = 3", f"NDims = {count}").replace("22 24 20", sizes)
    Path("x.mha").write_bytes(header.encode() + NOISE.tobytes())
    refuses("x.mha", "dimensions|unreadable|no ElementDataFile")


NRRD = """NRRD0005
type: float
dimension: 3
space: left-posterior-superior
sizes: 22 24 20
space directions: (1,0,0) (0,2,0) (0,0,3)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (0,0,0)

"""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("(0,2,0)", "(0,0,0)", "spacing must be positive"),
        ("(0,2,0)", "(0,nan,0)", "not finite"),
        ("(0,2,0)", "(0.6,2,0)", "direction must be orthonormal"),
        ("(0,2,0)", "(2,0,0)", "direction must be|ITK"),
        ("(0,2,0)", "(0,two,0)", "unreadable vector"),
        ("sizes: 22 24 20", "sizes: 22 24", "contradicts itself"),
        ("sizes: 22 24 20", "sizes: 22 24 2000", "truncated"),
        ("type: float", "type: block", "its type is unknown"),
        ("encoding: raw", "encoding: zip", "encoding is unknown"),
        ("encoding: raw", "encoding: gzip", "damaged"),
        ("encoding: raw", "encoding: bzip2", "damaged"),
        ("encoding: raw", "encoding: raw\nbyte skip: x", "unreadable byte skip"),
        ("NRRD0005", "NRRD", "magic is missing"),
    ],
)
def test_a_nrrd_header_that_makes_no_sense_is_refused(here, old, new, reason):
    assert old in NRRD
    Path("x.nrrd").write_bytes(NRRD.replace(old, new).encode() + NOISE.tobytes())
    refuses("x.nrrd", reason, NCRError)


@pytest.mark.parametrize(
    "line",
    [
        "kinds: " + "domain " * 3000,
        "space directions: " + "(" * 60000,
        "spacings: " + "1 " * 9000,
        "thicknesses",
        "centerings",
        "axis mins: " + "0 " * 5000,
        "dimension: 17",
        "dimension: 0",
        "line skip: 99999999999",
        "line skip: -1",
        "byte skip: -5",
        "byte skip: " + "9" * 5000,
        "sizes: 1 1 1 1",
    ],
    ids=lambda line: line[:20],
)
def test_lines_that_crash_or_stall_other_readers_are_harmless(here, line):
    key = line.split(":")[0]
    lines = [old for old in NRRD.splitlines() if not old.startswith(key + ":")][:-1]
    if key not in ("space directions", "kinds"):
        lines = [old for old in lines if not old.startswith("space")]
    values = NOISE.tobytes()
    if ":" not in line:  # ITK's reader crashes, ours has no use for the line
        line += ": " + "cell " * 4000
        Path("x.nrrd").write_bytes("\n".join([*lines, line, "", ""]).encode() + values)
        assert np.array_equal(read_image("x.nrrd").array, NOISE)
        return
    Path("x.nrrd").write_bytes("\n".join([*lines, line, "", ""]).encode() + values)
    start = time.process_time()
    refuses(
        "x.nrrd", "contradicts itself|claims|truncated|unreadable|byte skip|line skip", NCRError
    )
    assert time.process_time() - start < 1


@pytest.mark.parametrize("line", ["content: ", "labels: ", "sample units: ", "a key:=", "# "])
def test_long_lines_of_other_programs_are_passed_over(here, line):
    """Segmentations of 3D Slicer have lines of tens of kilobytes."""
    content = NRRD[:-1] + line + "x" * 60000 + "\n\n"
    Path("x.nrrd").write_bytes(content.encode() + NOISE.tobytes())
    assert np.array_equal(read_image("x.nrrd").array, NOISE)


def test_the_hand_made_headers_are_good_before_they_are_broken(here, nifti_bytes):
    Path("x.nii").write_bytes(nifti_bytes(NOISE))
    Path("x.mha").write_bytes(META.encode() + NOISE.tobytes())
    Path("x.nrrd").write_bytes(NRRD.encode() + NOISE.tobytes())
    ras = NRRD.replace("left-posterior-superior", "RAS").replace("(0,0,0)", "(4,5,6)")
    Path("y.nrrd").write_bytes(ras.encode() + NOISE.tobytes())
    for name in ("x.nii", "x.mha", "x.nrrd", "y.nrrd"):
        assert np.array_equal(read_image(name).array, NOISE)
    assert read_image("x.nrrd").grid.equals(GRID)
    assert read_image("x.mha").grid.equals(GRID)
    assert read_image("y.nrrd").grid.origin == (-4.0, -5.0, 6.0)


@pytest.mark.parametrize("name", ["x.mha", "x.nrrd", "x.nii.gz"])
def test_vectors_colours_and_time_are_refused(here, name):
    vectors = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.float32), isVector=True)
    sitk.WriteImage(vectors, name)
    refuses(name, "has 3 values in every voxel")
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.float32), isVector=False), "t" + name
    )
    refuses("t" + name, "is 4D")


@pytest.mark.parametrize("name", ["x.mha", "x.nrrd", "x.nii.gz"])
def test_a_fourth_axis_of_one_volume_is_dropped(here, name):
    sitk.WriteImage(sitk.GetImageFromArray(NOISE[None], isVector=False), name)
    assert np.array_equal(read_image(name).array, NOISE)


def test_complex_voxels_are_refused(here):
    image = sitk.RealAndImaginaryToComplex(*[sitk.GetImageFromArray(NOISE)] * 2)
    for name in ("x.nrrd", "x.nii"):
        sitk.WriteImage(image, name)
        refuses(name, "complex")


def test_a_scalar_image_is_no_displacement(here):
    write_image(Image(NOISE, GRID), "x.nii.gz")
    with pytest.raises(ImageReadError, match="has 1 value in every voxel; a displacement has 3"):
        read_displacement("x.nii.gz")


# --- pictures -------------------------------------------------------------------------------------


def picture(name, colour=False):
    values = (np.random.default_rng(1).random((40, 50, 3)) * 255).astype(np.uint8)
    values = values if colour else values[..., 0]
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=colour), name)
    return values


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jpg"])
def test_grey_pictures_are_read_and_coloured_or_cut_ones_refused(here, name):
    values = picture(name)
    image = read_image(name)
    assert image.grid.size == (50, 40)
    if name != "x.jpg":
        assert np.array_equal(image.array, values)
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: len(whole) // 2])
    refuses(name, "truncated")
    picture(name, colour=True)
    refuses(name, "has 3 values in every voxel")


@pytest.mark.parametrize(
    ("name", "mode"),
    [("x.png", "RGB"), ("x.png", "RGBA"), ("x.png", "P"), ("x.tif", "RGB"), ("x.tif", "RGBA"),
     ("x.jpg", "RGB")],
)  # fmt: skip
def test_grey_pictures_stored_as_colours_are_grey(here, name, mode):
    values = picture("grey.png")
    PIL.Image.fromarray(values).convert(mode).save(name)
    found = read_image(name).array
    assert found.shape == values.shape
    # JPEG is lossy.
    assert np.abs(found.astype(int) - values).mean() < (9 if name == "x.jpg" else 1e-9)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_transparency_that_varies_is_refused(here, name):
    picture = PIL.Image.new("RGBA", (9, 8), (40, 40, 40, 255))
    picture.putpixel((3, 4), (40, 40, 40, 0))
    picture.save(name)
    refuses(name, "has 4 values in every voxel.*transparency.*convert it to grey")


def test_what_a_decoder_complains_about_is_refused_and_not_printed(here, capfd):
    """libjpeg reads on after a bad code, with pixels of its own."""
    picture("x.jpg")
    content = Path("x.jpg").read_bytes()
    scan = content.index(b"\xff\xda") + 12
    refused = 0
    for at in range(scan, len(content) - 60, 97):
        Path("x.jpg").write_bytes(content[:at] + b"\xff\0" * 20 + content[at + 40 :])
        try:
            read_image("x.jpg")
        except ImageReadError as error:
            refused += "its decoder says 'Corrupt JPEG data" in str(error)
    assert refused > 5
    assert capfd.readouterr() == ("", "")


def test_a_tiff_whose_directories_run_in_a_circle_is_refused(here):
    picture("x.tif")
    content = bytearray(Path("x.tif").read_bytes())
    start = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[start : start + 2], "little")
    end = start + 2 + 12 * entries
    content[end : end + 4] = content[4:8]
    Path("x.tif").write_bytes(content)
    refuses("x.tif", "holds more than one page")


def test_a_flipped_bit_in_a_png_is_found(here):
    picture("x.png")
    Path("x.png").write_bytes(damaged(Path("x.png").read_bytes()))
    refuses("x.png", "damaged")


def test_a_png_with_too_few_rows_is_found(here):
    picture("x.png")
    content = Path("x.png").read_bytes()
    at = content.index(b"IHDR")
    head = bytearray(content[at : at + 17])
    head[8:12] = (60).to_bytes(4, "big")  # 60 rows claimed, 40 there
    content = content[:at] + bytes(head) + zlib.crc32(head).to_bytes(4, "big") + content[at + 21 :]
    Path("x.png").write_bytes(content)
    refuses("x.png", "truncated")


def test_geometry_errors_keep_their_class(here):
    Path("x.mha").write_bytes(
        META.replace("1 0 0 0 1 0 0 0 1", "1 0.3 0 0 1 0 0 0 1").encode() + NOISE.tobytes()
    )
    refuses("x.mha", "direction must be orthonormal", GeometryError)


# --- the host program -----------------------------------------------------------------------------


def test_a_decimal_comma_of_the_host_program_does_no_harm(here, monkeypatch):
    """Where no such locale is installed, the switch to the decimal point itself is watched."""
    Path("x.mha").write_bytes(META.replace("1 2 3", "1.25 2.5 3.75").encode() + NOISE.tobytes())
    before, calls = locale.setlocale(locale.LC_NUMERIC), []
    try:
        locale.setlocale(locale.LC_NUMERIC, "de_DE.UTF-8")
    except locale.Error:
        monkeypatch.setattr(locale, "localeconv", lambda: {"decimal_point": ","})
        real = locale.setlocale
        monkeypatch.setattr(
            locale, "setlocale", lambda *arguments: calls.append(arguments) or real(*arguments)
        )
    try:
        assert read_image("x.mha").grid.spacing == (1.25, 2.5, 3.75)
    finally:
        monkeypatch.undo()
        locale.setlocale(locale.LC_NUMERIC, before)
    if calls:
        assert calls == [
            (locale.LC_NUMERIC,),
            (locale.LC_NUMERIC, "C"),
            (locale.LC_NUMERIC, before),
        ]
