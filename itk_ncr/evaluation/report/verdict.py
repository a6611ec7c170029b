"""A plain word for a registration, with its reason and what to check next.

Every threshold stands here, with where it comes from. They find what went wrong visibly; no
figure can say that a registration is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# "failed" is what `itk-ncr batch` calls a pair without a result, and no figure can say that.
Grade = Literal["good", "look", "poor", "failed"]
GRADES: tuple[Grade, ...] = ("good", "look", "poor", "failed")

# Distance after over distance before. Above 1 the images are no more alike than with the affine
# alone: by definition nothing was gained. 0.9: less than a tenth was gained. The pairs of
# examples/data reach 0.32 (T1) and 0.60 (OCT).
GAIN_LOOK, GAIN_POOR = 0.9, 1.0
# Share of the object without a partner. 0.35 is where `register` itself warns; above one half more
# is explained away than explained.
MASKED_LOOK, MASKED_POOR = 0.35, 0.5
# Share of voxels that fold. The maps are diffeomorphic by construction and nothing folds in any
# row of docs/benchmarks.md, so one voxel is worth a look. One in a hundred is a convention: tissue
# is turned inside out in places that the eye finds.
FOLDING_LOOK, FOLDING_POOR = 0.0, 0.01
# Mean inverse error in voxels. The worst pair of docs/benchmarks.md has 0.042 (bar 0.05), twice
# that bar is unusual; beyond half a voxel the way back ends in another voxel.
INVERSE_LOOK, INVERSE_POOR = 0.1, 0.5
# Share of the fixed grid that is carried into the moving image. Conventions: whole heads on equal
# fields of view reach 0.9 and more; below 0.3 hardly anything was compared.
OVERLAP_LOOK, OVERLAP_POOR = 0.7, 0.3
# Share of voxels that shrink or grow more than fivefold; the T1 pair of examples/data, two
# persons with different ventricles, has 0.3 %.
STRETCH = 5.0
STRETCH_LOOK = 0.01
# Dice of the mask with the truth: below one half more of the two differs than agrees.
DICE_LOOK = 0.5


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    value: str
    grade: Grade
    reason: str
    advice: str = ""
    """What to check next; empty where all is well."""


@dataclass(frozen=True)
class Verdict:
    """The worst of the checks, in words."""

    grade: Grade
    checks: tuple[Check, ...]

    @property
    def word(self) -> str:
        """Good, look, poor or failed, for a heading."""
        return self.grade.capitalize()

    @property
    def line(self) -> str:
        """One sentence on what the grade means."""
        return {
            "good": "No figure says that this registration went wrong. "
            "Figures cannot see everything: scroll through the slices once.",
            "look": "Something here is unusual. Read the reason below and look at the pictures "
            "before you use the result.",
            "poor": "At least one figure says that this registration went wrong. "
            "Do not use it before you know why.",
            "failed": "There is no result.",
        }[self.grade]

    @property
    def remarks(self) -> tuple[Check, ...]:
        """The checks that are not good, worst first."""
        found = [check for check in self.checks if check.grade != "good"]
        return tuple(sorted(found, key=lambda check: -GRADES.index(check.grade)))


def judge(
    quality: Mapping[str, Any],
    warnings: Sequence[str] = (),
    stretched: float | None = None,
    overlaps: tuple[float, float] | None = None,
    found: float | None = None,
) -> Verdict:
    """Judge a registration by its figures.

    Parameters
    ----------
    quality : mapping
        Figures by the names of :class:`itk_ncr.registration.Quality`. What is not there is not
        judged; what is there and is no finite number is poor.
    warnings : sequence of str
        What the run warned about.
    stretched : float, optional
        Share of voxels whose volume changes more than fivefold.
    overlaps : tuple of float, optional
        Mean overlap of labels after the affine and after the registration.
    found : float, optional
        Dice of the mask with the truth.

    Returns
    -------
    Verdict
    """
    checks = [
        _similarity(quality),
        _masked(quality),
        _folding(quality),
        _inverse(quality),
        _overlap(quality),
        _stretched(stretched),
        _labels(overlaps),
        _truth(found),
        _warned(warnings),
    ]
    made = tuple(check for check in checks if check is not None)
    worst = max((GRADES.index(check.grade) for check in made), default=0)
    return Verdict(GRADES[worst], made)


def finite(value: Any) -> float | None:
    """A finite number, of a number or of text in a table; else None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _graded(value: float, look: float, poor: float) -> Grade:
    """Small is good."""
    return "poor" if value > poor else "look" if value > look else "good"


def _number(quality: Mapping[str, Any], key: str, name: str) -> float | Check | None:
    """The figure; a poor check where there is one that is no number; None where there is none."""
    if key not in quality:
        return None
    value = finite(quality[key])
    if value is None:
        return Check(
            name,
            "no number",
            "poor",
            "The figure could not be computed.",
            "Check both images for empty, constant or invalid (NaN) content.",
        )
    return value


