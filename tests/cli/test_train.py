"""Training from the command line: from images in a folder to a registration with the model."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from itk_ncr.checkpoints import load_model
from itk_ncr.cli import command_line, interruption

SMALL = ["--preset", "mri-2d", "--reduce", 1, "--width", 4, "--batch", 4, "--lesions", 0]
SMALL += ["--variant", "regnet", "--threads", 1]


@pytest.fixture(autouse=True)
def limit():
    """A training takes longer than the other commands, most of all on a busy machine."""

    def stop(*_: object) -> None:
        raise TimeoutError("the command hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def images(tmp_path_factory, blobs, save) -> Path:
    """Twenty patients: an object that leans to a side more or less, with two labels."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(20):
        draw = np.random.default_rng(number)
        image = blobs((48, 48), shift=0.02 * (number - 10))
        labels = (image > 60).astype(np.uint8) + (image > 100).astype(np.uint8)
        noisy = image * (1 + 0.02 * draw.standard_normal(image.shape)).astype(np.float32)
        save(noisy, folder / f"p{number:02d}.nrrd")
        save(labels, folder / f"p{number:02d}_seg.nrrd")
    return folder


def call(*words: object):
    return CliRunner().invoke(command_line, [str(word) for word in words])


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = call(
        "train", images, "-o", folder, *SMALL, "--steps", 100, "--learning-rate", 0.01,
        "--validate-every", 20, "--licence", "made by a test",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder


def rows_of(folder: Path) -> list[dict[str, float]]:
    with open(folder / "losses.csv", newline="") as lines:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(lines)]


def test_the_presets_offered_are_the_recipes():
    from itk_ncr import settings, training

    assert tuple(training.RECIPES) == settings.RECIPES


def test_training_lowers_the_loss_and_aligns_patients_it_has_not_seen(trained):
    rows = rows_of(trained)
    losses = [row["total"] for row in rows if "total" in row]
    assert len(losses) == 5
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])
    with open(trained / "split.csv", newline="") as lines:
        splits = [row["split"] for row in csv.DictReader(lines)]
    assert [splits.count(s) for s in ("train", "val", "test")] == [16, 2, 2]
    overlaps = [row["validation_jaccard"] for row in rows if "validation_jaccard" in row]
    # 0.57 before, 0.76 after.
    assert overlaps[-1] > 0.65


def test_the_model_says_how_it_was_made(trained, images):
    result = call("models", "verify", trained / "model")
    assert result.exit_code == 0, result.output
    content = json.loads((trained / "model" / "model.json").read_text())["description"]
    assert content["spacing_mm"] == [1.5, 1.5]
    assert content["orientation"] == "LP"
    assert content["contrast"] == "not said"
    assert content["size"] == [48, 48]
    assert content["variant"] == content["network"] == "regnet"
    assert content["licence"] == {"data": "made by a test"}
    record = content["training"]
    assert record["steps"] == 100
    assert record["patients"] == 16
    assert len(record["data_hash"]) == 64
    assert record["wall_seconds"] > 0
    assert [step for step, _ in record["loss_curve"]] == [20, 40, 60, 80, 100]
    words = record["recipe"].split()
    assert words[:3] == ["itk-ncr", "train", images.name]
    assert words[words.index("--steps") + 1] == "100"
    assert str(images.parent) not in (trained / "model" / "card.md").read_text()


