"""Looking at a file before ITK does: is it what it claims to be, and all there?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from itk_ncr.images.preflight.dicom import inspect_dicom, is_dicom_file
from itk_ncr.images.preflight.header import Header, Refused, require_file
from itk_ncr.images.preflight.meta import inspect_meta
from itk_ncr.images.preflight.nifti import inspect_nifti
from itk_ncr.images.preflight.nrrd import inspect_nrrd
from itk_ncr.images.preflight.raster import inspect_jpeg, inspect_png, inspect_tiff

__all__ = [
    "FORMATS",
    "Header",
    "Refused",
    "inspect_dicom",
    "inspector",
    "is_dicom_file",
    "require_file",
    "suffix_of",
]

# By the end of the file's name, which is also how ITK chooses its reader.
FORMATS: dict[str, Callable[[Path], Header]] = {
    ".nii": inspect_nifti,
    ".nii.gz": inspect_nifti,
    ".hdr": inspect_nifti,
    ".nrrd": inspect_nrrd,
    ".nhdr": inspect_nrrd,
    ".mha": inspect_meta,
    ".mhd": inspect_meta,
    ".png": inspect_png,
    ".jpg": inspect_jpeg,
    ".jpeg": inspect_jpeg,
    ".tif": inspect_tiff,
    ".tiff": inspect_tiff,
}


def inspector(path: Path) -> Callable[[Path], Header]:
    """The check for a file of this name."""
    suffix = suffix_of(path)
    if suffix is None:
        raise Refused(f"its format is unknown; one of {', '.join(FORMATS)} is needed")
    return FORMATS[suffix]


def suffix_of(path: Path) -> str | None:
    """The known ending of a name, ``.nii.gz`` as one."""
    name = path.name.lower()
    endings = [suffix for suffix in FORMATS if name.endswith(suffix)]
    return max(endings, key=len, default=None)
