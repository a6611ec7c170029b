"""A BIDS dataset to a template: what is found, what is written, what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.runs import pool
from itk_ncr.runs.job import run_job

QUICK = ["--affine", "none", "--mask", "none", "--no-report"]
SHAPE = (20, 24, 28)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the jobs in this process; tests/runs has what happens to others."""

    def work(jobs: list, **_: object) -> Iterator[tuple[int, dict]]:
        for number, job in enumerate(jobs):
            yield number, run_job(job)

    monkeypatch.setattr(pool, "work_here", work)


@pytest.fixture
def dataset(tmp_path: Path, blobs: Callable[..., np.ndarray], save: Callable[..., Path]) -> Path:
    """Two participants, the second with two visits; a lesion mask of the first."""
    root = tmp_path / "data"
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "Made", "BIDSVersion": "1.9.0"}')
    (root / "participants.tsv").write_text(
        "participant_id\tage\tstatus\nsub-01\t61\tx\nsub-02\t\t\n"
    )
    for number, name in enumerate(
        ("sub-01/anat/sub-01", "sub-02/ses-a/anat/sub-02_ses-a", "sub-02/ses-b/anat/sub-02_ses-b")
    ):
        folder = (root / name).parent
        folder.mkdir(parents=True)
        save(blobs(SHAPE, shift=0.05 * number), root / f"{name}_T1w.nii.gz")
    save(blobs(SHAPE), root / "sub-01/anat/sub-01_FLAIR.nii.gz")
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:12, 10:15, 10:16] = 1
    drawn = root / "derivatives" / "drawn" / "sub-01" / "anat"
    drawn.mkdir(parents=True)
    save(mask, drawn / "sub-01_label-lesion_mask.nii.gz")
    save(mask, drawn / "sub-01_space-MNI_label-lesion_mask.nii.gz")
    return root


@pytest.fixture
def template(tmp_path: Path, blobs: Callable[..., np.ndarray], save: Callable[..., Path]) -> Path:
    return save(blobs((18, 22, 26), shift=0.1), tmp_path / "tpl-Made_T1w.nii.gz", spacing=1.6)


@pytest.fixture
def bids(run, dataset: Path, template: Path, tmp_path: Path):
    def call(*words: object, level: str = "participant", data: Path = dataset):
        quick = ["--template", template, *QUICK] if level == "participant" else []
        return run("bids", data, tmp_path / "out", level, *quick, *words)

    return call


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".json"}


