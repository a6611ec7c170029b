"""The widget of the plugin: two layers, a few settings, a worker thread, and its layers."""

from __future__ import annotations

import threading
from typing import Any

from magicgui.widgets import ComboBox, Container, FloatSpinBox, Label, ProgressBar, PushButton
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from napari.qt.threading import thread_worker
from qtpy.QtCore import QTimer

import itk_ncr
from itk_ncr.errors import NCRError, RegistrationAborted
from itk_ncr.napari.layers import LayerData, image_of, result_layers
from itk_ncr.settings import METHODS, PRESETS

REFRESH_MS = 200
NONE = "(none)"


class RegisterWidget(Container):
    """Register one image layer to another and add moved image, mask and deformed grid.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are offered, and that gets the new ones.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._stop = threading.Event()
        self._state = (0.0, "")
        self.worker: Any = None
        self.fixed = ComboBox(label="fixed", choices=lambda _: self._names(ImageLayer))
        self.moving = ComboBox(label="moving", choices=lambda _: self._names(ImageLayer))
        self.lesion_mask = ComboBox(
            label="lesion mask", choices=lambda _: [NONE, *self._names(Labels)]
        )
        self.method = ComboBox(label="method", choices=METHODS)
        self.preset = ComboBox(label="preset", choices=PRESETS)
        self.smoothness = FloatSpinBox(label="smoothness", value=1.0, min=0.05, max=20, step=0.25)
        self.register = PushButton(text="Register")
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.progress = ProgressBar(min=0, max=100, value=0)
        self.message = Label(value="Choose two layers. For research only.")
        super().__init__(
            widgets=[
                *(self.fixed, self.moving, self.lesion_mask, self.method, self.preset),
                *(self.smoothness, self.register, self.cancel, self.progress, self.message),
            ]
        )
        self.register.changed.connect(self.start)
        self.cancel.changed.connect(self._stop.set)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self.refresh)
        self.refresh()
        self._timer = QTimer()
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._show)

    def refresh(self, _event: Any = None) -> None:
        """Offer the layers that there are now."""
        for box in (self.fixed, self.moving, self.lesion_mask):
            box.reset_choices()
        names = self._names(ImageLayer)
        if len(names) > 1 and self.fixed.value == self.moving.value:
            self.moving.value = next(name for name in names if name != self.fixed.value)

    def start(self, _event: Any = None) -> None:
        """Register in a worker thread; the viewer stays usable."""
        try:
            fixed, moving = self._image(self.fixed), self._image(self.moving)
            given = self.lesion_mask.value
            mask = None if given in (None, NONE) else image_of(self._viewer.layers[given])
        except NCRError as error:
            self.message.value = str(error)
            return
        options = {
            "lesion_mask": mask,
            "method": self.method.value,
            "preset": self.preset.value,
            "smoothness": self.smoothness.value,
        }
        self._stop.clear()
        self._state = (0.0, "starting")
        self.worker = _registered(self, fixed, moving, self.moving.value, options)
        self.worker.returned.connect(self._add)
        self.worker.finished.connect(self._end)
        self.register.enabled, self.cancel.enabled = False, True
        self._timer.start()
        self.worker.start()

    def note(self, share: float, text: str) -> None:
        """Keep how far the registration is; called by its thread."""
        self._state = (share, text)

    def stopped(self) -> bool:
        """Whether the registration is to stop; called by its thread."""
        return self._stop.is_set()

    def _names(self, kind: type[Layer]) -> list[str]:
        return [layer.name for layer in self._viewer.layers if type(layer) is kind]

    def _image(self, box: ComboBox) -> Any:
        if box.value is None:
            raise NCRError(f"{box.label} must be an image layer; there is none. Open one first.")
        return image_of(self._viewer.layers[box.value])

    def _show(self) -> None:
        share, text = self._state
        self.progress.value = round(100 * share)
        self.message.value = text

    def _add(self, found: tuple[list[LayerData], str]) -> None:
        layers, message = found
        for data in layers:
            self._viewer.add_layer(Layer.create(*data))
        self._state = (1.0 if layers else 0.0, message)

    def _end(self) -> None:
        self._timer.stop()
        self._show()
        self.register.enabled, self.cancel.enabled = True, False


@thread_worker
def _registered(
    widget: RegisterWidget, fixed: Any, moving: Any, name: str, options: dict[str, Any]
) -> tuple[list[LayerData], str]:
    """The layers of a registration and its verdict in a line; runs in a thread of its own.

    What the user should know of an error comes as that line, without layers: napari warns of some
    exceptions of a worker and shows others.
    """
    from itk_ncr.evaluation import verdict_of

    try:
        result = itk_ncr.register(
            fixed, moving, progress=widget.note, abort=widget.stopped, **options
        )
    except RegistrationAborted:
        return [], "stopped"
    except NCRError as error:
        return [], str(error)
    found = verdict_of(fixed, moving, result)
    return result_layers(result, name), f"{found.grade}: {found.sentence}"
