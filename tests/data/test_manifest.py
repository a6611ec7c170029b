"""Which images are found, and that every unusable one is named before anything is learnt."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import itk_ncr
from itk_ncr.data import AllToAll, read_manifest
from itk_ncr.errors import ArgumentError, ImageReadError

MakeData = Callable[..., Path]


def write(path: Path, array: np.ndarray, spacing: tuple[float, ...] | None = None) -> None:
    grid = itk_ncr.Grid.of_array(array.shape, spacing)
    itk_ncr.write_image(itk_ncr.Image(array, grid), path)


def test_an_image_is_no_table(tmp_path) -> None:
    (tmp_path / "image.nii.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(ImageReadError, match=r"image\.nii\.gz': it is no text \(UTF-8\)\. Give"):
        read_manifest(tmp_path / "image.nii.gz")


def test_csv_paths_are_relative_to_the_csv(make_data: MakeData, monkeypatch, tmp_path) -> None:
    path = make_data()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    manifest = read_manifest(os.path.relpath(path))
    assert [s.patient for s in manifest.subjects] == ["p0", "p1", "p2", "p3", "p4"]
    assert manifest.patients("train") == ("p0", "p1", "p2")
    assert manifest.subjects[3].labels == Path("../p3_seg.png")
    assert manifest.pairs == ()


def test_a_folder_gives_one_image_per_patient_with_its_label_map(tmp_path) -> None:
    for name in ("ann", "ann_seg", "bob_t1", "bob_seg", "cleo"):
        write(tmp_path / f"{name}.nii.gz", np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    (tmp_path / "notes.txt").write_text("no image")
    found = {s.patient: s.labels and s.labels.name for s in read_manifest(tmp_path).subjects}
    assert found == {"ann": "ann_seg.nii.gz", "bob_t1": "bob_seg.nii.gz", "cleo": None}


def test_a_folder_of_label_maps_alone_serves_synthesis(tmp_path) -> None:
    write(tmp_path / "a_seg.nii.gz", np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    (subject,) = read_manifest(tmp_path).subjects
    assert subject.image == subject.labels == tmp_path / "a_seg.nii.gz"


def test_pair_columns_name_pairs_and_share_images(make_data: MakeData) -> None:
    path = make_data()
    path.write_text(
        "subject,fixed,moving,split\nann,p0.png,p1.png,train\nann,p1.png,p2.png,train\n"
        "bob,p3.png,p4.png,test\n"
    )
    manifest = read_manifest(path)
    names = [s.image.name for s in manifest.subjects]
    assert names == ["p0.png", "p1.png", "p2.png", "p3.png", "p4.png"]
    assert manifest.pairs == ((0, 1), (1, 2), (3, 4))
    assert manifest.patients("test") == ("bob",)


def test_all_files_with_an_unusable_header_are_named_in_one_error(make_data: MakeData) -> None:
    path = make_data((8, 9, 10), train=5, test=3)
    folder = path.parent
    (folder / "p1.nii.gz").unlink()
    (folder / "p2.nii.gz").write_bytes(b"not an image")
    write(folder / "p3.nii.gz", np.zeros((8, 9, 11), np.uint8), (2.0, 2.0, 2.0))
    write(folder / "p4_seg.nii.gz", np.zeros((8, 9, 10), np.uint8), (2.0, 2.0, 3.0))
    with pytest.raises(ImageReadError) as caught:
        read_manifest(path)
    text = str(caught.value)
    assert text.startswith("5 files cannot be used: ")  # p3's labels do not fit p3 either
    for name in ("p1.nii.gz", "p2.nii.gz", "p3.nii.gz", "p4_seg.nii.gz"):
        assert name in text
    assert "p0.nii.gz" not in text
    assert "p5" not in text


def test_all_files_with_unusable_voxels_are_named_before_training(make_data: MakeData) -> None:
    path = make_data((8, 9, 10), train=4, test=1)
    folder = path.parent
    grid = itk_ncr.read_image(folder / "p0.nii.gz").grid
    flat = itk_ncr.Image(np.full(grid.shape, 7, np.uint8), grid)
    itk_ncr.write_image(flat, folder / "p1.nii.gz")
    halves = itk_ncr.Image(np.full(grid.shape, 0.5, np.float32), grid)
    itk_ncr.write_image(halves, folder / "p2_seg.nii.gz")
    whole = gzip.decompress((folder / "p3.nii.gz").read_bytes())
    (folder / "p3.nii.gz").write_bytes(gzip.compress(whole[:600]))
    manifest = read_manifest(path)
    with pytest.raises(ImageReadError) as caught:
        AllToAll(manifest)
    text = str(caught.value)
    assert text.startswith("3 files cannot be used: ")
    assert all(name in text for name in ("p1.nii.gz", "p2_seg.nii.gz", "p3.nii.gz"))


def test_images_of_several_sizes_are_allowed_when_asked_for(tmp_path) -> None:
    for i, n in enumerate((4, 5)):
        write(tmp_path / f"{i}.nii.gz", np.arange(6 * n, dtype=np.uint8).reshape(2, 3, n))
    with pytest.raises(ImageReadError, match=r"size \(5, 3, 2\), not \(4, 3, 2\)"):
        read_manifest(tmp_path)
    assert len(read_manifest(tmp_path, any_size=True).subjects) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,picture\np0,p0.png\n", "columns image, subject"),
        ("subject,image,split\np0,p0.png,training\n", "line 2"),
        ("subject,image,split\np0,p0.png,train\np0,p1.png,test\n", "several .* for p0"),
        ("subject,image\np0,\n", "line 2"),
        ("subject,image,slice_mm\np0,p0.png,high\n", "slice_mm must be a number"),
        ("", "got nothing"),
    ],
)
def test_a_csv_that_cannot_be_used_says_why(make_data: MakeData, text, message) -> None:
    path = make_data()
    path.write_text(text)
    with pytest.raises(ArgumentError, match=message):
        read_manifest(path)


def test_a_missing_csv_is_named(tmp_path) -> None:
    with pytest.raises(ImageReadError, match=r"nowhere\.csv"):
        read_manifest(tmp_path / "nowhere.csv")


def test_a_byte_order_mark_and_further_columns_are_read_over(make_data: MakeData) -> None:
    path = make_data()
    text = path.read_text().replace("subject,", "\ufeffsubject,").replace(",split", ",split,age")
    text = text.replace(",train", ",train,50").replace(",test", ",test,60")
    path.write_text(text, encoding="utf-8")
    assert len(read_manifest(path).subjects) == 5
