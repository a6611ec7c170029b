"""Reading of images and displacement fields from files."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path
from typing import Any

from itk_ncr.errors import GeometryError, ImageReadError, MemoryLimitError, NCRError
from itk_ncr.geometry import Grid
from itk_ncr.images.formats import (
    Content,
    Refused,
    is_dicom_file,
    read_dicom_file,
    read_dicom_folder,
    reader_of,
    require_file,
)
from itk_ncr.images.formats.content import reason_of
from itk_ncr.images.image import Image, ImageWarning


def read_image(path: Any, role: str = "image") -> Image:
    """Read a 2D or 3D scalar image.

    Parameters
    ----------
    path : path
        .nii, .nii.gz, .hdr/.img, .nrrd, .nhdr, .mha, .mhd, a DICOM file (of one or more frames) or
        a folder with one DICOM series, or a grey .png, .tif, .jpg (RGB and RGBA of
        equal channels and one alpha are grey). An image of another library is taken as by
        :func:`as_image`.
    role : str
        What the image is to the caller ("moving image"), for messages.

    Returns
    -------
    Image
        Values as the file has them, scaled by its header; NaN and Inf are kept.

    Raises
    ------
    ImageReadError
        Missing, unreadable, truncated, damaged, contradicting itself, or not one scalar image.
    GeometryError
        If spacing, origin or direction cannot be used.
    MemoryLimitError
        If the image is larger than the memory that is free.

    Warns
    -----
    ImageWarning
        What can be read but deserves a look: sform and qform that disagree, no orientation,
        surplus bytes, uneven slices.
    """
    return _read(path, role, vector=False) if _is_path(path) else _taken(path, role)


def read_displacement(path: Any, role: str = "displacement field") -> Image:
    """Read a displacement field.

    Parameters
    ----------
    path : path
        Vector image with D components (mm, LPS): .nii, .nii.gz, .nrrd or .mha; an image of another
        library is taken as by :func:`as_image`.
    role : str
        Name of the field in error messages.

    Returns
    -------
    Image
        Components (x, y, z) in mm, LPS.

    Raises
    ------
    ImageReadError, GeometryError, MemoryLimitError
        As :func:`read_image`.
    """
    return _read(path, role, vector=True) if _is_path(path) else _taken(path, role, vector=True)


def _is_path(obj: Any) -> bool:
    return isinstance(obj, (str, os.PathLike))


def _taken(obj: Any, role: str, *, vector: bool = False) -> Image:
    from itk_ncr.images.adapters import as_image  # which reads paths in its turn

    return as_image(obj, role=role, vector=vector)


def _read(path: str | os.PathLike[str], role: str, *, vector: bool) -> Image:
    try:
        content = _content(Path(path), vector)
        grid = _grid(content)
    except (Refused, UnicodeError) as refused:
        raise ImageReadError(_line(path, role, str(refused))) from None
    except GeometryError as error:
        raise GeometryError(_line(path, role, str(error))) from None
    except MemoryLimitError as error:
        raise MemoryLimitError(_line(path, role, str(error))) from None
    except MemoryError:
        raise MemoryLimitError(_line(path, role, "needs more memory than there is")) from None
    except NCRError as error:
        raise ImageReadError(_line(path, role, str(error))) from None
    for note in content.notes:
        warnings.warn(f"{Path(path).name!r}: {note}.", ImageWarning, stacklevel=3)
    return Image(content.array, grid)


def _line(path: str | os.PathLike[str], role: str, reason: str) -> str:
    return f"cannot read {role} {os.fspath(path)!r}: {' '.join(reason.split())}"


def _content(path: Path, vector: bool) -> Content:
    try:
        if "\0" in str(path):
            raise Refused("its name holds a null byte")
        if path.is_dir():
            return read_dicom_folder(path, vector)
        if is_dicom_file(path):
            return read_dicom_file(path, vector)
        require_file(path)  # a missing file is said to be missing, whatever its ending
        return reader_of(path)(path, vector)
    except NCRError:
        raise
    except OSError as error:
        raise Refused(reason_of(error)) from None
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, UnicodeError):
            raise
        # A header so broken that no check foresaw it.
        raise Refused(f"its header cannot be understood ({error})") from None


def _grid(content: Content) -> Grid:
    place = content.place
    dimension = len(place.spacing)
    shape = content.array.shape[:dimension]
    return Grid.of_array(shape, place.spacing, place.origin, place.direction)
