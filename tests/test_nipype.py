"""The interfaces for nipype: their options are those of the command line, and they run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("nipype", reason="needs the extra nipype")
os.environ["NIPYPE_NO_ET"] = "1"  # no question to a server

from itk_ncr.cli import command_line
from itk_ncr.nipype import Apply, Register, Segment


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Fixed image, moving image and its label map, in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("a pair")
    y, x = np.mgrid[-1:1:24j, -1:1:28j]
    paths = []
    for name, shift in (("fixed", 0.0), ("moving", 0.1), ("labels", 0.1)):
        inside = ((x - shift) / 0.7) ** 2 + (y / 0.7) ** 2 < 1
        image = inside * (100 + 50 * x) if name != "labels" else 3 * inside
        paths.append(folder / f"{name}.nii.gz")
        image = sitk.GetImageFromArray(image.astype(np.uint8))
        image.SetSpacing([2, 2])
        sitk.WriteImage(image, str(paths[-1]))
    return tuple(map(str, paths))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "interface"), [("register", Register), ("apply", Apply), ("segment", Segment)]
)
def test_every_option_of_a_command_is_an_input_and_the_reverse(name, interface):
    command = command_line.commands[name]
    options = {
        parameter.opts[-1].lstrip("-").replace("-", "_")
        if isinstance(parameter, click.Option)
        else parameter.name
        for parameter in command.params
    }
    # nipype's own; what is printed is for people, and --option is the mapping method_options.
    ours = set(interface.input_spec().trait_get()) - {"args", "environ"}
    assert ours - {"method_options"} == options - {"json", "quiet", "option"}


@pytest.mark.parametrize(
    ("interface", "inputs", "words"),
    [
        (Register, {"smoothness": 2, "method_options": {"alpha": "1 2"}},
         ["--option 'alpha=1 2'", "--smoothness 2"]),
        (Register, {"report": False, "mask": "none", "threads": 2},
         ["--mask none", "--no-report", "--threads 2"]),
        (Segment, {"seed": [[-3.5, 2, 1], [0, 0, 0]]}, ["--seed=-3.5,2.0,1.0 --seed=0.0,0.0,0.0"]),
        (Apply, {"inverse": True, "labels": False, "fill": -1.5}, ["--fill -1.5", "--inverse"]),
    ],
)  # fmt: skip
def test_inputs_become_the_words_of_the_command_line(interface, inputs, words, pair, tmp_path):
    required = {
        Register: {"fixed": pair[0], "moving": pair[1]},
        Apply: {"run": str(tmp_path), "input": pair[0]},
        Segment: {"probability": pair[0]},
    }[interface]
    line = interface(**required, **inputs).cmdline
    assert all(word in line for word in words), line
    assert f"'{pair[0]}'" in line  # with its space
    assert "--labels" not in line


def test_values_out_of_bounds_are_refused_before_anything_runs(pair):
    from traits.api import TraitError

    for wrong in ({"smoothness": 0.0}, {"mask_threshold": 1.5}, {"method": "best"}, {"threads": 0}):
        with pytest.raises(TraitError):
            Register(fixed=pair[0], moving=pair[1], **wrong)
    with pytest.raises(TraitError):
        Register(fixed=pair[0], moving="nothing.nii.gz")


def test_a_workflow_registers_carries_labels_and_segments(pair, tmp_path):
    from nipype import Node, Workflow

    fixed, moving, labels = pair
    about = {"report": False, "threads": 1, "method": "affine", "mask_threshold": 0.4}
    register = Node(Register(fixed=fixed, moving=moving, **about), "register")
    carry = Node(Apply(input=labels, labels=True), "carry")
    workflow = Workflow("flow", base_dir=str(tmp_path))
    workflow.connect(register, "folder", carry, "run")
    workflow.config["execution"]["remove_unnecessary_outputs"] = "false"
    graph = workflow.run()
    found = {node.name: node.result.outputs for node in graph.nodes}
    registered = found["register"]
    assert Path(registered.folder) == tmp_path / "flow" / "register" / "registered"
    assert registered.grade in ("good", "review", "poor")
    assert registered.quality["seconds"] > 0
    for name in ("warped", "displacement", "transform", "transform_inverse", "summary"):
        assert Path(getattr(registered, name)).parent == Path(registered.folder)
    assert Path(found["carry"].output).name == "labels_carried.nii.gz"
    carried = sitk.GetArrayFromImage(sitk.ReadImage(found["carry"].output))
    assert set(np.unique(carried)) == {0, 3}

    probability = tmp_path / "probability.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((8, 8), 0.7, np.float32)), str(probability))
    mask = Segment(
        probability=str(probability), output=str(tmp_path / "mask.nii.gz"), threshold=0.6
    )
    assert sitk.GetArrayFromImage(sitk.ReadImage(mask.run().outputs.output)).all()


def test_what_fails_says_what_the_command_line_says(pair, tmp_path):
    (tmp_path / "registered").mkdir()
    (tmp_path / "registered" / "mine.txt").write_text("keep")
    again = Register(fixed=pair[0], moving=pair[1], output=str(tmp_path / "registered"))
    with pytest.raises(RuntimeError, match="--overwrite"):
        again.run()
    assert [p.name for p in (tmp_path / "registered").iterdir()] == ["mine.txt"]


def test_without_nipype_the_extra_is_named():
    program = (
        "import sys; sys.modules['nipype'] = None\n"
        "try:\n    import itk_ncr.nipype\n"
        "except ImportError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'itk_ncr[nipype]'" in said.stdout
