"""The module for 3D Slicer, without Slicer: its words, its points, and a run with a stand-in."""

from __future__ import annotations

import ast
import importlib
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import click
import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.cli import command_line

FOLDER = Path(__file__).parents[1] / "slicer" / "RegisterWithPathologies"


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def command() -> ModuleType:
    return importlib.import_module("RegisterWithPathologiesLib.command")


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of words."""
    found = command_line.get_command(click.Context(command_line), words[0])
    return found.make_context(words[0], words[1:]).params


def test_points_of_slicer_become_lps_seeds_of_the_command_line(command):
    words = command.segment_words("run", "mask.nii.gz", [(-3.5, 20, 7), (1e-7, 0, -2)], 0.3)
    told = parsed(words)
    assert told["seeds_mm"] == ((3.5, -20.0, 7.0), (-1e-7, 0.0, -2.0))
    assert (told["threshold"], told["overwrite"]) == (0.3, True)
    assert command.turned(command.turned((1.0, 2.0, 3.0))) == (1.0, 2.0, 3.0)


def test_masks_and_settings_are_options_of_register(command):
    masks = {name: f"{name}.nii.gz" for name in command.MASKS}
    settings = {"preset": "brain-t1", "smoothness": 1.5, "method": None, "affine": ""}
    told = parsed(command.register_words("f.nii", "m.nii", "out dir", masks, settings))
    for name in command.MASKS:
        assert told[name.replace("-", "_")] == Path(f"{name}.nii.gz")
    assert (told["output"], told["preset"], told["smoothness"]) == (
        Path("out dir"), "brain-t1", 1.5
    )  # fmt: skip
    with pytest.raises(command.RunError, match="mask must be one of"):
        command.register_words("f", "m", "o", {"lesion": "x"})


def test_the_program_is_looked_for_and_missed_in_one_line(command, monkeypatch, tmp_path):
    given = tmp_path / "my itk-ncr"
    given.write_text("#!/bin/sh\n")
    given.chmod(0o755)
    assert command.program(str(given)) == [str(given)]
    monkeypatch.setattr(command.shutil, "which", lambda name: None)
    assert command.program("", "/slicer/python") == ["/slicer/python", "-m", "itk_ncr"]
    for word in ("", "/nowhere/itk-ncr"):
        with pytest.raises(command.RunError) as caught:
            command.program(word)
        assert "\n" not in str(caught.value)


def test_of_what_a_run_prints_the_error_is_told(command):
    assert command.failure(0, "note: one\n") is None
    text = "warning: a\nerror: fixed must be an image. Give one.\n\n"
    assert command.failure(2, text) == "error: fixed must be an image. Give one."
    assert command.failure(1, "Segmentation fault\n") == "Segmentation fault"
    assert "-9" in command.failure(-9, "")


@pytest.mark.parametrize("damage", ["nothing", "summary", "cut", "transform"])
def test_a_folder_that_is_not_complete_is_refused(command, damage, tmp_path):
    for name in ("warped.nii.gz", "displacement.nii.gz", "transform.h5", "mask.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    record = '{"verdict": {"grade": "good", "sentence": "fits"}, "warnings": ["w"]}'
    if damage != "summary":
        (tmp_path / "summary.json").write_text(record[:20] if damage == "cut" else record)
    if damage == "nothing":
        found = command.results(tmp_path)
        assert (found.verdict, found.warnings) == ("good: fits", ("w",))
        assert found.mask == tmp_path / "mask.nii.gz"
        return
    if damage == "transform":
        (tmp_path / "transform.h5").unlink()
    with pytest.raises(command.RunError, match="Run it again"):
        command.results(tmp_path)


def test_the_sources_are_python_of_slicer():
    for path in FOLDER.rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


class Scene:
    """Stands in for Slicer: nodes are files, and what is loaded is written down."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}
        util = SimpleNamespace(
            saveNode=self.save,
            startupEnvironment=lambda: None,
            loadVolume=lambda path, properties: self.load("volume", path),
            loadTransform=lambda path: self.load("transform", path),
            loadSegmentation=lambda path: self.load("segmentation", path),
        )
        self.module = mock.MagicMock(util=util)

    def save(self, node: Any, path: str) -> bool:
        shutil.copy(node.path, path)
        return True

    def load(self, kind: str, path: str) -> Any:
        self.loaded[kind] = (
            sitk.ReadTransform(path) if kind == "transform" else sitk.ReadImage(path)
        )
        return mock.MagicMock(GetID=lambda: kind)


def volume(folder: Path, name: str, shift: float) -> Any:
    """A node for a ball; the direction is that of a scanner's image, not the identity."""
    z, y, x = np.mgrid[-1:1:16j, -1:1:18j, -1:1:20j]
    ball = 100 / (1 + np.exp(9 * (((x - shift) / 0.6) ** 2 + (y / 0.7) ** 2 + z**2 - 0.5)))
    image = sitk.GetImageFromArray((ball * (1 + 0.3 * y)).astype(np.float32))
    image.SetSpacing([2.0, 2.5, 3.0])
    image.SetDirection([-1, 0, 0, 0, 1, 0, 0, 0, 1])
    path = folder / f"{name}.nii.gz"
    sitk.WriteImage(image, str(path))
    node = mock.MagicMock(path=path)
    node.GetName.return_value = name
    return node


def test_a_run_comes_back_as_volume_transform_and_segmentation(command, monkeypatch, tmp_path):
    scene = Scene()
    base = SimpleNamespace(
        **{f"ScriptedLoadableModule{part}": object for part in ("", "Widget", "Logic", "Test")}
    )
    for name, module in (
        ("slicer", scene.module), ("qt", mock.MagicMock()), ("ctk", mock.MagicMock()),
        ("slicer.ScriptedLoadableModule", base),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "RegisterWithPathologies", raising=False)
    module = importlib.import_module("RegisterWithPathologies")
    monkeypatch.setattr(command, "program", lambda *_: [sys.executable, "-m", "itk_ncr"])
    logic = module.RegisterWithPathologiesLogic()
    with pytest.raises(command.RunError, match="Load and choose two"):
        logic.start(None, None, None, {}, "")
    fixed, moving = volume(tmp_path, "fixed", 0.0), volume(tmp_path, "moving", 0.2)
    logic.start(fixed, moving, None, {"method": "affine", "threads": 1}, "")
    logic.process.wait()
    found = logic.load(None, "")
    assert found.verdict
    moving.SetAndObserveTransformNodeID.assert_called_once_with("transform")
    assert set(scene.loaded) == {"volume", "transform", "segmentation"}
    # What Slicer shows, the moving volume under the transform, is the moved volume.
    images = [sitk.ReadImage(str(node.path)) for node in (fixed, moving)]
    shown = sitk.Resample(images[1], images[0], scene.loaded["transform"], sitk.sitkLinear)
    moved = sitk.GetArrayFromImage(scene.loaded["volume"])
    np.testing.assert_allclose(sitk.GetArrayFromImage(shown), moved, atol=0.5)
    before = np.abs(np.subtract(*map(sitk.GetArrayFromImage, images))).mean()
    assert np.abs(sitk.GetArrayFromImage(images[0]) - moved).mean() < 0.5 * before
