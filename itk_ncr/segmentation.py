"""Regions from probabilities: thresholds, connected components, region growing.

Everything here takes and gives plain arrays, 2D or 3D, in array order (z, y, x); a voxel that is
not a number belongs to nothing. SimpleITK labels the components, in linear time.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itk_ncr.errors import ArgumentError, ShapeError

Connectivity: TypeAlias = Literal["faces", "full"]
Mask: TypeAlias = NDArray[np.bool_]

# Reach of the mean of what surrounds a region, in voxels, and the share of voxels beyond the
# region that it needs. Between 1.5 and 3 voxels the Dice of phantom lesions changed by .002.
SURROUNDINGS_SIGMA, LEAST_SURROUNDINGS = 2.0, 1e-3


def threshold(probability: ArrayLike, level: float = 0.5) -> Mask:
    """Voxels whose probability is above ``level``.

    Parameters
    ----------
    probability : array, shape (z, y, x) or (y, x)
        Any real values.
    level : float
        Where to cut; the level itself stays out.

    Returns
    -------
    array of bool, the shape of ``probability``
        True above ``level``; NaN is not above it.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(_image(probability) > level)


def components(mask: ArrayLike, connectivity: Connectivity = "faces") -> tuple[NDArray, int]:
    """Connected components of a mask, numbered from 1 in the order of their first voxel.

    Parameters
    ----------
    mask : array of bool or number, shape (z, y, x) or (y, x)
        Not zero is inside.
    connectivity : {"faces", "full"}
        "faces": neighbours share a face (4 in 2D, 6 in 3D); "full": or a corner (8, 26).

    Returns
    -------
    labels : array of int32, the shape of ``mask``
        0 outside.
    count : int
        The number of components.
    """
    import SimpleITK as sitk

    inside = _mask(mask)
    if not inside.any():
        return np.zeros(inside.shape, np.int32), 0
    image = sitk.GetImageFromArray(np.ascontiguousarray(inside, dtype=np.uint8))
    labelled = sitk.ConnectedComponent(image, _is_full(connectivity))
    labels = sitk.GetArrayFromImage(labelled).astype(np.int32)
    return labels, int(labels.max())


def hysteresis(
    probability: ArrayLike, low: float, high: float, connectivity: Connectivity = "faces"
) -> Mask:
    """Components of ``probability > low`` that hold at least one voxel above ``high``.

    Parameters
    ----------
    probability : array, shape (z, y, x) or (y, x)
        Any real values.
    low, high : float
        The level to grow on and the level a component must reach; ``low <= high``.
    connectivity : {"faces", "full"}
        See :func:`components`.

    Returns
    -------
    array of bool, the shape of ``probability``
        True in the components that are kept.

    Raises
    ------
    ArgumentError
        If ``low > high``.
    """
    if not low <= high:
        raise ArgumentError(
            f"low must not be above high; got low {low} and high {high}. Swap the two thresholds."
        )
    labels, _ = components(threshold(probability, low), connectivity)
    return _keep(labels, labels[threshold(probability, high)])


def grow(
    probability: ArrayLike,
    seeds: ArrayLike,
    level: float = 0.5,
    *,
    connectivity: Connectivity = "faces",
    intensity: ArrayLike | None = None,
    deviations: float = 2.5,
) -> Mask:
    """Components of ``probability > level`` that hold a seed.

    Parameters
    ----------
    probability : array, shape (z, y, x) or (y, x)
        Any real values.
    seeds : array of int, shape (n, dimension)
        Voxel indices in array order (z, y, x). A seed that is not above ``level`` grows nothing.
    level : float
        See :func:`threshold`.
    connectivity : {"faces", "full"}
        See :func:`components`.
    intensity : array, the shape of ``probability``, optional
        An image the region must be even in: a voxel joins the region of a seed only where
        ``|intensity - mean| <= deviations * std``, both taken over the seed and
        its neighbours, diagonals included.
    deviations : float
        Width of that band in standard deviations, positive. A patch without spread lets in its
        own value only.

    Returns
    -------
    array of bool, the shape of ``probability``
        The union over the seeds.

    Raises
    ------
    ShapeError
        If ``seeds`` is not (n, dimension), or ``intensity`` has another shape.
    ArgumentError
        If a seed lies outside the image.
    """
    inside = threshold(probability, level)
    points = _seeds(seeds, inside.shape)
    if intensity is None:
        labels, _ = components(inside, connectivity)
        return _keep(labels, labels[tuple(points.T)])
    values = np.asarray(intensity, dtype=np.float64)
    if values.shape != inside.shape:
        raise ShapeError(
            f"intensity must have the shape of probability, {inside.shape}; got {values.shape}. "
            "Resample it onto the grid of probability first."
        )
    if not deviations > 0:
        raise ArgumentError(f"deviations must be positive; got {deviations}. 2.5 is usual.")
    region = np.zeros(inside.shape, bool)
    for point in points:
        window = tuple(slice(max(p - 1, 0), p + 2) for p in point)
        patch = values[window][np.isfinite(values[window])]
        if not patch.size:
            continue
        with np.errstate(invalid="ignore"):
            alike = np.abs(values - patch.mean()) <= deviations * patch.std()
        labels, _ = components(inside & alike, connectivity)
        region |= _keep(labels, labels[tuple(point)][None])
    return region


