"""Scripted module of 3D Slicer: register two volumes over the command line of itk_ncr."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import ctk
import qt
from RegisterWithPathologiesLib import command
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

import slicer

POLL_MS = 300
PRESETS = ("auto", "brain-t1", "oct", "mri-3d", "multimodal")
SETTING = "RegisterWithPathologies/Program"


class RegisterWithPathologies(ScriptedLoadableModule):
    """What Slicer shows of the module."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "Register with pathologies"
        parent.categories = ["Registration"]
        parent.contributors = ["The itk_ncr authors"]
        parent.helpText = (
            "Registers the moving volume to the fixed one and finds, without being told, what has "
            "no counterpart. Runs the program itk-ncr. For research only."
        )
        parent.acknowledgementText = "After Andresen et al., Int J CARS 17, 699-710, 2022."


class RegisterWithPathologiesWidget(ScriptedLoadableModuleWidget):
    """Selectors, one button, and the text of the run."""

    def setup(self):
        """Build the form."""
        super().setup()
        self.logic = RegisterWithPathologiesLogic()
        box = ctk.ctkCollapsibleButton()
        box.text = "Registration"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)
        self.fixed = self._selector(form, "Fixed volume", "vtkMRMLScalarVolumeNode", False)
        self.moving = self._selector(form, "Moving volume", "vtkMRMLScalarVolumeNode", False)
        self.lesion = self._selector(form, "Lesion (fixed)", "vtkMRMLSegmentationNode", True)
        self.seeds = self._selector(form, "Seed points", "vtkMRMLMarkupsFiducialNode", True)
        self.preset = qt.QComboBox()
        self.preset.addItems(PRESETS)
        form.addRow("Preset", self.preset)
        self.smoothness = ctk.ctkDoubleSpinBox()
        self.smoothness.setRange(0.05, 20)
        self.smoothness.value = 1.0
        form.addRow("Smoothness", self.smoothness)
        self.path = qt.QLineEdit(str(qt.QSettings().value(SETTING) or ""))
        self.path.placeholderText = f"found by itself: {command.PROGRAM}"
        form.addRow("Program", self.path)
        self.button = qt.QPushButton("Register")
        self.button.clicked.connect(self.onButton)
        form.addRow(self.button)
        self.text = qt.QLabel("Choose two volumes.")
        self.text.wordWrap = True
        form.addRow(self.text)
        self.layout.addStretch(1)
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        self.timer.timeout.connect(self.onTimer)

    def cleanup(self):
        """Stop what still runs."""
        self.timer.stop()
        self.logic.stop()

    def onButton(self):
        """Start, or stop what runs."""
        if self.logic.running():
            self.logic.stop()
            return
        qt.QSettings().setValue(SETTING, self.path.text)
        try:
            self.logic.start(
                self.fixed.currentNode(),
                self.moving.currentNode(),
                self.lesion.currentNode(),
                {"preset": self.preset.currentText, "smoothness": self.smoothness.value},
                self.path.text,
            )
        except command.RunError as error:
            self.text.text = str(error)
            return
        self.button.text, self.text.text = "Stop", "Registering ..."
        self.timer.start()

    def onTimer(self):
        """Load the results of a run that has ended."""
        if self.logic.running():
            return
        self.timer.stop()
        self.button.text = "Register"
        try:
            found = self.logic.load(self.seeds.currentNode(), self.path.text)
        except command.RunError as error:
            self.text.text = str(error)
            return
        self.text.text = "\n".join([found.verdict, *found.warnings])

    @staticmethod
    def _selector(form, label, kind, optional):
        box = slicer.qMRMLNodeComboBox()
        box.nodeTypes = [kind]
        box.noneEnabled = optional
        box.addEnabled = box.removeEnabled = False
        box.setMRMLScene(slicer.mrmlScene)
        form.addRow(label, box)
        return box


