"""`kill -9` at random moments of a reproduction: its workers end, and it resumes."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import pytest

from itk_ncr.checkpoints import verify_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]
MOMENTS = 12
# The design of tests/reproduction/conftest.py, for another process.
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from itk_ncr_reproduction.design import design
from itk_ncr_reproduction.document import write_reproduction
from itk_ncr_reproduction.run import reproduce
from itk_ncr_reproduction.design import Dealing

if __name__ == "__main__":
    plan = design("small")
    brains = plan.experiment("mri-2d")
    settings = replace(
        brains.settings, steps=3, batch=1, network_settings={"width": 1, "integration": "half"}
    )
    experiment = replace(
        brains, settings=settings, sampling=replace(brains.sampling, reduce=4),
        variants=("regnet", "ncr-s"), rows=("without", "regnet", "ncr-s"), pairs=1,
        strict_pairs=1, strict_rows=("without", "ncr-s"),
    )
    plan = replace(plan, dealing=Dealing(10, 5, 0), experiments=(experiment,))
    found = reproduce(
        Path(sys.argv[1]), Path(sys.argv[2]), plan, tables=(2,), figures=(), workers=2
    )
    write_reproduction(found, (2,), ())
"""


def test_a_reproduction_that_is_killed_goes_on_and_leaves_nothing(kill_after, data, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, str(program), str(data)]
    begun = time.monotonic()
    assert not kill_after([*words, str(tmp_path / "whole")], 900)
    lasts = time.monotonic() - begun
    chance, out = random.Random("reproduce"), tmp_path / "out"
    for _ in range(MOMENTS):
        kill_after([*words, str(out)], chance.uniform(0.2, 1.05) * lasts)
        for model in out.glob("work/models/*/model"):
            if (model / "model.json").exists():
                verify_model(model)
        for file in out.glob("work/measurements/*.json"):
            json.loads(file.read_text())
    assert not kill_after([*words, str(out)], 900)
    assert names(out) == names(tmp_path / "whole")
    assert tables(out) == tables(tmp_path / "whole")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def tables(folder: Path) -> dict[str, list[str]]:
    """The lines of all tables; processor times differ from run to run."""
    return {
        file.name: [line for line in file.read_text().splitlines() if "CPU s per pair" not in line]
        for file in (folder / "tables").iterdir()
    }
