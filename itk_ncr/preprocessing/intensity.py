"""Intensity normalisation and histogram matching."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import ImageValueError
from itk_ncr.preprocessing.background import (
    Background,
    find_background,
    padding_value,
    sampled,
    surrounded,
)
from itk_ncr.preprocessing.pieces import grown, largest_pieces
from itk_ncr.preprocessing.tomography import Window, has_no_air, window_of

Array = NDArray[np.float32]

# Share of an object or, where there is not background, of an image that is brighter than 1
# (vessels, implants), and that is darker than 0.
TOP_SHARE, BOTTOM_SHARE = 0.01, 0.005
# The bulk of the tissue sets the scale where fat, vessels or contrast agent are far brighter: 1 is
# at most these factors above the median and the upper quartile of an object. T1 and FLAIR brains
# have 1.27 to 1.58 and 1.12 to 1.44, stripped T2 brains 2.3 and 1.6 to 2, heads with contrast agent
# 2.8 and 2.2.
BULK_FACTORS = (2.5, 1.8)
LARGEST_VALUE = 1.5
# Pieces of the object that are kept: share of the size of the largest.
PIECE_SHARE = 0.05
# Fainter voxels (share of the distance from background to object) belong to the object in a rim
# of this many voxels only.
FAINT, RIM_VOXELS = 0.1, 2
# No MR image has air as dark as this, the smallest CT number and less: it is padding.
NO_INTENSITY = -900.0
# Quantiles of the foreground between which one histogram is mapped onto another.
LANDMARKS = np.linspace(0.02, 0.98, 25)
# |correlation| x mutual information must rise by this factor before a matching is accepted.
ACCEPTANCE = 1.02
HISTOGRAM_BINS = 32


@dataclass(frozen=True)
class ScaledImage:
    """An image on a common scale.

    Attributes
    ----------
    values : ndarray, float32
        0 is the background, about 1 the brightest tissue, 1.5 the largest value.
    foreground : ndarray of bool
        The object: no air around it, holes filled. All finite voxels where tissue fills the image.
    window : Window or None
        Of a CT image.
    """

    values: Array
    foreground: NDArray[np.bool_]
    window: Window | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user about the processing, each the end of a sentence about the image."""
        return () if self.window is None else (self.window.note,)


def normalise(
    image: NDArray[np.floating], name: str = "image", *, window: str | None = None
) -> ScaledImage:
    """Scale an image so that its background is 0 and its bright tissue 1.

    The background may have any level and some noise. A bright one (a stained slice on white) is
    turned: the image becomes its negative. NaN and infinite voxels and padding count as background.
    CT numbers are cut to a window in which soft tissues differ.

    Parameters
    ----------
    image : ndarray, any shape
    name : str
        What to call it in an error.
    window : str, optional
        Name of the window for a CT image, a key of ``tomography.RANGES``. Default: what fits it.

    Returns
    -------
    ScaledImage
        The scaled image in float32, its foreground and notes about what was done.

    Raises
    ------
    ImageValueError
        If no voxel is finite, or all are equal.
    """
    with np.errstate(over="ignore"):  # reported as infinite voxels
        values = np.array(image, np.float32, order="C")
    valid = np.isfinite(values)
    if not valid.any():
        raise ImageValueError(
            f"{name} must have voxels that are finite in float32; got none. Check the file."
        )
    lowest = float(values[valid].min())
    values[~valid] = lowest
    if float(values.max()) == lowest:
        given = np.asarray(image)[np.isfinite(image)]
        if given.min() < given.max():
            raise ImageValueError(
                f"{name} must show something in float32; got values that are {lowest:g} there, or "
                "infinite. Scale them to a usual range first."
            )
        raise ImageValueError(
            f"{name} must show something; got {lowest:g} in every voxel. Check the file."
        )
    padding, background = _surroundings(values, valid)
    if padding is not None:
        valid &= values != padding
    if background is not None and background.bright:
        np.negative(values, out=values)
        background = background.negative()
    if background is None:
        foreground, tissue = valid, sampled(values, valid)
    else:
        above = valid & (values > background.threshold)
        foreground = _object(values, above, background) & valid
        tissue = sampled(values, foreground & above)
        # Noise of the air: another image of the same object has another.
        values[~(foreground | above)] = background.level
    ct = window_of(tissue, background, padding)
    if ct is not None and window is not None:
        ct = replace(ct, name=window)
    if ct is not None:
        low, upper = ct.range()
        np.clip(tissue, low, upper, out=tissue)
    elif background is not None:
        low = background.level
    else:
        low = _darkest(tissue, valid)
    clear = ct is not None or (background is not None and background.clear)
    high = _brightest(tissue, low, clear)
    values -= np.float32(low)
    values /= np.float32(high - low)
    np.clip(values, 0.0, LARGEST_VALUE, out=values)
    values[~valid] = 0
    return ScaledImage(values, foreground, ct)


