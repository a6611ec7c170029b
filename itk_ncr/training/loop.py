"""The loop that makes weights: resumable at any moment, the same wherever it was interrupted."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itk_ncr.checkpoints import read_state, write_state
from itk_ncr.data import Batch, Source, collate
from itk_ncr.errors import ArgumentError, TrainingError
from itk_ncr.networks import NCRNet, build_network
from itk_ncr.training.memory import keep_freed_memory
from itk_ncr.training.objective import Objective
from itk_ncr.training.settings import TrainingSettings

STATE = "state.safetensors"
FAILED = "failed.safetensors"
LOSSES = "losses.csv"
# Odd and large, so that neighbouring seeds and steps share no random stream.
SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Report:
    """Where a training stands."""

    step: int
    steps: int
    losses: Mapping[str, float]
    seconds_per_step: float

    @property
    def seconds_left(self) -> float:
        """Estimate from the mean of this process so far."""
        return (self.steps - self.step) * self.seconds_per_step


@dataclass
class Training:
    """One training in one folder: start it, stop it, start it again.

    Parameters
    ----------
    settings : TrainingSettings
    source : Source
        Where pairs come from.
    folder : Path
        Holds the state; made if missing. A state of the same settings and data is resumed.
    data_hash : str
        Of the images; a resumed training must have the same.
    checkpoint_seconds : float
        A state is written at least this often.
    log_every : int
        Steps per row of ``losses.csv``, which holds their mean.
    """

    settings: TrainingSettings
    source: Source
    folder: Path
    data_hash: str = ""
    checkpoint_seconds: float = 120.0
    log_every: int = 20
    step: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    rows: list[dict[str, float]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        if len(self.source) < 1:
            raise ArgumentError(
                "images must give at least one pair to train on; got none. Add images."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network: nn.Module = build_network(
                settings.network, dimension=settings.dimension, **settings.network_settings
            )
        self.parameters = list(self.network.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate)
        self.objective = Objective(settings)
        self._since: dict[str, list[float]] = {}
        if (self.folder / STATE).exists():
            self._resume()

    def run(
        self,
        *,
        progress: Callable[[Report], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> nn.Module:
        """Train to the end, or until ``stop`` says so; the state is on the disk either way.

        Returns
        -------
        nn.Module
            The network, in evaluation mode.

        Raises
        ------
        TrainingError
            If the loss is not finite any more; the state before it is in ``failed.safetensors``.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        keep_freed_memory()
        started = saved = time.perf_counter()
        first, before = self.step, self.seconds
        for batches in self._batches():
            losses = self._one_step(batches)
            self.step += 1
            now = time.perf_counter()
            self.seconds = before + now - started
            self._log(losses)
            if progress is not None:
                pace = (now - started) / (self.step - first)
                progress(Report(self.step, self.settings.steps, losses, pace))
            if stop is not None and stop():
                break
            if now - saved >= self.checkpoint_seconds:
                self.save()
                saved = now
        self.save()
        return self.network.eval()

    def save(self) -> None:
        """Write the state and the losses."""
        write_state(self.folder / STATE, self._tensors(), self._record())
        self._write_losses()

    def _one_step(self, batches: list[Batch]) -> dict[str, float]:
        settings = self.settings
        masks = settings.masks_at(self.step)
        self.network.train()
        self._freeze(masks)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for number, batch in enumerate(batches):
            generator = _generator(settings.seed, self.step, -1 - number)
            with torch.autocast(
                batch.fixed.device.type,
                dtype=torch.bfloat16,
                enabled=settings.precision == "bfloat16",
            ):
                prediction = self.network(
                    batch.fixed, batch.moving, scales=settings.scales, find_mask=masks
                )
            losses = self.objective(prediction, batch, generator)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(batches)
            if not math.isfinite(sums["total"]):
                self._fail(batch)
            (losses["total"] / len(batches)).backward()
        nn.utils.clip_grad_norm_(self.parameters, settings.clip, error_if_nonfinite=False)
        self.optimizer.step()
        return sums

    def _freeze(self, masks: bool) -> None:
        """In the warm-up of a fresh head nothing else learns."""
        settings = self.settings
        warm = masks and self.step - settings.first_masked_step < settings.head_warm_up
        assert isinstance(self.network, NCRNet)
        for part in (self.network.encoder, self.network.registration):
            part.requires_grad_(not warm)

    def _fail(self, batch: Batch) -> None:
        write_state(self.folder / FAILED, self._tensors(), self._record())
        raise TrainingError(
            f"loss must stay finite; got NaN or infinity in step {self.step} with the pair(s) "
            f"{', '.join(batch.names)}. Check these images, or lower the learning rate; the state "
            f"before it is in '{self.folder / FAILED}'."
        )

    def _batches(self) -> Iterator[list[Batch]]:
        """The batches of every step that is left; the next ones are made meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._draw, self.step)
            for step in range(self.step, self.settings.steps):
                batches = ahead.result()
                if step + 1 < self.settings.steps:
                    ahead = pool.submit(self._draw, step + 1)
                yield batches

    def _draw(self, step: int) -> list[Batch]:
        """The pairs of one step: a function of seed and step alone."""
        settings = self.settings
        size = settings.batch
        return [
            collate(
                [
                    self._sample(step * settings.accumulate * size + part * size + i)
                    for i in range(size)
                ]
            )
            for part in range(settings.accumulate)
        ]

    def _sample(self, position: int) -> Any:
        """The pair at a position of the endless sequence of shuffled epochs."""
        epoch, place = divmod(position, len(self.source))
        order = torch.randperm(
            len(self.source), generator=_generator(self.settings.seed, epoch, -7)
        )
        return self.source.sample(int(order[place]), _generator(self.settings.seed, position, 1))

    def _log(self, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            self._since.setdefault(name, []).append(value)
        if self.step % self.log_every == 0 or self.step == self.settings.steps:
            row = {"step": float(self.step), "seconds": self.seconds}
            row |= {name: sum(v) / len(v) for name, v in self._since.items()}
            self.rows.append(row)
            self._since = {}

    def _write_losses(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, restval="")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({k: f"{v:.6g}" for k, v in row.items()})
        (self.folder / LOSSES).write_text(text.getvalue())

    def _record(self) -> dict[str, Any]:
        return {
            "kind": "training",
            "settings": self.settings.as_dict(),
            "data_hash": self.data_hash,
            "step": self.step,
            "seconds": self.seconds,
            "rows": self.rows,
            "since": self._since,
        }

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{name}.{key}"] = value
        return tensors

    def _resume(self) -> None:
        tensors, record = read_state(self.folder / STATE)
        for what, here in (("settings", self.settings.as_dict()), ("data_hash", self.data_hash)):
            if record.get(what) != here:
                raise ArgumentError(
                    f"folder must hold a training of the same {what.replace('_', ' ')}; "
                    f"'{self.folder}' holds another. Choose a new folder, or the old settings."
                )
        self.step, self.seconds = record["step"], record["seconds"]
        self.rows, self._since = record["rows"], record["since"]
        self.network.load_state_dict(
            {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        )
        for name, parameter in self.network.named_parameters():
            prefix = f"adam.{name}."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if state:
                for key in ("exp_avg", "exp_avg_sq"):
                    # Laid out as the parameter is: sums in another order would differ in last bits.
                    state[key] = torch.empty_like(parameter).copy_(state[key])
                self.optimizer.state[parameter] = state


def _generator(seed: int, position: int, stream: int) -> torch.Generator:
    """A random stream of its own for every (seed, position, stream)."""
    mixed = (seed * SEED_STRIDE + position) * SEED_STRIDE + stream
    return torch.Generator().manual_seed(mixed % 2**63)
