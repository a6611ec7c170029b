"""Affine pre-alignment: candidates, two measures, coarse to fine, masks of both images."""

from itk_ncr.registration.affine.points import View
from itk_ncr.registration.affine.search import AffineSettings, Alignment, align, overlap

__all__ = ["AffineSettings", "Alignment", "View", "align", "overlap"]