class RegisterWithPathologiesLogic(ScriptedLoadableModuleLogic):
    """Writes the inputs, runs the program, loads its files."""

    def __init__(self):
        super().__init__()
        self.folder = None
        self.process = None
        self.fixed = self.moving = None
        self.stopped = False

    def start(self, fixed, moving, lesion, settings, program):
        """Start `itk-ncr register` for two volume nodes, and a segmentation node or None."""
        if fixed is None or moving is None:
            raise command.RunError("fixed and moving must be volumes. Load and choose two.")
        self.fixed, self.moving, self.stopped = fixed, moving, False
        self.folder = tempfile.TemporaryDirectory(prefix="itk-ncr-slicer-")
        place = Path(self.folder.name)
        paths = {name: str(place / f"{name}.nii.gz") for name in ("fixed", "moving", "lesion")}
        for node, name in ((fixed, "fixed"), (moving, "moving")):
            if not slicer.util.saveNode(node, paths[name]):
                raise command.RunError(f"volume '{node.GetName()}' cannot be written.")
        masks = {}
        if lesion is not None:
            self._write_labels(lesion, fixed, paths["lesion"])
            masks["lesion-mask"] = paths["lesion"]
        words = command.register_words(
            paths["fixed"], paths["moving"], place / "run", masks, settings
        )
        self.process = self._run(program, words)

    def running(self):
        """Whether the program is at work."""
        return self.process is not None and self.process.poll() is None

    def stop(self):
        """End the program; it leaves nothing half-written."""
        if self.running():
            self.stopped = True
            self.process.terminate()

    def load(self, seeds, program):
        """Load the results of the run that ended; with seeds, the mask is grown from them."""
        place = Path(self.folder.name)
        message = command.failure(self.process.returncode, (place / "errors").read_text())
        if message is not None:
            raise command.RunError("Stopped." if self.stopped else message)
        found = command.results(place / "run")
        mask = found.mask
        points = [] if seeds is None else self._points(seeds)
        if points:
            mask = place / "grown.nii.gz"
            words = command.segment_words(place / "run", mask, points)
            message = command.failure(self._run(program, words).wait(), self._errors())
            if message is not None:
                raise command.RunError(message)
        name = self.moving.GetName()
        slicer.util.loadVolume(str(found.warped), {"name": f"{name} moved"})
        transform = slicer.util.loadTransform(str(found.transform))
        transform.SetName(f"{name} to {self.fixed.GetName()}")
        self.moving.SetAndObserveTransformNodeID(transform.GetID())
        if mask is not None:
            segmentation = slicer.util.loadSegmentation(str(mask))
            segmentation.SetName("no counterpart")
            segmentation.SetReferenceImageGeometryParameterFromVolumeNode(self.fixed)
        return found

    def _run(self, program, words):
        place = Path(self.folder.name)
        line = [*command.program(program, _python_with_package()), *words]
        with (place / "errors").open("w") as errors:
            return subprocess.Popen(
                line,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=slicer.util.startupEnvironment(),  # without the libraries of Slicer
            )

    def _errors(self):
        return (Path(self.folder.name) / "errors").read_text()

    @staticmethod
    def _points(node):
        point, points = [0.0] * 3, []
        for index in range(node.GetNumberOfControlPoints()):
            node.GetNthControlPointPositionWorld(index, point)
            points.append(tuple(point))
        return points

    @staticmethod
    def _write_labels(segmentation, reference, path):
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        try:
            logic = slicer.modules.segmentations.logic()
            logic.ExportVisibleSegmentsToLabelmapNode(segmentation, labels, reference)
            if not slicer.util.saveNode(labels, path):
                raise command.RunError(f"segmentation '{segmentation.GetName()}' is not written.")
        finally:
            slicer.mrmlScene.RemoveNode(labels)


def _python_with_package():
    """The Python of Slicer if the package was installed into it."""
    import importlib.util

    if importlib.util.find_spec("itk_ncr") is None:
        return None
    return str(Path(sys.exec_prefix).parent / "bin" / "PythonSlicer")


class RegisterWithPathologiesTest(ScriptedLoadableModuleTest):
    """Registers a sample to itself, shifted."""

    def runTest(self):
        """Run in developer mode: Reload and Test."""
        import SampleData

        slicer.mrmlScene.Clear()
        fixed = SampleData.SampleDataLogic().downloadMRHead()
        moving = slicer.modules.volumes.logic().CloneVolume(fixed, "shifted")
        moving.SetOrigin(*(value + 5 for value in moving.GetOrigin()))
        logic = RegisterWithPathologiesLogic()
        logic.start(fixed, moving, None, {"method": "affine", "threads": 2}, "")
        logic.process.wait()
        found = logic.load(None, "")
        assert found.verdict
        assert moving.GetParentTransformNode() is not None
