"""Which images there are: read from a folder or a CSV, and checked before anything is learnt."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from itk_ncr.errors import ArgumentError, ImageReadError, NCRError
from itk_ncr.geometry import Grid
from itk_ncr.images import read_image

SPLITS = ("train", "val", "test")
LABEL_ENDINGS = ("_seg", "_labels", "_label")
IMAGE_SUFFIXES = (
    ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".png", ".tif", ".tiff", ".jpg",
    ".jpeg", ".dcm",
)  # fmt: skip
# Spacings and positions that differ by less are the same up to the rounding of headers.
RELATIVE_TOLERANCE, VOXEL_TOLERANCE = 1e-3, 0.05


@dataclass(frozen=True)
class Subject:
    """One image and what belongs to it.

    Attributes
    ----------
    patient : str
        Who it shows. A patient is never in two splits nor paired with itself by all-to-all.
    image : Path
    labels, lesion : Path, optional
        Label map, and mask of what is pathological, on the image's grid.
    split : str, optional
        "train", "val" or "test"; None: not divided yet.
    group : str
        Only images of the same group are paired (the level of a slice, a contrast).
    slice_mm : float, optional
        Height of a 2D slice, where masks of 3D lesions are cut.
    """

    patient: str
    image: Path
    labels: Path | None = None
    lesion: Path | None = None
    split: str | None = None
    group: str = ""
    slice_mm: float | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The image and what belongs to it, as far as there is any."""
        return tuple(p for p in (self.image, self.labels, self.lesion) if p is not None)


@dataclass(frozen=True)
class Manifest:
    """Subjects, and the pairs that the user has named among them.

    Attributes
    ----------
    subjects : tuple of Subject
    pairs : tuple of (int, int)
        Fixed and moving, as positions in ``subjects``; empty: all-to-all.
    """

    subjects: tuple[Subject, ...]
    pairs: tuple[tuple[int, int], ...] = ()

    def positions(self, split: str | None) -> tuple[int, ...]:
        """Positions of the subjects in a split; None: of all."""
        return tuple(i for i, s in enumerate(self.subjects) if split in (None, s.split))

    def patients(self, split: str | None = None) -> tuple[str, ...]:
        """Patients of a split in order of first appearance; None: of all."""
        return tuple(dict.fromkeys(self.subjects[i].patient for i in self.positions(split)))

    def assigned(self, splits: dict[str, str]) -> Manifest:
        """The same manifest with the split of every patient replaced."""
        return replace(
            self, subjects=tuple(replace(s, split=splits[s.patient]) for s in self.subjects)
        )


def read_manifest(
    path: str | os.PathLike[str],
    *,
    label_endings: Sequence[str] = LABEL_ENDINGS,
    any_size: bool = False,
) -> Manifest:
    """Read which images to use from a folder or a CSV, and check them all.

    Parameters
    ----------
    path : path
        A folder with one image per patient, ``NAME.nii.gz`` and optionally ``NAME_seg.nii.gz``
        (``NAME_t1.nii.gz`` goes with ``NAME_seg.nii.gz`` too); of label maps only, each is its own
        image. Or a CSV with the columns subject
        (patient), image and optionally labels, lesion, split (train, val, test), group, slice_mm;
        or subject, fixed, moving and optionally fixed_labels, moving_labels, lesion (of fixed),
        split, group, slice_mm for given pairs. Paths are relative to the CSV.
    label_endings : sequence of str
        How a label map's name goes on after the image's.
    any_size : bool
        Allow images of different size and position (the source then crops or pads).

    Raises
    ------
    ImageReadError
        Naming every image that cannot be read or does not fit the others.
    ArgumentError
        If the CSV's columns or splits cannot be used.
    """
    path = Path(path)
    is_folder = path.is_dir()
    manifest = _from_folder(path, tuple(label_endings)) if is_folder else _from_csv(path)
    _require_one_split_per_patient(manifest, path)
    require_consistent(manifest, any_size=any_size)
    return manifest


