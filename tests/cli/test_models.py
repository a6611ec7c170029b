"""Models: listed, shown, verified, and used by ``register``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from itk_ncr.checkpoints import ModelDescription, load_model, places, save_model
from itk_ncr.networks import build_network


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one for the 2D pair."""
    network = build_network("ncr-net", dimension=2, width=4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "registration.heads" in name:
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    description = ModelDescription(
        name="brain-2d",
        network="ncr-net",
        network_settings=dict(network.settings),
        dimension=2,
        contrast="brain-t1",
        preset="mri-2d",
        spacing_mm=(2.0, 2.0),
        orientation="LP",
        size=(30, 36),
        variant="ncr-u",
        training={"recipe": "itk-ncr train brains", "seed": 3},
        licence={"images": "CC BY-SA 3.0"},
        limits="Blobs only.",
    )
    models = tmp_path_factory.mktemp("shipped")
    save_model(models / "brain-2d", network, description)
    return models


@pytest.fixture
def shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "SHIPPED", folder)
    return folder


def test_the_list_names_every_model_and_its_preset(run, shipped):
    heading, row = run("models", "list").stdout.splitlines()
    assert heading.split()[:3] == ["name", "axes", "preset"]
    assert row.split()[:3] == ["brain-2d", "2D", "brain-t1"]
    assert "30 x 36" in row
    told = json.loads(run("models", "list", "--json").stdout)
    assert told["brain-2d"]["spacing_mm"] == [2.0, 2.0]


def test_an_empty_list_says_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "SHIPPED", tmp_path)
    for words in (["list"], ["verify"]):
        result = run("models", *words)
        assert (result.exit_code, "no models" in result.stdout) == (0, True)


def test_the_card_of_a_model_is_shown(run, shipped):
    text = run("models", "show", "brain-2d").stdout
    for word in ("# brain-2d", "itk-ncr train brains", "CC BY-SA 3.0", "Blobs only."):
        assert word in text
    told = json.loads(run("models", "show", str(shipped / "brain-2d"), "--json").stdout)
    assert told["sha256"] in text
    result = run("models", "show", "brain-9d")
    assert result.exit_code == 2
    assert "brain-2d" in result.stderr


def test_verify_tells_the_right_from_the_wrong(run, shipped, tmp_path):
    import shutil

    assert run("models", "verify").exit_code == 0
    assert "brain-2d: right" in run("models", "verify", "brain-2d").stdout
    copy = tmp_path / "copy"
    shutil.copytree(shipped / "brain-2d", copy)
    content = bytearray((copy / "weights.safetensors").read_bytes())
    content[-3] ^= 16
    (copy / "weights.safetensors").write_bytes(content)
    result = run("models", "verify", "brain-2d", copy)
    assert result.exit_code == 2
    assert "brain-2d: right" in result.stdout
    assert f"{copy}: WRONG" in result.stdout
    assert "1 of 2 models" in result.stderr
    assert result.stderr.count("\n") == 1


def test_models_alone_explains_itself(run):
    result = run("models")
    assert result.exit_code == 0
    assert "verify" in result.stdout


def test_info_names_the_models(run, shipped):
    assert json.loads(run("info", "--json").stdout)["models"] == ["brain-2d"]
    assert "brain-2d" in run("info").stdout


def test_register_takes_the_network_of_the_preset_and_records_it(run, shipped, pair, tmp_path):
    words = ["--preset", "brain-t1", "--refine", 10, "--no-report"]
    result = run("register", *pair, "-o", tmp_path / "run", *words)
    assert result.exit_code == 0, result.output
    assert "network brain-2d" in result.stdout
    told = json.loads((tmp_path / "run" / "summary.json").read_text())
    stored = json.loads((shipped / "brain-2d" / "model.json").read_text())
    assert told["engine"] == "network"
    assert told["model"] == {"name": "brain-2d", "sha256": stored["sha256"]}
    assert told["settings"]["refine"] == 10
    assert told["quality"]["iterations"] <= 10


