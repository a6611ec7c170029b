"""Which images are found, and that every unusable one is named before anything is learnt."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import itk_ncr
from itk_ncr.data import AllToAll, SyntheticPairs, data_hash, read_manifest
from itk_ncr.errors import ImageReadError, InputError

MakeData = Callable[..., Path]


def write(path: Path, array: np.ndarray, spacing: tuple[float, ...] | None = None) -> None:
    grid = itk_ncr.Grid.of_array(array.shape, spacing)
    itk_ncr.write_image(itk_ncr.Image(array, grid), path)


def fill(folder: Path, *names: str) -> None:
    """Write an image of its own under every name."""
    for number, name in enumerate(names):
        array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) + number
        known = (".nrrd", ".mha")
        write(folder / (name if name.endswith(known) else f"{name}.nii.gz"), array)


def test_an_image_is_no_table(tmp_path) -> None:
    (tmp_path / "image.nii.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(InputError, match=r"image\.nii\.gz': it is not text \(UTF-8\)\. Give"):
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
    fill(
        tmp_path,
        "ann",
        "ann_seg",
        "bob_t1",
        "bob_seg",
        "cleo",
        "dan",
        "dan-SEG",
        "eve.Labels",
        "eve",
    )
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "series").mkdir()
    (tmp_path / ".DS_Store").write_text("hidden")
    manifest = read_manifest(tmp_path)
    found = {s.patient: s.labels and s.labels.name for s in manifest.subjects}
    assert found == {
        "ann": "ann_seg.nii.gz", "bob_t1": "bob_seg.nii.gz", "cleo": None,
        "dan": "dan-SEG.nii.gz", "eve": "eve.Labels.nii.gz",
    }  # fmt: skip
    assert manifest.notes == ("not used, because they are not image files: notes.txt, series/",)


@pytest.mark.parametrize(
    ("names", "fragment"),
    [
        (["ann", "ann_mask"], "'ann_mask.nii.gz' is named like a mask"),
        (["ann", "ann-LESION"], "'ann-LESION.nii.gz' is named like a mask"),
        (["ann", "ann-GT"], "'ann-GT.nii.gz' is named like a mask"),
        (["ann_t1", "mask_ann"], "'mask_ann.nii.gz' is named like a mask"),
        (["ann_t1", "Seg-ann"], "'Seg-ann.nii.gz' is named like a mask"),
        (["ann", "ann_seg2"], "'ann_seg2.nii.gz' is named like a mask"),
        (["ann", "ann_lesion_01"], "'ann_lesion_01.nii.gz' is named like a mask"),
        (["ann", "ann.nrrd"], "'ann.nii.gz' and 'ann.nrrd' are of one name"),
        (["ann", "Ann.mha"], "'Ann.mha' and 'ann.nii.gz' are of one name"),
        (["ann", "ann_seg", "ann_labels"], "are label maps of one name"),
        (["ann", "ben_seg"], "label map 'ben_seg.nii.gz' belongs to no image"),
        (["ANN", "ann_seg"], "'ANN.nii.gz' differs in the case"),
        (["ann_t1", "ann_t2"], "show one patient by their names"),
        (["ann", "ben", "ann_parcels"], "'ann.nii.gz', 'ann_parcels.nii.gz' show one patient"),
        (["ann", "ben", "tumour.Ann"], "'ann.nii.gz', 'tumour.Ann.nii.gz' show one patient"),
        (["sub-01_ses-1_T1w", "sub-01_ses-2_T1w"], "show one patient by their names"),
    ],
)
def test_a_file_whose_part_is_not_clear_is_refused(names, fragment, tmp_path) -> None:
    fill(tmp_path, *names)
    with pytest.raises(InputError, match="cannot be used") as caught:
        read_manifest(tmp_path)
    assert fragment in str(caught.value)


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
    packed = (folder / "p3.nii.gz").read_bytes()
    (folder / "p3.nii.gz").write_bytes(gzip.compress(gzip.decompress(packed)[:600]))
    with pytest.raises(ImageReadError, match=r"1 file cannot be used: .*p3\.nii\.gz.*truncated"):
        read_manifest(path)
    (folder / "p3.nii.gz").write_bytes(packed)
    manifest = read_manifest(path)
    with pytest.raises(ImageReadError) as caught:
        AllToAll(manifest)
    text = str(caught.value)
    assert text.startswith("2 files cannot be used: ")
    assert all(name in text for name in ("p1.nii.gz", "p2_seg.nii.gz"))


def test_images_of_several_sizes_are_allowed_when_asked_for(tmp_path) -> None:
    for i, n in enumerate((4, 5)):
        write(tmp_path / f"{i}.nii.gz", np.arange(6 * n, dtype=np.uint8).reshape(2, 3, n))
    with pytest.raises(ImageReadError, match=r"size \(5, 3, 2\), not \(4, 3, 2\)"):
        read_manifest(tmp_path)
    assert len(read_manifest(tmp_path, any_size=True).subjects) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,picture\np0,p0.png\n", "no column image .* has subject, picture"),
        ("Subject,Image\np0,p0.png\n", "no column subject and no column image"),
        ("subject,image,split\np0,p0.png,training\n", "line 2: split must be one of train, val"),
        ("subject,image,split\np0,p0.png,train\np0,p1.png,test\n", "'p0' is in several splits"),
        ("subject,image,split\np0,p0.png,train\np1,p1.png,\n", "1 images have no split, 'p1.png'"),
        ("subject,image\np0,\n", "line 2 has no image"),
        ("subject,image,slice_mm\np0,p0.png,high\n", "slice_mm must be a number"),
        ("subject,image,slice_mm\np0,p0.png,inf\n", "slice_mm must be a number"),
        ("subject,image,ignore_labels\np0,p0.png,1 x\n", "ignore_labels must be whole numbers"),
        ("subject,image,label\np0,p0.png,p0_seg.png\n", "'label' is none; 'labels' is"),
        ("subject,image,seg\np0,p0.png,p0_seg.png\n", "'seg' is none; 'labels' is"),
        ("subject,image,mask\np0,p0.png,p0_seg.png\n", "'mask' is none; 'lesion' is"),
        ("subject,image,fold\np0,p0.png,1\n", "'fold' is none; 'split' is"),
        ("subject,image,Spilt\np0,p0.png,train\n", "'Spilt' is none; 'split' is"),
        ("subject,image,patient\np0,p0.png,ann\n", "'patient' is none; 'subject' is"),
        ("subject,image,atlas\np0,p0.png,p0_seg.png\n", "'atlas' holds files"),
        ("subject,image\nann,p0.png\nAnn,p1.png\n", "'ann' and 'Ann' differ in case or blanks"),
        ("subject,image\nann b,p0.png\nann  b,p1.png\n", "differ in case or blanks"),
        ("subject,image\nann,p0.png\nann,p0.png\n", "line 3 repeats line 2"),
        ("subject,image\nann,p0.png\nben,./p0.png\n", "'p0.png' is given for the patients"),
        (
            "subject,image\nann,p0.png\nben,copy.png\n",
            "'p0.png' and 'copy.png' hold the same image",
        ),
        ("subject,fixed,moving\nann,p0.png,p1.png\nben,p2.png,p1.png\n", "'p1.png' is given for"),
        ("subject,fixed,moving\nann,p0.png,p0.png\n", "line 2 pairs an image with itself"),
        ("subject,image\nann,p0.png,p1.png\n", "line 2 has 3 cells for 2 columns"),
        ("subject,image\n", "only a heading"),
        ("", "its first line has nothing"),
    ],
)
def test_a_csv_that_cannot_be_used_says_why(make_data: MakeData, text, message) -> None:
    path = make_data()
    (path.parent / "copy.png").write_bytes((path.parent / "p0.png").read_bytes())
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_manifest(path)


def test_a_missing_csv_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        read_manifest(tmp_path / "nowhere.csv")


def test_a_copy_within_one_split_is_told_and_between_splits_refused(make_data: MakeData) -> None:
    path = make_data()
    (path.parent / "copy.png").write_bytes((path.parent / "p0.png").read_bytes())
    path.write_text(path.read_text() + "ben,copy.png,,train\n")
    assert "'p0.png' and 'copy.png' hold the same image" in read_manifest(path).notes[0]
    path.write_text(path.read_text().replace("copy.png,,train", "copy.png,,test"))
    with pytest.raises(InputError, match="hold the same image for the patients 'p0' and 'ben'"):
        read_manifest(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_as_spreadsheets_save_it(make_data: MakeData, delimiter) -> None:
    path = make_data()
    text = path.read_text().replace(",split", ", split,age").replace(",train", ", train ,50")
    text = text.replace(",test", " ,test,60").replace("\n", ",,\r\n") + ",,,,\r\n"
    path.write_bytes(("\ufeff" + text.replace(",", delimiter)).encode())
    manifest = read_manifest(path)
    assert manifest.patients("train") == ("p0", "p1", "p2")
    assert manifest.patients("test") == ("p3", "p4")
    assert all(s.labels is not None and s.labels.is_file() for s in manifest.subjects)
    assert manifest.notes == ("columns that are not used: age",)


def test_a_column_says_which_labels_do_not_count(make_data: MakeData) -> None:
    path = make_data()
    text = path.read_text().replace("split\n", "split,ignore_labels\n")
    path.write_text(text.replace(",train\n", ',train,"1, 300"\n'))
    manifest = read_manifest(path)
    assert [s.ignore_labels for s in manifest.subjects] == [(1, 300)] * 3 + [()] * 2
    source = AllToAll(manifest)
    assert source.store.label_values(0) == (2, 3)
    synthetic = SyntheticPairs(manifest).sample(0, torch.Generator().manual_seed(0))
    assert {*torch.unique(synthetic.fixed_labels).tolist()} <= {0, 2, 3}
    before = path.read_text()
    path.write_text(before.replace("1, 300", "1"))
    assert data_hash(read_manifest(path)) != data_hash(manifest)
