"""Every bad input: one line with file and reason, status 2, nothing written, no long wait."""

from __future__ import annotations

import gzip
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

# What a refusal may take, torch imported: some take no time, the slowest compare two images first.
SECONDS = 30.0
# What these read is asked, not what is made of it.
QUICK = ["--affine", "none", "--mask", "none", "--json", "--no-report"]
SHAPE = (20, 24, 28)


def nifti(path: Path, array: np.ndarray | None = None, **fields: tuple[int, str, object]) -> Path:
    """A good .nii with some header fields overwritten: name=(offset, struct format, value)."""
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    image = sitk.GetImageFromArray(values if array is None else array, isVector=False)
    image.SetSpacing([1.5] * image.GetDimension())
    plain = path.with_name("plain.nii")
    sitk.WriteImage(image, str(plain))
    content = bytearray(plain.read_bytes())
    plain.unlink()
    for offset, form, value in fields.values():
        struct.pack_into("<" + form, content, offset, value)
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def flip(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))
    return path


def text(path: Path) -> Path:
    path.write_text("no image\n" * 100)
    return path


def write(path: Path, array: np.ndarray, vector: bool = False, **geometry: object) -> Path:
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing([1.5] * image.GetDimension())
    for name, value in geometry.items():
        getattr(image, f"Set{name}")(value)
    sitk.WriteImage(image, str(path))
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "notes.txt").write_text("no slices")
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


COLOURS = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
NAN = np.full(SHAPE, np.nan, np.float32)
ONES = np.ones(SHAPE, np.float32)

# name -> (maker of the moving image, what the line says)
BAD_IMAGES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing.nii": (lambda path: path, "no such file"),
    "empty.nii.gz": (empty, "is empty"),
    "text.nii": (text, "is not a"),
    "text.nrrd": (text, "is not a"),
    "image.xyz": (text, "its format is unknown"),
    "folder": (folder, "without a DICOM series"),
    "pipe.nii": (pipe, "not a regular file"),
    os.fsdecode(b"caf\xe9.nii"): (text, "not valid UTF-8"),
    "truncated.nii": (lambda path: cut(nifti(path)), "truncated"),
    "truncated.nii.gz": (lambda path: cut(nifti(path)), "truncated"),
    "truncated.nrrd": (lambda path: cut(write(path, ONES)), "truncated"),
    "truncated.mha": (lambda path: cut(write(path, ONES)), "truncated"),
    "flipped.nii.gz": (lambda path: flip(nifti(path)), "damaged"),
    "giant.nii": (lambda path: nifti(path, size=(42, "h", 32000)), "truncated"),
    "spacing_zero.nii": (lambda path: nifti(path, spacing=(80, "f", 0.0)), "spacing"),
    "spacing_nan.nii": (lambda path: nifti(path, spacing=(80, "f", np.nan)), "spacing"),
    "sheared.nii": (lambda path: nifti(path, qform=(252, "h", 0), shear=(284, "f", 0.9)), "sform"),
    "time.nii": (lambda path: nifti(path, np.ones((2, 4, 5, 6), "f4")), "4D"),
    "colour.png": (lambda path: write(path, COLOURS, True), "3 values"),
    "vector.nrrd": (lambda path: write(path, np.zeros((*SHAPE, 3), "f4"), True), "3 values"),
    "complex.mha": (lambda path: write(path, np.zeros(SHAPE, np.complex64)), "complex"),
    "nothing.nii": (lambda path: nifti(path, NAN), "finite"),
    "constant.nrrd": (lambda path: write(path, ONES), "moving"),
    "flat.nrrd": (lambda path: write(path, np.eye(24, dtype=np.float32)), "it is 2D"),
    "elsewhere.nrrd": (
        lambda path: write(path, np.random.default_rng(0).random(SHAPE, "f4"), Origin=(9e3, 0, 0)),
        "overlap",
    ),
}


def refused(result, seconds: float, *fragments: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert all(line.startswith("warning: ") for line in lines[:-1])
    for fragment in fragments:
        assert fragment in lines[-1]
    assert seconds < SECONDS


def spoken(name: str) -> str:
    """A file's name as the terminal can show it."""
    return name.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("name", BAD_IMAGES, ids=spoken)
def test_a_bad_moving_image_is_named(name, volumes, run, tree, tmp_path):
    maker, fragment = BAD_IMAGES[name]
    options = ["--affine", "none"] if name == "elsewhere.nrrd" else []
    path = maker(tmp_path / name)
    before, start = tree(tmp_path), time.monotonic()
    result = run("register", volumes[0], path, "-o", tmp_path / "new" / "run", *options)
    refused(result, time.monotonic() - start, fragment)
    assert Path(name).stem.encode("utf-8", "ignore").decode()[:3] in result.stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["truncated.nii.gz", "nothing.nii", "constant.nrrd"])
