"""Figures in the paper's own arrangement, drawn from the models and measurements of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.data import surfaces
from itk_ncr.errors import MissingDependencyError
from itk_ncr.images import Image
from itk_ncr.registration import RegistrationResult
from itk_ncr_reproduction.cases import Case, CaseKey, load_case
from itk_ncr_reproduction.design import LESIONS, VERSIONS
from itk_ncr_reproduction.measure import carried_labels, draw_of, region_grown, run
from itk_ncr_reproduction.methods import METHODS, SLOTS
from itk_ncr_reproduction.run import Reproduction
from itk_ncr_reproduction.tables import cases_of, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of the Okabe-Ito palette, which colour-blind people can tell apart.
FOUND, TRUTH, GROWN, GRID = "#E69F00", "#56B4E9", "#009E73", "#56B4E9"
SURFACE_COLOURS = {"ILM": "#56B4E9", "RPE": "#E69F00", "BM": "#CC79A7"}
LINES_ACROSS = 24
PANEL_INCHES = 2.1
BOXED = (
    "without", "voxelmorph", "varreg", "ants-syn", "greedy", "instance", "regnet", "ncr-s",
    "refined",
)  # fmt: skip
BOX_COLOURS = (
    "#BBBBBB", "#CC79A7", "#777777", "#56B4E9", "#0072B2", "#009E73", "#F0E442", "#E69F00",
    "#D55E00",
)  # fmt: skip


def draw(found: Reproduction, number: int, path: Path) -> str:
    """Draw a figure of the paper and return its caption.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    drawings: dict[int, Callable[[Reproduction], tuple[Figure, str]]] = {
        2: _figure_2,
        3: _figure_3,
        4: _figure_4,
        5: _figure_5,
        6: _figure_6,
    }
    figure, caption = drawings[number](found)
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    return caption


def _figure_2(found: Reproduction) -> tuple[Figure, str]:
    columns = ["fixed", "moving", "RegNet", "RegNet", "NCR-Net s", "NCR-Net s"]
    figure, axes = _panels(2, len(columns), [_aspect(found, n) for n in ("mri-2d", "oct")])
    for row, name in zip(axes, ("mri-2d", "oct"), strict=True):
        case = _example(found, name, "L1" if name == "mri-2d" else "none")
        _show(row[0], case.fixed.array)
        _outline(row[0], case.lesion, TRUTH)
        _show(row[1], case.moving.array)
        for place, key in ((2, "regnet"), (4, "ncr-s")):
            result = _registered(found, case, key)
            _show(row[place], result.warped.array)
            _show(row[place + 1], 0 * case.fixed.array + 1)
            _grid(row[place + 1], result.displacement)
            if key == "ncr-s":
                for ax in row[place:]:
                    _outline(ax, result.mask.array > 0, FOUND)
    for ax, title in zip(axes[0], columns, strict=True):
        ax.set_title(title, fontsize=9)
    caption = (
        "**Figure 2.** Warped images and deformation grids of RegNet and NCR-Net s. Top: a brain "
        "with L1; bottom: a virtual retina. Blue: the true region without partner; orange: S."
    )
    return figure, caption


def _figure_3(found: Reproduction) -> tuple[Figure, str]:
    figure, axes = _panels(3, len(LESIONS), [_aspect(found, "mri-2d")] * 3)
    for column, version in enumerate(LESIONS):
        case = _example(found, "mri-2d", version)
        result = _registered(found, case, "ncr-s")
        mask = result.mask.array > 0
        draw = draw_of(case, found.design.seed)
        grown = region_grown(result.noncorrespondence.array, case.lesion, draw)
        difference = np.abs(case.fixed.array - result.warped.array)
        shown = (
            (case.fixed.array, ((case.lesion, TRUTH),)),
            (difference, ((case.lesion, TRUTH), (mask, FOUND))),
            (case.fixed.array, ((case.lesion, TRUTH), (grown, GROWN))),
        )
        for row, (array, outlines) in zip(axes, shown, strict=True):
            _show(row[column], array)
            for region, colour in outlines:
                _outline(row[column], region, colour)
        axes[0][column].set_title(version, fontsize=9)
    for row, title in zip(axes, ("fixed image", "difference, S", "region growing"), strict=True):
        row[0].set_ylabel(title, fontsize=9)
    caption = (
        "**Figure 3.** Lesions found by NCR-Net s: fixed image, absolute difference after "
        "registration with S (orange), result of region growing (green); blue: the truth."
    )
    return figure, caption


