"""Slices in space: their order, their even step, or the fault where there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.formats.content import Place, Refused

# Positions are written with as few as two decimals and taken from moving tables.
NEAR_MM = 0.1
WORTH_A_WARNING_MM = 0.05
# Beyond this a step along the normal is a gap, and below that share of the longest no step at all.
GAP, SAME_PLACE = 1.5, 0.02
# Off the normal by more than this, and by more than NEAR_MM in all, slices are sheared.
TILT = 1e-3


@dataclass(frozen=True)
class Stack:
    """Slices in order along their normal, and the place of the volume that they make."""

    order: tuple[int, ...]
    place: Place


def stacked(
    positions: NDArray[np.float64],
    orientation: NDArray[np.float64],
    spacing: NDArray[np.float64],
    labels: list[str],
    kind: str,
) -> tuple[Stack, list[str]]:
    """Order slices, and check that they make one even volume.

    Parameters
    ----------
    positions : ndarray, shape (N, 3)
        Centre of the first pixel of every slice, mm, LPS.
    orientation : ndarray, shape (6,)
        Direction of rows and of columns.
    spacing : ndarray, shape (2,)
        Distance of rows and of columns, mm.
    labels : list of str
        Names of the slices, for messages.
    kind : str
        "slices" or "frames", for messages.

    Returns
    -------
    Stack
        Every slice lies within .1 mm of its position.
    list of str
        One per remark about the slices.

    Raises
    ------
    Refused
        If slices are missing, at the same place, unevenly spaced or sheared.
    """
    row, column = orientation[:3], orientation[3:]
    normal = np.cross(row, column)
    length = np.linalg.norm(normal)
    if not 0.99 < length < 1.01:
        raise Refused(
            "has no usable ImageOrientationPatient (0020,0037): its axes are not at right angles"
        )
    normal = normal / length
    order = np.argsort(positions @ normal, kind="stable")
    positions, labels = positions[order], [labels[i] for i in order]
    steps = np.diff(positions @ normal)
    _require_different_places(steps, labels, kind)
    _require_no_gap(steps, labels, kind)
    start, step = _line(positions)
    sideways = step - (step @ normal) * normal
    if np.linalg.norm(sideways) > TILT * np.linalg.norm(step):
        if np.linalg.norm(sideways) * (len(positions) - 1) / 2 > NEAR_MM:
            raise Refused(
                f"its {kind} are sheared (gantry tilt); resample it to an unsheared grid first"
            )
        step = (step @ normal) * normal  # a short stack, whose positions are rounded
    start = positions.mean(axis=0) - step * (len(positions) - 1) / 2
    index = np.arange(len(positions))[:, None]
    off = np.linalg.norm(positions - (start + index * step), axis=1)
    if off.max() > NEAR_MM:
        at = int(np.argmax(off))
        raise Refused(
            f"its {kind} are unevenly spaced: {kind[:-1]} {labels[at]} lies {off[at]:.3g} mm from "
            f"an even grid, at distances of {steps.min():.4g} to {steps.max():.4g} mm"
        )
    notes = []
    if off.max() > WORTH_A_WARNING_MM:
        notes.append(
            f"its {kind[:-1]} distances vary from {steps.min():.4g} to {steps.max():.4g} mm; "
            "their mean is used"
        )
    return Stack(tuple(int(i) for i in order), _place(start, step, row, column, spacing)), notes


def _line(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The line of even steps through the positions: start and step, by least squares."""
    index = np.arange(len(positions)) - (len(positions) - 1) / 2
    step = index @ positions / (index @ index)
    return positions.mean(axis=0) + index[0] * step, step


def _place(
    start: NDArray[np.float64],
    step: NDArray[np.float64],
    row: NDArray[np.float64],
    column: NDArray[np.float64],
    spacing: NDArray[np.float64],
) -> Place:
    """Axes at right angles: the stack's is kept, being known best, and the rows are turned."""
    distance = float(np.linalg.norm(step))
    normal = step / distance
    row = row - (row @ normal) * normal
    row = row / np.linalg.norm(row)
    turned = np.cross(normal, row)
    direction = np.stack([row, turned * np.sign(turned @ column), normal], axis=1)
    return Place(np.array([spacing[1], spacing[0], distance]), start, direction)


def _require_different_places(steps: NDArray[np.float64], labels: list[str], kind: str) -> None:
    longest = float(steps.max())
    same = steps < max(1e-3, SAME_PLACE * longest) if longest > 1e-3 else np.full(len(steps), True)
    if not same.any():
        return
    groups = np.diff(np.flatnonzero(np.concatenate([[True], ~same, [True]])))
    if len(set(groups.tolist())) == 1 and len(groups) > 1:
        raise Refused(
            f"holds {groups[0]} volumes: {groups[0]} {kind} lie at the same place, everywhere. "
            "Extract one volume first"
        )
    at = int(np.flatnonzero(same)[0])
    raise Refused(
        f"{kind} {labels[at]} and {labels[at + 1]} lie at the same place; "
        f"{int(same.sum())} duplicate(s) in all"
    )


def _require_no_gap(steps: NDArray[np.float64], labels: list[str], kind: str) -> None:
    usual = float(np.median(steps))
    if len(steps) == 2 and steps.max() > GAP * steps.min():
        usual = float(steps.min())  # of two steps the longer one holds the gap
    gaps = np.flatnonzero(steps > GAP * usual)
    if not len(gaps):
        return
    at = int(gaps[np.argmax(steps[gaps])])
    missing = round(float(sum(max(1, round(steps[g] / usual) - 1) for g in gaps)))
    raise Refused(
        f"{missing} {kind[:-1]}(s) missing: {steps[at]:.4g} mm between {labels[at]} and "
        f"{labels[at + 1]}, {usual:.4g} mm elsewhere"
    )
