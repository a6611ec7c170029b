"""Checks of a registration's figures: thresholds, and what to say when one is passed.

Every threshold stands here, with its origin. The checks find what went wrong visibly; no figure
can show that a registration is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# "failed" is the grade that `itk-ncr batch` gives a pair without a result; no check gives it.
Grade = Literal["good", "review", "poor", "failed"]
GRADES: tuple[Grade, ...] = ("good", "review", "poor", "failed")
Part = Literal["alignment", "mask"]


@dataclass(frozen=True)
class Limits:
    """Values of a figure from which on it needs a review, and from which on it is poor."""

    review: float
    poor: float = math.inf

    def grade(self, value: float) -> Grade:
        """Grade of a figure that should be small, or large where ``poor < review``."""
        if self.poor < self.review:
            return "poor" if value < self.poor else "review" if value < self.review else "good"
        return "poor" if value > self.poor else "review" if value > self.review else "good"


# Distances below this are those of equal images: an image with itself has 8e-5, 0.1 % of noise in
# the air 2e-3, and the best pairs of two persons 0.1.
TINY_DISTANCE = 0.005
# Distance after over distance before. Above 1 the images are no more alike than with the affine
# alone. 0.9: less than a tenth was gained. The pairs of examples/data reach 0.32 (T1) and 0.60
# (OCT). Never poor by itself: images that the affine brought together, such as stained sections
# of one block, have nothing left to gain.
GAIN = Limits(0.9)
# Volume per volume under the affine, or its inverse. The right affines of benchmarks/real.py reach
# 1.83; 5.0 is a convention.
DETERMINANT = Limits(2.4, 5.0)
# Correlation of the warped and the fixed image, and how much more of the variance any function of
# the grey values explains. Conventions.
LOWEST_CORRELATION, RATIO_EXCESS = 0.4, 0.15
# Right masks had up to 9.8 % (benchmarks/verdicts.py), half a head that was cut away had 30.2 %;
# `register` itself warns there. Above one half more is explained away than explained.
MASKED = Limits(0.25, 0.5)
# One voxel in 100,000 does not show (twelve in a head of 1.2 million); `register` itself warns
# above it. One in a hundred is a convention.
FOLDING = Limits(1e-5, 0.01)
# A tenth of a voxel is unusual, half a voxel is another voxel.
INVERSE = Limits(0.15, 0.5)
# Masks below this fraction of the object are too small to be judged by where they lie.
SMALL_MASK = 0.002


@dataclass(frozen=True)
class Check:
    """One check of the verdict.

    Attributes
    ----------
    name, value : str
        Figure and its value, as shown.
    grade : "good", "review", "poor" or "failed"
        Result of the check.
    reason : str
        Explanation of the grade.
    advice : str
        What to check next; empty for "good".
    part : "alignment" or "mask"
        The half of the result that is checked.
    brief : str
        The reason in a few words, after "because"; empty for "good".
    """

    name: str
    value: str
    grade: Grade
    reason: str
    advice: str = ""
    part: Part = "alignment"
    brief: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        value: str,
        grade: Grade,
        reason: str,
        *,
        otherwise: str = "",
        advice: str,
        brief: str,
        part: Part = "alignment",
    ) -> Check:
        """A check; ``otherwise``, ``advice`` and ``brief`` are left out where it is good.

        Parameters
        ----------
        name, value, grade, reason
            As for :class:`Check`.
        otherwise : str
            Reason where the grade is not "good". Default: ``reason``.
        advice, brief, part
            As for :class:`Check`.

        Returns
        -------
        Check
            The check.
        """
        if grade == "good":
            return cls(name, value, grade, reason, part=part)
        return cls(name, value, grade, otherwise or reason, advice, part, brief)


@dataclass(frozen=True)
class Rule:
    """Limits of one figure. Texts may show it: ``{:.0%}``."""

    figure: str
    """Name in :class:`itk_ncr.registration.Quality` or :class:`itk_ncr.evaluation.Inspection`."""
    name: str
    shown: str
    limits: Limits
    reason: str
    advice: str
    brief: str
    otherwise: str = ""
    part: Part = "alignment"
    width: bool = False
    """The limits are of the width of a region whose volume or area the figure is."""

    def check(self, value: float, dimension: int) -> Check:
        """Judge a value of the figure."""
        grade = self.limits.grade(value ** (1 / dimension) if self.width else value)
        return Check.of(
            self.name,
            self.shown.format(value),
            grade,
            self.reason.format(value),
            otherwise=self.otherwise.format(value),
            advice=self.advice,
            brief=self.brief.format(value),
            part=self.part,
        )


RULES = (
    # A convention.
    Rule(
        "affine_stretch",
        "Shape under the affine",
        "{:.2f}",
        Limits(1.5),
        "Largest over smallest stretching of the affine, as usual between persons.",
        "Look at the image after the affine: is it sheared or squeezed? Start from a transform "
        "that is right (--initial-transform), or check the spacings.",
        "the affine stretches by {:.2f} to 1",
        "The affine stretches or shears the image more than persons differ.",
    ),
    # Right registrations of benchmarks/verdicts.py have 1.3 degrees at most, one that began 30
    # degrees away has 6.2.
    Rule(
        "rotation",
        "Rotation by the deformation",
        "{:.1f} degrees",
        Limits(4.0, 12.0),
        "Rotation of the object that the affine left to the deformation.",
        "Look at the image after the affine: it is turned. Let an affine be found (--affine), or "
        "start from one that is right (--initial-transform).",
        "the affine leaves a turn of {:.1f} degrees",
        "The deformation has to turn the object as a whole, which is the affine's work.",
    ),
    # Conventions; brains on brains have 95 % and more.
    Rule(
        "containment",
        "Objects on each other",
        "{:.0%}",
        Limits(0.8, 0.5),
        "Fraction of the smaller object that lies in the other after the affine.",
        "Look at the image after the affine: is it turned, shifted, or a part only?",
        "only {:.0%} of the objects lie on each other",
    ),
    # Conventions: whole heads on equal fields of view reach 0.9 and more; below 0.3 hardly anything
    # was compared.
    Rule(
        "overlap_fraction",
        "Field of view",
        "{:.1%}",
        Limits(0.7, 0.3),
        "The images share most of their field of view.",
        "Check the affine and the origins in both headers; crop if one image shows more.",
        "only {:.0%} of the fixed image lies in the moving one",
        "Much of the fixed image lies outside the moving one.",
    ),
    Rule(
        "folding_fraction",
        "Folding",
        "{:.2g}",
        FOLDING,
        "No voxel is turned inside out, or so few that nothing shows (fraction of the object).",
        "Green spots in the Jacobian map show where. Raise --smoothness, or mask what has no "
        "counterpart there.",
        "{:.2g} of the object folds",
        "Some voxels are turned inside out: the map is not one to one there.",
    ),
    Rule(
        "inverse_error_mean_voxel",
        "Inverse error",
        "{:.3f} voxel",
        INVERSE,
        "There and back ends {:.2g} voxel from the start in the mean over the object.",
        "Points and labels carried with the inverse are off by that much. Raise --smoothness if "
        "you need the inverse.",
        "the way back is off by {:.2g} voxel",
    ),
    # The T1 pair of examples/data, two persons with different ventricles, has 0.3 %.
    Rule(
        "stretched",
        "Strong stretching",
        "{:.2%}",
        Limits(0.01),
        "That much of the object shrinks or grows more than fivefold.",
        "Look at the Jacobian map: is it next to the pathology? Then --lesion-mask helps. "
        "Everywhere? Raise --smoothness.",
        "{:.1%} of the object is stretched more than fivefold",
    ),
    Rule(
        "masked_fraction",
        "No correspondence",
        "{:.1%}",
        MASKED,
        f"At most {MASKED.review:.0%} of the fixed object is in the mask.",
        "Is that the pathology, or tissue that should match? In the latter case check the affine "
        "and the contrast, or raise --mask-price.",
        "{:.0%} of the object found no partner",
        "{:.0%} of the object found no partner.",
        "mask",
    ),
    Rule(
        "mask_at_border",
        "Mask at the border",
        "{:.0%}",
        Limits(0.3),
        "Fraction of the mask at the border of the field of view of either image.",
        "What one image does not show has no partner, and is not pathology. Crop the fixed image, "
        "or say with --roi-mask where to compare.",
        "{:.0%} of it lies at the border of the field of view",
        part="mask",
    ),
    Rule(
        "mask_outside_brain",
        "Mask outside the brain",
        "{:.0%}",
        Limits(0.5),
        "Fraction of the mask outside the brain mask.",
        "Only what lies in the brain is a lesion of it.",
        "{:.0%} of it lies outside the brain",
        part="mask",
    ),
    Rule(
        "mask_at_surface",
        "Mask at the surface",
        "{:.0%}",
        Limits(0.6),
        "Fraction of the mask in the rim of the object, or outside of it.",
        "That is where scalp, face, neck or the rim of a stripped brain differ. Strip both images, "
        "or give --brain-mask.",
        "{:.0%} of it lies at the surface",
        part="mask",
    ),
    # 4 ml of a brain.
    Rule(
        "residual_left",
        "Residual outside the mask",
        "{:.2%}",
        Limits(0.145),
        "Largest region outside the mask that differs as healthy tissue does not, fraction of the "
        "object.",
        "See the residual: is it a lesion? Then give a --lesion-mask or lower --mask-price.",
        "a region of {:.1%} of the object still differs",
        part="mask",
        width=True,
    ),
    # 0.4 % of the volume of a brain, 2.5 % of the area of a slice.
    Rule(
        "extreme_change",
        "Extreme deformation",
        "{:.2%}",
        Limits(0.16),
        "Largest region outside the mask that shrinks or grows extremely, fraction of the object.",
        "See the Jacobian map: tissue may have been drawn into a lesion, or squeezed out of one. "
        "Give a --lesion-mask, or raise --smoothness.",
        "a region of {:.1%} of the object is deformed extremely",
        part="mask",
        width=True,
    ),
    # Below one half more of the two differs than agrees.
    Rule(
        "truth_dice",
        "Mask and truth",
        "Dice {:.2f}",
        Limits(0.5, -math.inf),
        "The mask and the truth share more than they differ in.",
        "Compare both contours. A low contrast needs a lower --mask-price or --mask-threshold; a "
        "truth that only changed in intensity may have a partner after all.",
        "it differs from the truth in more than it shares",
        "The mask and the truth differ in more than they share.",
        "mask",
    ),
)


def finite(value: Any) -> float | None:
    """A finite number, of a number or of text in a table; else None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def checks_of(
    quality: Mapping[str, Any],
    seen: Mapping[str, Any],
    warnings: Sequence[str],
    overlaps: tuple[float, float] | None,
    *,
    dimension: int,
    multimodal: bool,
) -> Iterator[Check]:
    """All checks that the figures allow; parameters as of :func:`judge`."""
    figures = {name: number for name, x in seen.items() if (number := finite(x)) is not None}
    yield from _similarity(quality)
    if dimension == 3:  # Pixels may have any size.
        yield from _size(figures)
    yield from _contrast(figures, multimodal)
    yield from _labels(overlaps)
    judged = _judged(figures, finite(quality.get("masked_fraction")), multimodal)
    for rule in RULES:
        if rule.figure in quality:
            value = finite(quality[rule.figure])
            if value is None:
                yield _uncomputed(rule.name, rule.part)
            else:
                yield rule.check(value, dimension)
        elif rule.figure in judged:
            yield rule.check(figures[rule.figure], dimension)
    yield from _warned(warnings)


