"""Interfaces for nipype: ``register``, ``apply`` and ``segment`` as nodes of workflows.

Needs the extra: ``pip install 'itk_ncr[nipype]'``. A registration and a label map carried along::

    from nipype import Node, Workflow
    from itk_ncr.nipype import Apply, Register

    register = Node(Register(fixed="patient.nii.gz", moving="atlas_T1.nii.gz"), "register")
    carry = Node(Apply(input="atlas_regions.nii.gz", labels=True), "carry")
    workflow = Workflow("stroke", base_dir="work")
    workflow.connect(register, "folder", carry, "run")
    workflow.run()

Inputs are the options of the command line under their names with ``_`` for ``-``. The commands run
with the Python that imports this module; ``Register(command="itk-ncr register")`` names another
program, of a container for example.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itk_ncr.errors import missing_package
from itk_ncr.runs import FORMATS, PICTURES
from itk_ncr.settings import SETTINGS, Setting

# Else nipype asks a server for its latest version when the first interface is made.
os.environ.setdefault("NIPYPE_NO_ET", "1")
try:
    from nipype.interfaces.base import (
        CommandLine,
        CommandLineInputSpec,
        Directory,
        File,
        TraitedSpec,
        isdefined,
        traits,
    )
except ModuleNotFoundError as error:
    raise missing_package("nipype", "its interfaces", "nipype") from error

__all__ = ["Apply", "Register", "Segment"]

# Files of a registration's folder by the output that names them; images have any of FORMATS.
_IMAGES = (
    *("warped", "displacement", "displacement_inverse", "mask", "mask_moving"),
    *("mask_probability", "jacobian", "labels"),
)
_OTHERS = {
    "transform": "transform.h5",
    "transform_inverse": "transform_inverse.h5",
    "summary": "summary.json",
    "report": "report.html",
    "overview": "overview.png",
}
_TABLES = (".csv", ".tsv", ".txt")


def _knob(setting: Setting) -> Any:
    """The trait of a setting of a registration."""
    option = f"--{setting.name.replace('_', '-')}"
    about: dict[str, Any] = {"argstr": f"{option} %s", "desc": setting.help}
    if setting.name == "threads":
        about["nohash"] = True  # results do not change with it
    if setting.words:
        return traits.Enum(*setting.words, **about)
    if setting.kind == "mapping":
        return traits.Dict(traits.Str, traits.Any, **{**about, "argstr": "--option %s"})
    if setting.kind == "str":
        return traits.Str(**about)
    number = float if setting.kind == "float" else int
    least = 0 if setting.positive else setting.least
    return traits.Range(
        low=None if least is None else number(least),
        high=None if setting.most is None else number(setting.most),
        exclude_low=setting.positive,
        **about,
    )


def _image(option: str, help: str, **details: Any) -> Any:
    """The trait of an image: a file, or a folder with a DICOM series."""
    about = {"argstr": f"{option} %s".strip(), "desc": help, **details}
    return traits.Either(File(exists=True), Directory(exists=True), **about)


class _RegisterInputs(CommandLineInputSpec):
    fixed = _image("", "image that stays", mandatory=True, position=0)
    moving = _image("", "image that is moved", mandatory=True, position=1)
    output = Directory(
        "registered", usedefault=True, argstr="--output %s", desc="folder for the results"
    )
    lesion_mask = _image("--lesion-mask", "1 where FIXED has no counterpart (1 = ignore)")
    moving_lesion_mask = _image("--moving-lesion-mask", "the same for MOVING, in its space")
    roi_mask = _image("--roi-mask", "1 where to compare the images (1 = use)")
    moving_roi_mask = _image("--moving-roi-mask", "the same for MOVING, in its space")
    brain_mask = _image("--brain-mask", "1 in the brain of FIXED, for whole heads")
    moving_brain_mask = _image("--moving-brain-mask", "the same for MOVING, in its space")
    labels = _image("--labels", "label map in the space of MOVING, to be carried onto FIXED")
    fixed_labels = _image("--fixed-labels", "label map on FIXED, to measure the overlap with it")
    affine = traits.Either(
        traits.Enum("auto", "none"),
        File(exists=True),
        argstr="--affine %s",
        desc="align first, trust the headers, or a file with an affine from fixed to moving",
    )
    initial_transform = File(
        exists=True, argstr="--initial-transform %s", desc="affine that the search starts from"
    )
    format = traits.Enum(
        *(ending.lstrip(".") for ending in FORMATS),
        argstr="--format %s",
        desc="of the images written; default: that of FIXED",
    )
    report = traits.Bool(argstr="--report", desc="draw report.html and overview.png as well")
    overwrite = traits.Bool(argstr="--overwrite", desc="replace the files of an earlier run")


for _name, _setting in SETTINGS.items():
    if _name != "affine":
        _RegisterInputs.add_class_trait(_name, _knob(_setting))


class _RegisterOutputs(TraitedSpec):
    folder = Directory(exists=True, desc="folder with all results")
    warped = File(exists=True, desc="MOVING on the grid of FIXED")
    displacement = File(exists=True, desc="mm, LPS, on FIXED: warped(x) = MOVING(x + u(x))")
    displacement_inverse = File(exists=True, desc="the way back, on the grid of MOVING")
    mask = File(exists=True, desc="1 where FIXED has no counterpart in MOVING")
    mask_moving = File(exists=True, desc="1 where MOVING has no counterpart in FIXED")
    mask_probability = File(exists=True, desc="probability of that, on FIXED")
    jacobian = File(exists=True, desc="determinant of x -> x + u(x)")
    labels = File(exists=True, desc="label map of the input `labels` on FIXED")
    transform = File(exists=True, desc="the map for ITK, SimpleITK, ANTs and 3D Slicer")
    transform_inverse = File(exists=True, desc="its inverse, for the same programs")
    summary = File(exists=True, desc="settings, versions, hashes, figures, warnings")
    report = File(exists=True, desc="page with all of it")
    overview = File(exists=True, desc="all of it at a glance")
    grade = traits.Str(desc="verdict: good, review or poor")
    quality = traits.Dict(desc="figures of quality of summary.json")


class _Command(CommandLine):
    """A command of ``itk-ncr``, with arguments that may have spaces."""

    def _run_interface(self, runtime: Any, correct_return_codes: tuple[int, ...] = (0,)) -> Any:
        runtime = super()._run_interface(runtime, correct_return_codes)
        # nipype itself goes on and complains of missing outputs.
        if runtime.returncode not in correct_return_codes:
            self.raise_exception(runtime)
        return runtime

    def _format_arg(self, name: str, trait_spec: Any, value: Any) -> Any:
        if isinstance(value, str):
            value = shlex.quote(value)
        elif isinstance(value, Mapping):
            words = (shlex.quote(f"{key}={entry}") for key, entry in value.items())
            return " ".join(trait_spec.argstr % word for word in words)
        elif isinstance(value, (list, tuple)):
            return " ".join(trait_spec.argstr % ",".join(map(str, row)) for row in value)
        return super()._format_arg(name, trait_spec, value)


def _command(name: str) -> str:
    return f"{shlex.quote(sys.executable)} -m itk_ncr {name}"


class Register(_Command):
    """Register ``moving`` to ``fixed`` and write the results to a folder: ``itk-ncr register``.

    Outputs are the files of the folder (``warped``, ``displacement``,
    ``mask``, ``transform``, ``labels``, ``report``, ...), ``folder`` itself for :class:`Apply` and
    :class:`Segment`, the ``grade`` of the verdict, and the figures of ``quality``.

    Parameters
    ----------
    command : str, optional
        Words that start the command. Default: those of the installed package.
    terminal_output : str, optional
        What nipype does with what is printed; "stream", "allatonce", "file" or "none".
    write_cmdline : bool
        Whether nipype writes the command to a file.
    **inputs
        ``fixed`` and ``moving``, masks and label maps, and every setting of
        :func:`itk_ncr.register`.
    """

    _cmd = _command("register")
    input_spec = _RegisterInputs
    output_spec = _RegisterOutputs

    def _format_arg(self, name: str, trait_spec: Any, value: Any) -> Any:
        if name == "report" and value is False:
            return "--no-report"
        return super()._format_arg(name, trait_spec, value)

    def _list_outputs(self) -> dict[str, Any]:
        folder = Path(self.inputs.output).absolute()
        outputs = self.output_spec().get() | {"folder": str(folder)}
        candidates = {name: [f"{name}{ending}" for ending in FORMATS] for name in _IMAGES}
        candidates |= {name: [file] for name, file in _OTHERS.items()}
        for name, files in candidates.items():
            for file in files:
                if (folder / file).is_file():
                    outputs[name] = str(folder / file)
        record = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return outputs | {"grade": record["verdict"]["grade"], "quality": record["quality"]}


class _OneFile(_Command):
    """A command that writes one file, named after its input unless ``output`` says otherwise."""

    def _gen_filename(self, name: str) -> str | None:
        return str(Path.cwd() / self._usual_name()) if name == "output" else None

    def _usual_name(self) -> str:
        raise NotImplementedError

    def _list_outputs(self) -> dict[str, Any]:
        given = self.inputs.output
        path = Path(given if isdefined(given) else self._usual_name()).absolute()
        return self.output_spec().get() | {"output": str(path)}


class _FileOutput(TraitedSpec):
    output = File(exists=True, desc="file that was written")


class _ApplyInputs(CommandLineInputSpec):
    run = traits.Either(
        Directory(exists=True),
        File(exists=True),
        argstr="%s",
        mandatory=True,
        position=0,
        desc="folder of Register, or a displacement field",
    )
    input = _image("", "image, label map or table of points", mandatory=True, position=1)
    output = File(genfile=True, argstr="--output %s", desc="file to write")
    inverse = traits.Bool(argstr="--inverse", desc="from the fixed to the moving image")
    labels = traits.Bool(argstr="--labels", desc="the input is a label map")
    landmarks = File(exists=True, argstr="--landmarks %s", desc="points to measure distances to")
    fill = traits.Float(argstr="--fill %s", desc="value outside the image")
    overwrite = traits.Bool(argstr="--overwrite", desc="replace the output if it exists")


class Apply(_OneFile):
    """Carry an image, a label map or points along a registration: ``itk-ncr apply``.

    The output is ``output``, in the node's folder by default.

    Parameters
    ----------
    command : str, optional
        Words that start the command. Default: those of the installed package.
    terminal_output : str, optional
        What nipype does with what is printed; "stream", "allatonce", "file" or "none".
    write_cmdline : bool
        Whether nipype writes the command to a file.
    **inputs
        ``run`` (``folder`` of :class:`Register`), ``input``, and ``labels``, ``inverse``,
        ``landmarks``, ``fill``.
    """

    _cmd = _command("apply")
    input_spec = _ApplyInputs
    output_spec = _FileOutput

    def _usual_name(self) -> str:
        given = Path(self.inputs.input).name
        for ending in (*FORMATS, *PICTURES, *_TABLES):
            if given.lower().endswith(ending):
                return f"{given[: -len(ending)]}_carried{ending}"
        return f"{given}_carried.nii.gz"


class _SegmentInputs(CommandLineInputSpec):
    probability = traits.Either(
        Directory(exists=True),
        File(exists=True),
        argstr="%s",
        mandatory=True,
        position=0,
        desc="folder of Register, or an image",
    )
    output = File(genfile=True, argstr="--output %s", desc="mask to write")
    threshold = traits.Float(argstr="--threshold %s", desc="voxels above it are inside")
    high = traits.Float(argstr="--high %s", desc="keep regions that reach above it somewhere")
    seed = traits.List(
        traits.List(traits.Float), argstr="--seed=%s", desc="points to grow from: x, y, z; mm, LPS"
    )
    seed_voxel = traits.List(
        traits.List(traits.Int), argstr="--seed-voxel=%s", desc="voxels to grow from: i, j, k"
    )
    largest = traits.Bool(argstr="--largest", desc="keep the region of the largest sum")
    weight = _image("--weight", "with largest: sum this image instead")
    intensity = _image("--intensity", "with seeds: the region is even in this image too")
    like = traits.Enum("seed", "region", argstr="--like %s", desc="what it is as even as")
    deviations = traits.Float(argstr="--deviations %s", desc="how even, in standard deviations")
    connectivity = traits.Enum("faces", "full", argstr="--connectivity %s", desc="of neighbours")
    fill_holes = traits.Bool(argstr="--fill-holes", desc="add what the mask encloses")
    overwrite = traits.Bool(argstr="--overwrite", desc="replace the output if it exists")


class Segment(_OneFile):
    """Make a mask from the probability of a registration: ``itk-ncr segment``.

    The output is ``output``, by default ``segmented.nii.gz`` in the node's folder.

    Parameters
    ----------
    command : str, optional
        Words that start the command. Default: those of the installed package.
    terminal_output : str, optional
        What nipype does with what is printed; "stream", "allatonce", "file" or "none".
    write_cmdline : bool
        Whether nipype writes the command to a file.
    **inputs
        ``probability`` (``folder`` of :class:`Register`, or an image) and the options of the
        command.
    """

    _cmd = _command("segment")
    input_spec = _SegmentInputs
    output_spec = _FileOutput

    def _usual_name(self) -> str:
        return "segmented.nii.gz"
