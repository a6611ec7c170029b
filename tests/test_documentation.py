"""What README and guides show works: their commands are understood, their Python runs."""

from __future__ import annotations

import ast
import functools
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import torch

import itk_ncr
from itk_ncr.checkpoints import find_model
from itk_ncr.cli import command_line
from itk_ncr.images import to_sitk

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "tasks").glob("*.md")),
]
EXTENSIONS = ROOT / "docs" / "_extensions"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every line of a guide that calls our program: page and arguments."""
    for page in PAGES:
        for line in "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
            for part in line.split(";"):
                words = shlex.split(part.replace("$i", "1"), comments=True)
                starts = [n for n, word in enumerate(words) if word in ("itk-ncr", "itk_ncr")]
                if starts and words[1] != "build":  # docker build -t itk-ncr
                    yield page.name, words[starts[0] + 1 :]


@pytest.mark.parametrize(("page", "words"), list(commands()))
def test_a_command_of_the_guides_is_understood(page, words):
    command: click.Command = command_line
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"{page}: there is no command {name}"
        command = found
    command.make_context(name, words)  # raises at options and values it does not know


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_python_of_the_guides_imports_is_there(page):
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_benchmark_that_a_guide_calls_is_there_with_its_options(page):
    for line in re.findall(r"python (benchmarks/\w+\.py[^`\n#]*)", page.read_text()):
        script, *words = line.replace("[", "").replace("]", "").split()
        text = (ROOT / script).read_text()
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in text, f"{page.name}: {script} has no {option}"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Slices of the brains of examples/data, here and in files of the names that guides use."""
    roles = {
        "fixed": ("fixed_t1", "patient.nii.gz", "fixed.nrrd"),
        "moving": ("moving_t1", "healthy.nii.gz", "moving.nrrd"),
        "lesion": ("fixed_lesion",),
        "labels": ("moving_labels", "healthy_regions.nii.gz"),
    }
    found = {}
    for role, (source, *names) in roles.items():
        volume = itk_ncr.read_image(ROOT / f"examples/data/{source}.nii.gz")
        array = volume.array[len(volume.array) // 2]
        found[role] = itk_ncr.Image(
            array, itk_ncr.Grid.of_array(array.shape, volume.grid.spacing[:2])
        )
        for name in names:
            itk_ncr.write_image(found[role], tmp_path / name)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield found
    torch.set_num_threads(threads)


def run(page: str, number: int, namespace: dict[str, Any]) -> None:
    """Run a block of Python of a guide; the names it makes come into the namespace."""
    text = blocks(ROOT / page, "python")[number]
    exec(compile(text, f"{page}, block {number}", "exec"), namespace)


def test_the_python_of_the_readme_runs(pair):
    made = {
        name: to_sitk(pair[name.removeprefix("sitk_")]) for name in ("sitk_fixed", "sitk_moving")
    }
    run("README.md", 0, made)
    assert made["labels"].grid.equals(pair["fixed"].grid)
    assert made["field"].GetSize() == made["sitk_fixed"].GetSize()
    assert Path("warped.nii.gz").exists()
    assert Path("out/report.html").exists()


def test_the_python_about_itk_and_simpleitk_runs(pair):
    made: dict[str, Any] = {}
    run("docs/itk.md", 0, made)
    assert made["warp"].GetOutput().GetLargestPossibleRegion().GetSize()[0] == 96
    shutil.copytree(find_model("brain-t1-2d").folder, "my-model")
    run("docs/itk.md", 1, made)
    assert made["registration"].GetResult().model.name == "brain-t1-2d"
    made = {role: to_sitk(pair[role]) for role in ("fixed", "moving")}
    run("docs/itk.md", 2, made)
    assert made["mask"].GetSize() == made["fixed"].GetSize()


def test_the_python_about_jobs_of_their_own_runs(pair, monkeypatch):
    submitit = pytest.importorskip("submitit")
    # In this process: the same pickled function, without the start of another Python.
    here = functools.partial(submitit.AutoExecutor, cluster="debug")
    monkeypatch.setattr(submitit, "AutoExecutor", here)
    Path("pairs.csv").write_text("name,fixed,moving\none,fixed.nrrd,moving.nrrd\n")
    made: dict[str, Any] = {}
    run("docs/workflows.md", 1, made)
    assert made["done"] == ["one"]
    assert Path("cohort/one/summary.json").exists()


def test_the_python_about_reports_and_methods_runs(pair):
    pytest.importorskip("ants")
    made = {**pair, "itk_ncr": itk_ncr, "rows": [{"name": "one", "status": "done"}]}
    run("docs/methods.md", 0, made)
    run("docs/report.md", 0, made)
    assert Path("report.html").exists()
    assert Path("cohort.html").exists()


def test_the_python_about_aligning_for_a_training_runs(pair):
    Path("raw").mkdir()
    shutil.copy("patient.nii.gz", "template.nii.gz")
    shutil.copy("healthy.nii.gz", "raw/ann.nii.gz")
    run("docs/training.md", 0, {})
    assert itk_ncr.read_image("images/ann.nii.gz").grid.equals(pair["fixed"].grid)


def extension(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXTENSIONS / f"{name}.py"))