def grow_even(
    probability: ArrayLike,
    seeds: ArrayLike,
    intensity: ArrayLike,
    *,
    level: float = 0.5,
    deviations: float = 3.0,
    connectivity: Connectivity = "faces",
) -> Mask:
    """Grow a region of similar intensity from seeds, fill holes, extend it to half contrast.

    The probability alone lets a region run into tissue that the lesion displaced or resembles.
    So of every component of the seeds only the largest part of even intensity is kept. That loses
    the rim, which is half lesion: voxels beside the part return where they look more like the
    lesion than like what surrounds it.

    Parameters
    ----------
    probability : array, shape (z, y, x) or (y, x)
        Any real values.
    seeds : array of int, shape (n, dimension)
        See :func:`grow`.
    intensity : array, the shape of ``probability``
        The image that shows the lesion. What is not a number belongs to nothing: put it where the
        image shows no tissue, if that is known.
    level : float
        Above it, voxels may belong to the region.
    deviations : float
        Width of the band of even intensities around the median, in standard deviations (by the
        median absolute deviation), positive; both of what lies below the component's surface.
    connectivity : {"faces", "full"}
        See :func:`components`.

    Returns
    -------
    array of bool, the shape of ``probability``
        Empty if no seed lies above ``level``.
    """
    grown = grow(probability, seeds, level, connectivity=connectivity)
    values = np.asarray(intensity, dtype=np.float64)
    if values.shape != grown.shape:
        raise ShapeError(
            f"intensity must have the shape of probability, {grown.shape}; got {values.shape}. "
            "Resample it onto the grid of probability first."
        )
    if not deviations > 0:
        raise ArgumentError(f"deviations must be positive; got {deviations}. 3 is usual.")
    labels, count = components(grown & np.isfinite(values), connectivity)
    region = np.zeros(grown.shape, bool)
    for component in range(1, count + 1):
        inside = labels == component
        deep = ~_one_wider(~inside) & inside  # a surface is half something else
        core = values[deep if deep.any() else inside]
        middle = np.median(core)
        spread = 1.4826 * np.median(np.abs(core - middle))  # a normal distribution's sigma
        with np.errstate(invalid="ignore"):
            body = largest_component(
                inside & (np.abs(values - middle) <= deviations * spread), connectivity=connectivity
            )
        region |= fill_holes(body) | (_rim(body, values, middle) & inside)
    return region


def _rim(body: Mask, values: NDArray, middle: float) -> Mask:
    """Voxels that touch ``body`` and are closer to ``middle`` than to what lies beyond them."""
    beyond = ~_one_wider(_one_wider(body)) & np.isfinite(values)
    weight = _blurred(beyond.astype(np.float64))
    surroundings = _blurred(np.where(beyond, values, 0.0))
    known = weight > LEAST_SURROUNDINGS
    surroundings = np.divide(surroundings, weight, out=np.full(values.shape, np.nan), where=known)
    with np.errstate(invalid="ignore"):
        closer = np.abs(values - middle) < np.abs(values - surroundings)
    return np.asarray(_one_wider(body) & ~body & closer)


