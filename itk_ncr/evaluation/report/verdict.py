"""Verdict on a registration: grades of alignment and mask with reasons and advice.

Every threshold stands here, with where it comes from. They find what went wrong visibly; no
figure can say that a registration is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from itk_ncr.evaluation.inspection import Inspection, inspect
from itk_ncr.images import Image
from itk_ncr.registration import RegistrationResult

# "failed" is what `itk-ncr batch` calls a pair without a result, and no figure can say that.
Grade = Literal["good", "review", "poor", "failed"]
GRADES: tuple[Grade, ...] = ("good", "review", "poor", "failed")
Part = Literal["alignment", "mask"]

# Distance after over distance before. Above 1 the images are no more alike than with the affine
# alone. 0.9: less than a tenth was gained. The pairs of examples/data reach 0.32 (T1) and 0.60
# (OCT). It never makes an alignment poor by itself: images that the affine brought together, as
# stained sections of one block, have nothing left to gain.
GAIN_REVIEW = 0.9
# Distances below this are those of equal images: an image with itself has 8e-5, 0.1 % of noise in
# the air 2e-3, and the best pairs of two persons 0.1.
TINY_DISTANCE = 0.005
# Fraction of the object without a partner. 0.35 is where `register` itself warns; above one half
# more is explained away than explained.
MASKED_REVIEW, MASKED_POOR = 0.35, 0.5
# Fraction of the object that folds. One voxel in 100,000 is nothing that shows, twelve of a head of
# 1.2 million; `register` itself warns above it. One in a hundred is a convention: tissue is turned
# inside out in places that the eye finds.
FOLDING_REVIEW, FOLDING_POOR = 1e-5, 0.01
# Mean inverse error over the object in voxels. A tenth is unusual, half a voxel is another voxel.
INVERSE_REVIEW, INVERSE_POOR = 0.15, 0.5
# Fraction of the fixed grid that is carried into the moving image. Conventions: whole heads on
# equal fields of view reach 0.9 and more; below 0.3 hardly anything was compared.
OVERLAP_REVIEW, OVERLAP_POOR = 0.7, 0.3
# Volume per volume under the affine. Conventions, not calibrated. In 2D pixels may have any size:
# not judged there.
DETERMINANT_REVIEW, DETERMINANT_POOR = 2.4, 5.0
# Largest over smallest stretching of the affine. A convention, not calibrated.
AFFINE_STRETCH_REVIEW = 1.5
# Fraction of the smaller object inside the other after the affine. Conventions, not calibrated.
CONTAINMENT_REVIEW, CONTAINMENT_POOR = 0.8, 0.5
# Correlation of the warped and the fixed image, and how much more of the variance any function of
# the grey values explains. Conventions, not calibrated.
CORRELATION_REVIEW, RATIO_EXCESS = 0.4, 0.15
# Fraction of voxels that shrink or grow more than fivefold; the T1 pair of examples/data, two
# persons with different ventricles, has 0.3 %.
STRETCH_REVIEW = 0.01
# Width of the largest region that shrinks or grows extremely without being masked, in shares of the
# object's: 0.4 % of the volume of a brain, 2.5 % of the area of a slice.
EXTREME_REVIEW = 0.16
# The same of the largest region that still differs as no healthy tissue does: 4 ml of a brain.
RESIDUAL_REVIEW = 0.145
# Fraction of the mask at the border of the field of view; in the rim of the object.
BORDER_REVIEW = 0.3
SURFACE_REVIEW = 0.6
# Fraction of the mask outside the brain, where a brain mask says what that is.
OUTSIDE_REVIEW = 0.5
# Masks below this share of the object are too small to be judged by where they lie.
SMALL_MASK = 0.002
# Dice of the mask with the truth: below one half more of the two differs than agrees.
DICE_REVIEW = 0.5


@dataclass(frozen=True)
class Check:
    """One check of the verdict."""

    name: str
    value: str
    grade: Grade
    reason: str
    advice: str = ""
    """What to check next; empty where all is well."""
    part: Part = "alignment"
    """Which half of the result it is about."""
    brief: str = ""
    """The reason in a few words, after "because"; empty where all is well."""


@dataclass(frozen=True)
class Verdict:
    """Verdict from the worst of the checks."""

    grade: Grade
    checks: tuple[Check, ...]

    @property
    def word(self) -> str:
        """Good, review, poor or failed, for a heading."""
        return self.grade.capitalize()

    @property
    def line(self) -> str:
        """One sentence on what the grade means."""
        return {
            "good": "No figure says that this registration went wrong. "
            "Figures cannot see everything: scroll through the slices once.",
            "review": "Something here is unusual. Read the reason below and look at the pictures "
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

    def of(self, part: Part) -> Grade:
        """Grade of one half of the result."""
        return _worst(check for check in self.checks if check.part == part)

    @property
    def sentence(self) -> str:
        """Alignment and mask apart: "alignment good, mask doubtful because 41 % is masked"."""
        halves: tuple[Part, ...] = ("alignment", "mask")
        return ", ".join(self._half(part) for part in halves)

    def _half(self, part: Part) -> str:
        grade = self.of(part)
        if grade == "good":
            return f"{part} good"
        reasons = [check.brief or check.reason for check in self.remarks if check.part == part]
        word = {"review": "doubtful", "poor": "wrong", "failed": "missing"}[grade]
        return f"{part} {word} because {' and '.join(reasons)}"

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {
            "grade": self.grade,
            "alignment": self.of("alignment"),
            "mask": self.of("mask"),
            "sentence": self.sentence,
            "reasons": [
                {"check": c.name, "part": c.part, "grade": c.grade, "figure": c.value}
                for c in self.remarks
            ],
        }


def grade_of(word: Any) -> Grade | None:
    """The grade of a word in a stored summary; None where it is not a grade.

    "look" was the word for "review" in earlier summaries.
    """
    text = "review" if word == "look" else word
    return next((grade for grade in GRADES if grade == text), None)


def verdict_of(
    fixed: Image,
    moving: Image,
    result: RegistrationResult,
    *,
    overlaps: tuple[float, float] | None = None,
    inspection: Inspection | None = None,
    warnings: Sequence[str] | None = None,
) -> Verdict:
    """Judge a registration by its figures and its images.

    Parameters
    ----------
    fixed, moving : Image, scalar
        The pair, as registered.
    result : RegistrationResult
    overlaps : tuple of float, optional
        Mean overlap of labels after the affine and after the registration.
    inspection : Inspection, optional
        Default: measured here.
    warnings : sequence of str, optional
        Default: those of the result.

    Returns
    -------
    Verdict
    """
    seen = inspection or inspect(fixed, moving, result)
    return judge(
        result.quality.as_dict(),
        result.warnings if warnings is None else warnings,
        overlaps,
        None,
        seen.as_dict(),
        dimension=fixed.dimension,
        multimodal=is_multimodal(result.settings.as_dict()),
    )


def judge(
    quality: Mapping[str, Any],
    warnings: Sequence[str] = (),
    overlaps: tuple[float, float] | None = None,
    found: float | None = None,
    seen: Mapping[str, Any] | None = None,
    *,
    dimension: int = 3,
    multimodal: bool = False,
) -> Verdict:
    """Judge a registration by its figures.

    Parameters
    ----------
    quality : mapping
        Figures by the names of :class:`itk_ncr.registration.Quality`. What is not there is not
        judged; what is there and is no finite number is poor.
    warnings : sequence of str
        What the run warned about.
    overlaps : tuple of float, optional
        Mean overlap of labels after the affine and after the registration.
    found : float, optional
        Dice of the mask with the truth.
    seen : mapping, optional
        Figures by the names of :class:`itk_ncr.evaluation.Inspection`; NaN is not judged.
    dimension : int
        Of the images.
    multimodal : bool
        Whether the pair was registered as one of two contrasts.

    Returns
    -------
    Verdict
    """
    figures = {
        key: number for key, value in (seen or {}).items() if (number := finite(value)) is not None
    }
    checks = [
        _similarity(quality),
        *_affine(figures, dimension),
        _contrast(figures, multimodal),
        _overlap(quality),
        _folding(quality),
        _inverse(quality),
        _stretched(figures.get("stretched")),
        _labels(overlaps),
        _masked(quality),
        *_place(figures, finite(quality.get("masked_fraction"))),
        *_missed(figures, dimension, multimodal),
        _truth(found),
        _warned(warnings),
    ]
    made = tuple(check for check in checks if check is not None)
    return Verdict(_worst(made), made)


def is_multimodal(settings: Mapping[str, Any]) -> bool:
    """Whether a run's settings say that its images show two contrasts."""
    return settings.get("preset") == "multimodal"


