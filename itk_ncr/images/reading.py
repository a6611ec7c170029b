"""Reading images: through SimpleITK, after a look at the file of our own, and one after."""

from __future__ import annotations

import locale
import os
import struct
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import GeometryError, ImageReadError, MemoryLimitError, NCRError
from itk_ncr.geometry import Grid
from itk_ncr.images.image import Image, ImageWarning
from itk_ncr.images.preflight import (
    Header,
    Refused,
    inspect_dicom,
    inspector,
    is_dicom_file,
    require_file,
    suffix_of,
)
from itk_ncr.images.preflight.header import reason_of
from itk_ncr.images.preflight.nifti import AGREEMENT_VOXELS

# Directions may be rounded (1e-3 over the whole image) and are made orthonormal by ITK.
READ_TOLERANCE_VOXELS, READ_TOLERANCE_RELATIVE = 0.01, 2e-3
NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz", ".nia")
_process_lock = threading.Lock()


def read_image(path: str | os.PathLike[str], role: str = "image") -> Image:
    """Read a 2D or 3D scalar image, or say in one line why not.

    Parameters
    ----------
    path : path
        .nii, .nii.gz, .hdr/.img, .nrrd, .nhdr, .mha, .mhd, a DICOM file or a folder with one DICOM
        series, or a grey .png, .tif, .jpg.
    role : str
        What the image is to the caller ("moving image"), for messages.

    Returns
    -------
    Image
        Values as the file has them, scaled by its header; NaN and Inf are kept (ITK alone would
        turn them into 0 in NIfTI).

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
    return _read(path, role, vector=False)


def read_displacement(path: str | os.PathLike[str], role: str = "displacement field") -> Image:
    """Read a vector image with D components (mm, LPS): .nii(.gz), .nrrd, .mha; as `read_image`."""
    return _read(path, role, vector=True)


def _read(path: str | os.PathLike[str], role: str, *, vector: bool) -> Image:
    try:
        return _checked_read(Path(path), vector)
    except (Refused, UnicodeError) as refused:
        raise ImageReadError(_line(path, role, str(refused))) from None
    except GeometryError as error:
        raise GeometryError(_line(path, role, str(error))) from None
    except MemoryLimitError as error:
        raise MemoryLimitError(_line(path, role, str(error))) from None
    except NCRError as error:
        raise ImageReadError(_line(path, role, str(error))) from None


def _line(path: str | os.PathLike[str], role: str, reason: str) -> str:
    return f"cannot read {role} {os.fspath(path)!r}: {' '.join(reason.split())}"


def _checked_read(path: Path, vector: bool) -> Image:
    import SimpleITK as sitk

    try:
        is_folder, is_dicom = path.is_dir(), is_dicom_file(path)
    except ValueError:  # a null byte in the name
        raise Refused("its name holds a null byte") from None
    files = [path]
    if is_folder or is_dicom:
        str(path).encode("utf-8")
        if is_dicom:
            require_file(path)
            header = Header(size=())
        else:
            header, files = inspect_dicom(path)
            _require_components(header.components, len(header.size), vector)
    else:
        require_file(path)
        header = _inspect(path)
        _require_components(header.components, len(header.size), vector)
    image = _read_with_itk(files)
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        image = image[..., 0]
    if vector and image.GetDimension() == 2 and len(header.size) == 3:
        image = _as_one_slice(image, header)
    if image.GetDimension() not in (2, 3):
        raise Refused(f"is {image.GetDimension()}D; extract one volume first")
    kind = image.GetPixelIDTypeAsString()
    if "complex" in kind or "label" in kind:
        raise Refused(f"holds {kind}; convert it to real numbers first")
    _require_components(image.GetNumberOfComponentsPerPixel(), image.GetDimension(), vector)
    if header.size and tuple(image.GetSize()) != header.size:
        raise Refused(f"its header says size {header.size}, ITK reads {tuple(image.GetSize())}")
    array = sitk.GetArrayFromImage(image)
    array = _restore(array, header)
    dimension = image.GetDimension()
    grid = Grid.of_array(
        image.GetSize()[::-1], image.GetSpacing(), image.GetOrigin(), image.GetDirection()
    )
    _compare_geometry(_index_to_mm(image), grid, header)
    for note in header.notes:
        warnings.warn(f"{path.name!r}: {note}.", ImageWarning, stacklevel=4)
    if not vector:
        array = array.reshape(image.GetSize()[::-1])
    return Image(array.reshape(grid.shape + array.shape[dimension:]), grid)


def _read_with_itk(files: list[Path]) -> Any:
    """A SimpleITK image; ITK's remarks on the side are dropped, our checks say it better."""
    import SimpleITK as sitk

    talkative = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with numeric_locale():
            if len(files) > 1:
                reader = sitk.ImageSeriesReader()
                reader.SetFileNames([str(file) for file in files])
                return reader.Execute()
            with _unrivalled(files[0]) as name:
                try:
                    return sitk.ReadImage(str(name))
                except RuntimeError as error:
                    if "orthonormal definition" not in str(error):
                        raise
                with _rounded_sform_allowed():
                    return sitk.ReadImage(str(name))
    except (RuntimeError, MemoryError) as error:
        raise Refused(_itk_reason(error)) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(talkative)


def _as_one_slice(image: Any, header: Header) -> Any:
    """A vector image of one slice, which ITK reads from NIfTI as a flat one of three components."""
    import SimpleITK as sitk

    volume = sitk.JoinSeries(image)
    for placed in list(header.geometry.values())[:1]:
        steps = np.linalg.norm(placed[:-1, :-1], axis=0)
        volume.SetSpacing(steps.tolist())
        volume.SetOrigin(placed[:-1, -1].tolist())
        volume.SetDirection(np.ravel(placed[:-1, :-1] / steps).tolist())
    return volume


