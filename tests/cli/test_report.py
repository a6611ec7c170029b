"""``itk-ncr report``: the page of an earlier run, from its folder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest


@pytest.fixture
def moved_run(registered, tmp_path):
    """A copy of a run that may be written to."""
    return shutil.copytree(registered, tmp_path / "run")


def test_the_page_is_made_again_from_the_folder(run, moved_run):
    (moved_run / "report.html").unlink(missing_ok=True)
    result = run("report", moved_run)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(moved_run / "report.html")
    page = (moved_run / "report.html").read_text(encoding="utf-8")
    record = json.loads((moved_run / "summary.json").read_text())
    assert f"{record['quality']['distance_outside']:.4g}" in page
    for entry in record["inputs"].values():
        assert entry["sha256"] in page
    again = run("report", moved_run, "-q")
    assert (again.exit_code, again.stdout) == (0, "")


def test_truth_mask_and_labels_can_be_given_afterwards(run, moved_run, save, tmp_path):
    mask = np.zeros((40, 48), np.uint8)
    mask[15:22, 20:30] = 1
    path = save(mask, tmp_path / "mask.nrrd")
    page = tmp_path / "other.html"
    words = ["report", moved_run, "-o", page]
    words += ["--truth", path, "--lesion-mask", path, "--labels", path, path]
    assert run(*words).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "S against the truth" in text
    assert "given mask" in text
    assert "mean Jaccard of" in text
    refused = run(*words)
    assert refused.exit_code == 2
    assert "Add --overwrite" in refused.stderr
    assert run(*words, "--overwrite").exit_code == 0


def test_an_input_that_is_gone_or_another_is_one_clear_line(run, moved_run, pair, tmp_path):
    record = json.loads((moved_run / "summary.json").read_text())
    record["inputs"]["fixed"]["path"] = str(tmp_path / "gone.nrrd")
    (moved_run / "summary.json").write_text(json.dumps(record))
    (moved_run / "report.html").unlink(missing_ok=True)
    gone = run("report", moved_run)
    assert gone.exit_code == 2
    assert gone.stderr.count("\n") == 1
    assert "gone.nrrd' of the run does not exist. Give its present path with --fixed" in gone.stderr
    other = run("report", moved_run, "--fixed", pair[1])
    assert other.exit_code == 2
    assert "is not the one that was registered" in other.stderr
    assert not (moved_run / "report.html").exists()
    assert run("report", moved_run, "--fixed", pair[0]).exit_code == 0


def test_labels_that_are_gone_cost_a_note_and_no_more(run, moved_run, tmp_path):
    record = json.loads((moved_run / "summary.json").read_text())
    record["inputs"]["lesion_mask"] = {"path": str(tmp_path / "gone.nii"), "sha256": "0"}
    (moved_run / "summary.json").write_text(json.dumps(record))
    result = run("report", moved_run)
    assert result.exit_code == 0
    assert "gone.nii' of the run does not exist: the page is made without it" in result.stderr


@pytest.mark.parametrize("trouble", ["nothing", "file", "empty", "broken", "foreign"])
def test_what_is_no_run_is_refused_with_one_line(run, tmp_path, trouble):
    folder = tmp_path / "run"
    if trouble == "file":
        folder.touch()
    elif trouble != "nothing":
        folder.mkdir()
        if trouble != "empty":
            (folder / "summary.json").write_text("{" if trouble == "broken" else "[]")
    result = run("report", folder)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_a_missing_file_of_the_run_is_named(run, moved_run):
    (moved_run / "jacobian.nrrd").unlink()
    result = run("report", moved_run, "-o", moved_run / "new.html")
    assert result.exit_code == 2
    assert "jacobian.nrrd" in result.stderr
    assert not (moved_run / "new.html").exists()


def test_a_cohort_gets_its_page_from_its_table(run, tmp_path):
    folder = tmp_path / "cohort"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "report.html").touch()
    (folder / "summary.csv").write_text(
        "name,status,error,distance_before,distance_outside,folder\n"
        "a,done,,0.5,0.1,a\nb,failed,cannot read it,,,b\n"
    )
    result = run("report", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(folder / "cohort.html")
    page = (folder / "cohort.html").read_text(encoding="utf-8")
    assert 'href="a/report.html"' in page
    assert "cannot read it" in page
    refused = run("report", folder, "--truth", folder / "summary.csv")
    assert refused.exit_code == 2
    assert "--truth is for the page of one pair" in refused.stderr


def test_the_pages_have_the_names_that_runs_give_them():
    from itk_ncr.cli import report
    from itk_ncr.runs import cohort

    assert (report.SUMMARY, report.PAGES["cohort"]) == (cohort.SUMMARY, cohort.PAGE)