def finite(value: Any) -> float | None:
    """A finite number, of a number or of text in a table; else None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _worst(checks: Any) -> Grade:
    return GRADES[max((GRADES.index(check.grade) for check in checks), default=0)]


def _graded(value: float, review: float, poor: float = math.inf) -> Grade:
    """Small is good."""
    return "poor" if value > poor else "review" if value > review else "good"


def _number(
    quality: Mapping[str, Any], key: str, name: str, part: Part = "alignment"
) -> float | Check | None:
    """The figure; a poor check if it is not a number; None if it is missing."""
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
            part,
            f"its {name.lower()} could not be computed",
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
    if before <= TINY_DISTANCE:
        return Check(name, text, "good", "The images were equal after the affine already.")
    ratio = after / before
    if ratio <= GAIN_REVIEW:
        reason = f"{1 - ratio:.0%} of the distance after the affine is gone, outside the mask."
        return Check(name, text, "good", reason)
    gained = ratio < 1
    return Check(
        name,
        text,
        "review",
        f"Only {1 - ratio:.1%} of the distance after the affine is gone."
        if gained
        else "The images are no more alike than after the affine alone.",
        "Flicker between fixed and affine only: if they lie on each other, there was nothing to "
        "gain and all is well. If not, check the affine and the preset; two contrasts need "
        "--preset multimodal.",
        "alignment",
        "the images are hardly more alike than after the affine",
    )


def _affine(figures: Mapping[str, float], dimension: int) -> Iterator[Check]:
    determinant = figures.get("affine_determinant")
    if determinant is not None and dimension == 3:
        factor = max(determinant, 1 / determinant) if determinant > 0 else math.inf
        grade = _graded(factor, DETERMINANT_REVIEW, DETERMINANT_POOR)
        yield Check(
            "Size under the affine",
            f"{determinant:.2f}",
            grade,
            "Volume of the moving image per volume of the fixed one, as usual between persons."
            if grade == "good"
            else "The affine changes volumes more than persons differ.",
            ""
            if grade == "good"
            else "Look at the image after the affine: does the brain lie on the brain? A stripped "
            "brain may have been blown up to a head. Strip both images or give brain masks, and "
            "check the spacings in both headers.",
            "alignment",
            "" if grade == "good" else f"the affine changes volumes by a factor of {factor:.1f}",
        )
    stretch = figures.get("affine_stretch")
    if stretch is not None:
        grade = _graded(stretch, AFFINE_STRETCH_REVIEW)
        yield Check(
            "Shape under the affine",
            f"{stretch:.2f}",
            grade,
            "Largest over smallest stretching of the affine, as usual between persons."
            if grade == "good"
            else "The affine stretches or shears the image more than persons differ.",
            ""
            if grade == "good"
            else "Look at the image after the affine: is it sheared or squeezed? Start from a "
            "transform that is right (--initial-transform), or check the spacings.",
            "alignment",
            "" if grade == "good" else f"the affine stretches by {stretch:.2f} to 1",
        )
    contained = figures.get("containment")
    if contained is not None:
        poor, review = contained < CONTAINMENT_POOR, contained < CONTAINMENT_REVIEW
        grade = "poor" if poor else "review" if review else "good"
        yield Check(
            "Objects on each other",
            f"{contained:.0%}",
            grade,
            "Fraction of the smaller object that lies in the other after the affine.",
            ""
            if grade == "good"
            else "Look at the image after the affine: is it turned, shifted, or a part only?",
            "alignment",
            "" if grade == "good" else f"only {contained:.0%} of the objects lie on each other",
        )


def _contrast(figures: Mapping[str, float], multimodal: bool) -> Check | None:
    correlation, ratio = figures.get("correlation"), figures.get("correlation_ratio")
    if correlation is None or ratio is None:
        return None
    excess = ratio - max(correlation, 0.0) ** 2
    differ = not multimodal and correlation < CORRELATION_REVIEW
    other = differ and excess > RATIO_EXCESS
    return Check(
        "Contrasts",
        f"correlation {correlation:.2f}",
        "review" if differ else "good",
        "The images show two contrasts, yet were compared as one."
        if other
        else "The grey values of both images have little to do with each other."
        if differ
        else "Two contrasts, registered as such."
        if multimodal
        else "The grey values of both images agree.",
        "Two contrasts need --preset multimodal. Of one contrast: check the affine."
        if differ
        else "",
        "alignment",
        ("the contrasts differ" if other else "the grey values do not agree") if differ else "",
    )


def _masked(quality: Mapping[str, Any]) -> Check | None:
    name = "No correspondence"
    share = _number(quality, "masked_fraction", name, "mask")
    if not isinstance(share, float):
        return share
    grade = _graded(share, MASKED_REVIEW, MASKED_POOR)
    return Check(
        name,
        f"{share:.1%}",
        grade,
        {
            "good": f"At most {MASKED_REVIEW:.0%} of the fixed object is in the mask.",
            "review": f"More than {MASKED_REVIEW:.0%} of the object found no partner.",
            "poor": "More than half of the object found no partner.",
        }[grade],
        ""
        if grade == "good"
        else "Is that the pathology, or tissue that should match? In the latter case check the "
        "affine and the contrast, or raise --mask-price.",
        "mask",
        "" if grade == "good" else f"{share:.0%} of the object found no partner",
    )


def _place(figures: Mapping[str, float], masked: float | None) -> Iterator[Check]:
    """Where the mask lies."""
    if masked is None or masked < SMALL_MASK:
        return
    at_border = figures.get("mask_at_border")
    if at_border is not None:
        bad = at_border > BORDER_REVIEW
        yield Check(
            "Mask at the border",
            f"{at_border:.0%}",
            "review" if bad else "good",
            "Fraction of the mask at the border of the field of view of either image.",
            "What one image does not show has no partner, and is not pathology. Crop the fixed "
            "image, or say with --roi-mask where to compare."
            if bad
            else "",
            "mask",
            f"{at_border:.0%} of it lies at the border of the field of view" if bad else "",
        )
    outside = figures.get("mask_outside_brain")
    surface = figures.get("mask_at_surface")
    if outside is not None:
        bad = outside > OUTSIDE_REVIEW
        yield Check(
            "Mask outside the brain",
            f"{outside:.0%}",
            "review" if bad else "good",
            "Fraction of the mask outside the brain mask.",
            "Only what lies in the brain is a lesion of it." if bad else "",
            "mask",
            f"{outside:.0%} of it lies outside the brain" if bad else "",
        )
    elif surface is not None:
        bad = surface > SURFACE_REVIEW
        yield Check(
            "Mask at the surface",
            f"{surface:.0%}",
            "review" if bad else "good",
            "Fraction of the mask in the rim of the object, or outside of it.",
            "That is where scalp, face, neck or the rim of a stripped brain differ. Strip both "
            "images, or give --brain-mask."
            if bad
            else "",
            "mask",
            f"{surface:.0%} of it lies at the surface" if bad else "",
        )


def _missed(figures: Mapping[str, float], dimension: int, multimodal: bool) -> Iterator[Check]:
    """What looks like a lesion and is not in the mask."""
    left = figures.get("residual_left")
    # The difference of two contrasts is everywhere, and says nothing about a lesion.
    if left is not None and not multimodal:
        bad = left > RESIDUAL_REVIEW**dimension
        yield Check(
            "Residual outside the mask",
            f"{left:.2%}",
            "review" if bad else "good",
            "Largest region outside the mask that differs as healthy tissue does not, share of "
            "the object.",
            "See the residual: is it a lesion? Then give a --lesion-mask or lower --mask-price."
            if bad
            else "",
            "mask",
            f"a region of {left:.1%} of the object still differs" if bad else "",
        )
    extreme = figures.get("extreme_change")
    if extreme is not None:
        bad = extreme > EXTREME_REVIEW**dimension
        yield Check(
            "Extreme deformation",
            f"{extreme:.2%}",
            "review" if bad else "good",
            "Largest region outside the mask that shrinks or grows extremely, share of the object.",
            "See the Jacobian map: tissue may have been drawn into a lesion, or squeezed out of "
            "one. Give a --lesion-mask, or raise --smoothness."
            if bad
            else "",
            "mask",
            f"a region of {extreme:.1%} of the object is deformed extremely" if bad else "",
        )


def _folding(quality: Mapping[str, Any]) -> Check | None:
    name = "Folding"
    share = _number(quality, "folding_fraction", name)
    if not isinstance(share, float):
        return share
    grade = _graded(share, FOLDING_REVIEW, FOLDING_POOR)
    return Check(
        name,
        f"{share:.1e}" if 0 < share < 5e-5 else f"{share:.2%}",
        grade,
        "No voxel is turned inside out, or so few that nothing shows (share of the object)."
        if grade == "good"
        else "Some voxels are turned inside out: the map is not one to one there.",
        ""
        if grade == "good"
        else "Green spots in the Jacobian map show where. Raise --smoothness, or mask what has no "
        "counterpart there.",
        "alignment",
        "" if grade == "good" else f"{share:.2g} of the object folds",
    )


def _inverse(quality: Mapping[str, Any]) -> Check | None:
    name = "Inverse error"
    error = _number(quality, "inverse_error_mean_voxel", name)
    if not isinstance(error, float):
        return error
    grade = _graded(error, INVERSE_REVIEW, INVERSE_POOR)
    return Check(
        name,
        f"{error:.3f} voxel",
        grade,
        f"There and back ends {error:.2g} voxel from the start in the mean over the object.",
        ""
        if grade == "good"
        else "Points and labels carried with the inverse are off by that much. "
        "Raise --smoothness if you need the inverse.",
        "alignment",
        "" if grade == "good" else f"the way back is off by {error:.2g} voxel",
    )


def _overlap(quality: Mapping[str, Any]) -> Check | None:
    name = "Field of view"
    share = _number(quality, "overlap_fraction", name)
    if not isinstance(share, float):
        return share
    grade: Grade = (
        "poor" if share < OVERLAP_POOR else "review" if share < OVERLAP_REVIEW else "good"
    )
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
        "alignment",
        "" if grade == "good" else f"only {share:.0%} of the fixed image lies in the moving one",
    )


def _stretched(share: float | None) -> Check | None:
    if share is None:
        return None
    grade = _graded(share, STRETCH_REVIEW)
    return Check(
        "Strong stretching",
        f"{share:.2%}",
        grade,
        "That much of the object shrinks or grows more than fivefold.",
        ""
        if grade == "good"
        else "Look at the Jacobian map: is it next to the pathology? Then --lesion-mask helps. "
        "Everywhere? Raise --smoothness.",
        "alignment",
        "" if grade == "good" else f"{share:.1%} of the object is stretched more than fivefold",
    )


def _labels(overlaps: tuple[float, float] | None) -> Check | None:
    if overlaps is None or not all(math.isfinite(value) for value in overlaps):
        return None
    before, after = overlaps
    worse = after < before
    return Check(
        "Overlap of labels",
        f"{before:.3f} → {after:.3f}",
        "review" if worse else "good",
        "Labels overlap less than after the affine (mean Jaccard)."
        if worse
        else "Labels overlap at least as well as after the affine (mean Jaccard).",
        "See the table of labels for which; flicker there." if worse else "",
        "alignment",
        "labels overlap less than after the affine" if worse else "",
    )


def _truth(found: float | None) -> Check | None:
    if found is None:
        return None
    poor = found < DICE_REVIEW
    return Check(
        "Mask and truth",
        f"Dice {found:.2f}",
        "review" if poor else "good",
        "The mask and the truth differ in more than they share."
        if poor
        else "The mask and the truth share more than they differ in.",
        "Compare both contours. A low contrast needs a lower --mask-price or --mask-threshold; a "
        "truth that only changed in intensity may have a partner after all."
        if poor
        else "",
        "mask",
        "it differs from the truth in more than it shares" if poor else "",
    )


def _warned(warnings: Sequence[str]) -> Check | None:
    if not warnings:
        return None
    many = len(warnings)
    return Check(
        "Warnings of the run",
        f"{many} warning{'s' if many > 1 else ''}",
        "review",
        "The run had something to say; it stands above the pictures.",
        "Read them.",
        "alignment",
        "the run warns",
    )
