"""A BIDS dataset registered to a template: found, planned, written as BIDS derivatives.

The pairs are those of a cohort (:mod:`itk_ncr.runs.cohort`), in ``OUT/cohort``; the derivatives are
links to their files under the names that BIDS gives them, and images carried to the template.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr import __version__
from itk_ncr.errors import InputError
from itk_ncr.files import hidden_name, holds_files
from itk_ncr.runs.cohort import (
    MARK,
    OWN_COLUMNS,
    PAGE,
    SUMMARY,
    Cohort,
    CohortPlan,
    CohortProgress,
    require_cohort_folder,
    write_rows,
)
from itk_ncr.runs.inputs import PairFiles
from itk_ncr.runs.job import DONE, Row, row_of
from itk_ncr.runs.outputs import RECORD, write_text
from itk_ncr.runs.planning import plan_pairs
from itk_ncr.runs.record import read_record
from itk_ncr.runs.single import Note
from itk_ncr.runs.table import Pair

if TYPE_CHECKING:
    from itk_ncr.images import Image

SUFFIXES = ("T1w", "FLAIR", "T2w")
DESCRIPTION = "dataset_description.json"
COHORT, GROUP, CALLS = "cohort", "group", "logs"
NAME = "itk_ncr"
BIDS_VERSION = "1.10.0"
ENDING = ".nii.gz"
LABEL = re.compile(r"[A-Za-z0-9]+")
# Spaces of a mask that are the space of the image itself.
NATIVE = ("", "orig", "individual", "native")


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


@dataclass(frozen=True)
class BidsPlan:
    """A checked BIDS dataset, ready to be registered; see :func:`plan_bids`.

    Attributes
    ----------
    dataset, output : Path
        Folder of the raw dataset; folder of the derivatives.
    images : tuple of BidsImage
        Images to register.
    template : Path
        Moving image of every pair.
    space : str
        Name of the template in file names.
    cohort : CohortPlan
        One pair per image.
    """

    dataset: Path
    output: Path
    images: tuple[BidsImage, ...]
    template: Path
    space: str
    cohort: CohortPlan

    def summary(self) -> list[tuple[str, str]]:
        """Description of the plan."""
        people = {image.entities["sub"] for image in self.images}
        masks = sum(image.lesion_mask is not None for image in self.images)
        return [
            ("images", f"{len(self.images)} of {len(people)} participants, {masks} lesion masks"),
            ("template", f"{self.template}, called {self.space}"),
            *self.cohort.summary(),
        ]

    def run(
        self,
        listener: Callable[[CohortProgress], None] = lambda _: None,
        *,
        note: Note = lambda _: None,
    ) -> Cohort:
        """Register what is not done yet, and write the derivatives of all that is.

        Parameters
        ----------
        listener, note
            As for :meth:`CohortPlan.run`.

        Returns
        -------
        Cohort
            One row per image.

        Raises
        ------
        InputError, WorkerError
            As :meth:`CohortPlan.run`.
        """
        (self.output / COHORT).mkdir(parents=True, exist_ok=True)
        write_description(self.output, self.dataset)
        if not (self.output / COHORT / MARK).exists():  # this call has its books elsewhere
            write_text(self.output / COHORT / MARK, json.dumps(self.cohort.mark, indent=2) + "\n")
        cohort = self.cohort.run(listener, note=note)
        for image, job, row in zip(self.images, self.cohort.jobs, cohort.rows, strict=True):
            if row["status"] == DONE:
                write_derivatives(self, image, Path(job.output), anew=not row["kept"])
        return cohort


def plan_bids(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    template: str | os.PathLike[str],
    settings: Mapping[str, Any] | None = None,
    *,
    space: str | None = None,
    suffix: str = "T1w",
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    derivatives: Sequence[Path] = (),
    lesion_masks: bool = True,
    labels: Path | None = None,
    brain_mask: Path | None = None,
    **options: Any,
) -> BidsPlan:
    """Check a BIDS dataset and plan its registration.

    Each image is the fixed one of its pair and the template the moving one, so that the mask of
    what has no counterpart lies on the voxels of the patient.

    Parameters
    ----------
    dataset, output : path
        Folder of the raw dataset; folder of the derivatives.
    template : path
        Image that all images are registered to.
    settings : mapping, optional
        Keywords of :func:`itk_ncr.register`, for all pairs.
    space : str, optional
        Name of the template in file names, letters and digits. Default: from ``tpl-NAME`` in its
        file name, else its file name.
    suffix : "T1w", "FLAIR" or "T2w"
        Images to register.
    participants, sessions : sequence of str
        Only these, with or without "sub-" and "ses-". Default: all.
    derivatives : sequence of Path
        Further datasets to search for lesion masks, besides those in ``dataset/derivatives``.
    lesion_masks : bool
        Use masks whose entity ``label`` or ``desc`` contains "lesion".
    labels, brain_mask : Path, optional
        Label map and brain mask of the template.
    **options
        ``report``, ``overwrite``, ``workers``, ``scheduler`` of :func:`plan_cohort`.

    Returns
    -------
    BidsPlan
        Nothing is written yet.

    Raises
    ------
    InputError
        If the dataset, the template or the folder cannot be used.
    """
    dataset, output, template = Path(dataset), Path(output), Path(template)
    require_dataset(dataset)
    for role, path in (("template", template), ("labels", labels), ("brain mask", brain_mask)):
        if path is not None and not path.is_file():
            raise InputError(f"{role} '{path}' does not exist. Give an image file.")
    space = _space_of(template, space)
    _require_output(output, dataset)
    wanted, visits = _labels(participants, "sub"), _labels(sessions, "ses")
    images = find_images(dataset, suffix, wanted, visits)
    if lesion_masks:
        places = [dataset, *_datasets_in(dataset / "derivatives"), *derivatives]
        images = [_with_mask(image, places) for image in images]
    people = _participants(dataset / "participants.tsv")
    pairs = [
        Pair(
            f"{image.prefix}_{suffix}",
            PairFiles(
                fixed=image.path,
                moving=template,
                lesion_mask=image.lesion_mask,
                moving_brain_mask=brain_mask,
                labels=labels,
            ),
            carried={
                "participant_id": f"sub-{image.entities['sub']}",
                "session_id": f"ses-{image.entities['ses']}" if "ses" in image.entities else "",
                **people.get(f"sub-{image.entities['sub']}", {}),
            },
        )
        for image in images
    ]
    cohort = plan_pairs(
        pairs,
        output / COHORT if not (wanted or visits) else output / CALLS / _call(wanted, visits),
        settings,
        folder=output / COHORT,
        ending=ENDING,
        page=not (wanted or visits),
        **options,
    )
    require_cohort_folder(output / COHORT, cohort.mark, bool(options.get("overwrite")))
    return BidsPlan(dataset, output, tuple(images), template, space, cohort)


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
            what = {"sub": "participant", "ses": "session"}[key]
            raise InputError(
                f"{what} label must be one with a {suffix} image in '{dataset}'; got "
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


def _labels(given: Iterable[str], key: str) -> list[str]:
    """Labels without their key, each once."""
    labels = list(dict.fromkeys(word.removeprefix(f"{key}-") for word in given))
    for label in labels:
        if not LABEL.fullmatch(label):
            what = {"sub": "participant", "ses": "session"}[key]
            raise InputError(f"{what} label must be letters and digits; got {label!r}.")
    return labels


def _call(participants: Sequence[str], sessions: Sequence[str]) -> str:
    """A name for the books of a call, the same for the same call."""
    import hashlib

    name = "_".join([*(f"sub-{p}" for p in participants), *(f"ses-{s}" for s in sessions)])
    return name if len(name) < 80 else hashlib.sha256(name.encode()).hexdigest()[:16]


def _space_of(template: Path, given: str | None) -> str:
    named = re.search(r"tpl-([A-Za-z0-9]+)", template.name)
    stem = re.sub(r"(?i)\.(nii|nii\.gz|nrrd|mha|mhd)$", "", template.name)
    space = given or (named[1] if named else re.sub(r"[^A-Za-z0-9]", "", stem))
    if not LABEL.fullmatch(space):
        raise InputError(
            f"name of the template must be letters and digits; got {space!r}. Give --template-name."
        )
    return space


def _require_output(output: Path, dataset: Path) -> None:
    if output.resolve() == dataset.resolve():
        raise InputError(
            f"output '{output}' must be another folder than the dataset. "
            f"Give '{dataset / 'derivatives' / NAME}', for example."
        )
    if output.exists() and not output.is_dir():
        raise InputError(f"output '{output}' must be a folder; it is a file. Give another one.")
    if holds_files(output) and not _is_ours(output):
        raise InputError(
            f"output '{output}' holds files that are no derivatives of {NAME}. Give another folder."
        )


def _is_ours(folder: Path) -> bool:
    made = (read_record(folder / DESCRIPTION) or {}).get("GeneratedBy")
    return isinstance(made, list) and any(
        isinstance(entry, dict) and entry.get("Name") == NAME for entry in made
    )


def _datasets_in(folder: Path) -> list[Path]:
    """Datasets of derivatives, but for our own."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.is_dir() and not _is_ours(path)]


