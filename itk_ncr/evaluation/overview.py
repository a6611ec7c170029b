"""Overview figure of a registration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import require_package
from itk_ncr.evaluation.contrast import jacobian_limit, sampled, scaled
from itk_ncr.evaluation.scene import Plane, Scene, planes
from itk_ncr.evaluation.summary import NOTICE
from itk_ncr.images import Image
from itk_ncr.registration import RegistrationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Dots per inch: the figure is about 2000 dots wide.
DPI = 110
# Dark, because medical images are: a white page around them hides their dark half.
_PAGE, _INK, _MARK, _LINES = "#101418", "#e8eaed", "#ffb000", "#7fd4ff"
_GRID_CELLS = 20


def overview(fixed: Image, moving: Image, result: RegistrationResult, path: str | Path) -> None:
    """Draw the registration: images, differences, mask, deformation grid and Jacobian.

    Three planes through the largest region without correspondence (else through the middle of the
    object) in 3D, anterior and superior up, the patient's right on the left; a 2D image as stored.
    No file name is drawn, so that the picture can be shown.

    Parameters
    ----------
    fixed, moving : Image, scalar
        The pair, as registered.
    result : RegistrationResult
        What came out.
    path : path
        PNG to write.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    figures = require_package("matplotlib.figure", "overview.png", "report")
    scene = Scene.of(fixed, moving, result)
    shown = planes(scene)
    panels = _panels(scene)
    cells = [(plane, panel) for plane in shown for panel in panels]
    rows, columns = (2, len(panels) // 2) if len(shown) == 1 else (len(shown), len(panels))
    in_row = shown * 2 if len(shown) == 1 else shown
    # All in inches: panels of one width, rows as high as their plane, gaps that hold the titles.
    cell, gap, title, head, foot, bar = (2.5 if rows > 2 else 4.2), 0.08, 0.34, 0.55, 0.3, 0.65
    heights = [cell * min(plane.height / plane.width, 2.0) for plane in in_row]
    between = title if rows == 2 else gap
    width = columns * (cell + gap) + gap + bar
    height = head + title + sum(heights) + (rows - 1) * between + foot
    figure = figures.Figure(figsize=(width, height), facecolor=_PAGE, dpi=DPI)
    grid = figure.add_gridspec(
        rows,
        columns,
        height_ratios=heights,
        left=gap / width,
        right=1 - bar / width,
        bottom=foot / height,
        top=1 - (head + title) / height,
        wspace=gap / cell,
        hspace=between / (sum(heights) / rows),
    )
    for index, (plane, panel) in enumerate(cells):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        axes.set_axis_off()
        panel.draw(axes, plane)
        if rows == 2 or index < columns:
            axes.set_title(panel.title, color=_INK, fontsize=12, pad=5)
    _write_head(figure, result)
    figure.savefig(path, dpi=DPI, facecolor=_PAGE, format="png", metadata={"Software": "itk_ncr"})


@dataclass(frozen=True)
class _Panel:
    title: str
    draw: Callable[[Axes, Plane], None]


def _panels(scene: Scene) -> list[_Panel]:
    fixed_window, moving_window = scene.fixed_window, scene.moving_window

    def show(ax: Axes, plane: Plane, array: NDArray, **style: Any) -> Any:
        aspect = plane.spacing[0] / plane.spacing[1]
        return ax.imshow(plane.cut(array), aspect=aspect, **style)

    def grey(array: NDArray, window: tuple[float, float]) -> Callable[[Axes, Plane], None]:
        def draw(ax: Axes, plane: Plane) -> None:
            show(ax, plane, array, cmap="gray", vmin=window[0], vmax=window[1])

        return draw

    def outline(ax: Axes, plane: Plane, colour: str = _MARK) -> None:
        cut = plane.cut(scene.mask)
        if cut.any() and not cut.all() and min(cut.shape) > 1:
            ax.contour(cut.astype(float), levels=[0.5], colors=[colour], linewidths=1.1)

    def mask(ax: Axes, plane: Plane) -> None:
        grey(scene.fixed, fixed_window)(ax, plane)
        probability = np.clip(plane.cut(scene.probability), 0, 1)
        colour = np.zeros((*probability.shape, 4))
        colour[..., 0], colour[..., 1], colour[..., 3] = 1.0, 0.35, 0.3 * probability
        ax.imshow(colour, aspect=plane.spacing[0] / plane.spacing[1])
        outline(ax, plane)

    def lines(ax: Axes, plane: Plane) -> None:
        grey(scene.after, moving_window)(ax, plane)
        if min(plane.shape) < 2:
            return
        step = max(max(plane.height, plane.width) / _GRID_CELLS, min(plane.spacing))
        for axis, spacing in zip(plane.axes, plane.spacing, strict=True):
            coordinate = scene.carried(plane, axis)
            levels = np.arange(coordinate.min(), coordinate.max(), step / spacing)[1:]
            if len(levels):
                ax.contour(coordinate, levels=levels, colors=[_LINES], linewidths=0.6, alpha=0.9)

    def jacobian(ax: Axes, plane: Plane) -> None:
        from matplotlib.colors import LogNorm

        limit = jacobian_limit(scene.jacobian)
        determinant = plane.cut(scene.jacobian)
        image = ax.imshow(
            np.ma.masked_where(~(determinant > 0), determinant),
            aspect=plane.spacing[0] / plane.spacing[1],
            cmap=_painted("RdBu_r", bad="#00ff40"),
            norm=LogNorm(1 / limit, limit),
        )
        outline(ax, plane, "#101418")
        ticks = [1 / limit, 1.0, limit]
        inset = ax.inset_axes((1.03, 0.06, 0.05, 0.88))
        bar = ax.figure.colorbar(image, cax=inset, ticks=ticks)
        bar.ax.minorticks_off()
        bar.ax.set_yticklabels([f"{t:.2g}" for t in ticks], color=_INK, fontsize=8)
        bar.outline.set_edgecolor(_INK)
        bar.ax.tick_params(color=_INK, length=2)

    return [
        _Panel("fixed", grey(scene.fixed, fixed_window)),
        _Panel("moving, affine only", grey(scene.before, moving_window)),
        _Panel("warped", grey(scene.after, moving_window)),
        _Panel("no correspondence", mask),
        *_comparison(scene, show, outline),
        _Panel("moving grid, warped", lines),
        _Panel("Jacobian, red: moving larger", jacobian),
    ]


def _comparison(
    scene: Scene, show: Callable[..., Any], outline: Callable[..., None]
) -> list[_Panel]:
    """Before and after: differences on one scale, or checkerboards of two contrasts."""
    if scene.match.alike:
        before = sampled(scene.residual_before)[sampled(scene.shown)]
        limit = float(np.percentile(np.abs(before), 99) if before.size else 0) or 1.0

        def difference(array: NDArray, marked: bool) -> Callable[[Axes, Plane], None]:
            def draw(ax: Axes, plane: Plane) -> None:
                show(ax, plane, array, cmap="gray", vmin=-limit, vmax=limit)
                if marked:
                    outline(ax, plane)

            return draw

        return [
            _Panel("difference before", difference(scene.residual_before, False)),
            _Panel("difference after", difference(scene.residual_after, True)),
        ]

    def squares(array: NDArray) -> Callable[[Axes, Plane], None]:
        def draw(ax: Axes, plane: Plane) -> None:
            one = scaled(plane.cut(scene.fixed), scene.fixed_window)
            two = scaled(plane.cut(array), scene.moving_window)
            side = max(plane.height, plane.width) / 8
            row, column = np.indices(one.shape)
            odd = (row * plane.spacing[0] // side + column * plane.spacing[1] // side) % 2 > 0
            aspect = plane.spacing[0] / plane.spacing[1]
            ax.imshow(np.where(odd, two, one), aspect=aspect, cmap="gray", vmin=0, vmax=1)

        return draw

    return [
        _Panel("checkerboard before", squares(scene.before)),
        _Panel("checkerboard after", squares(scene.after)),
    ]


def _write_head(figure: Figure, result: RegistrationResult) -> None:
    quality = result.quality
    width, height = figure.get_figwidth(), figure.get_figheight()
    line = (
        f"distance {quality.distance_before:.3g} → {quality.distance_outside:.3g}   ·   "
        f"no correspondence {quality.masked_fraction:.1%} of the object   ·   "
        f"smallest Jacobian {quality.minimum_jacobian:.2f}, folding {quality.folding_fraction:.2%}"
        f"   ·   inverse error {quality.inverse_error_mean_voxel:.3f} voxel   ·   "
        f"{quality.seconds:.1f} s"
    )
    top = 1 - 0.3 / height
    figure.text(0.1 / width, top, "itk_ncr", color=_MARK, fontsize=17, weight="bold", va="center")
    figure.text(1.2 / width, top, line, color=_INK, fontsize=13, va="center")
    figure.text(0.1 / width, 0.15 / height, NOTICE, color="#8a9099", fontsize=9, va="center")


def _painted(name: str, bad: str) -> Any:
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=bad)