def ct_window(image: NDArray[np.floating]) -> Window | None:
    """The window in which a CT image is compared and shown.

    Parameters
    ----------
    image : ndarray, any shape
        In any intensity unit.

    Returns
    -------
    Window or None
        None for images that are not CT, uniform or without any finite voxel.
    """
    try:
        return normalise(image).window
    except ImageValueError:
        return None


def _surroundings(
    values: Array, valid: NDArray[np.bool_]
) -> tuple[float | None, Background | None]:
    """Padding outside the field of view, and background around the object within it."""
    padding = padding_value(values, valid)
    if padding is None:
        return None, _background(values, valid)
    background = _background(values, valid & (values != padding), padding)
    if background is None and padding > NO_INTENSITY:
        # It is what surrounds the object.
        return None, _background(values, valid)
    return padding, background


def _background(
    values: Array, valid: NDArray[np.bool_], padding: float | None = None
) -> Background | None:
    """Background of the object; None as well in a crop of a CT, where tissue may resemble it."""
    found = find_background(values, valid)
    if found is not None and has_no_air(sampled(values, valid), found, padding):
        return None
    return found


def _object(values: Array, above: NDArray[np.bool_], background: Background) -> NDArray[np.bool_]:
    """The object without ghosts, that reach far into the air but are faint."""
    faint = background.level + FAINT * background.distance
    if faint <= background.threshold:
        return largest_pieces(above, PIECE_SHARE)
    core = largest_pieces(above & (values > faint), PIECE_SHARE)
    return core | (grown(core, RIM_VOXELS) & above)


def _darkest(tissue: Array, valid: NDArray[np.bool_]) -> float:
    """The 0 of an image that tissue fills, or that shows nothing around its tissue."""
    if not surrounded(valid):
        return float(np.quantile(tissue, BOTTOM_SHARE))
    lowest, upper = float(tissue.min()), float(np.quantile(tissue, 0.75))
    # Air of a magnitude image is 0, and the rim of the tissue nearly so.
    return 0.0 if 0 <= lowest < upper / 2 else lowest


def _brightest(tissue: Array, low: float, stands_out: bool) -> float:
    """The 1 of an image."""
    quantiles = np.quantile(tissue, (0.5, 0.75, 1 - TOP_SHARE))
    median, upper, top = (float(q) for q in quantiles)
    if stands_out and median > low:
        limits = (f * (q - low) for f, q in zip(BULK_FACTORS, (median, upper), strict=True))
        top = min(top, *(low + limit for limit in limits))
    return top if top > low else float(tissue.max())


def match_histogram(
    moving: Array,
    fixed: Array,
    moving_foreground: NDArray[np.bool_],
    fixed_foreground: NDArray[np.bool_],
) -> tuple[Array, bool]:
    """Match the moving histogram to the fixed one if that makes the images more alike.

    A monotone map between quantiles of the two foregrounds is accepted only where the product of
    absolute correlation and mutual information rises: a lesion that fills much of one image would
    otherwise shift all tissue of the other.

    Parameters
    ----------
    moving, fixed : ndarray, float32, same shape
        Roughly aligned, on the scale of :func:`normalise`.
    moving_foreground, fixed_foreground : ndarray of bool

    Returns
    -------
    ndarray, float32
        The moving image, matched or as it was.
    bool
        Whether the match was accepted.

    References
    ----------
    The acceptance rule is that of DRAMMS (Ou et al., 2011, doi:10.1016/j.media.2010.07.002).
    """
    both = moving_foreground & fixed_foreground
    if both.sum() < 1000:
        return moving, False
    source = np.quantile(moving[moving_foreground], LANDMARKS)
    target = np.quantile(fixed[fixed_foreground], LANDMARKS)
    source, kept = np.unique(source, return_index=True)
    target = np.maximum.accumulate(target[kept])
    if len(source) < 3:
        return moving, False
    # 0 stays 0: the background is not a tissue. Beyond the last landmark the map is a shift.
    source = np.concatenate([[0.0], np.maximum(source, 1e-6), [source[-1] + 1.0]])
    target = np.concatenate([[0.0], target, [target[-1] + 1.0]])
    matched = np.interp(moving, source, target).astype(np.float32)
    matched[~moving_foreground] = moving[~moving_foreground]
    before = likeness(moving[both], fixed[both])
    after = likeness(matched[both], fixed[both])
    return (matched, True) if after > ACCEPTANCE * before else (moving, False)


def likeness(a: Array, b: Array) -> float:
    """Absolute correlation times mutual information of two lists of intensities."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    a64 -= a64.mean()
    b64 -= b64.mean()
    spread = np.sqrt((a64 * a64).mean() * (b64 * b64).mean())
    correlation = 0.0 if spread == 0 else abs((a64 * b64).mean() / spread)
    joint = np.histogram2d(a, b, HISTOGRAM_BINS)[0] / len(a)
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    information = float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())
    return correlation * information
