"""Atomic writing of images, verified by reading back."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr import files
from itk_ncr.errors import ArgumentError, ImageReadError, ImageWriteError, NCRError
from itk_ncr.images.adapters import as_image
from itk_ncr.images.formats import suffix_of
from itk_ncr.images.image import Image, ImageWarning
from itk_ncr.images.libraries import to_sitk
from itk_ncr.images.locales import numeric_locale
from itk_ncr.images.reading import read_displacement, read_image

# Formats of one file; those of two (.mhd, .nhdr, .hdr) cannot be put in place in one step.
WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".tiff")
VECTOR_WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha")
# NIfTI keeps its geometry in float32.
GEOMETRY_TOLERANCE_VOXELS = 1e-2


def write_image(image: Any, path: str | os.PathLike[str]) -> None:
    """Write an image atomically; the file is complete, or as before.

    Parameters
    ----------
    image : Image, or what :func:`as_image` takes
        Scalar: .nii, .nii.gz, .nrrd, .mha, .png, .tif. Vector of D components: the first four
        (NIfTI with intent 1007, as ANTs and ITK expect of a displacement field).
    path : path
        Replaced if it exists. Its folder must exist.

    Raises
    ------
    ImageWriteError
        If the format cannot hold the image, the folder is missing or read-only, the disk is full,
        or what was written reads back differently. Nothing is left behind.
    """
    if isinstance(image, (str, os.PathLike)):
        raise ArgumentError(
            f"image must be an image; got the path {os.fspath(image)!r}. Pass the image first, "
            "then its path."
        )
    image = image if isinstance(image, Image) else as_image(image)
    target = Path(path)
    suffix = _suffix(target, VECTOR_WRITABLE if image.is_vector else WRITABLE)
    if image.is_vector and image.components != image.dimension:
        raise ImageWriteError(
            _line(target, f"has {image.components} components; {image.dimension} can be written")
        )
    with atomic_write(target, suffix) as temporary:
        import SimpleITK as sitk

        # A deferred image is in memory once while it is written, and gone when it is read back.
        copy = to_sitk(image)
        values = sitk.GetArrayViewFromImage(copy)
        if image.is_vector and not all(np.isfinite(rows).all() for rows in values):
            raise ImageWriteError(_line(target, "some of its vectors are NaN or Inf"))
        digest = _digest(values)
        del values
        try:
            with numeric_locale():
                sitk.WriteImage(copy, str(temporary), useCompression=suffix != ".nii")
        except RuntimeError as error:
            raise ImageWriteError(_line(target, _reason(error, temporary))) from None
        del copy
        _require_same(image, digest, temporary, target)


@contextmanager
def atomic_write(target: Path, suffix: str) -> Iterator[Path]:
    """Temporary file beside ``target`` that replaces it on success (context manager).

    Parameters
    ----------
    target : Path
        File to write.
    suffix : str
        Ending of the temporary name, by which writers choose a format.

    Yields
    ------
    Path
        Temporary file to write to.

    Raises
    ------
    ImageWriteError
        If the file cannot be written; ``target`` is unchanged then.
    """
    folder = target.parent
    try:
        str(target).encode("utf-8")
    except UnicodeEncodeError:
        raise ImageWriteError(_line(target, "its name is not valid UTF-8")) from None
    if target.is_dir():
        raise ImageWriteError(_line(target, "is a folder; name a file in it"))
    if not folder.is_dir():
        raise ImageWriteError(_line(target, f"the folder {str(folder)!r} does not exist"))
    try:
        with files.replacing(target, suffix) as temporary:
            yield temporary
    except OSError as error:
        if isinstance(error, NCRError):
            raise
        words = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ImageWriteError(_line(target, words)) from None


def _line(path: Path, reason: str) -> str:
    return f"cannot write {str(path)!r}: {' '.join(reason.split())}"


def _suffix(path: Path, writable: tuple[str, ...]) -> str:
    suffix = suffix_of(path)
    if suffix not in writable:
        raise ImageWriteError(_line(path, f"its name must end in one of {', '.join(writable)}"))
    return suffix


def _reason(error: Exception, temporary: Path) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"ITK cannot write it ({lines[-1].replace(str(temporary), 'the file')})"


def _digest(array: NDArray[Any]) -> str:
    """A digest of type, shape and values; NaNs count as equal, and so do zeros of either sign."""
    found = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode())
    for rows in array:
        if array.dtype.kind == "f":
            rows = np.where(np.isnan(rows), array.dtype.type(np.nan), rows + 0)
        found.update(np.ascontiguousarray(rows).data)
    return found.hexdigest()


def _require_same(image: Image, digest: str, temporary: Path, target: Path) -> None:
    """Read the file back: a full disk or a format's limits show here and nowhere else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImageWarning)
            read = read_displacement if image.is_vector else read_image
            back = read(temporary)
    except ImageReadError as error:
        reason = str(error).split(": ", 1)[-1]
        raise ImageWriteError(
            _line(target, f"what was written cannot be read back ({reason}); is the disk full?")
        ) from None
    except NCRError as error:
        raise ImageWriteError(_line(target, str(error).split(": ", 1)[-1])) from None
    if _digest(back.array) != digest:
        shape = image.grid.shape + ((image.components,) if image.is_vector else ())
        raise ImageWriteError(
            _line(
                target,
                f"{image.dtype} values of shape {shape} read back differently "
                f"({back.dtype}, {back.array.shape}); the format cannot hold them, or the "
                "disk is full",
            )
        )
    if not back.grid.equals(image.grid, GEOMETRY_TOLERANCE_VOXELS):
        raise ImageWriteError(
            _line(target, "this format cannot hold its geometry; write .nii.gz, .nrrd or .mha")
        )