def _with_mask(image: BidsImage, places: Iterable[Path]) -> BidsImage:
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
    return BidsImage(image.path, image.entities, image.suffix, found[0] if found else None)


def _participants(path: Path) -> dict[str, dict[str, str]]:
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


def write_description(output: Path, dataset: Path) -> None:
    """Write what makes a folder a dataset of derivatives."""
    raw = json.loads((dataset / DESCRIPTION).read_text(encoding="utf-8"))
    described = {
        "Name": f"{NAME} derivatives of {raw['Name']}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": NAME, "Version": __version__}],
        "DatasetLinks": {"raw": Path(os.path.relpath(dataset, output)).as_posix()},
    }
    write_text(output / DESCRIPTION, json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    ignored = [f"{name}/" for name in (COHORT, GROUP, CALLS)]
    write_text(output / ".bidsignore", "\n".join(ignored) + "\n")


def write_derivatives(plan: BidsPlan, image: BidsImage, run: Path, *, anew: bool) -> None:
    """Give the results of a pair the names of BIDS, and carry image and masks to the template.

    Parameters
    ----------
    plan : BidsPlan
    image : BidsImage
    run : Path
        Folder of the pair.
    anew : bool
        Whether to replace existing files.
    """
    folder = plan.output / image.folder
    folder.mkdir(parents=True, exist_ok=True)
    native, space = image.suffix, plan.space
    links = {
        f"from-{space}_to-{native}_mode-image_xfm.h5": "transform.h5",
        f"from-{native}_to-{space}_mode-image_xfm.h5": "transform_inverse.h5",
        f"desc-noncorrespondence_mask{ENDING}": f"mask{ENDING}",
        f"desc-noncorrespondence_probseg{ENDING}": f"mask_probability{ENDING}",
        f"desc-template_dseg{ENDING}": f"labels{ENDING}",
    }
    for name, source in links.items():
        if (run / source).exists():
            _link(run / source, folder / f"{image.prefix}_{name}", anew)
    carried = {
        f"space-{space}_{native}{ENDING}": (image.path, "linear"),
        f"space-{space}_desc-noncorrespondence_mask{ENDING}": (run / f"mask{ENDING}", "nearest"),
    }
    if image.lesion_mask is not None:
        carried[f"space-{space}_label-lesion_mask{ENDING}"] = (image.lesion_mask, "nearest")
    missing = {
        folder / f"{image.prefix}_{name}": given
        for name, given in carried.items()
        if anew or not (folder / f"{image.prefix}_{name}").exists()
    }
    _carry(missing, run / f"displacement_inverse{ENDING}")
    for path in sorted(folder.glob(f"{image.prefix}_*{ENDING}")):
        _write_sidecar(path, plan, image)


def _link(source: Path, target: Path, anew: bool) -> None:
    """Another name for a file; a copy where the file system has no links."""
    if target.exists() and not anew:
        return
    beside = target.with_name(hidden_name())
    try:
        try:
            os.link(source, beside)
        except OSError:
            shutil.copy2(source, beside)
        os.replace(beside, target)
    finally:
        with contextlib.suppress(OSError):  # a second name of the same file is not renamed
            beside.unlink()


def _carry(images: Mapping[Path, tuple[Path, str]], field: Path) -> None:
    """Resample images of the patient onto the template."""
    from itk_ncr.images import read_displacement, read_image, resample, write_image

    if not images:
        return
    displacement = read_displacement(field)
    for target, (source, mode) in images.items():
        image = read_image(source)
        write_image(
            resample(image, displacement.grid, displacement=displacement, mode=mode), target
        )


def _write_sidecar(path: Path, plan: BidsPlan, image: BidsImage) -> None:
    """Write sources and content of an image to the JSON file beside it."""
    entities, suffix = entities_of(path)
    source = image.path.relative_to(plan.dataset).as_posix()
    told: dict[str, Any] = {"Sources": [f"bids:raw:{source}"]}
    if "space" in entities:
        told["SpatialReference"] = plan.template.name
    if entities.get("desc") == "noncorrespondence":
        told["Description"] = f"Where the image has no counterpart in {plan.space}."
    if suffix == "mask":
        told["Type"] = "Lesion" if "label" in entities else "ROI"
    sidecar = path.with_name(path.name.removesuffix(ENDING) + ".json")
    text = json.dumps(told, indent=2) + "\n"
    if not sidecar.exists() or sidecar.read_text(encoding="utf-8") != text:
        write_text(sidecar, text)


@dataclass(frozen=True)
class BidsGroup:
    """Output of :func:`summarise_bids`.

    Attributes
    ----------
    rows : tuple of dict
        Rows of the table.
    page : Path
        The page.
    maps : tuple of Path
        The group maps.
    """

    rows: tuple[Row, ...]
    page: Path
    maps: tuple[Path, ...]


def summarise_bids(output: str | os.PathLike[str], *, space: str | None = None) -> BidsGroup:
    """Sum up all participants that are done: table, page, how often a voxel is masked.

    Parameters
    ----------
    output : path
        Folder of the derivatives.
    space : str, optional
        Name of the template. Default: the only one there is.

    Returns
    -------
    BidsGroup
        ``cohort/summary.csv`` and ``cohort/cohort.html`` of everything that is done, and in
        ``group`` the share of images in which each voxel of the template is masked: found
        (``desc-noncorrespondence``) and given (``label-lesion``).

    Raises
    ------
    InputError
        If nothing is done there.
    """
    from itk_ncr.evaluation import write_cohort_report
    from itk_ncr.images import write_image

    output = Path(output)
    if not _is_ours(output):
        raise InputError(
            f"output '{output}' must hold derivatives of {NAME}; got none. "
            "Run the level participant first."
        )
    rows = []
    for path in sorted((output / COHORT).glob(f"*/{RECORD}")):
        if (record := read_record(path)) is not None and "quality" in record:
            inputs = {role: record["inputs"][role]["path"] for role in ("fixed", "moving")}
            known = {"name": path.parent.name, "folder": path.parent.name, "kept": True}
            rows.append({**known, **inputs, **row_of(record)})
    space = _only_space(output, space)
    write_rows(output / COHORT / SUMMARY, rows)
    page = output / COHORT / PAGE
    write_cohort_report(page, rows, title=output.resolve().name)
    maps = []
    for what in ("desc-noncorrespondence", "label-lesion"):
        masks = sorted(output.glob(f"sub-*/**/anat/*_space-{space}_{what}_mask{ENDING}"))
        if masks:
            (output / GROUP).mkdir(exist_ok=True)
            maps.append(output / GROUP / f"space-{space}_{what}_frequency{ENDING}")
            write_image(_frequency(masks), maps[-1])
    return BidsGroup(tuple(rows), page, tuple(maps))


def _only_space(output: Path, given: str | None) -> str:
    masks = output.glob(f"sub-*/**/anat/*_desc-noncorrespondence_mask{ENDING}")
    there = sorted({entities_of(path)[0].get("space", "") for path in masks} - {""})
    if given is not None and given not in there:
        raise InputError(f"name of the template must be one of {there}; got {given!r}.")
    if not there:
        raise InputError(
            f"output '{output}' must hold finished participants; got none. "
            "Run the level participant first."
        )
    if given is None and len(there) > 1:
        raise InputError(
            f"output '{output}' has several templates: {', '.join(there)}. Give --template-name."
        )
    return given or there[0]


def _frequency(masks: Sequence[Path]) -> Image:
    """Share of the masks that are set, by voxel."""
    import numpy as np

    from itk_ncr.images import Image, read_image

    first = read_image(masks[0], "mask")
    total = np.zeros(first.array.shape, np.float32)
    for path in masks:
        mask = read_image(path, "mask")
        if not mask.grid.equals(first.grid):
            raise InputError(
                f"mask '{path}' must lie on the grid of '{masks[0]}'; it does not. Register all "
                "participants to one template."
            )
        total += mask.array > 0
    return Image(total / len(masks), first.grid)
