"""Write manifests of the data folder for training: ixi-2d.csv, ixi-3d.csv, oct.csv.

    python benchmarks/manifests.py DATA OUT

DATA holds the folders ixi_dlmuse, oct_octdl_pairs and ship_samples. The split of ixi_dlmuse is the
one that comes with it. The OCT pairs come without one: patients are ordered by the SHA-256 of their
name and dealt to train, val and test; those of ship_samples, which examples show, are in test.
"""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import click

# Its contrast is odd and over-strong, says the data's README.
LEFT_OUT = ("IXI257-HH-1724",)
# Level of a slice: the name's part, and its height in MNI in mm.
LEVELS = {"m08": -8.0, "p02": 2.5, "p18": 18.3}
# Of the OCT patients outside ship_samples.
VAL_SHARE, TEST_SHARE = 0.1, 0.1


def ixi_rows(data: Path, out: Path, levels: dict[str, float] | None) -> list[dict[str, str]]:
    """One row per image; slices of all levels for training, the central one for val and test."""
    with open(data / "ixi_dlmuse" / "subjects.csv") as lines:
        subjects = [row for row in csv.DictReader(lines) if row["id"] not in LEFT_OUT]
    rows = []
    for subject in subjects:
        used = levels or {"": 0.0}
        for level, height in used.items():
            if level not in ("", "p02") and subject["split"] != "train":
                continue
            stem = f"slices2d/{subject['id']}_{level}" if level else f"vol3d/{subject['id']}"
            suffix = ".png" if level else ".nii.gz"
            image, labels = (
                relative(data / "ixi_dlmuse" / f"{stem}_{kind}{suffix}", out)
                for kind in ("t1", "seg")
            )
            row = {"subject": subject["id"], "image": image, "labels": labels}
            row |= {"split": subject["split"]}
            rows.append(row | ({"group": level, "slice_mm": f"{height}"} if level else {}))
    return rows


def oct_rows(data: Path, out: Path) -> list[dict[str, str]]:
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
            "fixed": relative(folder / pair["fixed"], out),
            "moving": relative(folder / pair["moving"], out),
            "split": split[pair["patient"]],
        }
        for pair in pairs
    ]


def relative(file: Path, out: Path) -> str:
    return os.path.relpath(file.resolve(), out.resolve())


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_manifests(data: Path, out: Path) -> None:
    """Write the three manifests for DATA into OUT."""
    out.mkdir(parents=True, exist_ok=True)
    write(out / "ixi-2d.csv", ixi_rows(data, out, LEVELS))
    write(out / "ixi-3d.csv", ixi_rows(data, out, None))
    write(out / "oct.csv", oct_rows(data, out))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def main(data: Path, out: Path) -> None:
    """Write ixi-2d.csv, ixi-3d.csv and oct.csv for DATA into OUT."""
    write_manifests(data, out)
    for file in sorted(out.glob("*.csv")):
        click.echo(f"{file}: {sum(1 for _ in file.open()) - 1} rows")


if __name__ == "__main__":
    main()