def _judged(figures: Mapping[str, float], masked: float | None, multimodal: bool) -> set[str]:
    """Figures that say something in this case."""
    names = set(figures)
    if multimodal:
        # The difference of two contrasts is everywhere, and says nothing about a lesion.
        names.discard("residual_left")
    if masked is None or masked < SMALL_MASK:
        names -= {"mask_at_border", "mask_outside_brain", "mask_at_surface"}
    if "mask_outside_brain" in names:
        names.discard("mask_at_surface")
    return names


def _uncomputed(name: str, part: Part = "alignment") -> Check:
    """A figure that is there and is no number."""
    return Check(
        name,
        "no number",
        "poor",
        "The figure could not be computed.",
        "Check both images for empty, constant or invalid (NaN) content.",
        part,
        f"its {name.lower()} could not be computed",
    )


def _similarity(quality: Mapping[str, Any]) -> Iterator[Check]:
    name = "Image distance"
    given = [quality[key] for key in ("distance_before", "distance_outside") if key in quality]
    if any(finite(value) is None for value in given):
        yield _uncomputed(name)
    if len(given) < 2 or any(finite(value) is None for value in given):
        return
    before, after = map(float, given)
    text = f"{before:.3g} → {after:.3g}"
    if before <= TINY_DISTANCE:
        yield Check(name, text, "good", "The images were equal after the affine already.")
        return
    ratio = after / before
    yield Check.of(
        name,
        text,
        GAIN.grade(ratio),
        f"{1 - ratio:.0%} of the distance after the affine is gone, outside the mask.",
        otherwise=f"Only {1 - ratio:.1%} of the distance after the affine is gone."
        if ratio < 1
        else "The images are no more alike than after the affine alone.",
        advice="Flicker between fixed and affine only: if they lie on each other, there was "
        "nothing to gain and all is well. If not, check the affine and the preset; two "
        "contrasts need --preset multimodal.",
        brief="the images are hardly more alike than after the affine",
    )