def test_register_takes_the_network_of_a_folder(run, folder, pair, tmp_path):
    words = ["--model", folder / "brain-2d", "--refine", 0, "--no-report", "-q"]
    assert run("register", *pair, "-o", tmp_path / "run", *words).exit_code == 0
    told = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (told["engine"], told["quality"]["iterations"]) == ("network", 0)
    alone = [*words[4:], "--engine", "instance", "-o", tmp_path / "alone"]
    assert run("register", *pair, *alone).exit_code == 0
    told = json.loads((tmp_path / "alone" / "summary.json").read_text())
    assert (told["engine"], told["model"]) == ("instance", None)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of added models, empty."""
    monkeypatch.setenv("ITK_NCR_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_an_added_model_is_listed_verified_used_and_removed(
    run, shipped, folder, data, pair, tmp_path
):
    said = run("models", "add", folder / "brain-2d", "--name", "hospital-2d")
    assert said.exit_code == 0, said.output
    assert "--model hospital-2d" in said.stdout
    heading, ours, added = run("models", "list").stdout.splitlines()
    assert heading.split()[-1] == "from"
    assert (ours.split()[0], ours.split()[-1]) == ("brain-2d", "package")
    assert (added.split()[0], added.split()[-1]) == ("hospital-2d", "added")
    assert list(json.loads(run("models", "list", "--json").stdout)) == ["brain-2d", "hospital-2d"]
    assert json.loads(run("info", "--json").stdout)["models"] == ["brain-2d", "hospital-2d"]
    assert "hospital-2d: right" in run("models", "verify").stdout
    words = ["--model", "hospital-2d", "--refine", 0, "--no-report", "-q"]
    result = run("register", *pair, "-o", tmp_path / "run", *words)
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert told["model"]["sha256"] in said.stdout
    assert told["settings"]["model"] == "hospital-2d"
    assert run("models", "remove", "hospital-2d").exit_code == 0
    assert not list(data.iterdir())
    result = run("register", *pair, "-o", tmp_path / "again", *words)
    assert (result.exit_code, "got 'hospital-2d'" in result.stderr) == (2, True)


def test_a_model_that_cannot_be_added_or_removed_is_one_line(run, shipped, folder, data, tmp_path):
    for words in (
        ["add", folder / "brain-2d"],
        ["add", tmp_path / "nothing"],
        ["add", folder / "brain-2d", "--name", "../up"],
        ["remove", "brain-2d"],
        ["remove", "hospital-2d"],
    ):
        result = run("models", *words)
        assert result.exit_code == 2, words
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""
    assert not data.exists()


def test_a_damaged_added_model_is_named_and_the_rest_is_listed(run, shipped, folder, data):
    run("models", "add", folder / "brain-2d", "--name", "hospital-2d")
    (data / "hospital-2d" / "model.json").write_text("{")
    result = run("models", "list")
    assert result.exit_code == 0
    assert "brain-2d" in result.stdout
    assert "models verify hospital-2d" in result.stderr
    result = run("models", "verify")
    assert (result.exit_code, "hospital-2d: WRONG" in result.stdout) == (2, True)


def test_a_description_cannot_steer_the_terminal(run, shipped, folder, data, tmp_path):
    network, about = load_model(folder / "brain-2d")
    about = dataclasses.replace(about, limits="\x1b[2J[bold]gone[/bold]", variant="[red]u")
    save_model(tmp_path / "odd", network, about)
    assert run("models", "add", tmp_path / "odd", "--name", "odd").exit_code == 0
    shown = run("models", "show", "odd").stdout
    assert "\x1b" not in shown
    assert "[bold]gone" in shown
    assert "[red]u" in run("models", "list").stdout


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--model", "brain-7t"], "got 'brain-7t'"),
        (["--model", "weights.pth"], "can run code"),
        (["--engine", "network"], "model must be given"),
        (["--engine", "instance", "--refine", "5"], "must be left out"),
    ],
)
def test_a_model_that_is_none_is_one_line_and_nothing_is_written(
    run, pair, tmp_path, words, fragment
):
    result = run("register", *pair, "-o", tmp_path / "run", *words)
    assert result.exit_code == 2
    assert fragment in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
