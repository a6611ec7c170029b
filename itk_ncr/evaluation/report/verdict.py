"""Verdict on a registration: grades of alignment and mask with reasons and advice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itk_ncr.evaluation.inspection import Inspection, inspect
from itk_ncr.evaluation.report.checks import GRADES, Check, Grade, Part, checks_of
from itk_ncr.images import Image
from itk_ncr.registration import RegistrationResult


@dataclass(frozen=True)
class Verdict:
    """Verdict on a registration, from the worst of the checks.

    Attributes
    ----------
    grade : "good", "review", "poor" or "failed"
        The worst grade.
    checks : tuple of Check
        All checks.
    """

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
        """Grade of one half of the result.

        Parameters
        ----------
        part : "alignment" or "mask"
            The half.

        Returns
        -------
        str
            The worst grade of its checks.
        """
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
        Its registration.
    overlaps : tuple of float, optional
        Mean overlap of labels after the affine and after the registration.
    inspection : Inspection, optional
        Image-based figures. Default: measured here.
    warnings : sequence of str, optional
        Warnings of the run. Default: those of the result.

    Returns
    -------
    Verdict
        Grade and checks.
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
        Figures by the names of :class:`itk_ncr.registration.Quality`. A missing one is not judged;
        one that is not a finite number is poor.
    warnings : sequence of str
        Warnings of the run.
    overlaps : tuple of float, optional
        Mean overlap of labels after the affine and after the registration.
    found : float, optional
        Dice of the mask with the truth.
    seen : mapping, optional
        Figures by the names of :class:`itk_ncr.evaluation.Inspection`; NaN is not judged.
    dimension : int
        Number of axes of the images.
    multimodal : bool
        Whether the pair was registered as one of two contrasts.

    Returns
    -------
    Verdict
        Grade and checks.
    """
    figures = dict(seen or {}) | {"truth_dice": found}
    checks = tuple(
        checks_of(quality, figures, warnings, overlaps, dimension=dimension, multimodal=multimodal)
    )
    return Verdict(_worst(checks), checks)


def is_multimodal(settings: Mapping[str, Any]) -> bool:
    """Whether a run's settings say that its images show two contrasts."""
    return settings.get("preset") == "multimodal"


def _worst(checks: Iterable[Check]) -> Grade:
    return GRADES[max((GRADES.index(check.grade) for check in checks), default=0)]
