"""Output of a reproduction: page, tables as CSV, figures, measurements."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from itk_ncr.checkpoints import find_model
from itk_ncr.files import replacing, sole_run
from itk_ncr.tables import cell
from itk_ncr_reproduction import directions, figures
from itk_ncr_reproduction.run import WORK, Reproduction, write_record, write_text
from itk_ncr_reproduction.tables import Table, tables_of

PAGE = "README.md"


def write_reproduction(
    found: Reproduction,
    tables: Sequence[int],
    drawn: Sequence[int],
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write README.md, tables/, figures/ and measurements.csv into the output folder.

    Returns
    -------
    Path
        The page.
    """
    with sole_run(found.output):
        return _write(found, tables, drawn, progress)


def _write(
    found: Reproduction,
    tables: Sequence[int],
    drawn: Sequence[int],
    progress: Callable[[str], None] | None,
) -> Path:
    output = found.output
    made = tables_of(found, tables)
    (output / "tables").mkdir(exist_ok=True)
    for table in made:
        name = table.name.lower().replace(",", "").replace(" ", "-")
        write_text(output / "tables" / f"{name}.csv", table.csv())
    captions = []
    (output / "figures").mkdir(exist_ok=True)
    for number in drawn:
        if progress is not None:
            progress(f"figure {number}")
        path = output / "figures" / f"figure-{number}.png"
        with replacing(path, ".png") as unfinished:
            captions.append((path, figures.draw(found, number, unfinished)))
    write_text(output / "measurements.csv", _measurements(found))
    models = _models(found)
    times = times_of(found, models)
    record = found.record | {
        "times": times,
        "models": models,
        "methods_missing": _missing(found),
    }
    write_record(output, record)
    page = output / PAGE
    write_text(page, _page(found, made, tables, captions, times))
    return page


def times_of(found: Reproduction, models: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Processor and wall seconds of trainings and measurements, added up over processes."""
    times = {
        f"training_{kind}": sum(model[f"{kind}_seconds"] for model in models.values())
        for kind in ("wall", "cpu")
    } | {"measuring_wall": 0.0, "measuring_cpu": 0.0}
    for case in found.measured:
        for values in case.figures.values():
            times["measuring_wall"] += float(values.get("seconds") or 0)
            times["measuring_cpu"] += float(values.get("cpu") or 0)
    return {name: round(seconds, 1) for name, seconds in times.items()}


def _page(
    found: Reproduction,
    made: Sequence[Table],
    numbers: Sequence[int],
    captions: Sequence[tuple[Path, str]],
    times: Mapping[str, float],
) -> str:
    design = found.design
    command = found.record["command"] or f"itk-ncr reproduce DATA --budget {design.budget} -o DIR"
    hours = (times["training_cpu"] + times["measuring_cpu"]) / 3600
    lines = [
        "# The paper's tables and figures, made again",
        "",
        "Andresen et al., Int J CARS 17, 2022, "
        "[doi:10.1007/s11548-022-02577-4](https://doi.org/10.1007/s11548-022-02577-4).",
        "This page was written by",
        "",
        "```bash",
        command,
        "```",
        "",
        f"Budget {design.budget}: fold {', '.join(map(str, design.used_folds))} of "
        f"{design.dealing.folds} ({design.dealing.patients} patients), seed {design.seed}, "
        f"{hours:.2f} hours of one processor core ({times['training_cpu'] / 60:.0f} minutes of "
        f"training, {times['measuring_cpu'] / 60:.0f} of measuring).",
        "Bold: significantly better than every other row; \\*: than the other versions of NCR-Net "
        "(one-sided Wilcoxon signed-rank tests, level .05, as in the paper).",
        "Rows in italics are what the paper prints, of its own images; it prints one NCR-Net for "
        "brains, which stands beside the two-step version here.",
        "What this means, and what is different from the paper: "
        "[docs/reproduction.md](../reproduction.md).",
        "",
        "## Findings",
        "",
        directions.markdown(directions.directions_of(found, numbers)),
        "## Tables",
        "",
    ]
    for table in made:
        lines += [table.markdown()]
    lines += ["## Figures", ""]
    for path, caption in captions:
        alt = caption.split("**")[1].rstrip(".")
        lines += [f"![{alt}](figures/{path.name})", "", caption, ""]
    return "\n".join(lines).rstrip() + "\n"


def _measurements(found: Reproduction) -> str:
    """Every figure of every method on every case, one row each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["experiment", "fold", "pair", "version", "strict", "method", "figure", "value"]
    )
    for case in found.measured:
        key = case.key
        place = [key.experiment, key.fold, key.pair, key.version, int(key.strict)]
        for method, values in case.figures.items():
            for name, value in values.items():
                shown = f"{value:.6g}" if isinstance(value, float) else value
                writer.writerow(map(cell, [*place, method, name, shown]))
    return text.getvalue()


def _models(found: Reproduction) -> dict[str, dict[str, Any]]:
    """How each network came about."""
    models = {}
    for folder in sorted((found.output / WORK / "models").glob("*/model")):
        stored = find_model(folder)
        training = stored.description.training
        kept = ("seed", "steps", "wall_seconds", "cpu_seconds", "code_version")
        models[stored.description.name] = {name: training[name] for name in kept} | {
            "sha256": stored.sha256
        }
    return models


def _missing(found: Reproduction) -> list[str]:
    """Methods that could do nothing at all."""
    keys = {key for case in found.measured for key in case.figures}
    return sorted(
        key
        for key in keys
        if all("failed" in c.figures[key] for c in found.measured if key in c.figures)
    )
