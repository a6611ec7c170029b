"""Recognition of CT images and their soft-tissue window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.preprocessing.background import Background

# Air, or what scanners and tools write in its place, HU.
AIR = (-1100.0, -900.0)
# Median of what is not air, HU: fat to contrast agent.
TISSUE = (-250.0, 300.0)
BRAIN_RANGE = (-10.0, 90.0)
# Distance from air to soft tissue where the numbers were stored with an offset, and how far the
# middle of the tissue may spread (quantiles 0.3 to 0.7, share of that distance): 0.01 to 0.04 in
# CT, 0.1 and more in MR images.
OFFSET_DISTANCE, NARROW = (900.0, 1150.0), 0.05
# Grey and white matter: where the middle of an offset head lies, HU.
BRAIN = 33.0
# Shares of the object that make it a chest, or a body rather than a head.
LUNG_SHARE, FAT_SHARE = 0.15, 0.4


@dataclass(frozen=True)
class Window:
    """Range of CT numbers that becomes the range of grey values.

    Attributes
    ----------
    name : str
    low, high : float
        In the unit of the image.
    """

    name: str
    low: float
    high: float

    @property
    def note(self) -> str:
        """What was done, as the end of a sentence about the image."""
        return (
            f"looks like CT: numbers are cut to the {self.name} window, "
            f"{self.low:.4g} to {self.high:.4g}."
        )


def window_of(
    tissue: NDArray[np.float32], background: Background | None, padding: float | None
) -> Window | None:
    """The window of a CT image; None of any other.

    Parameters
    ----------
    tissue : ndarray, float32, shape (n,)
        The object, without the air around it.
    background : Background or None
    padding : float or None
        What fills voxels outside the field of view.
    """
    if background is not None and background.bright:
        return None
    air = padding if background is None else background.level
    if air is None:
        return None
    low, median, high = (float(q) for q in np.quantile(tissue, (0.3, 0.5, 0.7)))
    if background is not None and AIR[0] <= air <= AIR[1] and TISSUE[0] < median < TISSUE[1]:
        return _window(tissue)
    # A brain without air around it; MR images may be padded alike.
    is_brain = BRAIN_RANGE[0] < median < BRAIN_RANGE[1] and high - low < NARROW * 1000
    if background is None and air < AIR[1] and is_brain:
        return _window(tissue)
    narrow = 0 < high - low < NARROW * (median - air)
    if narrow and OFFSET_DISTANCE[0] < median - air < OFFSET_DISTANCE[1]:
        return _window(tissue - (median - BRAIN), median - BRAIN)
    return None


def _window(tissue: NDArray[np.float32], offset: float = 0.0) -> Window:
    lung = float((tissue < -400).mean())
    fat = float(((tissue > -150) & (tissue < -30)).mean())
    soft = float(((tissue > -20) & (tissue < 100)).mean())
    name, low, high = "brain", 0, 80
    if lung > LUNG_SHARE:
        name, low, high = "chest", -1000, 300
    elif fat > FAT_SHARE * soft:
        name, low, high = "soft-tissue", -160, 240
    return Window(name, low + offset, high + offset)
