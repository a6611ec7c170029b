"""The paper's findings, tested on the measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itk_ncr.evaluation import bootstrap_interval, effect_size, holm, signed_rank_test
from itk_ncr_reproduction.design import LESIONS
from itk_ncr_reproduction.methods import METHODS
from itk_ncr_reproduction.run import Measured, Reproduction
from itk_ncr_reproduction.tables import cases_of, values_of

LEVEL = 0.05
# "Within" and "drops by": the bars that were set for a reproduction at a small budget.
ALIKE, UNSUPERVISED_ALIKE, LEAST_EXTRA_DROP = 0.005, 0.01, 0.03


@dataclass(frozen=True)
class Direction:
    """One finding of the paper and whether it holds here.

    Attributes
    ----------
    statement : str
    paper : str
        Its figures.
    here : str
        Ours.
    holds : bool or None
        None: there is nothing to say it from.
    p : float or None
        Of the test behind it, where there is one (one-sided Wilcoxon signed-rank).
    effect : str
        Where two methods are compared on the same cases: matched-pairs rank-biserial correlation
        of their figures, and mean difference with its 95 % bootstrap interval.
    """

    statement: str
    paper: str
    here: str
    holds: bool | None
    p: float | None = None
    effect: str = ""


def directions_of(found: Reproduction, numbers: Sequence[int]) -> list[Direction]:
    """All findings that the tables of those numbers can answer."""
    made: list[Direction] = []
    if 2 in numbers:
        made += _brains(cases_of(found, "mri-2d"))
    if 3 in numbers:
        made += _lesions(cases_of(found, "mri-2d"))
    if 1 in numbers:
        made += _retinas(cases_of(found, "oct"))
    if 4 in numbers:
        made += _volumes(cases_of(found, "mri-3d"))
    return made


def markdown(directions: Sequence[Direction]) -> str:
    """The findings as a Markdown table; p values also corrected for their number (Holm)."""
    tested = [d.p for d in directions if d.p is not None]
    corrected = iter(holm(tested)) if tested else iter(())
    lines = [
        "| finding | paper | here | holds | p (Holm) | effect size; difference (95 % interval) |",
        "|---|---|---|---|---|---|",
    ]
    words = {True: "yes", False: "**no**", None: "not measured"}
    for d in directions:
        p = "" if d.p is None else f"{d.p:.2g} ({next(corrected):.2g})"
        lines.append(
            f"| {d.statement} | {d.paper} | {d.here} | {words[d.holds]} | {p} | {d.effect} |"
        )
    return "\n".join(lines) + "\n"


def _brains(cases: Sequence[Measured]) -> list[Direction]:
    made = []
    drops = {key: _drops(cases, key) for key in ("regnet", "ncr-s")}
    paper = {"L1": (0.111, 0.019), "L4": (0.092, 0.024)}
    for version in ("L1", "L4"):
        net, ncr = drops["regnet"].get(version), drops["ncr-s"].get(version)
        known = net is not None and ncr is not None
        made.append(
            Direction(
                f"{version} costs RegNet more overlap than NCR-Net s, by {LEAST_EXTRA_DROP} or "
                "more",
                f"{paper[version][0]:.3f}, {paper[version][1]:.3f}",
                f"{net:.3f}, {ncr:.3f}" if known else "",
                net - ncr >= LEAST_EXTRA_DROP if net is not None and ncr is not None else None,
            )
        )
        made.append(
            _greater(cases, "ncr-s", "regnet", "jaccard", version, "NCR-Net s > RegNet with {}",
                     {"L1": "0.600 > 0.509", "L4": "0.595 > 0.528"}[version])
        )  # fmt: skip
    for version, printed in (("none", -0.001), ("L2", 0.009), ("L3", -0.001)):
        made.append(_alike(cases, "ncr-s", "regnet", version, ALIKE, f"{printed:+.3f}"))
    made.append(_alike(cases, "ncr-u", "ncr-b", "none", UNSUPERVISED_ALIKE, "alike"))
    for version in ("L1", "L4"):
        made.append(
            _greater(cases, "ncr-s", "voxelmorph", "jaccard", version,
                     "NCR-Net s > VoxelMorph with {} (Fig. 5)", "far better")
        )  # fmt: skip
        made.append(
            _greater(cases, "refined", "ncr-s", "jaccard", version,
                     "refinement improves NCR-Net s with {} (not in the paper)", "")
        )  # fmt: skip
    return made


def _lesions(cases: Sequence[Measured]) -> list[Direction]:
    made = []
    printed = {"L1": "0.742 -> 0.871", "L2": "0.225 -> 0.870", "L3": "0.362 -> 0.630",
               "L4": "0.737 -> 0.880"}  # fmt: skip
    for version in LESIONS:
        before, after = (
            _mean(values_of(cases, ["ncr-s"], figure, version)["ncr-s"])
            for figure in ("dice", "grown")
        )
        known = before is not None and after is not None
        made.append(
            Direction(
                f"region growing raises the Dice of {version}",
                printed[version],
                f"{before:.3f} -> {after:.3f}" if known else "",
                after > before if before is not None and after is not None else None,
            )
        )
    return made


def _retinas(cases: Sequence[Measured]) -> list[Direction]:
    made = []
    printed = {"ILM": "0.927 < 1.072", "RPE": "2.100 < 2.198", "BM": "3.021 < 3.104"}
    for name, text in printed.items():
        made.append(
            _greater(cases, "ncr-b", "ncr-s", f"assd_{name}", "none",
                     f"{name}: NCR-Net s closer than b", text)
        )  # fmt: skip
    for name, text in {"ILM": "0.852 < 0.927", "BM": "2.796 < 3.021"}.items():
        made.append(
            _greater(cases, "ncr-s", "regnet", f"assd_{name}", "none",
                     f"{name}: RegNet closer than NCR-Net s", text)
        )  # fmt: skip
    return made


def _volumes(cases: Sequence[Measured]) -> list[Direction]:
    printed = {"none": "0.489 > 0.480", "L1": "0.486 > 0.466", "L4": "0.486 > 0.464"}
    return [
        _greater(cases, "ncr-s", "voxelmorph", "jaccard", version,
                 "3D: NCR-Net s > VoxelMorph, {}", text)
        for version, text in printed.items()
    ]  # fmt: skip


def _greater(
    cases: Sequence[Measured],
    first: str,
    second: str,
    figure: str,
    version: str,
    statement: str,
    paper: str,
) -> Direction:
    """Whether the first method's figure is significantly larger."""
    values = values_of(cases, [first, second], figure, version)
    one, two = _both_known(values[first], values[second])
    statement = statement.format("no lesion" if version == "none" else version)
    if not len(one):
        return Direction(statement, paper, "", None)
    p = signed_rank_test(one, two)
    here = f"{METHODS[first].title} {one.mean():.3f}, {METHODS[second].title} {two.mean():.3f}"
    return Direction(statement, paper, here, bool(p < LEVEL), float(p), _effect(one, two))


