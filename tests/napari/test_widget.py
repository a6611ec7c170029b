"""The napari plugin where napari and a Qt binding are installed, without a screen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
napari = pytest.importorskip("napari", reason="needs napari and a Qt binding")
qtpy = pytest.importorskip("qtpy.QtWidgets", reason="needs napari and a Qt binding")

from napari.components import ViewerModel  # noqa: E402

from itk_ncr import napari as plugin  # noqa: E402
from itk_ncr.geometry import Grid  # noqa: E402
from itk_ncr.images import Image  # noqa: E402
from itk_ncr.napari.layers import image_layer, matrix_of  # noqa: E402
from itk_ncr.napari.widget import RegisterWidget  # noqa: E402


@pytest.fixture
def application() -> object:
    return qtpy.QApplication.instance() or qtpy.QApplication([])


def until(condition: Callable[[], bool], application: object, seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        application.processEvents()
        time.sleep(0.02)


def blob(shift: float) -> Image:
    y, x = np.mgrid[-1:1:28j, -1:1:32j]
    array = 100 / (1 + np.exp(12 * (((x - shift) / 0.7) ** 2 + (y / 0.6) ** 2 - 1)))
    grid = Grid.of_array((28, 32), spacing=(1.5, 2.0), origin=(5.0, -7.0))
    return Image((array * (1 + 0.4 * x)).astype(np.float32), grid)


def test_two_layers_are_registered_in_the_background(application):
    viewer = ViewerModel()
    widget = RegisterWidget(viewer)
    widget.start()
    assert "fixed must be an image layer" in widget.message.value
    for name, shift in (("patient", 0.0), ("healthy", 0.12)):
        data, options, _ = image_layer(blob(shift), name)
        viewer.add_image(data, **options)
    assert (widget.fixed.value, widget.moving.value) == ("patient", "healthy")
    widget.start()
    assert not widget.register.enabled
    until(lambda: widget.register.enabled, application)
    assert widget.message.value.split(":")[0] in ("good", "review", "poor")
    assert [layer.name for layer in viewer.layers[2:]] == [
        "healthy moved", "no counterpart, probability", "no counterpart", "grid"
    ]  # fmt: skip
    fixed, moved = (viewer.layers[name] for name in ("patient", "healthy moved"))
    np.testing.assert_allclose(moved.data_to_world((3, 4)), fixed.data_to_world((3, 4)))
    np.testing.assert_allclose(moved.data_to_world((0, 0)), (-7, 5))
    np.testing.assert_allclose(moved.affine.affine_matrix, matrix_of(blob(0).grid))
    before, after = (np.abs(fixed.data - viewer.layers[n].data).mean() for n in
                     ("healthy", "healthy moved"))  # fmt: skip
    assert after < 0.6 * before


def test_a_registration_can_be_stopped_and_errors_are_shown(application):
    viewer = ViewerModel()
    widget = RegisterWidget(viewer)
    viewer.add_image(blob(0).array, name="a")
    viewer.add_image(blob(0.1).array, name="b")
    widget.start()
    widget.cancel.changed.emit(True)
    until(lambda: widget.register.enabled, application)
    assert widget.message.value == "stopped"
    viewer.add_image(np.zeros((8, 8)), name="empty")
    widget.moving.value = "empty"
    widget.start()
    until(lambda: widget.register.enabled, application)
    assert "moving" in widget.message.value
    assert len(viewer.layers) == 3


def test_napari_accepts_the_manifest():
    npe2 = pytest.importorskip("npe2", reason="needs napari and a Qt binding")
    manifest = npe2.PluginManifest.from_file(Path(plugin.__file__).with_name("napari.yaml"))
    manifest.validate_imports()
    assert {c.id for c in manifest.contributions.commands} == {"itk_ncr.register", "itk_ncr.read"}