def _from_folder(folder: Path, label_endings: tuple[str, ...]) -> Manifest:
    found = {
        (stem := image_stem(p.name)): p
        for p in sorted(folder.iterdir())
        if image_stem(p.name) is not None
    }
    labels: dict[str, Path] = {}
    images: dict[str, Path] = {}
    for stem, file in found.items():
        assert stem is not None
        ending = next((e for e in label_endings if stem.endswith(e)), None)
        if ending is None:
            images[stem] = file
        else:
            labels[stem[: -len(ending)]] = file
    if not images:
        # Label maps alone: synthetic pairs need nothing else.
        images, labels = labels, labels
    if not images:
        raise ArgumentError(
            f"data must hold images; got none in {str(folder)!r}. "
            f"Give a CSV or a folder of {', '.join(IMAGE_SUFFIXES[:4])}, ... files."
        )
    return Manifest(
        tuple(
            Subject(patient=stem, image=file, labels=labels.get(stem, labels.get(_shorter(stem))))
            for stem, file in images.items()
        )
    )


def image_stem(name: str) -> str | None:
    """The name of an image file without its suffix; None if it is no image."""
    suffix = next((s for s in IMAGE_SUFFIXES if name.lower().endswith(s)), None)
    return None if suffix is None or name.startswith(".") else name[: -len(suffix)]


def _shorter(stem: str) -> str:
    """The name without its last part: of "ann_t1" "ann"."""
    return stem.rpartition("_")[0]


def _from_csv(path: Path) -> Manifest:
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except UnicodeError:
        raise ImageReadError(
            f"cannot read data {str(path)!r}: it is no text (UTF-8). Give a CSV or a folder."
        ) from None
    except (OSError, csv.Error) as error:
        raise ImageReadError(
            f"cannot read data {str(path)!r}: {getattr(error, 'strerror', None) or error}"
        ) from None
    columns = {name for row in rows[:1] for name in row if name}
    required = {"subject", "fixed", "moving"} if "fixed" in columns else {"subject", "image"}
    if not rows or not required <= columns:
        raise ArgumentError(
            f"data must have rows with the columns {', '.join(sorted(required))}; got "
            f"{', '.join(sorted(columns)) or 'nothing'} in {str(path)!r}. Correct its first line."
        )
    for number, row in enumerate(rows, start=2):
        empty = [name for name in sorted(required) if not (row[name] or "").strip()]
        if empty or row.get("split") not in (None, "", *SPLITS):
            raise ArgumentError(
                f"line {number} of {str(path)!r} must name {', '.join(sorted(required))} and one "
                f"of {', '.join(SPLITS)} as split; got {list(row.values())}. Correct the line."
            )
    if "fixed" in columns:
        return _pairs(rows, path.parent)
    return Manifest(tuple(_subject(row, path.parent, "image", "labels", "lesion") for row in rows))


def _subject(
    row: dict[str, str], folder: Path, image: str, labels: str, lesion: str | None
) -> Subject:
    def file(column: str | None) -> Path | None:
        return folder / row[column] if column and row.get(column) else None

    height = row.get("slice_mm")
    try:
        slice_mm = float(height) if height else None
    except ValueError:
        raise ArgumentError(
            f"slice_mm must be a number; got {height!r} for {row['subject']!r}. Correct the CSV."
        ) from None
    return Subject(
        patient=row["subject"],
        image=folder / row[image],
        labels=file(labels),
        lesion=file(lesion),
        split=row.get("split") or None,
        group=row.get("group") or "",
        slice_mm=slice_mm,
    )


def _pairs(rows: list[dict[str, str]], folder: Path) -> Manifest:
    subjects: dict[Subject, int] = {}
    pairs = []
    for row in rows:
        fixed = _subject(row, folder, "fixed", "fixed_labels", "lesion")
        moving = _subject(row, folder, "moving", "moving_labels", None)
        pairs.append(tuple(subjects.setdefault(s, len(subjects)) for s in (fixed, moving)))
    return Manifest(tuple(subjects), tuple((one, two) for one, two in pairs))


