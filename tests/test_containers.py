"""The recipes of containers call steps that there are, with files that they are given."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "containers" / "build.sh"
DOCKERFILE = (ROOT / "containers" / "Dockerfile").read_text()
DEFINITION = (ROOT / "containers" / "itk-ncr.def").read_text()
NEEDED = ("pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE", "constraints.txt")

if shutil.which("sh") is None:
    pytest.skip("Windows has no sh", allow_module_level=True)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A Python that writes down its words instead of doing anything."""
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/words\n'
        'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi\n'
    )
    program.chmod(0o755)
    return program


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *map(str, words)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("recipe", [DOCKERFILE, DEFINITION], ids=["docker", "apptainer"])
def test_a_recipe_runs_the_three_steps_of_the_script(recipe):
    steps = re.findall(r"build\.sh (\w+) (.*?)\s*\\?$", recipe, re.MULTILINE)
    assert steps == [
        ("wheel", "/wheels"),
        ("install", "/opt/itk_ncr /wheels"),
        ("check", "/opt/itk_ncr"),
    ]


def test_the_image_is_that_of_a_plain_user_and_starts_the_command_line():
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER (?!root|0)\w+$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["itk-ncr"]' in last
    assert "itk-ncr" in DEFINITION.split("%runscript")[1]


def test_what_the_recipes_copy_is_there_and_let_through():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = re.findall(r"^    (\S+) /source/(\S+)$", DEFINITION, re.MULTILINE)
    assert all(source == target and (ROOT / source).exists() for source, target in copied)
    assert {source.split("/")[0] for source, _ in copied} == let_through
    assert set(NEEDED) <= let_through


def test_torch_comes_from_the_index_of_cpu_builds_and_all_versions_are_pinned(tools, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "itk_ncr-1.2-cp312-linux.whl").touch()
    pinned = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[0]
    for index, wanted in (
        ("http://cpu", f"--extra-index-url http://cpu {pinned}+cpu"),
        ("", pinned),
    ):
        (tmp_path / "words").unlink(missing_ok=True)
        done = run("install", tmp_path / "env", wheels, PYTHON=str(tools), TORCH_INDEX=index)
        assert done.returncode == 0, done.stderr
        _, torch, package = (tmp_path / "words").read_text().splitlines()
        assert torch.endswith(wanted)
        assert f"-c {ROOT / 'constraints.txt'}" in torch
        assert package.endswith(f"{wheels / 'itk_ncr-1.2-cp312-linux.whl'}[report,nibabel]")


def test_the_wheel_is_built_without_cuda(tools, tmp_path):
    assert run("wheel", tmp_path / "w", PYTHON=str(tools)).returncode == 0
    (words,) = (tmp_path / "words").read_text().splitlines()
    assert words.startswith("-m pip wheel")
    assert "NCR_CUDA=OFF" in words
    assert words.endswith(str(ROOT))


def test_a_step_that_is_none_explains_the_script_and_a_failed_one_ends_it(tmp_path):
    done = run("deploy")
    assert done.returncode == 2
    assert "build.sh try FOLDER" in done.stderr
    assert run("try", tmp_path / "try", PYTHON="false").returncode != 0
