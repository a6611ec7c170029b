"""``itk-ncr phantom``: a lesion in a healthy image, or OCT pairs of virtual patients."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itk_ncr import runs
from itk_ncr.cli.options import output_folder, quiet_option, seed_option
from itk_ncr.cli.words import Numbers
from itk_ncr.tables import cell

if TYPE_CHECKING:
    import numpy as np

    from itk_ncr.data import OctPhantoms, Phantom
    from itk_ncr.images import Image

# Named here so that the help need not import torch; a test holds them to the table.
KINDS = (
    "L1", "L2", "L3", "L4", "acute", "chronic", "grey", "bright", "realistic", "cavity", "cyst",
    "infarct", "tumour", "oedema", "haemorrhage", "isointense", "spots",
)  # fmt: skip
MODELS = KINDS[8:]
CONTRASTS = ("t1", "t2", "flair")
REAL = KINDS[:4]  # those for which there are masks
OCT = "oct"
OF_LESIONS = {"lesion", "contrast", "mask", "lesion_masks", "at", "volume", "mass_effect"}
OF_OCT = {"count", "scans", "first", "size"}
# PNG holds 256 grey levels, and images of `normalise` go up to 1.5.
GREY = 255 / 1.5
_POSITIVE = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)


@click.command()
@click.argument("image", type=click.Path(path_type=Path), metavar="IMAGE|oct")
@output_folder("Folder to write to.")
@click.option(
    "--lesion",
    type=click.Choice(KINDS),
    help="Kind of lesion: L1 and L4 are huge, L2 is small, L3 small and pale; or an "
    "appearance, of random size; or a model after real lesions, with surroundings and mass effect; "
    "realistic draws one of the models.  [default: chronic]",
)
@click.option(
    "--contrast",
    type=click.Choice(CONTRASTS),
    help="Weighting of the image, for the models.  [default: guessed from its histogram]",
)
@click.option(
    "--mask",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Shape and place of the lesion, in its own physical space.",
)
@click.option(
    "--lesion-masks",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Real masks of L1 to L4; without them random shapes of their size stand in.",
)
@click.option(
    "--at",
    type=Numbers(float, "x,y,z in mm"),
    metavar="X,Y,Z",
    help="Centre of the lesion: mm, LPS.",
)
@click.option(
    "--volume",
    type=_POSITIVE,
    metavar="X",
    help="Size of the lesion: ml; of a 2D image its area in mm2.",
)
@click.option(
    "--mass-effect",
    type=_POSITIVE,
    metavar="MM",
    help="Largest displacement of tissue away from the lesion.  [default: none; models draw it]",
)
@click.option("--count", type=_COUNT, metavar="N", help="oct: number of pairs.  [default: 10]")
@click.option("--scans", type=_COUNT, metavar="N", help="oct: pairs per patient.  [default: 1]")
@click.option(
    "--first",
    type=click.IntRange(min=0),
    metavar="N",
    help="oct: number of the first patient; other numbers are other patients.  [default: 0]",
)
@click.option(
    "--size",
    type=(click.IntRange(min=64), click.IntRange(min=64)),
    metavar="ROWS COLUMNS",
    help="oct: pixels of 1.92 mm x 6 mm.  [default: 192 384]",
)
@seed_option
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier run in DIR.")
@quiet_option
def phantom(
    image: Path, output: Path, seed: int, overwrite: bool, quiet: bool, **options: Any
) -> None:
    """Make test images with known ground truth.

    Inserts a lesion into the healthy IMAGE and writes the image, the lesion's mask and, with
    --mass-effect, the true displacement (IMAGE is then the moving image of the pair). Or, with the
    word oct, writes pairs of OCT B-scans of virtual patients with layers and new fluid.
    """
    is_oct = str(image) == OCT
    given = {name for name, value in options.items() if value is not None}
    strange = given & (OF_LESIONS if is_oct else OF_OCT)
    if strange:
        names = ", ".join("--" + name.replace("_", "-") for name in sorted(strange))
        raise click.UsageError(f"{names}: not for {'oct' if is_oct else 'an image'}")
    if options["mask"] is not None and options["lesion_masks"] is not None:
        raise click.UsageError("--mask and --lesion-masks exclude each other; give one")
    if options["lesion_masks"] is not None and options["lesion"] not in REAL:
        raise click.UsageError(f"--lesion-masks goes with --lesion {', '.join(REAL)}")
    if options["contrast"] is not None and options["lesion"] not in MODELS:
        raise click.UsageError(f"--contrast goes with --lesion {', '.join(MODELS)}")
    begun = time.perf_counter()
    if is_oct:
        folder = runs.OutputFolder(output, overwrite)
        written = _write_oct(folder, seed, {k: options[k] for k in given})
    else:
        folder = runs.OutputFolder(output, overwrite, [image, options["mask"]])
        written = _write_lesion(folder, image, seed, options)
    if not quiet:
        click.echo(f"{written}  ({time.perf_counter() - begun:.1f} s)")
        click.echo(click.format_filename(output))


def _write_lesion(folder: runs.OutputFolder, path: Path, seed: int, options: dict[str, Any]) -> str:
    """Write the phantom of one image and return a line that describes it."""
    import torch

    from itk_ncr.data import make_phantom
    from itk_ncr.images import read_image, write_image

    healthy = read_image(path)
    mask = None if options["mask"] is None else read_image(options["mask"], "lesion mask")
    volume, kind = options["volume"], options["lesion"] or "chronic"
    flat = healthy.dimension == 2
    made = make_phantom(
        healthy,
        kind,
        torch.Generator().manual_seed(seed),
        mask=mask,
        masks=options["lesion_masks"],
        at_mm=options["at"],
        size_mm=None if volume is None else volume * (1 if flat else 1000),
        mass_effect_mm=options["mass_effect"],
        contrast=options["contrast"],
    )
    size = f"{made.size_mm:.4g} mm2" if flat else f"{made.size_mm / 1000:.4g} ml"
    ending = runs.format_for(path)
    own = next((e for e in runs.PICTURES if path.name.lower().endswith(e)), ending)
    files: dict[str, tuple[str, Image]] = {
        "image": (f"phantom{own}", made.image),
        "lesion": (f"lesion{own}", made.lesion),
    }
    if made.affected is not None:
        files["affected"] = (f"affected{own}", made.affected)
    if made.displacement is not None:
        files["displacement"] = (f"displacement{ending}", made.displacement)
    with folder.staged() as stage:
        for name, content in files.values():
            write_image(content, stage / name)
        inputs = {"image": path, "mask": options["mask"]}
        record = _record(
            seed,
            {k: v for k, v in options.items() if v is not None} | {"lesion": made.kind},
            {role: runs.fingerprint(p) for role, p in inputs.items() if p is not None},
            {role: name for role, (name, _) in files.items()},
            truth=_truth(made),
        )
        (stage / runs.RECORD).write_text(record, encoding="utf-8")
    return f"{made.kind}: {size}, {int(made.lesion.array.sum())} voxels"


def _truth(made: Phantom) -> dict[str, Any]:
    """Size and position of a lesion for ``summary.json``."""
    import numpy as np

    grid = made.lesion.grid
    centre = grid.points()[made.lesion.array > 0].mean(0)
    pushed = made.displacement
    return {
        "voxels": int(made.lesion.array.sum()),
        "mm2" if grid.dimension == 2 else "mm3": made.size_mm,
        "centre_mm": [round(float(c), 3) for c in centre],
        "largest_displacement_mm": 0.0
        if pushed is None
        else round(float(np.linalg.norm(pushed.array, axis=-1).max()), 4),
    }


def _write_oct(folder: runs.OutputFolder, seed: int, options: dict[str, Any]) -> str:
    """Write pairs of virtual patients and return a line that describes them."""
    from itk_ncr.data import OctPhantoms

    size = options.pop("size", None)
    if size is not None:
        options["shape"] = size
    pairs = OctPhantoms(options.pop("count", 10), seed=seed, **options)
    cohort = _Table(("name", "subject", "fixed", "moving", "fixed_labels", "labels"))
    learning = _Table(("subject", "fixed", "moving", "fixed_labels", "moving_labels", "lesion"))
    lines = _Table(("name", "image", "column", "ILM", "RPE", "BM"))
    with folder.staged() as stage:
        for index in range(len(pairs)):
            subject = f"patient{pairs.patient(index):04d}"
            name = f"{subject}_scan{index % pairs.scans:02d}"
            files, curves = _write_pair(pairs, index, seed, stage, name)
            cohort.row(name, subject, *files[:4])
            learning.row(subject, *files)
            for role, boundaries in curves.items():
                for column, depths in enumerate(zip(*boundaries, strict=True)):
                    lines.row(name, role, column, *("" if d != d else f"{d:g}" for d in depths))
        tables = {"pairs": cohort, "training": learning, "surfaces": lines}
        for table, content in tables.items():
            (stage / f"{table}.csv").write_text(content.text, encoding="utf-8", newline="")
        written = {p.stem: p.name for p in sorted(stage.iterdir())}
        settings = {"count": len(pairs), "scans": pairs.scans, "first": pairs.first,
                    "size": list(pairs.shape)}  # fmt: skip
        (stage / runs.RECORD).write_text(_record(seed, settings, {}, written), encoding="utf-8")
    patients = pairs.patient(len(pairs) - 1) - pairs.first + 1
    return f"oct: {len(pairs)} pairs of {patients} patients"


def _write_pair(
    pairs: OctPhantoms, index: int, seed: int, stage: Path, name: str
) -> tuple[list[str], dict[str, list[np.ndarray]]]:
    """Names of the files of a pair, and the boundaries in both images."""
    import numpy as np
    import torch

    from itk_ncr import Grid, Image
    from itk_ncr.data import surfaces
    from itk_ncr.images import write_image

    number = (pairs.patient(index) * pairs.scans + index % pairs.scans, seed)
    # The same pair in every call that asks for it, whichever is the first.
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence(number).generate_state(1)[0])
    )
    sample = pairs.sample(index, generator)
    grid = Grid.of_array(pairs.shape, pairs.spacing_mm[::-1])
    assert sample.fixed_labels is not None
    assert sample.moving_labels is not None
    assert sample.lesion is not None
    images = {
        "followup": np.rint(sample.fixed[0].numpy() * GREY),
        "baseline": np.rint(sample.moving[0].numpy() * GREY),
        "followup_labels": sample.fixed_labels.numpy(),
        "baseline_labels": sample.moving_labels.numpy(),
        "followup_lesion": sample.lesion[0].numpy(),
    }
    for role, array in images.items():
        write_image(Image(array.astype(np.uint8), grid), stage / f"{name}_{role}.png")
    found = {"followup": surfaces(sample.fixed_labels), "baseline": surfaces(sample.moving_labels)}
    curves = {role: [each[k] for k in ("ILM", "RPE", "BM")] for role, each in found.items()}
    return [f"{name}_{role}.png" for role in images], curves


class _Table:
    """A table as text."""

    def __init__(self, heading: tuple[str, ...]) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self.row(*heading)

    def row(self, *cells: object) -> None:
        """Append a row."""
        self._writer.writerow(map(cell, cells))

    @property
    def text(self) -> str:
        """The table as CSV text."""
        return self._text.getvalue()


def _record(
    seed: int,
    settings: dict[str, Any],
    inputs: dict[str, Any],
    outputs: dict[str, str],
    **more: Any,
) -> str:
    """Content of ``summary.json``: how to reproduce the files."""
    record = {
        "tool": "itk-ncr phantom",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "settings": settings,
        "inputs": inputs,
        "outputs": outputs,
        **more,
        "versions": runs.environment()["versions"],
    }
    return json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