def _size(figures: Mapping[str, float]) -> Iterator[Check]:
    determinant = figures.get("affine_determinant")
    if determinant is None:
        return
    factor = max(determinant, 1 / determinant) if determinant > 0 else math.inf
    yield Check.of(
        "Size under the affine",
        f"{determinant:.2f}",
        DETERMINANT.grade(factor),
        "Volume of the moving image per volume of the fixed one, as usual between persons.",
        otherwise="The affine changes volumes more than persons differ.",
        advice="Look at the image after the affine: does the brain lie on the brain? A stripped "
        "brain may have been blown up to a head. Strip both images or give brain masks, and check "
        "the spacings in both headers.",
        brief=f"the affine changes volumes by a factor of {factor:.1f}",
    )


def _contrast(figures: Mapping[str, float], multimodal: bool) -> Iterator[Check]:
    correlation, ratio = figures.get("correlation"), figures.get("correlation_ratio")
    if correlation is None or ratio is None:
        return
    differ = not multimodal and correlation < LOWEST_CORRELATION
    related = ratio - max(correlation, 0.0) ** 2 > RATIO_EXCESS
    yield Check.of(
        "Contrasts",
        f"correlation {correlation:.2f}",
        "review" if differ else "good",
        "Two contrasts, registered as such."
        if multimodal
        else "The grey values of both images agree.",
        otherwise="The images show two contrasts, yet were compared as one."
        if related
        else "The grey values of both images have little to do with each other.",
        advice="Two contrasts need --preset multimodal. Of one contrast: check the affine.",
        brief="the contrasts differ" if related else "the grey values do not agree",
    )


def _labels(overlaps: tuple[float, float] | None) -> Iterator[Check]:
    if overlaps is None or not all(math.isfinite(value) for value in overlaps):
        return
    before, after = overlaps
    yield Check.of(
        "Overlap of labels",
        f"{before:.3f} → {after:.3f}",
        "review" if after < before else "good",
        "Labels overlap at least as well as after the affine (mean Jaccard).",
        otherwise="Labels overlap less than after the affine (mean Jaccard).",
        advice="See the table of labels for which; flicker there.",
        brief="labels overlap less than after the affine",
    )


def _warned(warnings: Sequence[str]) -> Iterator[Check]:
    if not warnings:
        return
    many = len(warnings)
    yield Check.of(
        "Warnings of the run",
        f"{many} warning{'s' if many > 1 else ''}",
        "review",
        "The run gave warnings; they stand above the pictures.",
        advice="Read them.",
        brief="the run warns",
    )
