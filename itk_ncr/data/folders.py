"""Images and label maps of a folder, matched by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from itk_ncr.errors import InputError

LABEL_ENDINGS = (
    "_seg", "_dseg", "_aseg", "_segmentation", "_labels", "_label", "_labelmap",
)  # fmt: skip
# Masks: of what, the name does not say.
MASK_ENDINGS = (
    "_mask", "_masks", "_msk", "_lesion", "_lesions", "_roi", "_brainmask", "_probseg", "_gt",
    "_truth", "_groundtruth", "_ground_truth", "_annotation", "_annotations", "_manual",
)  # fmt: skip
# Of masks and label maps alike; "lesion_" and "roi_" are left out, for images may be named so.
BEGINNINGS = ("mask_", "masks_", "seg_", "segmentation_", "label_", "labels_", "labelmap_", "gt_",
              "truth_", "groundtruth_", "annotation_")  # fmt: skip
IMAGE_SUFFIXES = (
    ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".png", ".tif", ".tiff", ".jpg",
    ".jpeg", ".dcm",
)  # fmt: skip
# Files that belong to a header with one of the suffixes above.
DATA_SUFFIXES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
# What a name ends with that says which image of a patient this is.
CONTRASTS = ("t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "pd", "pdw", "dwi", "adc",
             "swi", "bold", "ct", "mr", "mri", "pet")  # fmt: skip
TOLD = 20


def list_folder(
    folder: Path,
) -> tuple[list[tuple[str, Path, Path | None]], tuple[str, ...]]:
    """The images of a folder with their label maps, and remarks on unused files.

    Endings are compared without regard to case, and with a dash, dot or blank for the underscore.

    Returns
    -------
    images : list of (str, Path, Path or None)
        Name, image and label map; of label maps alone, each is its own image.
    notes : tuple of str

    Raises
    ------
    InputError
        Naming every file whose part is not clear: masks, label maps without an image, two files of
        one name, two images of one patient.
    """
    stems, others = _stems(folder)
    faults = _alike(stems)
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    masks: list[Path] = []
    for file, stem in stems.items():
        if _is_like_a_mask(stem):
            masks.append(file)
        elif ending := _ending(stem, LABEL_ENDINGS):
            name = stem[: -len(ending)]
            if name in labels and file not in faults:
                faults[file] = f"{file.name!r} and {labels[name].name!r} are label maps of one name"
            labels[name] = file
        else:
            images[stem] = file
    pairs = _pairs(images, labels)
    told = list(faults.values())
    told += [
        f"{file.name!r} is named like a mask: call a label map NAME{LABEL_ENDINGS[0]}, and name "
        "masks of lesions in a CSV"
        for file in masks
    ]
    if images:
        used = {file for _, _, file in pairs}
        told += [_orphan(file, name, images) for name, file in labels.items() if file not in used]
    told += _patients_twice(images)
    if told:
        more = f"; and {len(told) - TOLD} more" if len(told) > TOLD else ""
        raise InputError(
            f"data '{folder}' cannot be used, nothing was done: {'; '.join(told[:TOLD])}{more}. "
            "Rename these files or move them away, or say in a CSV what belongs together."
        )
    if not pairs:
        raise InputError(
            f"data must hold images; got none in '{folder}'. "
            f"Give a CSV or a folder of {', '.join(IMAGE_SUFFIXES[:4])}, ... files."
        )
    return pairs, _notes(others)


def _stems(folder: Path) -> tuple[dict[Path, str], list[Path]]:
    """Image names without suffix, and the other visible files."""
    stems: dict[Path, str] = {}
    others: list[Path] = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        stem = None if file.is_dir() else image_stem(file.name)
        if stem is not None:
            stems[file] = stem
        elif not file.name.lower().endswith(DATA_SUFFIXES):
            others.append(file)
    return stems, others


def image_stem(name: str) -> str | None:
    """The name of an image file without its suffix; None if it is not an image."""
    suffix = next((s for s in IMAGE_SUFFIXES if name.lower().endswith(s)), None)
    return None if suffix is None or name.startswith(".") else name[: -len(suffix)]


def _alike(stems: dict[Path, str]) -> dict[Path, str]:
    """Files whose names differ only in suffix or case."""
    first: dict[str, Path] = {}
    faults: dict[Path, str] = {}
    for file, stem in stems.items():
        other = first.setdefault(stem.casefold(), file)
        if other is not file:
            faults[file] = f"{other.name!r} and {file.name!r} are of one name"
    return faults


def _ending(stem: str, endings: Sequence[str]) -> str | None:
    """The longest matching ending of a name, as spelt there."""
    plain = _plain(stem)
    found = [e for e in endings if plain.endswith(e.lower()) and len(stem) > len(e)]
    return stem[-len(max(found, key=len)) :] if found else None


def _plain(stem: str) -> str:
    """The name in lower case, with underscores between its words."""
    return re.sub(r"[-. ]", "_", stem.lower())


def _is_like_a_mask(stem: str) -> bool:
    """Whether a name looks like a mask, or like a label map without an image.

    As "ann_mask", "mask_ann", "seg-ann" and "ann_seg_2".
    """
    endings = [ending for ending in MASK_ENDINGS if ending not in LABEL_ENDINGS]
    if _ending(stem, endings) or _plain(stem).startswith(BEGINNINGS):
        return True
    unnumbered = re.sub(r"[-. _]*\d+$", "", stem)
    return unnumbered != stem and _ending(unnumbered, (*endings, *LABEL_ENDINGS)) is not None


def _pairs(images: dict[str, Path], labels: dict[str, Path]) -> list[tuple[str, Path, Path | None]]:
    if not images:
        # Label maps alone: synthetic pairs need nothing else.
        return [(name, file, file) for name, file in labels.items()]
    return [
        (stem, file, labels.get(stem, labels.get(_shorter(stem)))) for stem, file in images.items()
    ]


def _shorter(stem: str) -> str:
    """The name without its last part: "ann" for "ann_t1"."""
    return stem.rpartition("_")[0]


def _orphan(file: Path, name: str, images: dict[str, Path]) -> str:
    alike = [i for i in images if name.casefold() in (i.casefold(), _shorter(i).casefold())]
    hint = f"; {images[alike[0]].name!r} differs in the case of its letters" if alike else ""
    return f"label map {file.name!r} belongs to no image{hint}"


def _patients_twice(images: dict[str, Path]) -> list[str]:
    """Patients who seem to have several images, which only a table can declare."""
    found: dict[str, list[str]] = {}
    names = {_plain(stem) for stem in images}
    parts = {part for name in names for part in _parts(name)} & names
    for stem in images:
        plain = _plain(stem)
        part = plain if plain in parts else next((p for p in _parts(plain) if p in parts), None)
        person = _person(stem) or part
        if person is not None:
            found.setdefault(person, []).append(images[stem].name)
    return [
        f"{', '.join(map(repr, names))} show one patient by their names, and a folder has one "
        "image of each: give a CSV with the column subject"
        for names in found.values()
        if len(names) > 1
    ]


def _person(stem: str) -> str | None:
    """Patient of an image by its name: BIDS subject, or what precedes a contrast."""
    plain = stem.casefold()
    bids = re.match(r"sub-[a-z0-9]+(?=_|$)", plain)
    if bids:
        return bids.group()
    name, _, last = re.sub(r"[-. ]", "_", plain).rpartition("_")
    return name if last in CONTRASTS and name else None


def _parts(name: str) -> list[str]:
    """First and last part of a name of several words."""
    words = name.split("_")
    cuts = range(1, len(words))
    return ["_".join(words[:n]) for n in cuts] + ["_".join(words[-n:]) for n in cuts]


def _notes(others: list[Path]) -> tuple[str, ...]:
    if not others:
        return ()
    names = ", ".join(file.name + "/" * file.is_dir() for file in others[:5])
    more = ", ..." if len(others) > 5 else ""
    return (f"not used, because they are not image files: {names}{more}",)
