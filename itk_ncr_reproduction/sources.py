"""The data folder and its manifests for training and testing.

The folder holds ``ixi_dlmuse`` (brains with labels), ``stroke_lesions/masks``, ``oct_octdl_pairs``
and ``ship_samples``. The split of ixi_dlmuse is the one that comes with it. The OCT pairs come
without one: patients are ordered by the SHA-256 of their name and dealt to train, val and test;
those of ship_samples, which examples show, are in test.
"""

from __future__ import annotations

import csv
import hashlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from itk_ncr.data import Manifest, Subject, read_manifest
from itk_ncr.errors import ArgumentError

# Of ixi_dlmuse, says its README: the fluid outside the brain and two values without a name.
IGNORED_LABELS = (1, 46, 69)
# Its contrast is odd and over-strong, says the data's README.
LEFT_OUT = ("IXI257-HH-1724",)
# Level of a slice: the name's part, and its height in MNI in mm.
LEVELS = {"m08": -8.0, "p02": 2.5, "p18": 18.3}
# Of the OCT patients outside ship_samples.
VAL_SHARE, TEST_SHARE = 0.1, 0.1
CENTRAL_LEVEL = "p02"


def _brain_rows(data: Path, out: Path, levels: dict[str, float] | None) -> list[dict[str, str]]:
    """One row per image; slices of all levels for training, the central one for val and test."""
    with open(data / "ixi_dlmuse" / "subjects.csv") as lines:
        subjects = [row for row in csv.DictReader(lines) if row["id"] not in LEFT_OUT]
    rows = []
    for subject in subjects:
        used = levels or {"": 0.0}
        for level, height in used.items():
            if level not in ("", CENTRAL_LEVEL) and subject["split"] != "train":
                continue
            stem = f"slices2d/{subject['id']}_{level}" if level else f"vol3d/{subject['id']}"
            suffix = ".png" if level else ".nii.gz"
            image, labels = (
                _relative(data / "ixi_dlmuse" / f"{stem}_{kind}{suffix}", out)
                for kind in ("t1", "seg")
            )
            row = {"subject": subject["id"], "image": image, "labels": labels}
            row |= {"split": subject["split"]}
            row |= {"ignore_labels": " ".join(map(str, IGNORED_LABELS))}
            rows.append(row | ({"group": level, "slice_mm": f"{height}"} if level else {}))
    return rows


def _oct_rows(data: Path, out: Path) -> list[dict[str, str]]:
    """One row per pair, both directions being one pair; split by patient."""
    with open(data / "oct_octdl_pairs" / "pairs.csv") as lines:
        pairs = list(csv.DictReader(lines))
    shown = {p.name.rpartition("_")[0] for p in (data / "ship_samples" / "oct").glob("*.png")}
    patients = sorted(
        {pair["patient"] for pair in pairs} - shown,
        key=lambda name: hashlib.sha256(name.encode()).hexdigest(),
    )
    val, test = round(VAL_SHARE * len(patients)), round(TEST_SHARE * len(patients))
    split = dict.fromkeys(patients, "train") | dict.fromkeys(shown, "test")
    split |= dict.fromkeys(patients[:test], "test")
    split |= dict.fromkeys(patients[test : test + val], "val")
    folder = data / "oct_octdl_pairs" / "images"
    return [
        {
            "subject": pair["patient"],
            "fixed": _relative(folder / pair["fixed"], out),
            "moving": _relative(folder / pair["moving"], out),
            "split": split[pair["patient"]],
        }
        for pair in pairs
    ]


def _relative(file: Path, out: Path) -> str:
    return os.path.relpath(file.resolve(), out.resolve())


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_manifests(data: Path, out: Path) -> None:
    """Write ixi-2d.csv, ixi-3d.csv and oct.csv for the data folder into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "ixi-2d.csv", _brain_rows(data, out, LEVELS))
    _write(out / "ixi-3d.csv", _brain_rows(data, out, None))
    _write(out / "oct.csv", _oct_rows(data, out))


def lesion_masks(data: Path) -> Path:
    """The folder of real lesion masks."""
    return data / "stroke_lesions" / "masks"


def brains(data: Path, dimension: int, *, split: str, count: int | None = None) -> Manifest:
    """One image per patient of a split, the first ``count`` in the order of their hashed names.

    Parameters
    ----------
    data : Path
    dimension : int
        2: the central axial slices; 3: volumes.
    split : "train", "val" or "test"
        Of the data; the manifest that is returned has none.
    count : int, optional
        Default: all.

    Raises
    ------
    ArgumentError
        If the folder is not the data folder, or holds fewer patients.
    """
    require_data(data)
    with tempfile.TemporaryDirectory() as folder:
        write_manifests(data, Path(folder))
        manifest = read_manifest(Path(folder) / f"ixi-{dimension}d.csv")
        central = [
            _resolved(s)
            for s in manifest.subjects
            if s.split == split and s.group in ("", CENTRAL_LEVEL)
        ]
    central.sort(key=lambda s: hashlib.sha256(s.patient.encode()).hexdigest())
    if count is not None and len(central) < count:
        raise ArgumentError(
            f"data must hold {count} patients in its split {split!r}; got {len(central)} in "
            f"'{data}'. Give the whole data folder."
        )
    return replace(manifest, subjects=tuple(central[:count]))


def _resolved(subject: Subject) -> Subject:
    """Where the files really are, undivided and in one group; a design says which labels count."""
    return replace(
        subject,
        image=subject.image.resolve(),
        labels=None if subject.labels is None else subject.labels.resolve(),
        split=None,
        group="",
        ignore_labels=(),
    )


def require_data(data: Path) -> None:
    """Refuse a folder that is not the data folder, naming what it lacks."""
    wanted = ("ixi_dlmuse/subjects.csv", "stroke_lesions/masks", "oct_octdl_pairs/pairs.csv")
    missing = [name for name in wanted if not (data / name).exists()]
    if missing:
        raise ArgumentError(
            f"data must be the folder with {', '.join(wanted)}; got '{data}', which lacks "
            f"{', '.join(missing)}. See docs/reproduction.md for where the images come from."
        )