def test_register_takes_the_model(trained, images, tmp_path, read):
    fixed, moving = images / "p02.nrrd", images / "p17.nrrd"
    result = call(
        "register", fixed, moving, "-o", tmp_path / "out", "--model", trained / "model",
        "--affine", "none", "--refine", 0, "--no-report", "--json", "--threads", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output

    def difference(one: Path, two: Path) -> float:
        return float(np.abs(read(one) - read(two)).mean())

    warped = tmp_path / "out" / json.loads(result.stdout)["outputs"]["warped"]
    # 0.53 of the difference is left.
    assert difference(fixed, warped) < 0.75 * difference(fixed, moving)


def test_the_same_command_on_a_finished_training_gives_the_same_model(trained, images):
    weights = trained / "model" / "weights.safetensors"
    before = weights.read_bytes()
    content = json.loads((trained / "model" / "model.json").read_text())
    result = call(
        "train", images, "-o", trained, *SMALL, "--steps", 100, "--learning-rate", 0.01,
        "--validate-every", 20, "--licence", "made by a test",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "after step 100 of 100" in result.output
    again = json.loads((trained / "model" / "model.json").read_text())
    assert again == content
    assert weights.read_bytes() == before


def test_other_settings_or_other_images_in_the_same_folder_are_refused(trained, images, tmp_path):
    result = call("train", images, "-o", trained, *SMALL, "--steps", 99, "--learning-rate", 0.01)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: folder must hold a training of the same settings")
    (tmp_path / "less").mkdir()
    for file in sorted(images.iterdir())[:-2]:
        (tmp_path / "less" / file.name).write_bytes(file.read_bytes())
    words = [*SMALL, "--steps", 100, "--learning-rate", 0.01]
    result = call("train", tmp_path / "less", "-o", trained, *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: folder must hold a training of the same data")


def test_a_dry_run_tells_and_writes_nothing(images, tmp_path):
    result = call("train", images, "-o", tmp_path / "new", *SMALL, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "20 of 20 patients; 20 with labels" in result.stdout
    assert "48 x 48 voxels" in result.stdout
    assert "16 train, 2 val, 2 test patients" in result.stdout
    assert "240 for training, 2 for validation" in result.stdout
    assert not (tmp_path / "new").exists()


def test_label_values_that_do_not_count_are_named_by_an_option(images, tmp_path):
    words = ["train", images, "-o", tmp_path / "new", *SMALL, "--dry-run", "--ignore-labels"]
    result = call(*words, "1,46")
    assert "labels         2; not counted: 0, 1, 46" in result.stdout
    for given, message in (("1,2", "labels must have values"), ("1,x", "--ignore-labels must be")):
        result = call(*words, given)
        assert result.exit_code == 2
        assert message in result.stderr


def test_folds_are_counted_and_each_patient_is_tested_once(images, tmp_path):
    result = call("train", images, "-o", tmp_path / "f", *SMALL, "--fold", "2/5", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "every patient tested once" in result.stdout
    assert "fold 2: 16 train / 4 test patients, none in both; 240 train pairs" in result.stdout
    for fold in ("6/5", "0/5", "two", "1/1"):
        result = call("train", images, "-o", tmp_path / "f", *SMALL, "--fold", fold, "--dry-run")
        assert result.exit_code == 2, fold
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("kept", [-40, 0])
def test_bad_images_are_named_before_anything_is_learnt(kept, images, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for file in images.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for name in ("p03.nrrd", "p05.nrrd"):
        (folder / name).write_bytes((images / name).read_bytes()[:kept])
    result = call("train", folder, "-o", tmp_path / "run", *SMALL)
    assert result.exit_code == 2
    assert "p03.nrrd" in result.stderr
    assert "p05.nrrd" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_images_of_another_dimension_are_refused(images, tmp_path):
    result = call("train", images, "-o", tmp_path / "run", "--preset", "mri-3d")
    assert result.exit_code == 2
    assert "must be 3D for this preset; got 2D" in result.stderr


def test_a_folder_with_other_files_is_refused(images, tmp_path):
    (tmp_path / "thesis.txt").write_text("final")
    result = call("train", images, "-o", tmp_path, *SMALL)
    assert result.exit_code == 2
    assert "holds files, but no training" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_ctrl_c_saves_and_the_same_command_goes_on(images, tmp_path):
    words = ["train", images, "-o", tmp_path / "run", *SMALL, "--steps", 40]
    program = subprocess.Popen(
        [sys.executable, "-m", "itk_ncr", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert program.stderr is not None
        # The first step is told when signals are listened to already.
        assert program.stderr.readline().startswith("step 1 of 40")
        program.send_signal(signal.SIGINT)
        told = program.stderr.read()
        program.wait(60)
    finally:
        program.kill()
    assert program.returncode == 130, told
    assert "Give the same command again to resume" in told
    assert "Traceback" not in told
    assert not (tmp_path / "run" / "model").exists()
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert "resumed" in result.stdout
    assert (tmp_path / "run" / "model" / "model.json").is_file()


def test_a_training_that_was_killed_before_it_saved_anything_can_start_again(
    images, tmp_path, monkeypatch
):
    from itk_ncr.training import Training

    words = ["train", images, "-o", tmp_path / "run", *SMALL, "--steps", 1]
    with monkeypatch.context() as killed:

        def die(*_: object, **__: object) -> None:
            raise MemoryError

        killed.setattr(Training, "run", die)
        assert call(*words).exit_code == 1
    assert not (tmp_path / "run" / "model").exists()
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "model" / "model.json").is_file()


def test_one_signal_asks_and_a_second_ctrl_c_leaves():
    before = signal.getsignal(signal.SIGINT)
    with interruption.Interruption() as asked:
        assert not asked.asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.asked()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(interruption.InterruptedTraining):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_rival_learns_by_the_same_command_and_its_model_registers(images, tmp_path):
    folder = tmp_path / "rival"
    words = ["--preset", "mri-2d", "--reduce", 1, "--batch", 4, "--lesions", 0, "--threads", 1]
    words += ["--steps", 40, "--learning-rate", 0.003]
    result = call("train", images, "-o", folder, *words, "--variant", "voxelmorph")
    assert result.exit_code == 0, result.output
    losses = [row["total"] for row in rows_of(folder) if "total" in row]
    assert losses[-1] < losses[0]
    content = json.loads((folder / "model" / "model.json").read_text())["description"]
    assert content["network"] == "voxelmorph"
    assert content["network_settings"]["filters"] == "tmi"
    pair = images / "p00.nrrd", images / "p19.nrrd"
    options = ["--model", folder / "model", "--refine", 0, "--affine", "none", "--no-report"]
    result = call("register", *pair, "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["engine"] == "network"


def test_synthetic_pairs_are_made_of_a_folder_and_features_dropped_on_demand(images, tmp_path):
    words = ["--preset", "synthetic-2d", "--dropout", 0.25, "--width", 4, "--batch", 2]
    words += ["--steps", 2, "--threads", 1, "--validate-every", 2]
    result = call("train", images, "-o", tmp_path / "run", *words)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "run" / "model" / "model.json").read_text())["description"]
    assert content["network_settings"] == {"width": 4, "integration": "half", "dropout": 0.25}
    network, _ = load_model(tmp_path / "run" / "model")
    assert network.registration.dropout == network.segmentation.dropout == 0.25


def test_the_pyramid_learns_by_the_same_command_and_its_model_registers(images, tmp_path):
    words = ["--preset", "mri-2d", "--architecture", "ncr-pyramid", "--variant", "regnet"]
    words += ["--width", 2, "--batch", 2, "--steps", 2, "--threads", 1, "--averaging", 0.9]
    result = call("train", images, "-o", tmp_path / "run", *words, "--schedule", "cosine")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "run" / "model" / "model.json").read_text())["description"]
    assert content["network"] == "ncr-pyramid"
    assert content["network_settings"]["segmentation"] is False
    assert content["training"]["settings"]["averaging"] == 0.9
    network, _ = load_model(tmp_path / "run" / "model")
    assert network.segmentation is None
    result = call("train", images, "-o", tmp_path / "other", *words, "--dropout", 0.5)
    assert result.exit_code != 0
    assert "--dropout must be left out with --architecture ncr-pyramid" in result.output


@pytest.mark.parametrize(("option", "value"), [("--width", 4), ("--dropout", 0.5)])
def test_layers_of_another_kind_are_refused_for_the_rival(option, value, images, tmp_path):
    words = ["--preset", "mri-2d", "--variant", "voxelmorph", option, value]
    result = call("train", images, "-o", tmp_path / "rival", *words)
    assert result.exit_code != 0
    assert f"{option} must be left out" in result.output


def shown(start: str) -> list[str]:
    """The lines of the block of the guide that begins so."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```text\n({re.escape(start)}.*?)^```", text, re.MULTILINE | re.DOTALL)
    return block.splitlines()


def test_the_guide_shows_what_a_dry_run_prints(images, tmp_path, monkeypatch):
    shutil.copytree(images, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    words = ["train", "images", "-o", "run", "--preset", "mri-2d"]
    found = call(*words, "--dry-run")
    assert found.output.splitlines() == shown("images  ")
    folds = call(*words, "--fold", "1/5", "--dry-run").output.splitlines()
    expected = shown("note           20 patients")
    gap = expected.index("...")
    begin = folds.index(expected[0])
    assert folds[begin : begin + gap] == expected[:gap]
    assert folds[-1] == expected[-1]
    path = Path("images/p03.nrrd")
    path.write_bytes(path.read_bytes()[:500])
    assert call(*words, "--dry-run").output.splitlines() == shown("error: 1 file")


def test_the_guide_shows_columns_that_the_losses_have(trained):
    heading, *lines = shown("step,seconds,total")
    columns = [name for name in heading.split(",") if name != "..."]
    rows = {row["step"]: row for row in rows_of(trained)}
    assert set(columns) <= set(rows[20])
    assert {float(line.split(",")[0]) for line in lines} <= set(rows)