def test_a_bad_fixed_image_is_named(name, volumes, run, tree, tmp_path):
    path = BAD_IMAGES[name][0](tmp_path / name)
    before, start = tree(tmp_path), time.monotonic()
    result = run("register", path, volumes[1], "-o", tmp_path / "run")
    refused(result, time.monotonic() - start, "fixed", name)
    assert tree(tmp_path) == before


def garbage_transform(path: Path) -> Path:
    path.write_text("#Insight Transform File V1.0\nnonsense\n")
    return path


def flat_transform(path: Path) -> Path:
    sitk.WriteTransform(sitk.AffineTransform(2), str(path))
    return path


def curved_transform(path: Path) -> Path:
    field = sitk.Image((4, 4, 4), sitk.sitkVectorFloat64)
    sitk.WriteTransform(sitk.DisplacementFieldTransform(field), str(path))
    return path


# id -> (option, name, maker, what the line says)
BAD_COMPANIONS: dict[str, tuple[str, str, Callable[[Path], Path], str]] = {
    "lesion mask missing": ("--lesion-mask", "l.nii", lambda p: p, "lesion mask"),
    "lesion mask everywhere": ("--lesion-mask", "l.nrrd", lambda p: write(p, ONES), "mask"),
    "lesion mask flat": ("--lesion-mask", "l.nrrd", lambda p: write(p, np.eye(9)), "lesion mask"),
    "moving lesion cut": (
        "--moving-lesion-mask",
        "m.nii.gz",
        lambda p: cut(nifti(p)),
        "moving lesion mask",
    ),
    "region empty": ("--roi-mask", "r.nrrd", lambda p: write(p, ONES * 0), "mask"),
    "labels cut": ("--labels", "s.nrrd", lambda p: cut(write(p, ONES)), "labels"),
    "labels not whole": ("--labels", "s.nrrd", lambda p: write(p, ONES / 3), "whole numbers"),
    "labels flat": ("--labels", "s.nrrd", lambda p: write(p, np.eye(9, dtype="u1")), "labels"),
    "affine missing": ("--affine", "a.tfm", lambda p: p, "no such file"),
    "affine garbage": ("--affine", "a.tfm", garbage_transform, "damaged"),
    "affine flat": ("--affine", "a.tfm", flat_transform, "2D"),
    "affine curved": ("--affine", "a.h5", curved_transform, "not affine"),
    "start garbage": ("--initial-transform", "i.mat", text, "initial transform"),
}


@pytest.mark.parametrize("case", BAD_COMPANIONS)
def test_a_bad_companion_is_named(case, volumes, run, tree, tmp_path):
    option, name, maker, fragment = BAD_COMPANIONS[case]
    path = maker(tmp_path / name)
    before, start = tree(tmp_path), time.monotonic()
    result = run("register", *volumes, "-o", tmp_path / "run", option, path)
    refused(result, time.monotonic() - start, fragment)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("where", "fragment"),
    [
        ("file", "is a file"),
        ("file/run", "cannot be made"),
        ("full", "holds files already"),
        (os.fsdecode(b"caf\xe9"), "not valid UTF-8"),
    ],
)
def test_a_bad_output_folder_is_refused_before_anything_is_read(
    where, fragment, run, tree, tmp_path
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    before = tree(tmp_path)
    result = run("register", "no_fixed.nii", "no_moving.nii", "-o", tmp_path / where)
    refused(result, 0, fragment)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("role", ["image", "output"])
def test_a_name_that_is_too_long_is_the_callers_fault(role, run, tree, tmp_path):
    long = "x" * 300
    names = [f"{long}.nii", "no.nii"] if role == "image" else ["no.nii", "no.nii"]
    before = tree(tmp_path)
    output = tmp_path / (long if role == "output" else "run")
    refused(run("register", *names, "-o", output), 0, "ame too long")
    assert tree(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_is_refused(volumes, run, tmp_path):
    tmp_path.chmod(0o555)
    try:
        refused(run("register", *volumes, "-o", tmp_path / "run"), 0, "read-only")
    finally:
        tmp_path.chmod(0o755)


def test_not_a_number_is_counted_and_warned_about(volumes, run, tmp_path):
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(volumes[1])))
    image[3, 4:6, 5] = np.nan, np.inf
    path = write(tmp_path / "holes.nrrd", image)
    result = run("register", volumes[0], path, "-o", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.output
    assert '"nan_count": 2' in result.stdout
    assert "warning: " in result.stderr
    assert np.isfinite(
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "run/warped.nii.gz")))
    ).all()


def test_what_reading_warned_about_is_shown_and_recorded(volumes, run, tmp_path):
    path = tmp_path / "surplus.nii"
    path = nifti(path, sitk.GetArrayFromImage(sitk.ReadImage(str(volumes[1]))))
    path.write_bytes(path.read_bytes() + b"more")
    result = run("register", volumes[0], path, "-o", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.output
    shown = [line for line in result.stderr.splitlines() if "surplus.nii" in line]
    assert len(shown) == 1
    assert shown[0].removeprefix("warning: ") in json.loads(result.stdout)["warnings"]