def _similarity(quality: Mapping[str, Any]) -> Check | None:
    name = "Image distance"
    before = _number(quality, "distance_before", name)
    after = _number(quality, "distance_outside", name)
    for value in (before, after):
        if value is None or isinstance(value, Check):
            return value
    assert isinstance(before, float)
    assert isinstance(after, float)
    text = f"{before:.3g} → {after:.3g}"
    if before <= 0:
        return Check(name, text, "good", "The images were equal after the affine already.")
    ratio = after / before
    grade: Grade = "poor" if ratio >= GAIN_POOR else "look" if ratio > GAIN_LOOK else "good"
    return Check(
        name,
        text,
        grade,
        {
            "good": f"{1 - ratio:.0%} of the distance after the affine is gone, outside the mask.",
            "look": f"Only {1 - ratio:.1%} of the distance after the affine is gone.",
            "poor": "The images are no more alike than after the affine alone.",
        }[grade],
        {
            "good": "",
            "look": "Flicker between fixed and warped. If the images were alike before, this is "
            "fine; else check the affine, the preset and the contrast.",
            "poor": "Look at the image after the affine first: is it turned or shifted? Then "
            "check the preset; two contrasts need --preset multimodal.",
        }[grade],
    )


def _masked(quality: Mapping[str, Any]) -> Check | None:
    name = "No correspondence"
    share = _number(quality, "masked_fraction", name)
    if not isinstance(share, float):
        return share
    grade = _graded(share, MASKED_LOOK, MASKED_POOR)
    return Check(
        name,
        f"{share:.1%}",
        grade,
        {
            "good": f"At most {MASKED_LOOK:.0%} of the fixed object is in the mask.",
            "look": f"More than {MASKED_LOOK:.0%} of the object found no partner.",
            "poor": "More than half of the object found no partner.",
        }[grade],
        ""
        if grade == "good"
        else "Is that the pathology, or tissue that should match? In the latter case check the "
        "affine and the contrast, or raise --mask-price.",
    )


def _folding(quality: Mapping[str, Any]) -> Check | None:
    name = "Folding"
    share = _number(quality, "folding_fraction", name)
    if not isinstance(share, float):
        return share
    grade = _graded(share, FOLDING_LOOK, FOLDING_POOR)
    return Check(
        name,
        f"{share:.1e}" if 0 < share < 5e-5 else f"{share:.2%}",
        grade,
        "No voxel is turned inside out (share of voxels)."
        if grade == "good"
        else "Some voxels are turned inside out: the map is not one to one there.",
        ""
        if grade == "good"
        else "Green spots in the Jacobian map show where. Raise --smoothness, or mask what has no "
        "counterpart there.",
    )


def _inverse(quality: Mapping[str, Any]) -> Check | None:
    name = "Inverse error"
    error = _number(quality, "inverse_error_mean_voxel", name)
    if not isinstance(error, float):
        return error
    grade = _graded(error, INVERSE_LOOK, INVERSE_POOR)
    return Check(
        name,
        f"{error:.3f} voxel",
        grade,
        f"There and back ends {error:.2g} voxel from the start in the mean.",
        ""
        if grade == "good"
        else "Points and labels carried with the inverse are off by that much. "
        "Raise --smoothness if you need the inverse.",
    )


def _overlap(quality: Mapping[str, Any]) -> Check | None:
    name = "Field of view"
    share = _number(quality, "overlap_fraction", name)
    if not isinstance(share, float):
        return share
    grade: Grade = "poor" if share < OVERLAP_POOR else "look" if share < OVERLAP_LOOK else "good"
    return Check(
        name,
        f"{share:.1%}",
        grade,
        "The images share most of their field of view."
        if grade == "good"
        else "Much of the fixed image lies outside the moving one.",
        ""
        if grade == "good"
        else "Check the affine and the origins in both headers; crop if one image shows more.",
    )


def _stretched(share: float | None) -> Check | None:
    if share is None:
        return None
    grade: Grade = "look" if share > STRETCH_LOOK else "good"
    return Check(
        "Strong stretching",
        f"{share:.2%}",
        grade,
        f"That much of the object shrinks or grows more than {STRETCH:g}-fold.",
        ""
        if grade == "good"
        else "Look at the Jacobian map: is it next to the pathology? Then --lesion-mask helps. "
        "Everywhere? Raise --smoothness.",
    )


def _labels(overlaps: tuple[float, float] | None) -> Check | None:
    if overlaps is None or not all(math.isfinite(value) for value in overlaps):
        return None
    before, after = overlaps
    worse = after < before
    return Check(
        "Overlap of labels",
        f"{before:.3f} → {after:.3f}",
        "look" if worse else "good",
        "Labels overlap less than after the affine (mean Jaccard)."
        if worse
        else "Labels overlap at least as well as after the affine (mean Jaccard).",
        "See the table of labels for which; flicker there." if worse else "",
    )


def _truth(found: float | None) -> Check | None:
    if found is None:
        return None
    poor = found < DICE_LOOK
    return Check(
        "Mask and truth",
        f"Dice {found:.2f}",
        "look" if poor else "good",
        "The mask and the truth differ in more than they share."
        if poor
        else "The mask and the truth share more than they differ in.",
        "Compare both contours. A low contrast needs a lower --mask-price or --mask-threshold; a "
        "truth that only changed in intensity may have a partner after all."
        if poor
        else "",
    )


def _warned(warnings: Sequence[str]) -> Check | None:
    if not warnings:
        return None
    many = len(warnings)
    return Check(
        "Warnings of the run",
        f"{many} warning{'s' if many > 1 else ''}",
        "look",
        "The run had something to say; it stands above the pictures.",
        "Read them.",
    )
