"""Transform files are read as ITK reads good ones, and refused when anything is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.errors import ImageReadError
from itk_ncr.images import read_affine, transform_files, write_transform

KINDS = {
    "affine": sitk.AffineTransform(3),
    "affine 2D": sitk.AffineTransform(2),
    "euler 2D": sitk.Euler2DTransform(),
    "euler": sitk.Euler3DTransform(),
    "similarity 2D": sitk.Similarity2DTransform(),
    "similarity": sitk.Similarity3DTransform(),
    "versor": sitk.VersorTransform(),
    "versor rigid": sitk.VersorRigid3DTransform(),
    "scale versor": sitk.ScaleVersor3DTransform(),
    "scale skew": sitk.ScaleSkewVersor3DTransform(),
    "scale": sitk.ScaleTransform(3),
    "translation": sitk.TranslationTransform(3),
    "translation 2D": sitk.TranslationTransform(2),
    "identity": sitk.Transform(3, sitk.sitkIdentity),
}
TEXT = """#Insight Transform File V1.0
#Transform 0
Transform: AffineTransform_double_3_3
Parameters: 0.9 0.1 0 -0.1 0.9 0 0 0 1.1 10 20 30.5
FixedParameters: 5 6 7.5
"""


def moved(transform):
    """A transform of this kind that is not the identity."""
    parameters = np.array(transform.GetParameters())
    parameters += np.linspace(0.01, 0.2, len(parameters))
    transform.SetParameters(parameters.tolist())
    fixed = list(transform.GetFixedParameters())
    if fixed:
        transform.SetFixedParameters([4.0, -3.0, 2.0][: transform.GetDimension()] + fixed[3:])
    return transform


def probes(dimension):
    return np.random.default_rng(0).normal(size=(5, dimension)) * 50


def same_map(path, transform):
    points = probes(transform.GetDimension())
    expected = [transform.TransformPoint(point.tolist()) for point in points]
    np.testing.assert_allclose(read_affine(path)(points), expected, rtol=1e-6, atol=1e-6)


def refuses(path, pattern):
    with pytest.raises(ImageReadError, match=pattern) as caught:
        read_affine(path)
    assert str(caught.value).startswith(f"cannot read affine {path!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["tfm", "txt", "mat", "h5"])
def test_every_linear_kind_is_read_as_itk_does(here, kind, suffix):
    transform = moved(sitk.Transform(KINDS[kind]))
    sitk.WriteTransform(transform, f"x.{suffix}")
    same_map(f"x.{suffix}", transform)


def test_hdf5_and_composites_are_read(here):
    parts = [moved(sitk.Transform(KINDS[kind])) for kind in ("affine", "versor rigid")]
    composite = sitk.CompositeTransform(parts)
    for name in ("x.tfm", "x.h5"):
        sitk.WriteTransform(composite, name)
        same_map(name, composite)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (" 30.5", " 30.5 99", "its AffineTransform has 13 Parameters; it must have 12"),
        (" 30.5", " 30.5" + " 0" * 1188, "has 1200 Parameters; it must have 12"),
        (" 7.5", " 7.5 8", "has 4 FixedParameters; it must have 3"),
        ("Affine", "VersorRigid3D", "its VersorRigid3DTransform has 12 Parameters; it must have 6"),
    ],
)
def test_hdf5_that_contradicts_itself_is_refused(here, old, new, reason):
    Path("x.tfm").write_text(TEXT.replace(old, new).replace("0.9 0.1", "0.3 0.1"))
    wrong = sitk.ReadTransform("x.tfm")  # takes them without a word, and writes them
    sitk.WriteTransform(wrong, "x.h5")
    refuses("x.h5", reason)
    sitk.WriteTransform(sitk.CompositeTransform([wrong, sitk.TranslationTransform(3)]), "x.h5")
    refuses("x.h5", reason)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_hdf5_of_no_numbers_is_refused(here, value):
    sitk.WriteTransform(sitk.TranslationTransform(2, (1.0, value)), "x.h5")
    refuses("x.h5", "its Parameters are not all finite")


def test_a_kind_of_hdf5_that_simpleitk_does_not_know_is_read(here):
    Path("x.tfm").write_text(TEXT.replace("AffineTransform", "MatrixOffsetTransformBase"))
    transform = sitk.ReadTransform("x.tfm")  # as a composite of itself
    sitk.WriteTransform(transform, "x.h5")
    same_map("x.h5", transform)


def test_hdf5_of_two_transforms_is_refused(here):
    itk = pytest.importorskip("itk")
    writer = itk.TransformFileWriterTemplate[itk.D].New(FileName="x.h5")
    for _ in range(2):
        writer.AddTransform(itk.AffineTransform[itk.D, 3].New())
    writer.Update()
    refuses("x.h5", "holds several transforms without a CompositeTransform before them")


@pytest.mark.parametrize("suffix", ["tfm", "mat"])
def test_no_cut_passes(here, suffix):
    transform = moved(sitk.Transform(KINDS["affine"]))
    sitk.WriteTransform(transform, f"x.{suffix}")
    content = Path(f"x.{suffix}").read_bytes()
    for kept in range(1, len(content)):
        Path(f"x.{suffix}").write_bytes(content[:kept])
        refuses(f"x.{suffix}", "truncated|not a transform file|must have")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (" 30.5", "", "has 11 Parameters; it must have 12"),
        (" 30.5", " 30.5 99", "has 13 Parameters; it must have 12"),
        (" 7.5", "", "has 2 FixedParameters; it must have 3"),
        (" 5 6 7.5", "", "has 0 FixedParameters"),
        ("FixedParameters: 5 6 7.5\n", "", "the FixedParameters of its AffineTransform are miss"),
        ("30.5", "nan", "Parameters are not all finite"),
        ("7.5", "inf", "FixedParameters are not all finite"),
        ("0.9 0.1 0", "0,9 0,1 0", "not all numbers"),
        ("Affine", "Affin\xe9", "its transform is unknown"),
        ("AffineTransform_double_3_3", "AffineTransform_double_3_2", "its transform is unknown"),
        ("AffineTransform", "BSplineTransform", "not affine"),
        ("Parameters: 0.9", "Parameters: 1\nParameters: 0.9", "Parameters for a second time"),
        ("Transform: A", "Transfrom: A", "damaged"),
        ("#Insight", "#Outside", "not a transform file of ITK"),
        ("0 0 1.1", "0 0 0", "invertible"),
    ],
)
def test_a_text_that_contradicts_itself_is_refused(here, old, new, reason):
    assert old in TEXT
    Path("x.tfm").write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    refuses("x.tfm", reason)


def test_bytes_that_are_no_text_are_named(here):
    Path("x.tfm").write_bytes(TEXT.encode().replace(b"AffineT", b"Aff\xed\xffneT"))
    refuses("x.tfm", r"damaged: line 3 is not text \(byte 56\)")


def test_two_transforms_without_a_composite_are_refused(here):
    Path("x.tfm").write_text(TEXT + TEXT.split("\n", 1)[1])
    refuses("x.tfm", "holds 2 transforms without a CompositeTransform")


def test_lines_of_other_systems_are_read(here):
    Path("x.tfm").write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert read_affine("x.tfm").matrix[2][2] == pytest.approx(1.1)


def test_a_rotation_longer_than_one_is_refused(here):
    text = TEXT.replace("Affine", "VersorRigid3D").replace(
        "0.9 0.1 0 -0.1 0.9 0 0 0 1.1 10 20 30.5", "0.1 0.1 3 10 20 30"
    )
    Path("x.tfm").write_text(text)
    refuses("x.tfm", "holds no rotation")


XFM = """MNI Transform File
%made by hand

