"""Derivatives of registrations under the names that BIDS gives them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr import __version__
from itk_ncr.files import hidden_name
from itk_ncr.runs.bids.query import DESCRIPTION, NAME, BidsImage, entities_of
from itk_ncr.runs.outputs import write_text

if TYPE_CHECKING:
    from itk_ncr.runs.bids.plan import BidsPlan

BIDS_VERSION = "1.10.0"
COHORT, GROUP, CALLS = "cohort", "group", "logs"
ENDING = ".nii.gz"


def write_dataset_description(output: Path, dataset: Path) -> None:
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
