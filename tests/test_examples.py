"""Every example runs from beginning to end, and its results are what it promises."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
Run = Callable[..., str]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Runs an example as a script, in this process: importing ITK takes longer than registering."""

    def run_script(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    monkeypatch.syspath_prepend(str(EXAMPLES))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other on a busy machine are far slower
    yield run_script
    torch.set_num_threads(threads)


@pytest.fixture
def run_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs the cells of a notebook in this process: its names come back, and what it printed."""
    pyplot = pytest.importorskip("matplotlib.pyplot")

    def run_cells(name: str) -> tuple[dict[str, Any], str]:
        notebook = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
        assert not any(cell.get("outputs") for cell in notebook["cells"]), "clear the outputs"
        namespace: dict[str, Any] = {}
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), name, "exec"), namespace)
        return namespace, capsys.readouterr().out

    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(EXAMPLES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield run_cells
    torch.set_num_threads(threads)
    pyplot.close("all")


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, f"{pattern} is not in\n{text}"
    return float(found.group(1))


def test_every_example_is_tested():
    tested = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))
    notebooks = set(re.findall(r'run_notebook\("(\w+\.ipynb)"', Path(__file__).read_text()))
    assert {path.name for path in EXAMPLES.glob("*.ipynb")} == notebooks
    assert {path.name for path in EXAMPLES.glob("*.py")} - {"phantom.py", "pictures.py"} <= tested


def test_arrays(run: Run):
    out = run("register_arrays.py")
    before, after = (number(rf"{word} ([\d.]+)", out) for word in ("before", "after"))
    assert after < before / 3
    assert number(r"Dice ([\d.]+)", out) > 0.8
    assert number(r"off by ([\d.]+) mm", out) < 0.5


def test_given_masks(run: Run):
    out = run("given_masks.py")
    change = {
        name: number(rf"{name} +volume change under the lesion ([\d.]+)", out)
        for name in ("told", "alone", "ordinary")
    }
    # Ordinary registration shrinks tissue to match the lesion; the others leave it alone.
    assert change["told"] < change["ordinary"] / 3
    assert change["alone"] < change["ordinary"] / 3
    assert "told      volume" in out
    assert re.search(r"told .*masked 100%", out)
    assert re.search(r"ordinary .*masked 0%", out)


def test_simpleitk(run: Run, tmp_path: Path):
    out = run("simpleitk_registration.py", str(tmp_path))
    assert number(r"masked: ([\d.]+)%", out) > 0.5
    images = {
        name: sitk.ReadImage(tmp_path / f"{name}.nii.gz") for name in ("warped", "mask", "labels")
    }
    for image in images.values():
        assert image.GetSize() == (512, 192)
        assert set(np.unique(sitk.GetArrayFromImage(image)[::8])) != {0}
    assert sitk.ReadTransform(tmp_path / "transform.h5").GetDimension() == 2


def test_pipeline(run: Run, tmp_path: Path):
    out = run("itk_pipeline.py", str(tmp_path))
    assert "after the writer: ['registered']" in out
    assert "after three thresholds: ['registered']" in out
    assert "after a new smoothness: ['registered', 'registered']" in out
    masked = [int(n) for n in re.findall(r"(\d+) pixels", out)]
    assert masked == sorted(masked, reverse=True)
    assert masked[0] > masked[-1] > 0
    assert number(r"mean difference ([\d.]+) of 140", out) < 0.1
    assert (tmp_path / "displacement_inverse.nrrd").exists()


def test_draw_phantoms(run: Run, tmp_path: Path):
    pytest.importorskip("matplotlib")
    out = run("draw_phantoms.py", str(tmp_path / "phantoms.png"))
    assert re.search(r"L1, 115 ml: 2\d{4} voxels", out)
    assert number(r"patient 5, scan 0.*: ([\d.]+) %", out) > 1
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "phantoms.png")))
    assert len(re.findall(r"\d+ voxels affected", out)) == 8
    assert picture.shape[:2] == (1140, 900)


def test_cohort(run: Run, tmp_path: Path):
    rows, columns = np.mgrid[:48, :48]
    radius, angle = np.hypot(rows - 24, columns - 24), np.arctan2(rows - 24, columns - 24)
    for name, waves, bright in (("fixed", 0, 200), ("moving", 2.5, 200), ("black", 0, 0)):
        # Lobes, which no affine takes away.
        bent = radius + waves * np.cos(3 * angle)
        image = sitk.GetImageFromArray(
            (bright * (0.6 * (bent < 15) + 0.4 * (bent < 7))).astype("u1")
        )
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    table = tmp_path / "pairs.csv"
    table.write_text("name,fixed,moving\ngood,fixed.nrrd,moving.nrrd\ndark,fixed.nrrd,black.nrrd\n")
    out = run("cohort.py", str(table), str(tmp_path / "cohort"))
    assert "1 of 2 pairs registered" in out
    assert re.search(r"dark: .*moving image", out)
    before, after = re.search(r"good: distance (\S+) -> (\S+)", out).groups()
    assert float(after) < float(before)


def test_the_notebook_about_a_stroke(run_notebook: Run):
    names, out = run_notebook("stroke.ipynb")
    assert number(r"Dice of the mask found: ([\d.]+)", out) > 0.6
    masked = number(r"with mask +mean change .*: ([\d.]+)", out)
    assert masked < number(r"usual +mean change .*: ([\d.]+)", out)
    assert names["in_template"].grid.equals(names["template"].grid)


def test_the_notebook_about_a_follow_up(run_notebook: Run):
    _, out = run_notebook("follow_up.ipynb")
    found = [int(n) for n in re.findall(r"(\d+)% of the change", out)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 40


def test_the_notebook_about_a_retina(run_notebook: Run):
    names, out = run_notebook("oct.ipynb")
    before, after = re.search(r"distance outside the mask: ([\d.]+) -> ([\d.]+)", out).groups()
    assert float(after) < 0.8 * float(before)
    assert set(np.unique(names["carried"].array)) == {0, 1}
