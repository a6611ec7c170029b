"""Plan of the registration of a BIDS dataset to a template."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itk_ncr.errors import InputError
from itk_ncr.files import holds_files
from itk_ncr.runs.bids.derivatives import (
    CALLS,
    COHORT,
    ENDING,
    write_dataset_description,
    write_derivatives,
)
from itk_ncr.runs.bids.query import (
    LABEL,
    NAME,
    BidsImage,
    datasets_in,
    find_images,
    is_ours,
    labels_of,
    participants_of,
    require_dataset,
    with_mask,
)
from itk_ncr.runs.cohort import MARK, Cohort, CohortPlan, CohortProgress, require_cohort_folder
from itk_ncr.runs.inputs import PairFiles
from itk_ncr.runs.job import DONE
from itk_ncr.runs.outputs import write_text
from itk_ncr.runs.planning import plan_pairs
from itk_ncr.runs.table import CohortPair
from itk_ncr.runs.writing import Note


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
        write_dataset_description(self.output, self.dataset)
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
    wanted, visits = labels_of(participants, "sub"), labels_of(sessions, "ses")
    images = find_images(dataset, suffix, wanted, visits)
    if lesion_masks:
        places = [dataset, *datasets_in(dataset / "derivatives"), *derivatives]
        images = [with_mask(image, places) for image in images]
    people = participants_of(dataset / "participants.tsv")
    pairs = [
        CohortPair(
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


def _call(participants: Sequence[str], sessions: Sequence[str]) -> str:
    """A name for the books of a call, the same for the same call."""
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
    if holds_files(output) and not is_ours(output):
        raise InputError(
            f"output '{output}' holds files that are no derivatives of {NAME}. Give another folder."
        )
