"""Folders of studies of several images."""

from itk_ncr.runs.studies.save import save_study
from itk_ncr.runs.studies.template import images_of, masks_for

__all__ = ["images_of", "masks_for", "save_study"]
