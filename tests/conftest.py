"""What every test leaves as it found it."""

from __future__ import annotations

import locale
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Where everything must run (.ci/run sets NCR_REQUIRE_ALL with NCR_CI_FULL), a test skipped for
# another reason than these fails the run: no device, no viewer, another system, or more rights than
# the test is about.
MAY_BE_SKIPPED = re.compile(
    "needs a GPU|needs a CUDA device|needs nvcc|needs napari|Windows|root may write anywhere"
    "|once is enough"
)
_skipped: dict[str, str] = {}


def _note_skipped(report: Any) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not MAY_BE_SKIPPED.search(reason):
            _skipped[report.nodeid] = reason


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note_skipped(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note_skipped(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and os.environ.get("NCR_REQUIRE_ALL"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _skipped and os.environ.get("NCR_REQUIRE_ALL"):
        terminalreporter.section("skipped, but nothing may be")
        for name, reason in _skipped.items():
            terminalreporter.line(f"{name}: {reason}")


@pytest.fixture(scope="session", autouse=True)
def _no_models_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models that the user of this machine has added are not seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITK_NCR_MODELS", str(tmp_path_factory.mktemp("data") / "models"))
        yield


@pytest.fixture(autouse=True)
def _text_encoding_kept() -> Iterator[None]:
    """Writing DICOM with SimpleITK sets LC_CTYPE to "C": Python would read text as ASCII then."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, before)


@pytest.fixture(name="tree")
def _tree() -> Callable[[Path], dict[str, tuple[int, int]]]:
    return tree


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every name under a folder, hidden ones too, with size and time."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir()
    } | {str(path.relative_to(folder)): (0, 0) for path in folder.rglob("*") if path.is_dir()}


@pytest.fixture(scope="session")
def registration() -> Callable[[tuple[int, ...]], tuple[Any, Any, Any]]:
    """Makes a pair and a result of it by hand, with something in every part of it."""
    import numpy as np

    from itk_ncr.geometry import AffineMap, Grid
    from itk_ncr.images import Image
    from itk_ncr.registration import Quality, RegistrationResult, RegistrationSettings

    def make(shape: tuple[int, ...]) -> tuple[Image, Image, RegistrationResult]:
        grid = Grid.of_array(shape, spacing=(3.0, 1.0, 1.5)[-len(shape) :][::-1])
        axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
        inside = sum((a / 0.8) ** 2 for a in axes) < 1
        fixed = np.where(inside, 100 + 60 * axes[-1], 0)
        warped = np.where(inside, 110 + 60 * axes[-1] + 15 * axes[0], 0)
        moving = np.where(inside, 110 + 60 * axes[-1] - 40 * axes[0], 0)
        probability = np.exp(-sum(((a - 0.3) / 0.25) ** 2 for a in axes))
        bump = np.exp(-sum((a / 0.4) ** 2 for a in axes))[..., None]
        deformation = Image((4 * bump * np.ones(len(shape))).astype(np.float32), grid)

        def scalar(array: Any) -> Image:
            return Image(np.broadcast_to(array, shape).astype(np.float32), grid)

        result = RegistrationResult(
            displacement=deformation,
            displacement_inverse=deformation,
            deformation=deformation,
            warped=scalar(warped),
            noncorrespondence=scalar(probability),
            noncorrespondence_moving=scalar(0),
            jacobian=scalar(1 + 0.8 * axes[-1] * inside),
            inverse_error=scalar(0),
            foreground=Image(inside.astype(np.uint8), grid),
            foreground_moving=Image(inside.astype(np.uint8), grid),
            affine=AffineMap.identity(len(shape)),
            quality=Quality(0.41, 0.12, 0.021, 0.03, 0.5, 0.0, 0.0123, 0.2, 0.97, 100, 2.5),
            mask_threshold=0.5,
            warnings=("look at this",),
            settings=RegistrationSettings(),
        )
        return scalar(fixed), scalar(moving), result

    return make


@pytest.fixture(name="kill_after", scope="session")
def _kill_after() -> Callable[..., bool]:
    return kill_after


def kill_after(words: list[str], seconds: float) -> bool:
    """Start a command, and kill it (not its children) after some seconds, as if power failed.

    Returns
    -------
    bool
        Whether it was killed; False if it was through before. No process of it is left.
    """
    import psutil

    process = psutil.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    killed = False
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired:
        killed = True
    children = []
    if killed:
        children = process.children(recursive=True)
        process.kill()
    error = process.communicate()[1]
    assert killed or process.returncode == 0, error.decode()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, f"children outlive their parent: {alive}"
    return killed