def test_derivatives_have_the_names_of_bids(bids, tmp_path, template, read):
    result = bids("--participant-label", "01", "--template-labels", template_labels(tmp_path))
    assert result.exit_code == 0, result.output
    anat = tmp_path / "out" / "sub-01" / "anat"
    assert names(anat) == {
        "sub-01_space-Made_T1w.nii.gz",
        "sub-01_from-T1w_to-Made_mode-image_xfm.h5",
        "sub-01_from-Made_to-T1w_mode-image_xfm.h5",
        "sub-01_desc-noncorrespondence_mask.nii.gz",
        "sub-01_desc-noncorrespondence_probseg.nii.gz",
        "sub-01_space-Made_desc-noncorrespondence_mask.nii.gz",
        "sub-01_space-Made_label-lesion_mask.nii.gz",
        "sub-01_desc-template_dseg.nii.gz",
    }
    told = json.loads((anat / "sub-01_space-Made_label-lesion_mask.json").read_text())
    assert told["Type"] == "Lesion"
    assert told["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]
    described = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "itk_ncr"
    assert (tmp_path / "out" / described["DatasetLinks"]["raw"]).resolve() == tmp_path / "data"
    # The transform that is called "to the template" resamples the participant onto it.
    transform = sitk.ReadTransform(str(anat / "sub-01_from-T1w_to-Made_mode-image_xfm.h5"))
    moved = sitk.Resample(
        sitk.ReadImage(str(tmp_path / "data/sub-01/anat/sub-01_T1w.nii.gz")),
        sitk.ReadImage(str(template)),
        transform,
    )
    written = read(anat / "sub-01_space-Made_T1w.nii.gz")
    assert np.abs(sitk.GetArrayFromImage(moved) - written).max() < 0.5  # of 140


def template_labels(folder: Path) -> Path:
    image = sitk.ReadImage(str(folder / "tpl-Made_T1w.nii.gz"))
    sitk.WriteImage(sitk.Cast(image > 60, sitk.sitkUInt8) * 3, str(folder / "labels.nii.gz"))
    return folder / "labels.nii.gz"


def test_all_participants_and_the_group(bids, tmp_path, read):
    result = bids("--participant_label", "02", "--session-label", "a", "ses-b")
    assert result.exit_code == 0, result.output
    assert "done       2 of 2\n" in result.stdout
    result = bids()
    assert "done       3 of 3, 2 of them before\n" in result.stdout
    with (tmp_path / "out/cohort/summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["participant_id"] for row in rows] == ["sub-01", "sub-02", "sub-02"]
    assert rows[0]["age"] == "61"
    result = bids(level="group")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out/cohort/cohort.html").exists()
    lesions = read(tmp_path / "out/group/space-Made_label-lesion_frequency.nii.gz")
    carried = read(tmp_path / "out/sub-01/anat/sub-01_space-Made_label-lesion_mask.nii.gz")
    assert carried.sum() > 50
    assert np.array_equal(lesions, carried)


def test_a_lost_derivative_is_written_again_without_registering(bids, tmp_path):
    assert bids("--participant-label", "sub-01").exit_code == 0
    lost = tmp_path / "out/sub-01/anat/sub-01_space-Made_T1w.nii.gz"
    lost.unlink()
    result = bids("--participant-label", "sub-01")
    assert "1 of 1, 1 of them before" in result.stdout
    assert lost.exists()


def test_another_suffix_is_another_pair(bids):
    result = bids("--suffix", "FLAIR", "--dry-run")
    told = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    # The mask is of the participant, whatever the contrast.
    assert told["images"] == "1 of 1 participants, 1 lesion masks"
    assert told["template"].endswith("called Made")


def test_a_dry_run_writes_nothing(bids, tmp_path, tree):
    before = tree(tmp_path)
    assert bids("--dry-run").exit_code == 0
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--participant-label", "07"], "got 07"),
        (["--participant-label", "../x"], "must be letters and digits; got '../x'"),
        (["--session-label", "z"], "session label must be one"),
        (["--suffix", "T2w"], "must hold images sub-*/anat/*_T2w.nii.gz"),
        (["--template-name", "a b"], "name of the template must be letters and digits"),
        (["--template", "nowhere.nii.gz"], "template 'nowhere.nii.gz' does not exist"),
        (["--template-labels", "nowhere.nii.gz"], "labels 'nowhere.nii.gz' does not exist"),
    ],
)
def test_what_cannot_work_is_one_line_and_status_2(bids, tmp_path, tree, words, fragment):
    before = tree(tmp_path)
    refused(bids(*words), fragment)
    assert tree(tmp_path) == before


def refused(result, fragment: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert fragment in result.stderr


def test_folders_that_are_no_datasets_are_refused(run, bids, dataset, template, tmp_path, save):
    words = ["participant", "--template", template]
    refused(run("bids", tmp_path / "gone", tmp_path / "out", *words), "must be a folder")
    refused(run("bids", dataset, dataset, *words), "must be another folder than the dataset")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    refused(bids(), "holds files that are no derivatives")
    refused(bids(level="group"), "must hold derivatives of itk_ncr; got none")
    refused(run("bids", dataset, tmp_path / "other", "participant"), "--template must be given")
    twice = dataset / "sub-01/anat/sub-01_desc-lesion_mask.nii.gz"
    save(np.zeros(SHAPE, np.uint8), twice)
    result = run("bids", dataset, tmp_path / "other", *words)
    refused(result, "must have one lesion mask")
    (dataset / "dataset_description.json").write_text("no JSON")
    refused(run("bids", dataset, tmp_path / "other", *words), "must hold dataset_description.json")
    assert not (tmp_path / "other").exists()


def test_an_image_that_fails_is_listed_and_the_others_are_done(bids, dataset, tmp_path):
    (dataset / "sub-01/anat/sub-01_T1w.nii.gz").write_bytes(b"no image")
    result = bids()
    assert result.exit_code == 1
    assert "failed     sub-01_T1w: cannot read fixed image" in result.stdout
    assert (tmp_path / "out/sub-02/ses-a/anat/sub-02_ses-a_space-Made_T1w.nii.gz").exists()
    assert not list(tmp_path.glob("out/sub-01/anat/*"))
