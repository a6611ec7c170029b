"""A training so small that a test can run it ten times, here and in processes of its own."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from itk_ncr.data import Sample
from itk_ncr.training import Training, TrainingSettings

SHAPE = (32, 48)
SETTINGS = TrainingSettings(
    2,
    variant="ncr-s",
    network_settings={"width": 2},
    labels="all",
    most_labels=2,
    steps=8,
    batch=2,
    learning_rate=1e-3,
    decays=4,
)


class Stripes:
    """Pairs of bright ellipses on noise, with two labels; ``broken`` is the pair with a NaN."""

    def __init__(self, pairs: int = 5, broken: int | None = None) -> None:
        self.pairs, self.broken = pairs, broken

    def __len__(self) -> int:
        return self.pairs

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        fixed, fixed_labels = self._ellipse(0.1 * index, generator)
        moving, moving_labels = self._ellipse(-0.1 * index, generator)
        if index == self.broken:
            fixed[0, 16, 20] = float("nan")
        return Sample(f"pair {index}", fixed, moving, fixed_labels, moving_labels)

    def _ellipse(self, shift: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
        radius = rows.square() + (columns - shift).square()
        noise = 0.05 * torch.rand(SHAPE, generator=generator)
        labels = (radius < 0.6).to(torch.uint8) + (radius < 0.2).to(torch.uint8)
        return (0.5 * labels + noise)[None], labels


def make_training(folder: str | Path, *, broken: int | None = None, **changes) -> Training:
    """The training of the tests, with other settings or options."""
    names = {entry.name for entry in dataclasses.fields(TrainingSettings)}
    settings = {name: changes.pop(name) for name in list(changes) if name in names}
    options = {"data_hash": "stripes", "log_every": 2, **changes}
    return Training(
        dataclasses.replace(SETTINGS, **settings), Stripes(broken=broken), Path(folder), **options
    )


def weights_of(training: Training) -> dict[str, Tensor]:
    """A copy of all weights and statistics."""
    return {name: t.clone() for name, t in training.network.state_dict().items()}


def start_program(text: str, **environment: str) -> subprocess.Popen[str]:
    """A Python process that knows everything in this file."""
    import os

    head = f"import runpy\nglobals().update(runpy.run_path({__file__!r}))\n"
    head += "import torch\ntorch.set_num_threads(1)\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + text],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(autouse=True)
def _one_thread():
    """Bits are promised for one number of threads, and a busy machine loses with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(name="make_training", scope="session")
def _make_training():
    return make_training


@pytest.fixture(name="weights_of", scope="session")
def _weights_of():
    return weights_of


@pytest.fixture(name="start_program", scope="session")
def _start_program():
    return start_program