def _require_one_split_per_patient(manifest: Manifest, path: Path) -> None:
    splits: dict[str, set[str | None]] = {}
    for subject in manifest.subjects:
        splits.setdefault(subject.patient, set()).add(subject.split)
    mixed = [patient for patient, found in splits.items() if len(found) > 1]
    if mixed:
        raise ArgumentError(
            f"split must be the same for all images of a patient; got several in {str(path)!r} for "
            f"{', '.join(mixed[:8])}. Divide by patient."
        )


def require_consistent(manifest: Manifest, *, any_size: bool = False) -> None:
    """Raise one ImageReadError that names every image whose header is unreadable or does not fit.

    The size, spacing, direction and position that most images have are taken as meant.
    """
    grids: dict[Path, Grid] = {}
    faults = []
    for file in dict.fromkeys(f for subject in manifest.subjects for f in subject.files):
        try:
            grids[file] = read_grid(file)
        except NCRError as error:
            faults.append(str(error))
    images = [s.image for s in manifest.subjects if s.image in grids]
    if images:
        usual = _most_common([grids[file] for file in images])
        for file in dict.fromkeys(images):
            difference = _difference(grids[file], usual, any_size=any_size)
            if difference:
                faults.append(f"{str(file)!r} has {difference} in most images")
    for subject in manifest.subjects:
        for file in subject.files[1:]:
            if file in grids and subject.image in grids:
                difference = _difference(grids[file], grids[subject.image], any_size=False)
                if difference:
                    faults.append(f"{str(file)!r} has {difference} in its image")
    raise_faults(faults)


def raise_faults(faults: Iterable[str]) -> None:
    """Raise one ImageReadError that lists all faults, if there are any."""
    faults = list(dict.fromkeys(faults))
    if faults:
        raise ImageReadError(
            f"{len(faults)} file{'s' * (len(faults) > 1)} cannot be used: {'; '.join(faults)}. "
            "Correct or leave them out."
        )


def read_grid(path: Path) -> Grid:
    """Where an image lies, from its header if ITK understands it, else from reading it whole."""
    import SimpleITK as sitk

    if path.is_file():
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        talkative = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            reader.ReadImageInformation()
            if reader.GetDimension() in (2, 3) and reader.GetNumberOfComponents() == 1:
                dimension = reader.GetDimension()
                return Grid.of_array(
                    reader.GetSize()[::-1],
                    reader.GetSpacing(),
                    reader.GetOrigin(),
                    np.reshape(reader.GetDirection(), (dimension, dimension)),
                )
        except (RuntimeError, NCRError):
            pass  # read_image says what is wrong, or repairs it
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(talkative)
    return read_image(path).grid


def _most_common(grids: list[Grid]) -> Grid:
    counts: dict[tuple[object, ...], list[Grid]] = {}
    for grid in grids:
        counts.setdefault((grid.size, grid.spacing), []).append(grid)
    return max(counts.values(), key=len)[0]


def _difference(grid: Grid, usual: Grid, *, any_size: bool) -> str:
    """How a grid differs from another one, in words; empty if it does not."""
    if grid.dimension != usual.dimension:
        return f"{grid.dimension} dimensions, not {usual.dimension} as"
    spacing = np.asarray(usual.spacing)
    if not np.allclose(grid.spacing, spacing, rtol=RELATIVE_TOLERANCE):
        return f"spacing {_text(grid.spacing)} mm, not {_text(usual.spacing)} as"
    if np.abs(np.subtract(grid.direction, usual.direction)).max() > RELATIVE_TOLERANCE:
        return f"direction {grid.direction}, not {usual.direction} as"
    if any_size:
        return ""
    if grid.size != usual.size:
        return f"size {grid.size}, not {usual.size} as"
    if np.abs(np.subtract(grid.origin, usual.origin)).max() > VOXEL_TOLERANCE * spacing.min():
        return f"origin {_text(grid.origin)} mm, not {_text(usual.origin)} as"
    return ""


def _text(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"


def pairs_of_different_patients(
    manifest: Manifest, fixed: Sequence[int], moving: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Ordered pairs (fixed, moving) within a group that never join a patient with itself."""
    subjects = manifest.subjects
    for i in fixed:
        for j in moving:
            one, two = subjects[i], subjects[j]
            if one.patient != two.patient and one.group == two.group:
                yield i, j
