"""Manifests: the images of a training, read from a folder or CSV and checked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from itk_ncr.data.folders import image_stem as image_stem
from itk_ncr.data.folders import list_folder
from itk_ncr.data.listings import Entry, column_faults, entries, further_columns, patient_key
from itk_ncr.errors import ImageReadError, InputError, NCRError
from itk_ncr.geometry import Grid
from itk_ncr.images import read_image
from itk_ncr.tables import TOLD, read_table

# Spacings and positions that differ by less are the same up to the rounding of headers.
RELATIVE_TOLERANCE, VOXEL_TOLERANCE = 1e-3, 0.05


@dataclass(frozen=True)
class Subject:
    """One image with its labels, lesion, patient and split.

    Attributes
    ----------
    patient : str
        Who it shows. A patient is never in two splits nor paired with itself by all-to-all.
    image : Path
    labels, lesion : Path, optional
        Label map, and mask of the pathology, on the image's grid.
    split : str, optional
        "train", "val" or "test"; None: not divided yet.
    group : str
        Only images of the same group are paired (the level of a slice, a contrast).
    slice_mm : float, optional
        Height of a 2D slice, where masks of 3D lesions are cut.
    ignore_labels : tuple of int
        Values of its label map that count as no label, as 0 does.
    """

    patient: str
    image: Path
    labels: Path | None = None
    lesion: Path | None = None
    split: str | None = None
    group: str = ""
    slice_mm: float | None = None
    ignore_labels: tuple[int, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the subject that exist."""
        return tuple(p for p in (self.image, self.labels, self.lesion) if p is not None)


