"""Where the losses of a training go: a table beside its state, and TensorBoard if it is there."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from itk_ncr.images import replacing

Row = Mapping[str, float]
LOSSES = "losses.csv"
EVENTS = "tensorboard"


def write_losses(folder: Path, rows: Sequence[Row]) -> None:
    """Write ``losses.csv`` anew: one line per row, one column per name, whole or not at all."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
    with replacing(folder / LOSSES, ".csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def tensorboard(folder: Path, step: int) -> Callable[[Row], None] | None:
    """A listener that passes rows on to TensorBoard; None where it is not installed.

    Parameters
    ----------
    folder : Path
        Events go to ``tensorboard`` in it.
    step : int
        Where the training stands: what a killed run had told beyond it is forgotten.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer = SummaryWriter(str(folder / EVENTS), purge_step=step)

    def tell(row: Row) -> None:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, int(row["step"]))
        writer.flush()

    return tell