def test_every_error_text_of_the_troubleshooting_page_is_in_the_source():
    source = " ".join(path.read_text(encoding="utf-8") for path in ROOT.glob("itk_ncr/**/*.py"))
    # Texts that go over several literals, or have a value in them, still read as one line.
    source = re.sub(r'"\s*f?"', "", source)
    page = (ROOT / "docs/troubleshooting.md").read_text()
    texts = re.findall(r"^`(.+?)`$", page, re.MULTILINE)
    assert len(texts) > 15
    assert [text for text in texts if text not in source] == []


def test_every_public_name_is_in_the_reference(tmp_path):
    reference = extension("reference")
    reference["write"](tmp_path)
    text = "".join(path.read_text() for path in tmp_path.glob("*.rst"))
    described = set(re.findall(r"^\.\. auto(?:class|function|data):: (\S+)$", text, re.MULTILINE))
    for name in itk_ncr.__all__:
        home = itk_ncr._HOMES.get(name, name)
        if name == "__version__":
            continue
        assert (tmp_path / f"{home}.rst").exists(), name
        assert home == name or f"itk_ncr.{home}.{name}" in described
    for room in reference["rooms"]():
        offered = getattr(import_module(f"itk_ncr.{room}"), "__all__", [])
        assert {f"itk_ncr.{room}.{name}" for name in offered} <= described
    # Each has a line that says what it is, constants too.
    assert re.findall(r"\* - :py:obj:`~([\w.]+)`\n     - *$", text, re.MULTILINE) == []
    index = (tmp_path / "index.rst").read_text()
    assert all(f"   {room}\n" in index for room in reference["rooms"]())


def test_a_docstring_without_its_parameters_or_result_is_found(tmp_path, monkeypatch):
    pytest.importorskip("numpydoc")
    checker = extension("docstrings")
    (tmp_path / "documented.py").write_text(
        "from dataclasses import dataclass\n\n"
        "def scale(x):\n"
        '    """Scale."""\n'
        "    return 2 * x\n\n"
        "def double(x):\n"
        '    """Double.\n\n    Parameters\n    ----------\n    x\n        As for :func:`scale`.\n\n'
        "    Returns\n    -------\n    float\n        Twice the number.\n"
        '    """\n'
        "    return 2 * x\n\n"
        "@dataclass\n"
        "class Sizes:\n"
        '    """Two sizes.\n\n    Attributes\n    ----------\n    first : int\n        In voxels.\n'
        '    """\n\n'
        "    first: int\n"
        "    second: int\n"
        '    """In voxels."""\n'
        "    third: int = 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    checks = checker["parse_config"](ROOT)["checks"]

    def faults(name: str) -> list[str]:
        found = checker["validate"](name, validator_cls=checker["PublicName"])["errors"]
        return sorted(f"{check} {text}" for check, text in found if check in checks)

    assert [fault[:4] for fault in faults("documented.scale")] == ["PR01", "RT01"]
    assert faults("documented.double") == []
    assert faults("documented.Sizes") == ["PR01 Parameters {'third'} not documented"]


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    problems = extension("links")["problems"]
    (tmp_path / "good.html").write_text('<h1 id="top">Good</h1><a href="good.html#top">up</a>')
    assert list(problems(tmp_path)) == []
    (tmp_path / "bad.html").write_text(
        '<a href="gone.html">a</a><a href="good.html#gone">b</a>'
        '<script src="https://cdn.example/x.js"></script><a href="https://example.org">far</a>'
    )
    (tmp_path / "site.css").write_text("@font-face {src: url(https://fonts.example/a.woff)}")
    found = list(problems(tmp_path))
    assert len(found) == 4
    for word in ("gone.html", "#gone", "cdn.example", "fonts.example"):
        assert any(word in line for line in found)