def _one_wider(mask: Mask) -> Mask:
    """The mask dilated by one voxel (face neighbours)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.BinaryDilate(image, [1] * mask.ndim, sitk.sitkCross)) > 0


def _blurred(values: NDArray) -> NDArray:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(values)
    return sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, SURROUNDINGS_SIGMA**2))


def largest_component(
    mask: ArrayLike, weight: ArrayLike | None = None, connectivity: Connectivity = "faces"
) -> Mask:
    """The component with the largest sum of ``weight``, where no seed is given.

    Parameters
    ----------
    mask : array of bool or number, shape (z, y, x) or (y, x)
        Not zero is inside.
    weight : array, the shape of ``mask``, optional
        Probability or squared residual, not negative; not-a-number counts as 0. Default: 1, the
        size in voxels.
    connectivity : {"faces", "full"}
        See :func:`components`.

    Returns
    -------
    array of bool, the shape of ``mask``
        Empty where the mask is; of equal components the first.
    """
    labels, count = components(mask, connectivity)
    if weight is not None and np.shape(weight) != labels.shape:
        raise ShapeError(
            f"weight must have the shape of mask, {labels.shape}; got {np.shape(weight)}. "
            "Resample it onto the grid of mask first."
        )
    if count == 0:
        return labels.astype(bool)
    inside = labels > 0
    if weight is None:
        weights = None
    else:
        weights = np.asarray(weight)[inside].astype(np.float64)
        weights[~np.isfinite(weights)] = 0.0
    totals = np.bincount(labels[inside], weights, count + 1)
    return np.asarray(labels == 1 + int(totals[1:].argmax()))


def fill_holes(mask: ArrayLike, connectivity: Connectivity = "faces") -> Mask:
    """The mask with its cavities filled: background that cannot reach the border of the image.

    Parameters
    ----------
    mask : array of bool or number, shape (z, y, x) or (y, x)
        Not zero is inside. An axis of one voxel counts as no axis: a single slice is filled in 2D.
    connectivity : {"faces", "full"}
        Of the mask; the background is connected the other way, so that a wall of touching corners
        holds water exactly when the mask counts as one piece.

    Returns
    -------
    array of bool, the shape of ``mask``
        True in the mask and in its cavities.
    """
    inside = _mask(mask)
    slab = inside.squeeze()
    if slab.ndim < 2:
        return inside.copy()
    outside = np.pad(~slab, 1, constant_values=True)
    labels, _ = components(outside, "faces" if _is_full(connectivity) else "full")
    sea = labels == labels[(0,) * labels.ndim]
    return ~sea[(slice(1, -1),) * slab.ndim].reshape(inside.shape)


def oracle_seed(
    probability: ArrayLike, truth: ArrayLike, generator: np.random.Generator, level: float = 0.5
) -> NDArray | None:
    """One voxel drawn at random where the probability is above ``level`` and the truth is 1.

    It knows the truth: for repeating the published evaluation only, and to be labelled so.

    Parameters
    ----------
    probability, truth : array, shape (z, y, x) or (y, x)
        Probability and true mask.
    generator : numpy.random.Generator
        Where the draw comes from.
    level : float
        See :func:`threshold`.

    Returns
    -------
    array of int, shape (1, dimension), or None
        None where the two do not meet: such a pair counts as missed.
    """
    candidates = np.argwhere(threshold(probability, level) & _mask(truth))
    if not len(candidates):
        return None
    return candidates[generator.integers(len(candidates))][None]


def _image(array: ArrayLike) -> NDArray:
    values = np.asarray(array)
    if values.ndim not in (2, 3):
        raise ShapeError(
            f"the image must have 2 or 3 axes; got shape {values.shape}. "
            "Pass one channel of one image."
        )
    return values


def _mask(array: ArrayLike) -> Mask:
    values = _image(array)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
    return values.astype(bool)


def _is_full(connectivity: str) -> bool:
    if connectivity not in ("faces", "full"):
        raise ArgumentError(
            f"connectivity must be 'faces' or 'full'; got {connectivity!r}. "
            "'faces' joins voxels that share a face, 'full' also those that share a corner."
        )
    return connectivity == "full"


def _keep(labels: NDArray, chosen: NDArray) -> Mask:
    """Voxels of the components in ``chosen``; 0 there means no component."""
    wanted = np.zeros(int(labels.max(initial=0)) + 1, bool)
    wanted[chosen] = True
    wanted[0] = False
    return wanted[labels]


def _seeds(seeds: ArrayLike, shape: tuple[int, ...]) -> NDArray:
    points = np.asarray(seeds)
    if points.ndim != 2 or points.shape[1] != len(shape) or points.dtype.kind not in "iu":
        raise ShapeError(
            f"seeds must be whole numbers of shape (n, {len(shape)}); got {points.dtype} of shape "
            f"{points.shape}. Give one row of voxel indices in array order for each seed."
        )
    for point in points:
        if (point < 0).any() or (point >= shape).any():
            raise ArgumentError(
                f"seeds must lie inside the image of shape {shape}; got voxel "
                f"{tuple(int(p) for p in point)} (array order). Check its space and its order."
            )
    return points