def _figure_4(found: Reproduction) -> tuple[Figure, str]:
    keys = [case.key for case in _most_new(found, 3)]
    titles = ("follow-up (fixed)", "baseline (moving)", "RegNet", "NCR-Net s")
    figure, axes = _panels(len(keys), len(titles), [_aspect(found, "oct")] * len(keys))
    for row, key in zip(axes, keys, strict=True):
        case = load_case(found.data, found.design, key)
        _show(row[0], case.fixed.array)
        _outline(row[0], case.lesion, TRUTH)
        _show(row[1], case.moving.array)
        for ax, method in zip(row[2:], ("regnet", "ncr-s"), strict=True):
            result = _registered(found, case, method)
            _show(ax, result.warped.array)
            carried = surfaces(carried_labels(case, result).array)
            for name, line in carried.items():
                ax.plot(line, color=SURFACE_COLOURS[name], linewidth=0.7)
            if method == "ncr-s":
                _outline(ax, result.mask.array > 0, FOUND)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    caption = (
        "**Figure 4.** Virtual retinas: new disease (blue), warped baseline with the surfaces that "
        "were carried along (ILM blue, RPE orange, BM pink) and S (orange outline)."
    )
    return figure, caption


def _figure_5(found: Reproduction) -> tuple[Figure, str]:
    from matplotlib.patches import Patch

    cases = cases_of(found, "mri-2d")
    figure = _figure((11.0, 9.0))
    axes = figure.subplots(3, 1, sharex=False)
    panels = (
        ("jaccard", VERSIONS, "(a) all labels"),
        ("inside", LESIONS, "(b) labels that touch the lesion"),
        ("outside", LESIONS, "(c) the other labels"),
    )
    width = 0.8 / len(BOXED)
    for ax, (name, versions, title) in zip(axes, panels, strict=True):
        for place, version in enumerate(versions):
            values = values_of(cases, BOXED, name, version)
            for number, key in enumerate(BOXED):
                known = values[key][~np.isnan(values[key])]
                if not len(known):
                    continue
                box = ax.boxplot(
                    known,
                    positions=[place + (number - (len(BOXED) - 1) / 2) * width],
                    widths=width * 0.85,
                    patch_artist=True,
                    medianprops={"color": "black"},
                    flierprops={"markersize": 2},
                )
                box["boxes"][0].set_facecolor(BOX_COLOURS[number])
        ax.set_xticks(range(len(versions)), versions)
        ax.set_xlim(-0.5, len(versions) - 0.5)
        ax.set_ylabel("Jaccard index")
        ax.set_title(title, fontsize=10, loc="left")
        ax.grid(axis="y", alpha=0.3)
    handles = [
        Patch(facecolor=colour, edgecolor="black", label=METHODS[key].title)
        for key, colour in zip(BOXED, BOX_COLOURS, strict=True)
    ]
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    figure.legend(handles=handles, ncols=len(handles), fontsize=8, loc="upper center")
    missing = " and ".join(SLOTS[5])
    there = "is" if len(SLOTS[5]) == 1 else "are"
    caption = (
        "**Figure 5.** Overlap of labels in 2D before registration and after it by several "
        f"methods. {missing}, which the paper shows, {there} not in this package yet."
    )
    return figure, caption