@dataclass(frozen=True)
class Manifest:
    """Subjects, and the pairs the user has declared among them.

    Attributes
    ----------
    subjects : tuple of Subject
    pairs : tuple of (int, int)
        Fixed and moving, as positions in ``subjects``; empty: all-to-all.
    notes : tuple of str
        What was found where they come from and is not used.
    """

    subjects: tuple[Subject, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()

    def positions(self, split: str | None) -> tuple[int, ...]:
        """Positions of the subjects in a split.

        Parameters
        ----------
        split : str or None
            "train", "val" or "test"; None for all subjects.

        Returns
        -------
        tuple of int
            Indices into ``subjects``.
        """
        return tuple(i for i, s in enumerate(self.subjects) if split in (None, s.split))

    def patients(self, split: str | None = None) -> tuple[str, ...]:
        """Patients of a split.

        Parameters
        ----------
        split : str, optional
            "train", "val" or "test". Default: all patients.

        Returns
        -------
        tuple of str
            In order of first appearance.
        """
        return tuple(dict.fromkeys(self.subjects[i].patient for i in self.positions(split)))

    def assigned(self, splits: dict[str, str]) -> Manifest:
        """The same manifest with the split of every patient replaced.

        Parameters
        ----------
        splits : dict of str to str
            Split of every patient.

        Returns
        -------
        Manifest
            A copy.
        """
        return replace(
            self, subjects=tuple(replace(s, split=splits[s.patient]) for s in self.subjects)
        )


def read_manifest(path: str | os.PathLike[str], *, any_size: bool = False) -> Manifest:
    """Read a manifest from a folder or CSV and check its files.

    Parameters
    ----------
    path : path
        A folder with one image per patient, ``NAME.nii.gz`` and optionally ``NAME_seg.nii.gz``
        (``NAME_t1.nii.gz`` goes with ``NAME_seg.nii.gz`` too); in a folder of label maps only, each
        is its own image. Or a CSV (comma, semicolon or tab; UTF-8) with the columns subject
        (patient), image and optionally labels, lesion, split (train, val, test), group, slice_mm,
        ignore_labels; or subject, fixed, moving and optionally fixed_labels, moving_labels, lesion
        (of fixed), split, group, slice_mm, ignore_labels for given pairs. Paths are relative to the
        CSV.
    any_size : bool
        Allow images of different size and position (the source then crops or pads).

    Returns
    -------
    Manifest
        Subjects, pairs and notes about the files.

    Raises
    ------
    ImageReadError
        Lists every image that cannot be read or does not fit the others.
    InputError
        Lists everything ambiguous: columns, files whose names do not show what they are, patients
        in two splits, one image for two patients.
    """
    path = Path(path)
    manifest = _from_folder(path) if path.is_dir() else _from_table(path)
    copies = _require_apart(manifest, path)
    require_consistent(manifest, any_size=any_size)
    return replace(manifest, notes=(*manifest.notes, *copies))


def _from_folder(folder: Path) -> Manifest:
    images, notes = list_folder(folder)
    subjects = [Subject(patient=name, image=file, labels=labels) for name, file, labels in images]
    return Manifest(tuple(subjects), notes=notes)


def _from_table(path: Path) -> Manifest:
    table = read_table(path, "data")
    faults = column_faults(table) + list(table.faults)
    if not faults and not table.lines:
        faults = ["it has no images, only a heading"]
    table.refuse(faults)
    subjects: dict[Subject, int] = {}
    pairs: list[tuple[int, int]] = []
    for line in entries(table, faults):
        places = [subjects.setdefault(_subject(entry), len(subjects)) for entry in line]
        if len(places) == 2:
            if line[0].image == line[1].image:
                faults.append(f"line {line[0].line} pairs an image with itself")
            pairs.append((places[0], places[1]))
    faults += _faults_of_patients(tuple(subjects))
    table.refuse(faults)
    unused = further_columns(table)
    notes = (f"columns that are not used: {', '.join(unused)}",) if unused else ()
    return Manifest(tuple(subjects), tuple(pairs), notes)


def _subject(entry: Entry) -> Subject:
    values = {name: getattr(entry, name) for name in (f.name for f in fields(Subject))}
    return Subject(**values)


def _faults_of_patients(subjects: Sequence[Subject]) -> list[str]:
    """Faults of patients: in two splits, or images in none."""
    spellings: dict[str, dict[str, None]] = {}
    splits: dict[str, set[str | None]] = {}
    for subject in subjects:
        spellings.setdefault(patient_key(subject.patient), {})[subject.patient] = None
        splits.setdefault(subject.patient, set()).add(subject.split)
    faults = [
        f"subjects {' and '.join(map(repr, names))} differ in case or blanks only"
        for names in spellings.values()
        if len(names) > 1
    ]
    faults += [
        f"subject {patient!r} is in several splits"
        for patient, found in splits.items()
        if len(found - {None}) > 1
    ]
    without = [s.image.name for s in subjects if s.split is None]
    if without and len(without) < len(subjects):
        faults.append(
            f"{len(without)} images have no split, {without[0]!r} first, and others have one"
        )
    return faults


def _require_apart(manifest: Manifest, path: Path) -> tuple[str, ...]:
    """Refuse an image shared by two patients; a copy within one split is a remark."""
    by_size: dict[int, dict[str, list[Subject]]] = {}
    for subject in manifest.subjects:
        with contextlib.suppress(OSError):  # reported by the reader
            real = os.path.realpath(subject.image)
            found = by_size.setdefault(os.stat(real).st_size, {})
            found.setdefault(real, []).append(subject)
    faults: list[str] = []
    notes: list[str] = []
    for files in by_size.values():
        same: dict[str, list[Subject]] = {}
        for real, subjects in files.items():
            key = real if len(files) == 1 else _digest(Path(real))
            same.setdefault(key, []).extend(subjects)
        for subjects in same.values():
            names = dict.fromkeys(s.patient for s in subjects)
            if len(names) > 1:
                images = dict.fromkeys(s.image.name for s in subjects)
                text = (
                    f"{' and '.join(map(repr, images))} "
                    f"{'hold the same image' if len(images) > 1 else 'is given'} for the patients "
                    f"{' and '.join(map(repr, names))}"
                )
                splits = {s.split for s in subjects}
                copied = len({os.path.realpath(s.image) for s in subjects}) > 1
                (notes if copied and len(splits - {None}) == 1 else faults).append(text)
    if faults:
        more = f"; and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
        raise InputError(
            f"data '{path}' cannot be used, nothing was done: {'; '.join(faults[:TOLD])}{more}. "
            "Give every image to one patient."
        )
    return tuple(notes)


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:  # reported by the reader
        return str(file)


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
    faults = list(dict.fromkeys(fault.rstrip(".") for fault in faults))
    if faults:
        raise ImageReadError(
            f"{len(faults)} file{'s' * (len(faults) > 1)} cannot be used: {'; '.join(faults)}. "
            "Correct or leave them out."
        )


def read_grid(path: Path) -> Grid:
    """Grid of an image as read with its voxels, not from its header alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # given when the voxels are used
        return read_image(path).grid


def _most_common(grids: list[Grid]) -> Grid:
    counts: dict[tuple[object, ...], list[Grid]] = {}
    for grid in grids:
        counts.setdefault((grid.size, grid.spacing), []).append(grid)
    return max(counts.values(), key=len)[0]


def _difference(grid: Grid, usual: Grid, *, any_size: bool) -> str:
    """Difference between two grids, in words; empty if there is none."""
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
