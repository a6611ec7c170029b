"""Images, masks and participants of a BIDS dataset."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from itk_ncr.errors import InputError
from itk_ncr.runs.cohort import OWN_COLUMNS
from itk_ncr.runs.record import read_record

DESCRIPTION = "dataset_description.json"
NAME = "itk_ncr"
LABEL = re.compile(r"[A-Za-z0-9]+")
# Spaces of a mask that are the space of the image itself.
NATIVE = ("", "orig", "individual", "native")
KINDS = {"sub": "participant", "ses": "session"}


@dataclass(frozen=True)
class BidsImage:
    """One image of a dataset.

    Attributes
    ----------
    path : Path
    entities : mapping of str to str
        Of its name, in their order: ``{"sub": "01", "ses": "2"}``.
    suffix : str
        "T1w", "FLAIR" or "T2w".
    lesion_mask : Path, optional
        The mask of the same image.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    lesion_mask: Path | None = None

    @property
    def prefix(self) -> str:
        """The name without suffix and ending: ``sub-01_ses-2``."""
        return "_".join(f"{key}-{value}" for key, value in self.entities.items())

    @property
    def folder(self) -> Path:
        """Its folder in a dataset: ``sub-01/ses-2/anat``."""
        parts = [f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities]
        return Path(*parts, "anat")


def require_dataset(dataset: Path) -> None:
    """Refuse folders that are not BIDS datasets.

    Raises
    ------
    InputError
    """
    if not dataset.is_dir():
        raise InputError(f"dataset '{dataset}' must be a folder. Give the root of a BIDS dataset.")
    described = read_record(dataset / DESCRIPTION)
    if described is None or not {"Name", "BIDSVersion"} <= set(described):
        raise InputError(
            f"dataset '{dataset}' must hold {DESCRIPTION} with Name and BIDSVersion. "
            "Give the root of a BIDS dataset."
        )


def find_images(
    dataset: Path, suffix: str, participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> list[BidsImage]:
    """The images of one suffix in the folders ``anat``, in the order of their names.

    Raises
    ------
    InputError
        If there are none, or none of a participant or session that was asked for.
    """
    found = []
    for path in sorted([*dataset.glob("sub-*/anat/*"), *dataset.glob("sub-*/ses-*/anat/*")]):
        entities, ending = entities_of(path)
        if ending != suffix or "sub" not in entities:
            continue
        image = BidsImage(path, entities, suffix)
        if dataset / image.folder != path.parent:
            raise InputError(
                f"image '{path}' must lie in '{dataset / image.folder}', as its name says. "
                "Rename or move it."
            )
        found.append(image)
    if not found:
        raise InputError(f"dataset '{dataset}' must hold images sub-*/anat/*_{suffix}.nii.gz.")
    for key, labels in (("sub", participants), ("ses", sessions)):
        there = {image.entities.get(key) for image in found}
        if missing := [label for label in labels if label not in there]:
            raise InputError(
                f"{KINDS[key]} label must be one with a {suffix} image in '{dataset}'; got "
                f"{', '.join(missing)}."
            )
        if labels:
            found = [image for image in found if image.entities.get(key) in labels]
    if not found:
        raise InputError(f"no {suffix} image is of these participants and sessions together.")
    return found


def entities_of(path: Path) -> tuple[dict[str, str], str]:
    """Entities and suffix of a name; no suffix where it is not that of a NIfTI file of BIDS."""
    match = re.fullmatch(r"(.+)_([A-Za-z0-9]+)\.nii(\.gz)?", path.name)
    parts = [part.partition("-") for part in match[1].split("_")] if match else []
    if match is None or not all(key and LABEL.fullmatch(value) for key, _, value in parts):
        return {}, ""
    return {key: value for key, _, value in parts}, match[2]


def labels_of(given: Iterable[str], key: str) -> list[str]:
    """Labels without their key, each once."""
    labels = list(dict.fromkeys(word.removeprefix(f"{key}-") for word in given))
    for label in labels:
        if not LABEL.fullmatch(label):
            raise InputError(f"{KINDS[key]} label must be letters and digits; got {label!r}.")
    return labels


def is_ours(folder: Path) -> bool:
    """Whether a folder is a dataset of derivatives of this package."""
    made = (read_record(folder / DESCRIPTION) or {}).get("GeneratedBy")
    return isinstance(made, list) and any(
        isinstance(entry, dict) and entry.get("Name") == NAME for entry in made
    )


def datasets_in(folder: Path) -> list[Path]:
    """Datasets of derivatives, but for our own."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.is_dir() and not is_ours(path)]


def with_mask(image: BidsImage, places: Iterable[Path]) -> BidsImage:
    """The image with its lesion mask, where there is one.

    Raises
    ------
    InputError
        If there are several.
    """
    native = (*NATIVE, image.suffix)
    found = []
    for place in places:
        for path in sorted((place / image.folder).glob("*")):
            entities, suffix = entities_of(path)
            described = f"{entities.get('label', '')} {entities.get('desc', '')}".lower()
            others = {k: v for k, v in entities.items() if k not in ("label", "desc", "space")}
            if (
                suffix in ("mask", "roi")
                and "lesion" in described
                and entities.get("space", "") in native
                and "sub" in others
                and others.items() <= dict(image.entities).items()
            ):
                found.append(path)
    if len(found) > 1:
        raise InputError(
            f"image '{image.path}' must have one lesion mask; got "
            f"{', '.join(repr(str(path)) for path in found)}. Move one away, or use "
            "--no-lesion-masks."
        )
    return replace(image, lesion_mask=found[0] if found else None)


def participants_of(path: Path) -> dict[str, dict[str, str]]:
    """Columns of ``participants.tsv`` that the summary can carry, by participant."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restkey="", restval=""))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read '{path}': {error}. Correct it.") from None
    taken = {*OWN_COLUMNS, "participant_id", "session_id", "", None}
    return {
        row["participant_id"]: {k: str(v) for k, v in row.items() if k not in taken}
        for row in rows
        if row.get("participant_id")
    }
