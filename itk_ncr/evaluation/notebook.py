"""Notebook display of registration results."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from itk_ncr.evaluation.report.page import Page
from itk_ncr.evaluation.report.pair_report import pair_page
from itk_ncr.evaluation.summary import NOTICE, brain_figures, figures, summary
from itk_ncr.images.preview import Slice, grey, picture, table

if TYPE_CHECKING:
    from itk_ncr.images import Image
    from itk_ncr.registration import RegistrationResult

MASK_COLOUR = np.array([255, 90, 77])
MASK_OPACITY = 0.55


def result_page(result: RegistrationResult) -> Page:
    """The page of ``report.html`` for a result.

    Parameters
    ----------
    result : RegistrationResult
        Of :func:`itk_ncr.register`.

    Returns
    -------
    Page
        As ``itk-ncr register`` writes it.

    Raises
    ------
    ArgumentError
        If the result was made by hand: the page shows the images it was made from.
    """
    inputs = result.required_inputs()
    record = summary(result) | {"inputs": dict(inputs.sources)}
    record["brain"] = brain_figures(result, inputs.brain_mask, inputs.moving_brain_mask)
    return pair_page(
        inputs.fixed, inputs.moving, result, record=record, lesion_mask=inputs.lesion_mask
    )


def result_html(result: RegistrationResult) -> str:
    """A short view of a result for notebooks: one slice, figures and warnings.

    Parameters
    ----------
    result : RegistrationResult
        Also one made by hand.

    Returns
    -------
    str
        An HTML fragment with the fixed and the warped image and the mask.
    """
    plane = Slice.of(result.warped, result.mask)
    fixed = None if result.inputs is None else result.inputs.fixed
    shown = [("fixed", fixed)] if fixed is not None else []
    shown.append(("warped", result.warped))
    pictures = [
        _titled(picture(grey(plane.cut(image)), plane.spacing, title), title)
        for title, image in shown
    ]
    pictures.append(_titled(_masked(plane, fixed or result.warped, result), "no correspondence"))
    rows = figures(result)
    warnings = "".join(f"<li>{html.escape(text)}</li>" for text in result.warnings)
    return (
        f'<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:center">'
        f"{''.join(pictures)}{table(rows)}</div>"
        f"{f'<ul>{warnings}</ul>' if warnings else ''}<p><small>{html.escape(NOTICE)}</small></p>"
    )


def _titled(element: str, title: str) -> str:
    return (
        f'<figure style="margin:0">{element}<figcaption>{html.escape(title)}</figcaption></figure>'
    )


def _masked(plane: Slice, background: Image, result: RegistrationResult) -> str:
    """The background with the mask over it in colour."""
    shades = grey(plane.cut(background)).astype(np.float64)[..., None].repeat(3, axis=-1)
    inside = plane.cut(result.noncorrespondence) > result.mask_threshold
    shades[inside] += MASK_OPACITY * (MASK_COLOUR - shades[inside])
    return picture(shades.round().astype(np.uint8), plane.spacing, "fixed image with the mask")
