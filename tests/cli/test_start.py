"""Starting is quick and quiet, and every failure is one line."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import click
import pytest

from itk_ncr import __version__
from itk_ncr.errors import ImageWriteError, MissingDependencyError, RegistrationAborted

COMMANDS = [
    "register",
    "batch",
    "apply",
    "segment",
    "fill",
    "report",
    "phantom",
    "reproduce",
    "train",
    "models",
    "export",
    "info",
]


def start(*words: str, folder, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
        check=False,
        **more,
    )


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--help"], ["info"], ["register", "--help"], ["train", "--help"], ["registr"]],
)
def test_starting_imports_no_heavy_library(words, tmp_path):
    program = (
        "import sys\n"
        "from itk_ncr.cli import command_line\n"
        f"try:\n    command_line({words!r})\n"
        "finally:\n    print('MODULES', *sys.modules)"
    )
    output = start("-c", program, folder=tmp_path).stdout
    modules = set(output[output.index("MODULES") :].split())
    assert "itk_ncr.cli" in modules
    heavy = {"torch", "itk", "SimpleITK", "matplotlib", "rich", "scipy"}
    assert not heavy & modules
    if words != ["info"]:  # the directions of the models' images are checked with it
        assert "numpy" not in modules


def test_the_module_is_the_command(tmp_path):
    assert start("-m", "itk_ncr", "--version", folder=tmp_path).stdout == (
        f"itk-ncr {__version__}\n"
    )


def test_info_tells_true_versions(run):
    result = run("info", "--json")
    told = json.loads(result.stdout)
    assert told["versions"]["itk_ncr"] == __version__
    assert told["versions"]["torch"] == version("torch")
    assert told["processors"] >= 1
    assert isinstance(told["kernels"]["compiled"], bool)
    text = run("info").stdout
    assert f"torch        {version('torch')}" in text
    assert "models" in text


def test_info_says_when_the_kernels_are_missing(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "itk_ncr._kernels", None)
    monkeypatch.delattr("itk_ncr._kernels", raising=False)
    assert json.loads(run("info", "--json").stdout)["kernels"]["compiled"] is False
    assert "not compiled, some ten times slower" in run("info").stdout


def test_info_tells_the_build_of_the_kernels(run, monkeypatch):
    build = {"simd": "avx2", "openmp": True, "archs": ["sm_75", "sm_90"]}
    monkeypatch.setattr("itk_ncr.runs.machine.kernels", lambda: {"compiled": True, **build})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    text = run("info").stdout
    assert "compiled: simd avx2, openmp yes, archs sm_75/sm_90" in text
    assert "(OMP_NUM_THREADS=3)" in text


def test_progress_is_for_terminals_only(monkeypatch, capsys):
    from itk_ncr.cli.console import progress_bar

    with progress_bar("register", quiet=False) as report:
        report(0.5, "half")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar("register", quiet=True) as report:
        report(0.5, "half")
    assert capsys.readouterr().err == ""
    with progress_bar("register", quiet=False) as report:
        report(0.5, "half")
    seen = capsys.readouterr()
    assert "register" in seen.err
    assert "50 %" in seen.err
    assert seen.out == ""


def test_info_says_what_is_not_installed(run, monkeypatch):
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "SimpleITK    not installed" in run("info").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert " RANGE" not in result.stdout
    assert command in run("--help").stdout


@pytest.mark.parametrize("words", [[], ["models"]])
def test_lists_of_commands_are_in_the_order_of_use_and_cut_nothing_off(run, words):
    listed = run(*words, "--help").stdout.partition("Commands:")[2].partition("\n\n")[0]
    assert "..." not in listed
    assert [line.split()[0] for line in listed.splitlines() if line][:2] == (
        ["list", "show"] if words else ["register", "batch"]
    )


def test_the_presets_offered_are_those_of_the_solver():
    from itk_ncr import registration
    from itk_ncr.settings import PRESETS

    rows = dict.fromkeys([*registration.CONTRASTS, *registration.SOLVER_PRESETS])
    assert list(PRESETS) == ["auto", *rows]


def test_reproduce_without_its_package_is_one_line(tmp_path):
    program = (
        "import sys\n"
        "class Wheel:\n"
        "    def find_spec(name, path, target=None):\n"
        "        if name == 'itk_ncr_reproduction':\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Wheel)\n"
        "from itk_ncr.cli import main\n"
        "sys.argv = ['itk-ncr', 'reproduce', 'data', '-o', 'out', '--budget', 'small']\n"
        "main()"
    )
    result = start("-c", program, folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "Install from a checkout" in result.stderr
    assert not list(tmp_path.iterdir())


def test_no_words_at_all_gives_the_help(run):
    result = run()
    assert result.exit_code == 0
    assert "research use only" in result.stdout.replace("\n  ", " ")


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["registr"], "No such command 'registr'."),
        (["register"], "Missing argument 'FIXED'"),
        (["register", "a", "b"], "Missing option '-o' / '--output'"),
        (["register", "a", "b", "-o", "c", "--smoothness", "0"], "'--smoothness'"),
        (
            ["register", "a", "b", "-o", "c", "--smoothness", "soft"],
            "'soft' is not a valid number.",
        ),
        (["register", "a", "b", "-o", "c", "--mask-threshold", "1.5"], "1.5 is not in the range"),
        (["register", "a", "b", "-o", "c", "--threads", "0"], "'--threads'"),
        (
            ["register", "a", "b", "-o", "c", "--threads", "two"],
            "'two' is not a valid whole number",
        ),
        (["register", "a", "b", "-o", "c", "--mask", "some"], "'some' is not one of"),
        (["register", "a", "b", "-o", "c", "--preset", "liver"], "'liver' is not one of 'auto'"),
        (["register", "a", "b", "-o", "c", "--engine", "ants"], "'ants' is not one of 'auto'"),
        (["register", "a", "b", "-o", "c", "--method", "rigid"], "'rigid' is not one of 'ncr'"),
        (["register", "a", "b", "-o", "c", "--refine", "-1"], "'--refine'"),
        (["register", "", "b", "-o", "c"], "An argument is empty"),
        (["register", "a", "b", "-o", ""], "An argument is empty"),
        (["register", "a", "b", "--output="], "An argument is empty"),
        (["models", "sell"], "No such command 'sell'"),
        (["models", "show"], "Missing argument 'NAME'"),
        (["register", "a", "b", "-o", "c", "--format", "mhd"], "'mhd' is not one of"),
        (["segment", "a", "-o", "b.nrrd", "--seed", "1;2"], "'1;2' is not x,y,z in mm"),
        (["segment", "a", "-o", "b.nrrd", "--seed-voxel", "1.5,2"], "is not i,j,k in voxels"),
        (["segment", "a", "-o", "b.nrrd", "--seed", "nan,1"], "is not x,y,z in mm"),
        (["segment", "a", "-o", "b.nrrd", "--high", ".8", "--largest"], "exclude each other"),
        (["segment", "a", "-o", "b.nrrd", "--weight", "w"], "--weight goes with --largest"),
        (["segment", "a", "-o", "b.nrrd", "--intensity", "w"], "--intensity goes with --seed"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(run, words, fragment):
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert fragment in result.stderr
    assert "--help'" in result.stderr


def test_a_question_keeps_its_mark():
    from itk_ncr.cli.console import _verdict

    told = _verdict(click.UsageError("No such command 'x'. Did you mean 'y'?"))
    assert told == (2, "No such command 'x'. Did you mean 'y'? See 'itk-ncr --help'.")


@pytest.mark.parametrize(
    ("trouble", "status", "fragment"),
    [
        (ZeroDivisionError("one\ntwo"), 1, "internal error: ZeroDivisionError: one two."),
        (ImageWriteError("cannot write 'x': no space left"), 1, "no space left"),
        (MissingDependencyError("needs y"), 1, "needs y"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device", "/x"), 1, "'/x': No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was written"),
        (RegistrationAborted("stopped"), 130, "interrupted"),
        (EOFError(), 130, "interrupted"),
    ],
)
def test_trouble_inside_is_one_line_and_never_a_traceback(
    run, monkeypatch, trouble, status, fragment
):
    def fail() -> None:
        raise trouble

    monkeypatch.setattr("itk_ncr.runs.environment", fail)
    result = run("info")
    assert result.exit_code == status
    assert fragment in result.stderr
    assert "Traceback" not in result.stderr
    told = run("info", "--traceback")
    assert told.exit_code == status
    assert "Traceback" in told.stderr
    assert told.stderr.rstrip().splitlines()[-1].startswith("error: ")


def test_the_environment_can_ask_for_tracebacks(run, monkeypatch):
    monkeypatch.setenv("ITK_NCR_TRACEBACK", "1")
    monkeypatch.setattr("itk_ncr.runs.environment", lambda: 1 / 0)
    assert "Traceback" in run("info").stderr


def test_warnings_are_single_lines_and_said_once(run, monkeypatch):
    import warnings

    def warn() -> dict:
        for _ in range(2):
            warnings.warn("look\nhere", UserWarning, stacklevel=1)
        for category in (DeprecationWarning, FutureWarning, ResourceWarning):
            warnings.warn("for programmers", category, stacklevel=1)
        raise KeyboardInterrupt

    monkeypatch.setattr("itk_ncr.runs.environment", warn)
    lines = [line for line in run("info").stderr.splitlines() if line]
    assert lines == ["warning: look here", "error: interrupted; nothing was written"]


def test_a_reader_that_leaves_is_no_traceback(tmp_path):
    command = f"{sys.executable} -m itk_ncr --help | true"
    result = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr
