"""All or nothing: what is in a folder before, during and after a run that goes well or does not."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from itk_ncr import files
from itk_ncr.errors import InputError
from itk_ncr.files import sole_run
from itk_ncr.runs import (
    FORMATS,
    OutputFolder,
    fingerprint,
    format_for,
    require_writable,
    write_text,
)


def fill(stage: Path, *names: str, text: str = "new") -> None:
    for name in names:
        (stage / name).write_text(text)
    record = {"tool": "itk-ncr test", "outputs": {name: name for name in names}}
    (stage / "summary.json").write_text(json.dumps(record))


def contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir() if p.name != "summary.json"}


def test_nothing_is_visible_until_all_is_there(tmp_path):
    target = tmp_path / "deep" / "run"
    with OutputFolder(target, overwrite=False).staged() as stage:
        fill(stage, "mask.nrrd")
        assert not target.exists()
        assert stage.name.startswith(".")
    assert contents(target) == {"mask.nrrd": "new"}
    assert [p.name for p in target.parent.iterdir()] == ["run"]


def test_the_folder_is_as_readable_as_any_other(tmp_path):
    with OutputFolder(tmp_path / "run", overwrite=False).staged() as stage:
        fill(stage, "a")
    (tmp_path / "other").mkdir()
    assert (tmp_path / "run").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_leaves_no_trace(tmp_path, error, exists, tree):
    target = tmp_path / "deep" / "run"
    if exists:
        target.mkdir(parents=True)
    before = tree(tmp_path)
    with pytest.raises(error), OutputFolder(target, overwrite=False).staged() as stage:  # noqa: PT012
        fill(stage, "a")
        raise error
    assert tree(tmp_path) == before


def test_a_folder_with_files_is_refused_and_an_empty_one_is_not(tmp_path):
    (tmp_path / "run").mkdir()
    with OutputFolder(tmp_path / "run", overwrite=False).staged() as stage:
        fill(stage, "a")
    with pytest.raises(InputError, match="holds files already"):
        OutputFolder(tmp_path / "run", overwrite=False)


def test_overwriting_replaces_the_earlier_run_and_spares_other_files(tmp_path):
    target = tmp_path / "run"
    with OutputFolder(target, overwrite=False).staged() as stage:
        fill(stage, "mask.nii", "labels.nii", text="old")
    (target / "notes.txt").write_text("mine")
    with OutputFolder(target, overwrite=True).staged() as stage:
        fill(stage, "mask.nii", "extra.nii")
    assert contents(target) == {"mask.nii": "new", "extra.nii": "new", "notes.txt": "mine"}
    assert set(json.loads((target / "summary.json").read_text())["outputs"]) == {
        "mask.nii",
        "extra.nii",
    }
    assert not [p for p in target.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("failing", range(7))
def test_a_failure_while_replacing_puts_the_earlier_run_back(tmp_path, monkeypatch, failing, tree):
    target = tmp_path / "run"
    with OutputFolder(target, overwrite=False).staged() as stage:
        fill(stage, "mask.nii", "labels.nii", text="old")
    before = tree(target)
    rename, calls = os.rename, []

    def fail_once(source, destination):
        calls.append(source)
        if len(calls) == failing + 1:
            raise OSError(28, "No space left on device")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", fail_once)
    folder = OutputFolder(target, overwrite=True)
    with pytest.raises(OSError, match="No space"), folder.staged() as stage:
        fill(stage, "mask.nii", "extra.nii", "more.nii")
    assert tree(target) == before


def test_of_two_runs_into_one_folder_the_second_is_told(tmp_path):
    target = tmp_path / "run"
    slow = OutputFolder(target, overwrite=False)
    with pytest.raises(InputError, match="filled by another run"), slow.staged() as stage:  # noqa: PT012
        with OutputFolder(target, overwrite=False).staged() as other:
            fill(other, "mask.nii", text="first")
        fill(stage, "mask.nii", text="second")
    assert contents(target) == {"mask.nii": "first"}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_an_input_is_never_overwritten(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "warped.nii").write_text("input")
    folder = OutputFolder(target, overwrite=True, inputs=[target / "warped.nii", None])
    with pytest.raises(InputError, match="is an input of this run"), folder.staged() as stage:
        fill(stage, "warped.nii")
    assert contents(target) == {"warped.nii": "input"}


def test_an_output_of_the_earlier_run_that_is_an_input_now_is_not_removed(tmp_path, tree):
    target = tmp_path / "run"
    with OutputFolder(target, overwrite=False).staged() as stage:
        fill(stage, "warped.nii")
    before = tree(tmp_path)
    # The new run would write warped.nrrd, and take warped.nii away as one of the earlier run's.
    with pytest.raises(InputError, match=r"warped\.nii' is an input of this run"):
        OutputFolder(target, overwrite=True, inputs=[target / "warped.nii"])
    assert tree(tmp_path) == before


def test_what_no_run_has_recorded_is_not_replaced(tmp_path, tree):
    target = tmp_path / "run"
    target.mkdir()
    (target / "mask.nii").write_text("drawn by hand")
    (target / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    folder = OutputFolder(target, overwrite=True)
    with pytest.raises(InputError, match=r"'mask\.nii', not of an earlier run"):
        folder.require_free(["mask.nii", "warped.nii"])
    with pytest.raises(InputError, match=r"'mask\.nii', not of an"), folder.staged() as stage:
        fill(stage, "mask.nii", "warped.nii")
    assert tree(tmp_path) == before
    with folder.staged() as stage:
        fill(stage, "warped.nii")
    assert (target / "mask.nii").read_text() == "drawn by hand"


def test_a_recorded_name_cannot_reach_out_of_the_folder(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (tmp_path / "precious").write_text("mine")
    (target / "summary.json").write_text(
        json.dumps({"tool": "itk-ncr x", "outputs": {"a": "../precious", "b": 3}})
    )
    with OutputFolder(target, overwrite=True).staged() as stage:
        fill(stage, "mask.nii")
    assert (tmp_path / "precious").read_text() == "mine"


# The fourth is nnU-Net's; the last two only look like ours.
@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "\udce4",
        '{"foreground_mean": {"Dice": 0.9}, "metric_per_case": []}',
        '{"outputs": {"a": "mask.nii"}}',
        '{"tool": "another", "outputs": {"a": "mask.nii"}}',
    ],
)
def test_a_summary_of_another_program_is_never_replaced(tmp_path, record, tree):
    target = tmp_path / "run"
    target.mkdir()
    (target / "mask.nii").write_text("another's")
    (target / "summary.json").write_bytes(record.encode("utf-8", "surrogateescape"))
    before = tree(tmp_path)
    folder = OutputFolder(target, overwrite=True)
    with pytest.raises(InputError, match=r"'summary\.json', not of an earlier run"):
        folder.require_free(["warped.nii"])
    with pytest.raises(InputError, match="not of an earlier run"), folder.staged() as stage:
        fill(stage, "warped.nii")
    assert tree(tmp_path) == before


KILLED = """
import json, os, sys
from pathlib import Path
from itk_ncr.runs import OutputFolder, outputs