Transform_Type = Linear;
Linear_Transform =
 0.9 0.1 0 10
 -0.1 0.9 0 20
 0 0 1.1 30;
"""


def test_a_transform_of_minc_is_read_or_refused(here):
    Path("x.xfm").write_text(XFM)
    same_map("x.xfm", sitk.ReadTransform("x.xfm"))
    for old, new, reason in [
        (";\n", "\n", "damaged|semicolon"),
        (" 30", "", "has 11 numbers; it must have 12"),
        ("30;", "nan;", "12, finite"),
        ("= Linear", "= Grid_Transform", "not a single linear one"),
        ("MNI", "MMI", "not a transform file of MINC"),
    ]:
        Path("x.xfm").write_text(XFM.replace(old, new))
        refuses("x.xfm", reason)
    for kept in range(1, len(XFM) - 1):
        Path("x.xfm").write_text(XFM[:kept])
        refuses("x.xfm", "truncated|not a")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's; Windows has none")
def test_hdf5_is_read_within_a_limit_of_memory(here, monkeypatch):
    write_transform("x.h5", read_affine_of_text())
    monkeypatch.setattr(transform_files, "HDF5_BYTES", 0)
    monkeypatch.setattr(transform_files, "BYTES_PER_BYTE", 0)
    refuses("x.h5", "damaged")


def test_a_damaged_hdf5_file_is_one_line(here, capfd):
    write_transform("x.h5", read_affine_of_text())
    content = Path("x.h5").read_bytes()
    for kept in (len(content) - 1, len(content) // 2, 600, 4):
        Path("x.h5").write_bytes(content[:kept])
        refuses("x.h5", "damaged|is not an HDF5 file")
    assert capfd.readouterr().err == ""


def read_affine_of_text():
    Path("whole.tfm").write_text(TEXT)
    return read_affine("whole.tfm")


def test_a_matlab_file_of_other_content_is_refused(here):
    sitk.WriteTransform(sitk.AffineTransform(3), "x.mat")
    content = bytearray(Path("x.mat").read_bytes())
    for at, byte in [(0, 7), (4, 200), (8, 9), (12, 1), (16, 0), (18, 9), (150, 255)]:
        harmed = bytearray(content)
        harmed[at] = byte
        Path("x.mat").write_bytes(harmed)
        refuses("x.mat", "not a transform file|truncated|unknown|must have|damaged")
    Path("x.mat").write_bytes(content + b"1")
    refuses("x.mat", "truncated")
    Path("x.mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    refuses("x.mat", "not a transform file of ITK")
