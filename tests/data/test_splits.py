"""No patient is trained and tested on, and the counts are those of the published protocol."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from itk_ncr.data import (
    Fold,
    Manifest,
    Subject,
    data_hash,
    divide,
    fold_audit,
    folds,
    in_fold,
    read_manifest,
)
from itk_ncr.errors import ArgumentError


def people(count: int, images_each: int = 1) -> Manifest:
    return Manifest(
        tuple(
            Subject(f"p{i}", Path(f"{i}_{k}.png"), group=f"g{k}")
            for i in range(count)
            for k in range(images_each)
        )
    )


def test_forty_patients_in_five_folds_give_the_published_numbers_of_pairs() -> None:
    manifest = people(40)
    audit = fold_audit(manifest, folds(manifest.patients(), 5, seed=0), versions=5)
    lines = audit.splitlines()
    assert len(lines) == 7
    for line in lines[1:6]:
        assert "32 train / 8 test patients, none in both" in line
        assert "4960 train pairs" in line
        assert "312 test pairs per lesion type (56 strict)" in line
    assert "1560 test pairs per lesion type (280 strict)" in lines[-1]


def test_every_patient_is_tested_once_even_if_folds_are_uneven() -> None:
    names = [f"p{i}" for i in range(23)]
    rounds = folds(names, 5, seed=3)
    assert sorted(p for fold in rounds for p in fold.test) == sorted(names)
    for fold in rounds:
        assert not set(fold.train) & set(fold.test)
        assert len(fold.train) + len(fold.test) == 23
        assert len(fold.test) in (4, 5)


def test_folds_depend_on_the_seed_and_on_nothing_else() -> None:
    names = [f"p{i}" for i in range(20)]
    assert folds(names, 4, seed=1) == folds(names, 4, seed=1)
    assert folds(names, 4, seed=1) != folds(names, 4, seed=2)


def test_all_images_of_a_patient_are_on_one_side() -> None:
    manifest = people(10, images_each=3)
    fold = folds(manifest.patients(), 5)[0]
    divided = in_fold(manifest, fold)
    assert len(divided.positions("test")) == 6
    # 2 test patients with 9 others each, on three levels that are not mixed.
    assert "54 test pairs" in fold_audit(manifest, folds(manifest.patients(), 5)).splitlines()[1]


def test_the_audit_finds_a_patient_on_both_sides() -> None:
    manifest = people(4)
    leaky = (Fold(("p0", "p1", "p2"), ("p2", "p3")), Fold(("p2", "p3"), ("p0", "p1")))
    with pytest.raises(ArgumentError, match=r"\['p2'\] on both sides"):
        fold_audit(manifest, leaky)


def test_dividing_deals_out_patients_in_the_given_shares() -> None:
    manifest = divide(people(20, images_each=2), val=0.1, test=0.25, seed=4)
    sizes = [len(manifest.patients(split)) for split in ("train", "val", "test")]
    assert sizes == [13, 2, 5]
    with pytest.raises(ArgumentError, match="got a split"):
        divide(manifest)
    with pytest.raises(ArgumentError, match="two patients to train on"):
        divide(people(4), val=0.5, test=0.25)


def test_the_hash_moves_with_the_folder_and_changes_with_any_file(
    make_data: Callable[..., Path], tmp_path
) -> None:
    path = make_data(train=2, test=1)
    before = data_hash(read_manifest(path))
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    assert data_hash(read_manifest(tmp_path / "copy" / "data.csv")) == before
    shutil.copy(tmp_path / "p0_seg.png", tmp_path / "p2_seg.png")
    assert data_hash(read_manifest(path)) != before


def test_the_hash_tells_apart_who_is_trained_on(make_data: Callable[..., Path]) -> None:
    path = make_data(train=2, test=1)
    before = data_hash(read_manifest(path))
    path.write_text(path.read_text().replace("test", "val"))
    assert data_hash(read_manifest(path)) != before
