"""Add a trained model to the package, with its licence, limits and measurements.

    python benchmarks/ship.py runs/brain-t1-2d/model brain-t1-2d --figures quality.json

The model is the folder that `itk-ncr train` wrote; the figures are those of
`benchmarks/network_quality.py --json` with the same model as its first one.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from itk_ncr.checkpoints import load_model, save_model

SHIPPED = Path(__file__).parents[1] / "itk_ncr" / "checkpoints" / "shipped"
BRAINS = {
    "weights": "CC BY-SA 3.0, as the images they were trained on",
    "images": "IXI, Biomedical Image Analysis Group, Imperial College London, "
    "https://brain-development.org/ixi-dataset/, CC BY-SA 3.0; brain-extracted, 2 mm, from "
    "CBICA/NiChart_Project on GitHub (CBICA Software License)",
    "labels": "automatic: DLMUSE, from the same source",
    "lesion shapes": "LESYMAP (Apache-2.0; Pustina et al. 2018), Stroke Outcome "
    "Optimization Project (CC0; Absher et al., Sci Data 11:839, 2024), open_ms_data (CC BY; "
    "Lesjak et al. 2017); their appearance is modelled",
}
BRAIN_LIMITS = (
    "Trained on brain-extracted T1 images of healthy adults of one scanner type, affinely aligned "
    "to MNI space, half of the later pairs shown in a random contrast, with lesions whose "
    "appearance is modelled. Children, heads with skulls and unaligned images are outside what it "
    "has seen, and no real image of another contrast was learnt from: use the per-pair solver "
    "there. The labels it was trained with are automatic. Not a medical device."
)
LICENCES: dict[str, dict[str, str]] = {
    "brain-t1-2d": BRAINS,
    "brain-t1-3d": BRAINS,
    "oct-2d": {
        "weights": "CC BY 4.0, as the images they were trained on",
        "images": "OCTDL, Kulyabin et al., Sci Data 11:365, 2024, doi:10.1038/s41597-024-03182-7, "
        "CC BY 4.0",
    },
}
CONTRASTS = {"brain-t1-2d": "brain-t1", "brain-t1-3d": "brain-t1", "oct-2d": "oct"}
# The slices are PNGs, which carry no voxel size; their README gives it.
SPACING_MM = {"brain-t1-2d": (1.0, 1.0)}
# Iterations of the refinement, chosen by benchmarks/network_quality.py --split val.
REFINE = {"brain-t1-2d": 20}
LIMITS = {
    "brain-t1-2d": BRAIN_LIMITS,
    "brain-t1-3d": BRAIN_LIMITS
    + (
        " Of a patient with multiple sclerosis its masks found the new lesion in FLAIR images "
        "(average precision .46, the per-pair solver's .55), and did not in T1."
    ),
    "oct-2d": (
        "Trained on pairs of B-scans of the same patients (Optovue, mostly macular degeneration), "
        "without dates: neighbouring positions or other visits. There is no truth to measure its "
        "masks against. Other devices are outside what it has seen. Not a medical device."
    ),
}


def summary(rows: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Means of the first model by lesion."""
    name = next(n for n in rows if n != "before")
    figures: dict[str, Any] = {}
    for version, cases in rows[name].items():
        kinds = dict.fromkeys(kind for case in cases for kind in case)
        means = {k: float(np.mean([c[k] for c in cases if k in c])) for k in kinds if k != "cpu"}
        means["jaccard_before"] = float(np.mean([c["jaccard"] for c in rows["before"][version]]))
        figures[version] = {kind: float(f"{value:.4g}") for kind, value in means.items()}
    return {"pairs of test subjects": len(cases), **figures}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("name", type=click.Choice(sorted(LICENCES)))
@click.option("--figures", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(model: Path, name: str, figures: Path | None) -> None:
    """Write the MODEL under its NAME into the package, in half precision."""
    network, description = load_model(model)
    description = dataclasses.replace(
        description,
        name=name,
        contrast=CONTRASTS[name],
        licence=LICENCES[name],
        limits=LIMITS[name],
        refine=REFINE.get(name, description.refine),
        spacing_mm=SPACING_MM.get(name, description.spacing_mm),
        figures=summary(json.loads(figures.read_text())) if figures else description.figures,
    )
    stored = save_model(SHIPPED / name, network, description, half=True)
    size = (stored.folder / "weights.safetensors").stat().st_size
    click.echo(f"{stored.folder}: {size / 1e6:.2f} MB, SHA-256 {stored.sha256}")


if __name__ == "__main__":
    main()
