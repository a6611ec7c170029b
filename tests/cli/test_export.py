"""itk-ncr export."""

from __future__ import annotations

import pytest
import torch

from itk_ncr.checkpoints import ModelDescription, save_model
from itk_ncr.networks import build_network


@pytest.fixture
def model(tmp_path):
    network = build_network("ncr-net", dimension=2, width=4)
    description = ModelDescription(
        name="tiny",
        network="ncr-net",
        network_settings=network.settings,
        dimension=2,
        contrast="texture",
        preset="mri-2d",
        spacing_mm=(1.5, 2.0),
        orientation="LP",
        size=(48, 40),
        variant="ncr-u",
        training={"recipe": "none", "seed": 0, "steps": 0},
        licence={"weights": "Apache-2.0"},
        limits="A test.",
    )
    save_model(tmp_path / "tiny", network, description)
    return tmp_path / "tiny"


def test_the_file_holds_the_network_of_the_model(run, model, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    result = run("export", model, "-o", tmp_path / "model.onnx", "--size", "32x48")
    assert result.exit_code == 0, result.output
    assert "ncr-net, 2D" in result.output
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    image = torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(0)).numpy()
    found = session.run(None, {"fixed": image, "moving": image})
    assert [x.shape for x in found] == [
        (1, 2, 16, 24), (1, 2, 8, 12), (1, 2, 4, 6), (1, 1, 32, 48), (1, 1, 16, 24), (1, 1, 8, 12)
    ]  # fmt: skip
    again = run("export", model, "-o", tmp_path / "model.onnx")
    assert again.exit_code == 2
    assert "exists" in again.output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-o", "model.txt"], "must end in .onnx"),
        (["-o", "nowhere/model.onnx"], "must be a folder"),
        (["-o", "model.onnx", "--size", "32"], "is not a size"),
        (["-o", "model.onnx", "--size", "32x33"], "got 32x33. Take 32x48"),
        (["-o", "model.onnx", "--size", "32x32x32"], "2 numbers, because the network is 2D"),
    ],
)
def test_a_wrong_call_writes_nothing_and_says_why(words, reason, run, model, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    result = run("export", model, *words)
    assert result.exit_code == 2, result.output
    assert reason in result.output
    assert not list(tmp_path.glob("*.onnx"))