def _figure_6(found: Reproduction) -> tuple[Figure, str]:
    case = _example(found, "mri-3d", "L1")
    titles = ("fixed, truth", "moving", "NCR-Net s, S", "+ refinement, S", "per-pair solver, S")
    shapes = [_plane(case.fixed.array, axis, case).shape for axis in range(3)]
    figure, axes = _panels(3, len(titles), [height / width for height, width in shapes])
    results = {key: _registered(found, case, key) for key in ("ncr-s", "refined", "instance")}
    for axis, row in enumerate(axes):
        columns: list[tuple[NDArray, NDArray, str]] = [
            (case.fixed.array, case.lesion, TRUTH),
            (case.moving.array, 0 * case.lesion, TRUTH),
        ]
        columns += [(r.warped.array, r.mask.array > 0, FOUND) for r in results.values()]
        for ax, (array, region, colour) in zip(row, columns, strict=True):
            _show(ax, _plane(array, axis, case))
            _outline(ax, _plane(region, axis, case), colour)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    caption = (
        "**Figure 6.** A brain in 3D with L1, three planes through the middle of the lesion. Blue: "
        "the truth; orange: S."
    )
    return figure, caption


def _registered(found: Reproduction, case: Case, method: str) -> RegistrationResult:
    """The case as it was registered for the tables."""
    model = found.model(case.key.experiment, method, case.key.fold)
    return run(case, method, model, seed=found.design.seed)


def _example(found: Reproduction, experiment: str, version: str) -> Case:
    """The first measured pair of an experiment, in a version; of retinas the one that changed."""
    if experiment == "oct":
        return _most_new(found, 1)[0]
    key = next(
        c.key for c in found.measured if (c.key.experiment, c.key.version) == (experiment, version)
    )
    return load_case(found.data, found.design, key)


def _most_new(found: Reproduction, count: int) -> list[Case]:
    """The retinas with most new disease, of the first twelve."""
    keys: list[CaseKey] = [c.key for c in found.measured if c.key.experiment == "oct"][:12]
    cases = [load_case(found.data, found.design, key) for key in keys]
    return sorted(cases, key=lambda case: -int(case.lesion.sum()))[:count]


def _aspect(found: Reproduction, experiment: str) -> float:
    key = next(c.key for c in found.measured if c.key.experiment == experiment)
    height, width = load_case(found.data, found.design, key).fixed.array.shape[-2:]
    return height / width


def _plane(array: NDArray, axis: int, case: Case) -> NDArray:
    """A plane through the middle of the lesion, upright: z from top to bottom is superior first."""
    middle = int(np.argwhere(case.lesion).mean(0)[axis])
    plane = np.take(array, middle, axis)
    return plane if axis == 0 else plane[::-1]


def _figure(size: tuple[float, float]) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "figures need matplotlib, which is not installed. "
            'Install it with: pip install "itk_ncr[report]"'
        ) from error
    return Figure(figsize=size)


def _panels(rows: int, columns: int, aspects: Sequence[float]) -> tuple[Figure, list[list[Axes]]]:
    """Rows as high as their images, without ticks."""
    heights = [PANEL_INCHES * aspect for aspect in aspects]
    figure = _figure((PANEL_INCHES * columns, sum(heights) + 0.3))
    made: Any = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={"height_ratios": heights, "wspace": 0.03, "hspace": 0.05},
    )
    for ax in made.ravel():
        ax.set_xticks([])
        ax.set_yticks([])
    return figure, [list(row) for row in made]


def _show(ax: Axes, array: NDArray) -> None:
    top = float(np.percentile(array, 99.5)) or 1.0
    ax.imshow(array, cmap="gray", vmin=0, vmax=top, interpolation="nearest")


def _outline(ax: Axes, region: NDArray, colour: str) -> None:
    region = np.asarray(region, float)
    if region.any() and not region.all():
        ax.contour(region, levels=[0.5], colors=[colour], linewidths=1.0)


def _grid(ax: Axes, displacement: Image) -> None:
    """Lines of a grid of the moving image, where they come to lie; 2D, spacing 1 mm."""
    height, width = displacement.array.shape[:2]
    step = max(width // LINES_ACROSS, 2)
    rows, columns = np.mgrid[:height, :width].astype(float)
    for start, component, size in ((columns, 0, width), (rows, 1, height)):
        carried = start + displacement.array[..., component] / displacement.grid.spacing[component]
        ax.contour(carried, levels=np.arange(0, size, step), colors=[GRID], linewidths=0.6)
