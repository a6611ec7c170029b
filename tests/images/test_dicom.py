"""DICOM folders: one complete series is read right, everything else is named."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from itk_ncr.errors import ImageReadError, NCRError
from itk_ncr.images import ImageWarning, read_image

SHAPE = (6, 8, 9)  # slices, rows, columns
VALUES = np.random.default_rng(0).integers(-900, 1500, SHAPE).astype(np.int16)
TURNED = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
TURNED[:, 2] = np.cross(TURNED[:, 0], TURNED[:, 1])


def write_slice(path, values, position, *, series="1.2.3.4", number=1, direction=TURNED, **tags):
    """One slice of 1.5 mm (across) by 2 mm (down)."""
    image = sitk.GetImageFromArray(values[None])
    image.SetSpacing((1.5, 2.0, 1.0))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    fields = {
        "0008|0060": "MR",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
        "0008|103e": tags.get("name", "T1 head"),
        "0008|0018": f"{series}.{number}.{abs(hash(str(path))) % 10**6}",
        "0020|000d": "1.2.3",
        "0020|000e": series,
        "0020|0013": str(number),
        "0020|0032": "\\".join(f"{p:.6f}" for p in position),
        "0020|0037": "\\".join(f"{v:.8f}" for v in direction[:, :2].T.ravel()),
        "0028|0030": "2\\1.5",
    }
    for tag, value in fields.items():
        image.SetMetaData(tag, value)
    writer.SetFileName(str(path))
    writer.Execute(image)


def write_series(folder, *, gap=3.0, first=0, series="1.2.3.4", shuffle=True, **tags):
    """A series whose file names do not follow the order of its slices."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    names = [f"im{(5 * z + 2) % 7 if shuffle else z}-{series}.dcm" for z in range(SHAPE[0])]
    for z, name in enumerate(names):
        position = np.array([10.0, -20.0, 30.0]) + gap * (z + first) * TURNED[:, 2]
        write_slice(folder / name, VALUES[z], position, series=series, number=z + 1, **tags)
    return [folder / name for name in names]


def refuses(path, pattern):
    with pytest.raises(ImageReadError, match=pattern) as caught:
        read_image(path, role="fixed image")
    text = str(caught.value)
    assert text.startswith(f"cannot read fixed image {os.fspath(path)!r}: ")
    assert "\n" not in text
    return text


def test_a_series_is_read_in_the_order_of_its_places(here, capfd):
    write_series("head")
    Path("head/readme.txt").write_text("not an image")
    image = read_image("head")
    assert np.array_equal(image.array, VALUES)
    np.testing.assert_allclose(image.grid.spacing, (1.5, 2.0, 3.0), rtol=1e-5)
    np.testing.assert_allclose(image.grid.origin, (10, -20, 30), atol=1e-5)
    np.testing.assert_allclose(image.grid.direction, TURNED, atol=1e-5)
    assert capfd.readouterr().err == ""


def test_one_file_is_a_volume_of_one_slice(here):
    files = write_series("head")
    image = read_image(files[3])
    assert image.grid.size == (9, 8, 1)
    assert np.array_equal(image.array[0], VALUES[3])
    files[3].rename("no-suffix")
    assert np.array_equal(read_image("no-suffix").array[0], VALUES[3])


def test_a_missing_slice_is_named(here):
    files = write_series("head")
    files[2].unlink()
    text = refuses("head", r"1 slice\(s\) missing: 6 mm between")
    assert files[1].name in text
    assert files[3].name in text
    assert "3 mm elsewhere" in text
    # Negative control: ITK alone stretches the spacing over the gap.
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames("head")
    spacing = sitk.ReadImage(list(names)).GetSpacing()[2]
    assert spacing == pytest.approx(15 / 4)


def test_of_three_slices_the_gap_is_still_seen(here):
    files = write_series("head")
    for at in (1, 4, 5):
        files[at].unlink()
    refuses("head", r"1 slice\(s\) missing: 6 mm between")


def test_a_duplicate_slice_is_named(here):
    files = write_series("head")
    twin = Path("head/twin.dcm")
    write_slice(twin, VALUES[2], np.array([10.0, -20, 30]) + 6 * TURNED[:, 2], number=9)
    text = refuses("head", r"lie at the same place; 1 duplicate\(s\) in all")
    assert "twin.dcm" in text
    assert files[2].name in text


def test_several_series_are_named(here):
    write_series("head", series="1.2.3.4", name="T1 head")
    write_series("head", series="1.2.3.5", name="T2 head")
    text = refuses("head", "holds 2 DICOM series")
    assert "'T1 head' (6 files, series 1.2.3.4)" in text
    assert "'T2 head' (6 files, series 1.2.3.5)" in text