calls, rename = [], os.rename
def rename_or_die(source, destination):
    calls.append(source)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    rename(source, destination)
os.rename = rename_or_die
with OutputFolder(Path(sys.argv[1]), overwrite=True).staged() as stage:
    for name in ("mask.nii", "extra.nii"):
        (stage / name).write_text("new")
    record = {"tool": "itk-ncr test", "outputs": {"a": "mask.nii", "b": "extra.nii"}}
    (stage / "summary.json").write_text(json.dumps(record))
"""


# Three renames take the earlier run away, three bring the new one.
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("moment", [1, 3, 4, 6])
def test_a_run_that_is_killed_while_it_replaces_files_is_undone_by_the_next(tmp_path, moment):
    target = tmp_path / "run"
    with OutputFolder(target, overwrite=False).staged() as stage:
        fill(stage, "mask.nii", "labels.nii", text="old")
    (target / "notes.txt").write_text("mine")
    before = {p.name: p.read_text() for p in target.iterdir()}
    process = subprocess.run([sys.executable, "-c", KILLED, target, str(moment)], check=False)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(InputError, match="holds files already"):
        OutputFolder(target, overwrite=False)
    assert {p.name: p.read_text() for p in target.iterdir() if p.is_file()} == before
    with OutputFolder(target, overwrite=True).staged() as stage:
        fill(stage, "warped.nii")
    assert contents(target) == {"warped.nii": "new", "notes.txt": "mine"}
    assert {p.name for p in target.iterdir()} == {"warped.nii", "notes.txt", "summary.json"}


def test_a_folder_in_which_another_run_is_at_work_is_refused_at_once(tmp_path, monkeypatch):
    target = tmp_path / "run"
    target.mkdir()
    monkeypatch.setattr(files.time, "monotonic", iter(range(0, 100, 3)).__next__)
    with (
        sole_run(target),
        pytest.raises(InputError, match="another run is at work"),
        OutputFolder(target, overwrite=False).staged(),
    ):
        raise AssertionError
    assert not list(target.iterdir())


def test_places_that_cannot_be_written_are_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        OutputFolder(tmp_path / "file", overwrite=True)
    with pytest.raises(InputError, match="cannot be made"):
        OutputFolder(tmp_path / "file" / "run", overwrite=False)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(InputError, match="is a link to nowhere"):
        OutputFolder(tmp_path / "link", overwrite=False)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(InputError, match="read-only"):
        OutputFolder(tmp_path / "run", overwrite=False)


def test_a_place_that_refuses_at_the_last_moment_is_named(tmp_path):
    folder = OutputFolder(Path("/proc/itk-ncr-run"), overwrite=False)
    with pytest.raises(InputError, match="'/proc/itk-ncr-run' cannot be written"), folder.staged():
        pass


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.nii.gz", ".nii.gz"),
        ("A.NII", ".nii"),
        ("a.nrrd", ".nrrd"),
        ("a.nhdr", ".nrrd"),
        ("a.mha", ".mha"),
        ("a.mhd", ".mha"),
        ("a.png", ".nrrd"),
        ("a.dcm", ".nii.gz"),
        ("IM0001", ".nii.gz"),
    ],
)
def test_outputs_have_the_format_of_the_fixed_image(name, ending):
    assert format_for(Path(name)) == ending


def test_a_dicom_folder_comes_out_as_nifti(tmp_path):
    assert format_for(tmp_path) == ".nii.gz"


def test_the_hash_covers_every_file_of_an_input(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"abc")
    assert fingerprint(tmp_path / "a.nii")["sha256"] == hashlib.sha256(b"abc").hexdigest()
    header, data = tmp_path / "a.mhd", tmp_path / "data file.raw"
    header.write_text("NDims = 2\nElementDataFile = data file.raw\n")
    data.write_bytes(b"1")
    before = fingerprint(header)
    assert before["files"] == 2
    data.write_bytes(b"2")
    assert fingerprint(header)["sha256"] != before["sha256"]
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"1")
    before = fingerprint(series)
    (series / "1.dcm").rename(series / "2.dcm")
    assert fingerprint(series)["sha256"] != before["sha256"]


def test_text_is_written_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "a.txt", "ä\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "new \udce4")
    assert (tmp_path / "a.txt").read_bytes() == "ä\n".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("name", "overwrite", "fragment"),
    [
        ("there.nrrd", False, "exists. Add --overwrite"),
        ("folder.nrrd", True, "is a folder"),
        ("missing/a.nrrd", False, "is not a folder"),
        ("a.xyz", False, "must end in"),
        ("source.nrrd", True, "is an input"),
    ],
)
def test_a_single_output_that_cannot_be_is_refused(tmp_path, name, overwrite, fragment):
    (tmp_path / "there.nrrd").write_text("")
    (tmp_path / "source.nrrd").write_text("")
    (tmp_path / "folder.nrrd").mkdir()
    with pytest.raises(InputError, match=fragment):
        require_writable(tmp_path / name, overwrite, [tmp_path / "source.nrrd"], FORMATS)
