"""The file formats: each reader checks that a file is of its format and complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from itk_ncr.images.formats.content import Content, Place, Refused, require_file
from itk_ncr.images.formats.dicom import is_dicom_file, read_dicom_file, read_dicom_folder
from itk_ncr.images.formats.meta import read_meta
from itk_ncr.images.formats.nifti import read_nifti
from itk_ncr.images.formats.nrrd import read_nrrd
from itk_ncr.images.formats.raster import read_jpeg, read_png, read_tiff

__all__ = [
    "FORMATS",
    "Content",
    "Place",
    "Refused",
    "is_dicom_file",
    "read_dicom_file",
    "read_dicom_folder",
    "reader_of",
    "require_file",
    "suffix_of",
]

# By the end of the file's name. Arguments are the path and whether vectors are wanted.
FORMATS: dict[str, Callable[[Path, bool], Content]] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".hdr": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_meta,
    ".mhd": read_meta,
    ".png": read_png,
    ".jpg": read_jpeg,
    ".jpeg": read_jpeg,
    ".tif": read_tiff,
    ".tiff": read_tiff,
}
# Files of voxels alone, and the ending of the header that describes them.
PARTS = {".img": ".hdr", ".img.gz": ".hdr", ".raw": ".mhd or .nhdr", ".zraw": ".mhd"}


def reader_of(path: Path) -> Callable[[Path, bool], Content]:
    """The reader for a file of this name."""
    suffix = suffix_of(path)
    if suffix is not None:
        return FORMATS[suffix]
    for ending, header in PARTS.items():
        if path.name.lower().endswith(ending):
            name = path.name[: -len(ending)]
            raise Refused(f"holds voxels without a header; name its header, {name}{header}")
    raise Refused(f"its format is unknown; one of {', '.join(FORMATS)} is needed")


def suffix_of(path: Path) -> str | None:
    """The known ending of a name, ``.nii.gz`` as one."""
    name = path.name.lower()
    endings = [suffix for suffix in FORMATS if name.endswith(suffix)]
    return max(endings, key=len, default=None)
