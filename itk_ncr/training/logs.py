"""Loss logs: a CSV table and TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from itk_ncr.images import atomic_write

Row = Mapping[str, float]
# The table of losses in the folder of a training.
LOSSES = "losses.csv"
EVENTS = "tensorboard"
# Columns of a row in this order, others behind them by name: a state that is read again has its
# names in another order than one in memory.
FIRST = ("step", "seconds", "total", "registration", "smoothness", "overlap", "mask", "volume",
         "perimeter", "mask_supervision", "displacement")  # fmt: skip


def write_losses(folder: Path, rows: Sequence[Row]) -> None:
    """Write ``losses.csv`` anew: one line per row, one column per name, whole or not at all.

    Columns are a function of the names in the rows: what comes up later is appended.
    """
    names = list(dict.fromkeys(name for row in rows for name in sorted(row, key=_place)))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
    with atomic_write(folder / LOSSES, ".csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def _place(name: str) -> tuple[int, str]:
    return FIRST.index(name) if name in FIRST else len(FIRST), name


def tensorboard(folder: Path, step: int) -> Callable[[Row], None] | None:
    """A listener that passes rows on to TensorBoard.

    Parameters
    ----------
    folder : Path
        Events are written to ``tensorboard`` in it.
    step : int
        Current step: events of a killed run beyond it are dropped.

    Returns
    -------
    callable or None
        Takes one row of the log; None where TensorBoard is not installed.
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