def test_an_empty_folder_is_refused(here):
    Path("empty").mkdir()
    refuses("empty", "is a folder without a DICOM series")


def test_slices_of_different_slopes_are_exact_in_any_order(here):
    folder = Path("pet")
    folder.mkdir()
    slopes = [2.0, 0.1234567, 1.0, 35.5, 1e-3, 7.25]
    for z, slope in enumerate(slopes):
        place = np.array([1.0, 2, 3]) + 3 * z * TURNED[:, 2]
        name = folder / f"{(z * 5 + 3) % 6}.dcm"
        write_slice(name, VALUES[z], place, number=z + 1)
        dataset = pydicom.dcmread(name)
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, -z
        dataset.save_as(name)
    expected = [VALUES[z].astype(float) * slope - z for z, slope in enumerate(slopes)]
    assert np.array_equal(read_image("pet").array, np.array(expected))


def test_a_link_to_nowhere_is_named(here):
    write_series("head")
    Path("head/late.dcm").symlink_to("/nowhere/late.dcm")
    refuses("head", "holds 'late.dcm', a link to a file that does not exist")


def test_a_missing_tag_is_named_by_its_word_and_number(here):
    files = write_series("head")
    for keyword, number in [
        ("PixelSpacing", "0028,0030"),
        ("ImagePositionPatient", "0020,0032"),
        ("Rows", "0028,0010"),
    ]:
        whole = files[2].read_bytes()
        dataset = pydicom.dcmread(files[2])
        del dataset[keyword]
        dataset.save_as(files[2])
        refuses("head", rf"slice {files[2].name!r} has no usable {keyword} \({number}\)")
        files[2].write_bytes(whole)


@pytest.mark.parametrize("codec", ["JPEG", "JPEG2000"])
def test_slices_packed_without_loss_are_unpacked(here, codec):
    """The first codec loses something unless the quality says otherwise; the others do not."""
    image = sitk.GetImageFromArray(VALUES[:1])
    writer = sitk.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor(codec)
    writer.SetFileName("x.dcm")
    writer.Execute(image)
    syntax = pydicom.dcmread("x.dcm").file_meta.TransferSyntaxUID
    assert syntax.is_compressed
    expected = sitk.GetArrayFromImage(sitk.ReadImage("x.dcm"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        assert np.array_equal(read_image("x.dcm").array, expected)
    Path("cut.dcm").write_bytes(Path("x.dcm").read_bytes()[:-60])
    refuses("cut.dcm", "truncated|damaged")


def test_a_truncated_slice_is_named(here):
    files = write_series("head")
    for at in (5, 3):  # the last one would not even leave a gap
        whole = files[at].read_bytes()
        files[at].write_bytes(whole[: len(whole) - 80])
        refuses("head", f"slice {files[at].name!r} is truncated or damaged")
        refuses(files[at], "ITK cannot read it|truncated")
        files[at].write_bytes(whole)
    assert read_image("head").grid.size == (9, 8, 6)


def test_slices_that_do_not_belong_together_are_refused(here):
    files = write_series("head")
    write_slice(files[2], VALUES[2][:, :-1], (10, -20, 30) + 6 * TURNED[:, 2], number=3)
    refuses("head", "differ in size")
    files = write_series("turned")
    place = (10, -20, 30) + 6 * TURNED[:, 2]
    write_slice(files[2], VALUES[2], place, number=3, direction=np.eye(3))
    refuses("turned", "differ in direction")


def test_a_tilted_gantry_is_refused(here):
    folder = Path("tilted")
    folder.mkdir()
    step = 3 * TURNED[:, 2] + 0.8 * TURNED[:, 1]
    for z in range(4):
        place = np.array([1.0, 2, 3]) + z * step
        write_slice(folder / f"{z}.dcm", VALUES[z], place, number=z + 1)
    refuses("tilted", "sheared")


def test_slightly_uneven_slices_are_reported(here):
    folder = Path("uneven")
    folder.mkdir()
    for z, at in enumerate([0, 3.0, 6.1, 9.0]):
        place = np.array([1.0, 2, 3]) + at * TURNED[:, 2]
        write_slice(folder / f"{z}.dcm", VALUES[z], place, number=z + 1)
    with pytest.warns(ImageWarning, match=r"slice distances vary from 2.9 to 3.1 mm"):
        read_image("uneven")


def test_colour_slices_are_refused(here):
    colour = sitk.Compose(*[sitk.Image([8, 9, 1], sitk.sitkUInt8)] * 3)
    Path("colour").mkdir()
    sitk.WriteImage(colour, "colour/c.dcm")
    with pytest.raises(NCRError, match="has 3 values in every voxel"):
        read_image("colour")
    with pytest.raises(NCRError, match="has 3 values in every voxel"):
        read_image("colour/c.dcm")
