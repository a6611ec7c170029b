"""Training loop, resumable bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itk_ncr.checkpoints import read_state, write_state
from itk_ncr.data import Batch, Source, collate
from itk_ncr.errors import ArgumentError, CheckpointError, TrainingError
from itk_ncr.networks import NCRNet, NCRPyramid, build_network
from itk_ncr.training import distributed
from itk_ncr.training.logs import Row, write_losses
from itk_ncr.training.memory import keep_freed_memory
from itk_ncr.training.objective import Objective, shared_labels
from itk_ncr.training.settings import TrainingSettings
from itk_ncr.training.streams import generator_of
from itk_ncr.training.validation import Validation

# The file that holds a whole training.
STATE = "state.safetensors"
# The state before a step that failed.
FAILED = "failed.safetensors"
# Streams of random numbers: of the pairs, and of the features that are dropped.
PAIRS, DROPOUT = 1, 3


@dataclass(frozen=True)
class Report:
    """Progress of a training.

    Attributes
    ----------
    step, steps : int
        Steps done, and all.
    losses : mapping of str to float
        Named parts of the last step's loss.
    seconds_per_step : float
        Mean of this process so far.
    """

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
    """One training in one folder, which can be stopped and resumed.

    Several processes may share it, see :mod:`itk_ncr.training.distributed`; the first one writes.

    Parameters
    ----------
    settings : TrainingSettings
    source : Source
        Where pairs come from.
    folder : Path
        Holds the state; made if missing. A state of the same settings and data is resumed, with
        more steps too: the learning rate is then that of the longer training, and the mask of
        "ncr-s" stays where it began.
    data_hash : str
        Of the images; a resumed training must have the same.
    checkpoint_seconds : float
        A state is written at least this often.
    log_every : int
        Steps per row of ``losses.csv``, which holds their mean.
    validation : Validation, optional
        Validation pairs; their metrics are only logged, in ``losses.csv``.
    device : str
        Where the network is trained. Only the CPU gives the same bits every time.
    start : mapping of str to Tensor, optional
        Weights to begin with instead of random ones: of the same network, or of one that lacks the
        mask's decoder, which then begins at random. A state in the folder comes first.

    Raises
    ------
    ArgumentError
        If there are no pairs, or the folder holds a training of other settings or data.
    CheckpointError
        If its state cannot be read.
    """

    settings: TrainingSettings
    source: Source
    folder: Path
    data_hash: str = ""
    checkpoint_seconds: float = 120.0
    log_every: int = 20
    validation: Validation | None = None
    device: str = "cpu"
    start: Mapping[str, Tensor] | None = None
    step: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    rows: list[dict[str, float]] = field(default_factory=list, init=False)
    masked_from: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.masked_from = settings.first_masked_step
        if len(self.source) < 1:
            raise ArgumentError(
                "images must give at least one pair to train on; got none. Add images."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network: nn.Module = build_network(
                settings.network, dimension=settings.dimension, **settings.all_network_settings
            ).to(self.device)
        if self.start is not None:
            _begin_with(self.network, self.start)
        distributed.synchronise_batch_norm(self.network)
        self._share = distributed.share_of(settings.batch)
        self.parameters = list(self.network.parameters())
        self._average = self._weights() if settings.averaging > 0 else {}
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
        listener: Callable[[Row], None] | None = None,
    ) -> nn.Module:
        """Train to the end, or until ``stop`` returns True; the state is saved either way.

        Parameters
        ----------
        progress : callable, optional
            Called after every step.
        stop : callable, optional
            Called after every step; True stops the training.
        listener : callable, optional
            Called with every row of ``losses.csv``.

        Returns
        -------
        nn.Module
            The network, in evaluation mode.

        Raises
        ------
        TrainingError
            If loss or gradient are not finite any more; the state before that step is in
            ``failed.safetensors``.
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
            self._log(losses, listener)
            if progress is not None:
                pace = (now - started) / (self.step - first)
                progress(Report(self.step, self.settings.steps, losses, pace))
            if distributed.any_process(stop is not None and stop()):
                break
            if now - saved >= self.checkpoint_seconds:
                self.save()
                saved = now
        self.save()
        return self.result

    @property
    def result(self) -> nn.Module:
        """The current network in evaluation mode, with averaged weights if they are kept."""
        if not self._average:
            return self.network.eval()
        network = copy.deepcopy(self.network).eval()
        network.load_state_dict(self._average, strict=False)
        return network

    def _weights(self) -> dict[str, Tensor]:
        """Copies of weights and statistics; counters have no average."""
        state = self.network.state_dict()
        return {name: t.detach().clone() for name, t in state.items() if t.is_floating_point()}

    def _follow(self) -> None:
        """Update the moving average of the weights, faster in the first steps."""
        if not self._average:
            return
        decay = min(self.settings.averaging, (1 + self.step) / (10 + self.step))
        for name, tensor in self.network.state_dict().items():
            if name in self._average:
                self._average[name].lerp_(tensor.detach(), 1 - decay)

    def save(self) -> None:
        """Write the state and the losses; of several processes, the first does."""
        if distributed.rank() == 0:
            write_state(self.folder / STATE, self._tensors(), self._record())
            write_losses(self.folder, self.rows)

    def _masks_at(self, step: int) -> bool:
        """Whether the mask takes part in a step of this training, which may have been prolonged."""
        if self.settings.variant == "ncr-s":
            return step >= self.masked_from
        return self.settings.masks_at(step)

    def _one_step(self, batches: list[Batch]) -> dict[str, float]:
        settings = self.settings
        masks = self._masks_at(self.step)
        # What a forward pass changes before its loss is known to be finite.
        statistics = {name: b.clone() for name, b in self.network.named_buffers()}
        self.network.train()
        self._freeze(masks)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for number, batch in enumerate(batches):
            batch = batch.to(self.device)
            with torch.autocast(
                batch.fixed.device.type,
                dtype=torch.bfloat16,
                enabled=settings.precision == "bfloat16",
            ):
                prediction = self.network(
                    batch.fixed,
                    batch.moving,
                    scales=settings.scales,
                    find_mask=masks,
                    **self._dropped(number),
                )
            generator = generator_of(settings.seed, self.step, -1 - number)
            losses = self.objective(prediction, batch, generator, self._shared_labels(batch))
            everyone = self._everyone(losses, batch)
            for name in losses:
                mean = sum(float(one["losses"].get(name, 0.0)) for one in everyone) / len(everyone)
                sums[name] = sums.get(name, 0.0) + mean / len(batches)
            odd = [
                n
                for one in everyone
                if not math.isfinite(one["losses"]["total"])
                for n in one["names"]
            ]
            if odd:
                self._fail("loss", odd, statistics)
            (losses["total"] / len(batches)).backward()
        distributed.average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.clip, error_if_nonfinite=False)
        if not math.isfinite(float(norm)):
            names = [n for b in batches for n in b.names]
            everyone = distributed.gathered({"names": names})
            self._fail("gradient", [n for one in everyone for n in one["names"]], statistics)
        self.optimizer.step()
        self._follow()
        return sums

    def _dropped(self, part: int) -> dict[str, torch.Generator]:
        """Generator of the dropped features: one stream per pass."""
        settings = self.settings
        if not settings.network_settings.get("dropout"):
            return {}
        passes = (self.step * settings.accumulate + part) * distributed.size() + distributed.rank()
        return {"generator": generator_of(settings.seed, passes, DROPOUT, self.device)}

    def _everyone(self, losses: Mapping[str, Tensor], batch: Batch) -> list[dict[str, Any]]:
        """Sum losses and numbers of pairs over all processes."""
        values = {name: float(value.detach()) for name, value in losses.items()}
        return distributed.gathered({"losses": values, "names": list(batch.names)})

    def _shared_labels(self, batch: Batch) -> Tensor | None:
        """The labels to draw from; None where one process has the whole batch."""
        if self.settings.labels != "all" or distributed.size() == 1:
            return None
        return shared_labels(batch, distributed.labels_anywhere)

    def _freeze(self, masks: bool) -> None:
        """In the warm-up of a fresh head nothing else learns.

        The running statistics of batch normalisation go on following the data everywhere: weights
        that stay make features that stay, and the head gets used to what it will be given later.
        """
        if not isinstance(self.network, NCRNet | NCRPyramid):
            return
        warm = masks and self.step - self.masked_from < self.settings.head_warm_up
        for part in (self.network.encoder, self.network.registration):
            part.requires_grad_(not warm)

    def _fail(self, what: str, names: list[str], statistics: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, buffer in self.network.named_buffers():
                buffer.copy_(statistics[name])
        if distributed.rank() == 0:
            write_state(self.folder / FAILED, self._tensors(), self._record())
            write_losses(self.folder, self.rows)
        raise TrainingError(
            f"{what} must stay finite; got NaN or infinity in step {self.step} with the pair(s) "
            f"{', '.join(names)}. Check these images, or lower the learning rate; the state "
            f"before it is in '{self.folder / FAILED}'."
        )

    def _batches(self) -> Iterator[list[Batch]]:
        """The batches of every remaining step; the next ones are prefetched."""
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
                    for i in self._share
                ]
            )
            for part in range(settings.accumulate)
        ]

    def _sample(self, position: int) -> Any:
        """The pair at a position of the endless sequence of shuffled epochs."""
        epoch, place = divmod(position, len(self.source))
        seed = self.settings.seed
        order = _shuffled(len(self.source), seed, epoch)
        return self.source.sample(int(order[place]), generator_of(seed, position, PAIRS))

    def _log(self, losses: Mapping[str, float], listener: Callable[[Row], None] | None) -> None:
        for name, value in losses.items():
            self._since.setdefault(name, []).append(value)
        row: dict[str, float] = {}
        if self.step % self.log_every == 0 or self.step == self.settings.steps:
            row = {name: sum(v) / len(v) for name, v in self._since.items()}
            self._since = {}
        if self.validation is not None and self.validation.due(self.step, self.settings.steps):
            row |= self._validate(self.validation)
        if row:
            row = {"step": float(self.step), "seconds": self.seconds, **row}
            self.rows.append(row)
            if listener is not None:
                listener(row)

    def _validate(self, validation: Validation) -> dict[str, float]:
        """Validation metrics; computed by the first process only."""
        if distributed.rank() != 0:
            return {}
        settings = self.settings
        return validation(
            self.result if self._average else self.network,
            self.objective.functional,
            masks=self._masks_at(self.step - 1),
            seed=settings.seed,
        )

    def _record(self) -> dict[str, Any]:
        return {
            "kind": "training",
            "settings": self.settings.as_dict(),
            "data_hash": self.data_hash,
            "step": self.step,
            "masked_from": self.masked_from,
            "seconds": self.seconds,
            "rows": self.rows,
            "since": self._since,
        }

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{name}.{key}"] = value
        tensors |= {f"average.{name}": t for name, t in self._average.items()}
        return tensors

    def _require_the_same(self, record: Mapping[str, Any]) -> None:
        """Refuse to resume a training with other data or settings."""
        # What an earlier version could not choose, it had at its default.
        defaults = TrainingSettings(self.settings.dimension).as_dict()
        there, here = {**defaults, **record.get("settings", {})}, self.settings.as_dict()
        other = [name for name in here if here[name] != there.get(name)]
        if "steps" in other and here["steps"] > (there.get("steps") or 0):
            other.remove("steps")
        if other or record.get("kind") != "training":
            name = other[0] if other else "kind"
            raise ArgumentError(
                f"folder must hold a training of the same settings; '{self.folder}' holds one with "
                f"{name} {there.get(name)} instead of {here.get(name)}. "
                "Choose a new folder, or the old settings."
            )
        if record.get("data_hash") != self.data_hash:
            raise ArgumentError(
                f"folder must hold a training of the same data; '{self.folder}' holds one of other "
                "images, or of the same ones drawn otherwise. Choose a new folder, or the old data."
            )

    def _resume(self) -> None:
        tensors, record = read_state(self.folder / STATE)
        self._require_the_same(record)
        try:
            self.step, self.seconds = record["step"], record["seconds"]
            self.rows, self._since = record["rows"], record["since"]
            before = dataclasses.replace(
                self.settings, steps=record["settings"].get("steps", self.settings.steps)
            )
            # A state of an earlier version does not know where its mask began.
            self.masked_from = record.get("masked_from", before.first_masked_step)
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"cannot read '{self.folder / STATE}': its record lacks {error}. Start anew."
            ) from None
        self.network.load_state_dict(
            {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        )
        for name in self._average:
            if f"average.{name}" in tensors:
                self._average[name].copy_(tensors[f"average.{name}"])
        for name, parameter in self.network.named_parameters():
            prefix = f"adam.{name}."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if state:
                for key in ("exp_avg", "exp_avg_sq"):
                    # Laid out as the parameter is: sums in another order would differ in last bits.
                    state[key] = torch.empty_like(parameter).copy_(state[key])
                self.optimizer.state[parameter] = state


@lru_cache(maxsize=2)
def _shuffled(pairs: int, seed: int, epoch: int) -> Tensor:
    """The order of the pairs in an epoch."""
    return torch.randperm(pairs, generator=generator_of(seed, epoch, -7))


def _begin_with(network: nn.Module, start: Mapping[str, Tensor]) -> None:
    """Put trained weights into a network; only the mask's decoder may be missing or left over."""
    own = network.state_dict()
    names = {name for name in {*own, *start} if not name.startswith("segmentation.")}
    names |= own.keys() & start.keys()
    odd = sorted(
        n for n in names if n not in own or n not in start or own[n].shape != start[n].shape
    )
    if odd:
        raise ArgumentError(
            f"start must be a model of the same network and width; {len(odd)} tensors do not fit, "
            f"{odd[0]!r} first. Choose another model, or the width of that one."
        )
    network.load_state_dict({name: start[name] for name in names}, strict=False)
