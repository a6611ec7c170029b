"""HTML report of a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from itk_ncr.evaluation.report.page import Page
from itk_ncr.evaluation.report.pictures import Canvas
from itk_ncr.evaluation.report.study import Curve, CurveLine, PageTable, study_page
from itk_ncr.evaluation.volumes import number_text
from itk_ncr.images import resample

if TYPE_CHECKING:
    from itk_ncr.registration import TemplateResult

# Images that are drawn beside the template.
DRAWN = 6
# The template is bright tissue 1; what is below this is background.
SHOWN = 0.1


def template_page(result: TemplateResult, record: Mapping[str, Any] | None = None) -> Page:
    """The page of a template: the mean, what it rests on, and how it became sharp.

    Parameters
    ----------
    result : TemplateResult
        The template.
    record : mapping, optional
        Description of the run, as in ``summary.json``.

    Returns
    -------
    Page
        The document.
    """
    values, support = result.template.array, result.support.array
    canvas = Canvas(result.template.grid, values > SHOWN, np.zeros(values.shape, bool))
    spread = result.spread.array
    largest = float(np.percentile(spread[values > SHOWN], 99)) if (values > SHOWN).any() else 1.0
    window = (0.0, float(np.percentile(values, 99.7)) or 1.0)
    pictures = [
        canvas.picture("Template", values, window=window),
        canvas.picture(
            "Support", support, heat=True, caption="share of the images; white all, black none"
        ),
        canvas.picture(
            "Spread",
            np.clip(spread / (largest or 1.0), 0, 1),
            heat=True,
            caption=f"standard deviation of the images; white {number_text(largest)}",
        ),
    ]
    pairs = list(zip(result.names, result.results, result.space.displacements, strict=True))
    for name, one, displacement in pairs[:DRAWN]:
        image = one.required_inputs().moving
        warped = resample(image, result.template.grid, displacement=displacement)
        pictures.append(canvas.picture(name, warped.array, caption="brought to the template"))
    last = result.rounds[-1]
    places = ("affine", *(f"round {n}" for n in range(1, len(result.rounds))))
    return study_page(
        "template report",
        f"Mean of {len(result.names)} images",
        f"The template is {last.sharpness:.0%} as sharp as the images that it is made of; "
        f"{last.shift_mm:.2g} mm of bias were undone in the last round.",
        template_figures(result),
        pictures=pictures,
        curves=[
            Curve(
                "Sharpness of the template",
                "of the images'",
                places,
                (CurveLine("sharpness", tuple(r.sharpness for r in result.rounds)),),
            ),
            Curve(
                "Bias that was undone",
                "mm",
                places[1:],
                (CurveLine("bias", tuple(r.shift_mm for r in result.rounds[1:])),),
            ),
        ],
        tables=[_images(result)],
        warnings=result.warnings,
        record=record,
    )


def template_figures(result: TemplateResult) -> list[tuple[str, str]]:
    """The main figures of a template as text."""
    inside = result.template.array > SHOWN
    support = result.support.array[inside]
    return [
        ("images", str(len(result.names))),
        ("sharpness, affine", f"{result.rounds[0].sharpness:.2f}"),
        ("sharpness, at the end", f"{result.rounds[-1].sharpness:.2f}"),
        ("bias undone at the end", f"{number_text(result.rounds[-1].shift_mm)} mm"),
        ("support, mean", f"{support.mean():.0%}" if support.size else "nothing shown"),
    ]


def _images(result: TemplateResult) -> PageTable:
    lengths = [
        float(np.linalg.norm(one.deformation.array, axis=-1).mean()) for one in result.results
    ]
    return PageTable(
        "Images",
        ("image", "left out of the mean", "deformation, mean", "folding"),
        tuple(
            (
                name,
                f"{one.quality.masked_fraction_moving:.2%}",
                f"{number_text(length)} mm",
                f"{one.quality.folding_fraction:.3%}",
            )
            for name, one, length in zip(result.names, result.results, lengths, strict=True)
        ),
        "Left out: the share of an image that has no partner in the template, masks included.",
    )
