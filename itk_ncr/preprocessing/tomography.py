"""Recognition of CT images, and the window of CT numbers in which they are compared.

The window follows from what an image shows: "brain" (0 to 80 HU), "soft-tissue" (-160 to 240 HU:
fat, organs and vessels with contrast agent) or "chest" (-1000 to 300 HU: lungs as well). Bone,
metal and air lie beyond a window, so they neither set the scale nor press soft tissue into a few
grey values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.preprocessing.background import Background

Array = NDArray[np.float32]

# Air, or what scanners and tools write in its place, HU.
AIR = (-1100.0, -900.0)
# Median of all but air, HU: fat to contrast agent.
TISSUE = (-250.0, 300.0)
BRAIN_RANGE = (-10.0, 90.0)
# Distance from air to soft tissue where the numbers were stored with an offset, and how far the
# middle of the tissue may spread (quantiles 0.3 to 0.7, share of that distance): 0.01 to 0.04 in
# CT, 0.1 and more in MR images.
OFFSET_DISTANCE, NARROW = (900.0, 1150.0), 0.05
# Grey and white matter: where the middle of an offset head lies, HU.
BRAIN = 33.0
# Bodies stored with an offset: fat and organs lie this close to water, HU, hold this share of what
# is denser than lung, and make two peaks with a valley between them. MR volumes, scaled by whatever
# factor makes them most alike: T1 and T2 at most .71, FLAIR up to .88, but in one peak.
BODY_RANGE, BODY_SHARE, LUNG_DENSITY = (-180.0, 180.0), 0.75, -400.0
BIN, FAT_END, VALLEY = 20.0, -20.0, 0.5
# Crops without air around the body: what looks like their background is tissue or lung. Bone and
# contrast agent are denser than this, fat and gas less dense, and at least this share each.
CROP_BACKGROUND, LUNG_BACKGROUND = (-150.0, 150.0), (-950.0, -600.0)
CROP_DENSE, CROP_LIGHT, CROP_SHARE = 200.0, -60.0, 0.002
# Largest share of metal and bone in a stripped brain. What MR images show on air is more.
METAL_SHARE = 0.03
# Shares of the object that make it a chest, or a body rather than a head. The soft tissue of a body
# is denser than brain (HU), and there is some fat.
LUNG_SHARE, FAT_SHARE, BODY_FAT_SHARE, BODY_MEDIAN = 0.15, 0.4, 0.1, 45.0
# Numbers that stand for the tissue of an image where the window of two is chosen.
SUMMARY = np.linspace(0, 1, 513)

RANGES = {"brain": (0.0, 80.0), "soft-tissue": (-160.0, 240.0), "chest": (-1000.0, 300.0)}


@dataclass(frozen=True)
class Window:
    """Range of CT numbers that becomes the range of grey values.

    Attributes
    ----------
    name : str
        A key of ``RANGES``.
    offset : float
        What was added to the CT numbers when they were stored.
    tissue : tuple of float
        Quantiles of the CT numbers of the object, HU.
    """

    name: str
    offset: float
    tissue: tuple[float, ...]

    def range(self, name: str | None = None) -> tuple[float, float]:
        """Ends of a window.

        Parameters
        ----------
        name : str, optional
            Another row of ``RANGES``. Default: this window.

        Returns
        -------
        tuple of two floats
            Lower and upper end, in the unit of the image.
        """
        low, high = RANGES[name or self.name]
        return low + self.offset, high + self.offset

    @property
    def air(self) -> float:
        """Value of air, in the unit of the image."""
        return self.offset - 1000.0

    @property
    def note(self) -> str:
        """Remark for the user, as the end of a sentence about the image."""
        low, high = self.range()
        return f"looks like CT: numbers are cut to the {self.name} window, {low:.5g} to {high:.5g}."


def window_of(tissue: Array, background: Background | None, padding: float | None) -> Window | None:
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
    low, median, high = (float(q) for q in np.quantile(tissue, (0.3, 0.5, 0.7)))
    if background is None and _is_crop(tissue, median):
        return _window(tissue)
    if air is None:
        return None
    if background is not None and AIR[0] <= air <= AIR[1] and TISSUE[0] < median < TISSUE[1]:
        return _window(tissue)
    # A brain without air around it; MR images may be padded alike.
    is_brain = BRAIN_RANGE[0] < median < BRAIN_RANGE[1] and high - low < NARROW * 1000
    if background is None and air < AIR[1] and is_brain:
        return _window(tissue)
    narrow = 0 < high - low < NARROW * (median - air)
    if narrow and OFFSET_DISTANCE[0] < median - air < OFFSET_DISTANCE[1]:
        return _window(tissue, median - BRAIN)
    if background is not None and _is_body(tissue - np.float32(air + 1000)):
        return _window(tissue, air + 1000)
    return None


def has_no_air(shown: Array, background: Background, padding: float | None = None) -> bool:
    """Whether the "background" of an image is soft tissue or lung of a CT.

    So in a crop, and where a brain on even air shows a little metal or bone.

    Parameters
    ----------
    shown : ndarray, float32, shape (n,)
        The voxels of the image.
    background : Background
    padding : float, optional
        What fills voxels around those.
    """
    level = background.level
    if padding is not None and padding <= AIR[1] and BRAIN_RANGE[0] < level < BRAIN_RANGE[1]:
        return bool((shown > background.threshold).mean() < METAL_SHARE)
    is_lung = LUNG_BACKGROUND[0] < level < LUNG_BACKGROUND[1]
    is_tissue = CROP_BACKGROUND[0] < level < CROP_BACKGROUND[1]
    return (is_lung or is_tissue) and _is_crop(shown, float(np.median(shown)))


def common_window(one: Window, other: Window) -> str:
    """The window in which two CT images are compared.

    Parameters
    ----------
    one, other : Window
        Windows of both images.

    Returns
    -------
    str
        A row of ``RANGES``.
    """
    if one.name == other.name:
        return one.name
    return _name(np.asarray((*one.tissue, *other.tissue), np.float32))


def _is_crop(shown: Array, median: float) -> bool:
    """Whether numbers without air are CT numbers: soft tissue, with denser and lighter matter."""
    soft = ((shown > BODY_RANGE[0]) & (shown < BODY_RANGE[1])).mean()
    lung = (shown < LUNG_DENSITY).mean()
    return bool(
        (CROP_BACKGROUND[0] < median < CROP_BACKGROUND[1] or lung > LUNG_SHARE)
        and soft > BODY_SHARE * (1 - lung)
        and (shown > CROP_DENSE).mean() > CROP_SHARE
        and (shown < CROP_LIGHT).mean() > CROP_SHARE
        and shown.min() > AIR[0] - 100
    )


def _is_body(numbers: Array) -> bool:
    """Whether what is denser than lung is mostly fat and organs."""
    dense = numbers[numbers > LUNG_DENSITY]
    low, high = BODY_RANGE
    counts, edges = np.histogram(dense, np.arange(low, high + BIN, BIN))
    if counts.sum() <= BODY_SHARE * len(dense):
        return False
    middle = int(np.searchsorted(edges, FAT_END))
    fat = int(np.argmax(counts[:middle]))
    organs = middle + int(np.argmax(counts[middle:]))
    return bool(counts[fat : organs + 1].min() < VALLEY * min(counts[fat], counts[organs]))


def _window(tissue: Array, offset: float = 0.0) -> Window:
    numbers = tissue - np.float32(offset)
    quantiles = np.quantile(numbers, SUMMARY)
    return Window(_name(numbers), float(offset), tuple(float(q) for q in quantiles))


def _name(numbers: Array) -> str:
    """The window for the CT numbers of an object."""
    lung = float((numbers < LUNG_DENSITY).mean())
    fat = float(((numbers > -150) & (numbers < -30)).mean())
    soft = numbers[(numbers > -20) & (numbers < 100)]
    share = len(soft) / len(numbers)
    if lung > LUNG_SHARE:
        return "chest"
    dense = len(soft) > 0 and float(np.median(soft)) > BODY_MEDIAN
    if fat > (BODY_FAT_SHARE if dense else FAT_SHARE) * share:
        return "soft-tissue"
    return "brain"