@contextmanager
def _rounded_sform_allowed() -> Iterator[None]:
    """ITK refuses an sform that is off by 1e-5; how much is too much is Grid's to say."""
    with _process_lock:
        os.environ["ITK_NIFTI_SFORM_PERMISSIVE"] = "1"  # asked for by every new reader of ITK's
        try:
            yield
        finally:
            del os.environ["ITK_NIFTI_SFORM_PERMISSIVE"]


def _inspect(path: Path) -> Header:
    inspect = inspector(path)
    try:
        return inspect(path)
    except NCRError:
        raise
    except OSError as error:
        raise Refused(reason_of(error)) from None
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        # A header so broken that no check foresaw it.
        raise Refused(f"its header cannot be understood ({error})") from None


@contextmanager
def _unrivalled(path: Path) -> Iterator[Path]:
    """A name for the file under which ITK cannot take a neighbour for it.

    Asked for ``x.nii.gz``, ITK's NIfTI reader opens ``x.nii`` if there is one.
    """
    stem, suffix = path.name[: -len(suffix_of(path) or "")], suffix_of(path)
    own = {suffix} if suffix != ".hdr" else {".hdr", ".img", ".img.gz"}
    rivals = [other for other in NIFTI_SUFFIXES if other not in own]
    if suffix not in NIFTI_SUFFIXES or not any(
        (path.parent / (stem + other)).exists() for other in rivals
    ):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="itk_ncr-") as folder:
        for ending in own:
            source = path if ending == suffix else path.parent / (stem + str(ending))
            if source.exists():
                (Path(folder) / f"image{ending}").symlink_to(source.resolve())
        yield Path(folder) / f"image{suffix}"


def _require_components(components: int, dimension: int, vector: bool) -> None:
    if not vector and components != 1:
        colours = {3: " (RGB colours or vectors)", 4: " (RGBA colours)"}.get(components, "")
        raise Refused(
            f"has {components} values in every voxel{colours}; convert it to one, such as grey"
        )
    if vector and components != dimension:
        values = f"{components} value{'s' * (components > 1)}"
        raise Refused(f"has {values} in every voxel; a displacement has {dimension}")


def _restore(array: NDArray[Any], header: Header) -> NDArray[Any]:
    """Put back the NaN and Inf that ITK's NIfTI reader turned into 0."""
    if header.lost is None:
        return array
    positions, values = header.lost
    array = np.ascontiguousarray(array)
    array.reshape(-1)[positions] = values
    return array


def _index_to_mm(image: Any) -> NDArray[np.float64]:
    """What ITK takes as the geometry, before directions are made orthonormal."""
    dimension = image.GetDimension()
    full = np.eye(dimension + 1)
    direction = np.reshape(image.GetDirection(), (dimension, dimension))
    full[:-1, :-1] = direction * np.asarray(image.GetSpacing())
    full[:-1, -1] = image.GetOrigin()
    return full


def _compare_geometry(read: NDArray[np.float64], grid: Grid, header: Header) -> None:
    """Refuse a geometry that the header does not hold; say which one, if it holds two."""
    candidates = header.geometry
    if not candidates:
        return
    corners = _corners(grid)

    def distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
        gap = corners @ (one - other).T
        return float(np.linalg.norm(gap, axis=1).max())

    voxel = min(grid.spacing)
    tolerance = READ_TOLERANCE_VOXELS + READ_TOLERANCE_RELATIVE * max(grid.size)
    distances = {name: distance(read, other) for name, other in candidates.items()}
    used = min(distances, key=lambda name: distances[name])
    if distances[used] > tolerance * voxel:
        raise Refused(
            f"ITK would place it {distances[used]:.3g} mm from where its header says "
            f"({' and '.join(candidates)}); correct the header first"
        )
    placed = candidates[used]
    steps = np.linalg.norm(placed[:-1, :-1], axis=0)
    # ITK has made the direction orthonormal: whether that was right is seen on the header's.
    Grid.of_array(grid.shape, steps, placed[:-1, -1], placed[:-1, :-1] / steps)
    if {"sform", "qform"} <= candidates.keys():
        apart = distance(candidates["sform"], candidates["qform"])
        if apart > AGREEMENT_VOXELS * voxel:
            header.notes.append(
                f"its sform and qform disagree by up to {apart:.3g} mm; the {used} is used"
            )


def _corners(grid: Grid) -> NDArray[np.float64]:
    """Homogeneous indices of the corner voxels; an axis of length 1 counts as one step."""
    ends = [(0.0, max(1.0, n - 1.0)) for n in grid.size]
    indices = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, grid.dimension)
    return np.concatenate([indices, np.ones((len(indices), 1))], axis=1)


def _itk_reason(error: Exception) -> str:
    """The last telling line of ITK's long exception text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception thrown", "Reason:"))]
    text = telling[-1] if telling else "ITK cannot read it"
    for mark in ("ITK ERROR:", "Description:"):
        text = text.split(mark)[-1].strip()
    return f"ITK cannot read it ({text})"


@contextmanager
def numeric_locale() -> Iterator[None]:
    """Read and write numbers with a decimal point, whatever the host program has set.

    ITK's text headers go through functions that follow LC_NUMERIC: with a decimal comma 1.75 would
    be read as 1. Nothing is touched where the point is in force already.
    """
    if locale.localeconv()["decimal_point"] == ".":
        yield
        return
    with _process_lock:
        before = locale.setlocale(locale.LC_NUMERIC)
        locale.setlocale(locale.LC_NUMERIC, "C")
        try:
            yield
        finally:
            locale.setlocale(locale.LC_NUMERIC, before)