def _alike(
    cases: Sequence[Measured], first: str, second: str, version: str, within: float, paper: str
) -> Direction:
    values = values_of(cases, [first, second], "jaccard", version)
    one, two = _both_known(values[first], values[second])
    words = "no lesion" if version == "none" else version
    statement = f"{METHODS[first].title} within {within} of {METHODS[second].title}, {words}"
    if not len(one):
        return Direction(statement, paper, "", None)
    difference = float((one - two).mean())
    return Direction(
        statement,
        paper,
        f"{difference:+.3f}",
        abs(difference) <= within,
        effect=_effect(one, two),
    )


def _effect(one: NDArray[np.float64], two: NDArray[np.float64]) -> str:
    """How large a difference of paired figures is, whatever its significance."""
    ends = bootstrap_interval(one - two)
    return (
        f"{effect_size(one, two):+.2f}; {(one - two).mean():+.3f} "
        f"({ends.low:+.3f} to {ends.high:+.3f})"
    )


def _drops(cases: Sequence[Measured], key: str) -> dict[str, float]:
    """How much lower the mean overlap is with each lesion than without."""
    free = _mean(values_of(cases, [key], "jaccard", "none")[key])
    drops = {}
    for version in LESIONS:
        ill = _mean(values_of(cases, [key], "jaccard", version)[key])
        if free is not None and ill is not None:
            drops[version] = free - ill
    return drops


def _both_known(
    one: NDArray[np.float64], two: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~(np.isnan(one) | np.isnan(two))
    return one[known], two[known]


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
