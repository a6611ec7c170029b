"""What a table of pairs may say, and that all its faults are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from itk_ncr.errors import InputError
from itk_ncr.runs import read_pairs


def test_paths_are_relative_to_the_table_and_other_columns_are_carried(table, row, tmp_path):
    path = table(
        row("a", age="61", labels="labels.nrrd", affine="none"),
        row("b", age="", labels="", affine=""),
    )
    first, second = read_pairs(path)
    assert first.files.given() == {
        "fixed": tmp_path / "fixed.nrrd",
        "moving": tmp_path / "moving.nrrd",
        "labels": tmp_path / "labels.nrrd",
    }
    assert (first.name, first.affine, first.carried) == ("a", "none", {"age": "61"})
    assert (second.affine, second.carried, second.files.labels) == (None, {"age": ""}, None)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_as_a_spreadsheet_saves_it(table, row, delimiter):
    path = table(row("Größe 1", group="a b"))
    text = path.read_text(encoding="utf-8").replace(",", delimiter)
    path.write_bytes(b"\xef\xbb\xbf" + (text.strip() + "\n" + 3 * delimiter + "\n").encode())
    (pair,) = read_pairs(path)
    assert pair.name == "Größe 1"
    assert pair.carried == {"group": "a b"}


def test_without_a_name_the_subject_names_a_pair_and_without_that_its_files(table):
    files = {"fixed": "fixed.nrrd", "moving": "moving.nrrd"}
    (pair,) = read_pairs(table({"subject": "s1", **files}))
    assert (pair.name, pair.carried) == ("s1", {"subject": "s1"})
    (pair,) = read_pairs(table({"subject": "s1", "name": "week 3", **files}))
    assert (pair.name, pair.carried) == ("week 3", {"subject": "s1"})
    (pair,) = read_pairs(table(files))
    assert pair.name == "moving_to_fixed"


@pytest.mark.parametrize(
    "name",
    ["../x", "..", ".hidden", "/etc", "a/b", "a\\b", "C:", "=cmd()", "-o", "", "a\nb", "dot.",
     "x" * 300, "summary.csv", "SUMMARY.csv"],
)  # fmt: skip
def test_a_name_that_is_no_folder_of_ours_is_refused(table, row, name):
    with pytest.raises(InputError, match=r"name|called"):
        read_pairs(table(row(name)), reserved=("summary.csv",))


def test_everything_that_is_wrong_is_said_at_once(table, row, tmp_path):
    path = table(
        row("a", lesion_mask="none.nii"),
        row("A"),
        row("b", fixed="", moving="gone.nrrd"),
        row("../c"),
        row("d", fixed_labels="fixed_labels.nrrd"),
        row("a"),
    )
    with pytest.raises(InputError) as caught:
        read_pairs(path)
    text = str(caught.value)
    for fragment in [
        f"line 2: lesion_mask '{tmp_path / 'none.nii'}' does not exist",
        "line 4 has no fixed image",
        f"line 4: moving '{tmp_path / 'gone.nrrd'}' does not exist",
        "line 5: name '../c'",
        "line 6: fixed labels",
        "3 pairs are called 'a'",
    ]:
        assert fragment in text
    assert "\n" not in text


def test_a_pair_without_a_file_leaves_the_others_to_be_done(table, row, tmp_path):
    first, second = read_pairs(table(row("a"), row("b", lesion_mask="none.nii")))
    assert (first.name, first.missing) == ("a", ())
    assert second.missing == (f"line 3: lesion_mask '{tmp_path / 'none.nii'}' does not exist",)
    with pytest.raises(InputError, match=r"line 2: lesion_mask .* does not exist"):
        read_pairs(table(row("b", lesion_mask="none.nii"), name="all.csv"))


def test_empty_cells_and_columns_at_the_end_are_read_over(tmp_path, table, row):
    path = table(row("a"))
    lines = path.read_text().splitlines()
    path.write_text("\n" + lines[0] + ",,\n" + lines[1] + ",,,,\n,,\n")
    (pair,) = read_pairs(path)
    assert (pair.name, pair.carried) == ("a", {})


def test_of_very_many_faults_some_are_told_and_the_others_counted(table, row):
    with pytest.raises(InputError, match=r"line 21: .*; and 80 more"):
        read_pairs(table(*(row(f"p{i}", moving="gone") for i in range(100))))


@pytest.mark.parametrize(
    ("column", "fragment"),
    [
        ("lesion_msk", "'lesion_mask' is"),
        ("Lesion_Mask", "'lesion_mask' is"),
        ("mask", "holds files"),
        ("status", "one of the summary's own"),
        ("", "has no name"),
    ],
)
def test_a_column_that_would_be_overlooked_is_refused(table, row, column, fragment):
    with pytest.raises(InputError, match=fragment):
        read_pairs(table(row("a", **{column: "labels.nrrd"})), reserved=("status",))


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "no column fixed and no column moving"),
        (b"fixed,moving\n", "only a heading"),
        (b"fixed\na\n", "no column moving"),
        (b"fixed,moving,fixed\n1,2,3\n", "'fixed' is there twice"),
        (b"fixed,moving\na,b,c\n", "line 2 has 3 cells for 2 columns"),
        (b"fixed,moving\na\n", "line 2 has no moving image"),
        (b"fixed,moving\na,\xff\n", "not text"),
        (b'fixed,moving\n"a,b\n', "line 3|unexpected end"),
        (b"fixed,moving\na\0,b\n", "it is not text"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, fragment):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=fragment):
        read_pairs(path)


def test_a_table_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv': No such file"):
        read_pairs(tmp_path / "none.csv")


def test_pairs_of_one_name_are_told_how_to_get_two(table, tmp_path):
    for patient in ("one", "two"):
        (tmp_path / patient).mkdir()
        (tmp_path / patient / "t1.nrrd").write_text("")
    rows = [{"fixed": f"{p}/t1.nrrd", "moving": "moving.nrrd"} for p in ("one", "two")]
    with pytest.raises(InputError, match="2 pairs are called 'moving_to_t1'; add a column name"):
        read_pairs(table(*rows))
    assert Path(tmp_path / "one").is_dir()
