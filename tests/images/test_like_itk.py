"""What ITK reads right, our readers read to the same values at the same place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.images import read_displacement, read_image

VALUES = np.arange(24, dtype=np.int16)
NRRD = {"type": "short", "dimension": "3", "sizes": "4 3 2", "endian": "little", "encoding": "raw"}
AXES = "(1,0,0) (0,2,0) (0,0,3)"
NRRD_LINES = [
    {},
    {"spacings": "1 2 3"},
    {"spacings": "1 -2 3"},
    {"Spacings": "1 2 3"},
    {"thicknesses": "1 2 3"},
    {"spacings": "1 2 3", "axis mins": "5 6 7"},
    {"spacings": "1 2 3", "axis mins": "5 6 7", "centerings": "node node cell"},
    *[
        {"space": space, "space directions": AXES, "space origin": "(4,5,6)"}
        for space in ("LPS", "right-anterior-superior", "las", "scanner-xyz", "3D-right-handed")
    ],
    {"space dimension": "3", "space directions": "(0,0,3) (0,2,0) (1,0,0)"},
    {"space": "RAS", "space directions": "(0,2,0) (0,0,-3) (1,0,0)", "space origin": "(1,2,3)"},
    {"dimension": "2", "sizes": "6 4", "space dimension": "2", "space directions": "(0,1) (2,0)"},
    *[{"kinds": f"{kind} domain domain", "sizes": "2 4 3"} for kind in ("vector", "list", "point")],
    {"kinds": "domain domain vector"},
    {"kinds": "domain vector domain", "sizes": "4 2 3"},
    {"kinds": "time space ???"},
    {"dimension": "4", "sizes": "4 3 2 1"},
    {"endian": "big"},
    {"type": "uint8", "sizes": "8 3 2"},
    {"type": "float", "sizes": "2 3 2"},
    {"type": "unsigned long long", "sizes": "1 3 2"},
    {"old min": "3", "content": "a head", "number": "24", "a key:": "its value"},
]
META = {
    "NDims": "3",
    "BinaryData": "True",
    "ElementSpacing": "1 2 3",
    "DimSize": "4 3 2",
    "ElementType": "MET_SHORT",
}
META_LINES = [
    {},
    {"ObjectType": "Image", "AnatomicalOrientation": "LPI", "CenterOfRotation": "5 5 5"},
    {"BinaryDataByteOrderMSB": "True"},
    {"Offset": "1 2 3", "Position": "4 5 6"},
    {"Position": "4 5 6"},
    {"Origin": "7 8 9"},
    {"ElementSize": "5 6 7"},
    {"TransformMatrix": "0 1 0 -1 0 0 0 0 1", "Offset": "1 2 3"},
    {"Rotation": "0 1 0 -1 0 0 0 0 1"},
    {"Orientation": "0 0 1 0 1 0 1 0 0"},
    {"ElementType": "MET_LONG", "DimSize": "2 3 2"},
    {"ElementType": "MET_ULONG_LONG", "DimSize": "1 3 2"},
    {"NDims": "2", "DimSize": "6 4", "ElementSpacing": "2 1"},
    {"NDims": "4", "DimSize": "4 3 2 1", "ElementSpacing": "2 1 3 9"},
    {"NDims": "2", "DimSize": "4 3", "ElementSpacing": "2 1", "ElementNumberOfChannels": "2"},
    {"HeaderSize": "-1"},
]


def same_as_itk(path):
    expected = sitk.ReadImage(path)
    vector = expected.GetNumberOfComponentsPerPixel() > 1
    image = (read_displacement if vector else read_image)(path)
    array = sitk.GetArrayFromImage(expected)
    assert image.array.dtype == array.dtype
    assert np.array_equal(image.array, array.reshape(image.array.shape))
    kept, dimension = slice(image.dimension), expected.GetDimension()
    np.testing.assert_allclose(image.grid.spacing, expected.GetSpacing()[kept], rtol=1e-6)
    np.testing.assert_allclose(image.grid.origin, expected.GetOrigin()[kept], rtol=1e-6)
    direction = np.reshape(expected.GetDirection(), (dimension, dimension))[kept, kept]
    np.testing.assert_allclose(image.grid.direction, direction, atol=1e-6)


@pytest.mark.parametrize("fields", NRRD_LINES, ids=str)
def test_nrrd(here, fields):
    lines = [f"{key}: {value}" for key, value in {**NRRD, **fields}.items()]
    content = "\n".join(["NRRD0005", *lines, "", ""]).replace("a key::", "a key:=")
    Path("x.nrrd").write_bytes(content.encode() + VALUES.tobytes())
    same_as_itk("x.nrrd")


@pytest.mark.parametrize("fields", META_LINES, ids=str)
@pytest.mark.parametrize("between", [" = ", ": "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_meta(here, fields, between, end):
    fields = {**META, **fields}
    fields["ElementDataFile"] = "LOCAL"
    content = end.join([*(f"{key}{between}{value}" for key, value in fields.items()), ""])
    Path("x.mha").write_bytes(content.encode() + VALUES.tobytes())
    same_as_itk("x.mha")


@pytest.mark.parametrize("sform_code", range(5))
@pytest.mark.parametrize("qform_code", range(3))
@pytest.mark.parametrize("apart", [0.0, 25.0])
@pytest.mark.filterwarnings("ignore::itk_ncr.images.ImageWarning")
def test_sform_or_qform(here, nifti_bytes, sform_code, qform_code, apart):
    sform = np.diag([-1.0, 1, 1])
    sform = np.concatenate([sform, [[apart], [2], [3]]], axis=1)
    content = bytearray(
        nifti_bytes(
            VALUES.astype(np.float32).reshape(2, 3, 4),
            sform=sform,
            qform_code=qform_code,
            qform=(0, 1, 0, 0, 2, 3),
            pixdim=(-1, 1, 1, 1),
        )
    )
    content[254:256] = sform_code.to_bytes(2, "little")
    Path("x.nii").write_bytes(content)
    same_as_itk("x.nii")


@pytest.mark.parametrize("scale", [(1, 0), (2.5, -1024), (1, 5), (-1, 0)], ids=str)
@pytest.mark.parametrize("code", ["u1", "i2", "u2", "f4", "f8"])
def test_scaled_nifti(here, nifti_bytes, scale, code):
    number = {"u1": 2, "i2": 4, "u2": 512, "f4": 16, "f8": 64}[code]
    array = np.arange(24).astype(code).reshape(2, 3, 4)
    content = bytearray(nifti_bytes(array, datatype=number, bitpix=8 * array.itemsize))
    content[112:120] = np.array(scale, "<f4").tobytes()
    Path("x.nii").write_bytes(content)
    same_as_itk("x.nii")


def test_a_slope_of_nought_means_no_scale(here, nifti_bytes):
    """As the standard says; ITK adds the intercept."""
    array = np.arange(24).astype("i2").reshape(2, 3, 4)
    content = bytearray(nifti_bytes(array, datatype=4, bitpix=16))
    content[112:120] = np.array([0, -1024], "<f4").tobytes()
    Path("x.nii").write_bytes(content)
    assert np.array_equal(read_image("x.nii").array, array)
