"""A file is whole or as it was, whatever happens while it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from itk_ncr import processes
from itk_ncr.errors import InputError
from itk_ncr.files import (
    PREFIX,
    REPLACED,
    hidden_name,
    locked,
    remove_abandoned,
    replacing,
    sole_run,
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_new_file_is_seen_when_it_is_whole(tmp_path):
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    with replacing(target, ".txt") as temporary:
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(".txt")
    assert contents(tmp_path) == {"a.txt": b"new"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ValueError])
def test_after_a_failure_the_old_file_is_there_alone(tmp_path, error):
    (tmp_path / "a.txt").write_bytes(b"old")
    with pytest.raises(error), replacing(tmp_path / "a.txt") as temporary:  # noqa: PT012
        temporary.write_bytes(b"half of the n")
        raise error
    assert contents(tmp_path) == {"a.txt": b"old"}


def test_a_disk_that_fails_at_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    (tmp_path / "a.txt").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"new")
    assert contents(tmp_path) == {"a.txt": b"old"}


def test_a_folder_that_is_missing_is_the_systems_word(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "a.txt"):
        pass


def test_what_a_killed_process_had_begun_is_removed_and_nothing_else(tmp_path):
    gone = f"""import os
from pathlib import Path
from itk_ncr.files import hidden_name
folder = Path({str(tmp_path)!r})
(folder / hidden_name()).mkdir()
(folder / hidden_name(".partial.nii")).touch()
"""
    subprocess.run([sys.executable, "-c", gone], check=True)
    assert len(list(tmp_path.iterdir())) == 2
    mine = hidden_name()
    machine, process, start, _ = mine.removeprefix(PREFIX).split("-")
    kept = {
        mine,
        f"{PREFIX}elsewhere-{process}-{start}-abc",
        f"{PREFIX}{machine}-{process}-{start}-abc.partial.h5",
        ".itk-ncr-unknown",
        f"{PREFIX}{machine}-999999999-{start}-abc{REPLACED}",
    }
    for name in kept:
        (tmp_path / name).mkdir()
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells when a process began")
def test_a_process_number_that_is_used_again_is_another_process(tmp_path):
    machine, process, start, _ = hidden_name().removeprefix(PREFIX).split("-")
    ticks, namespace = start.split("n")
    assert processes.ended(f"{machine}-{process}-{ticks}n{namespace}-a") is False
    assert processes.ended(f"{machine}-{process}-{int(ticks) + 1}n{namespace}-a") is True
    # Of another container: a folder says by its lock, a file says nothing.
    assert processes.ended(f"{machine}-{process}-{ticks}n{int(namespace) + 1}-a") is None
    name = f"{PREFIX}{machine}-{process}-{ticks}n{int(namespace) + 1}-a"
    (tmp_path / name).mkdir()
    (tmp_path / f"{name}.partial").touch()
    with locked(tmp_path / name):
        remove_abandoned(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.partial"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_of_two_runs_in_a_folder_the_second_is_refused_and_leaves_nothing(tmp_path):
    with sole_run(tmp_path / "deep" / "run"):
        with (
            pytest.raises(InputError, match=r"another run is at work in '.*run'"),
            sole_run(tmp_path / "deep" / "run"),
        ):
            raise AssertionError
        assert (tmp_path / "deep" / "run").is_dir()
    with pytest.raises(KeyError), sole_run(tmp_path / "new" / "run"):
        raise KeyError
    assert not (tmp_path / "new").exists()


CHILD = """
import os, sys
from itk_ncr.processes import end_with_parent
end_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
while True:
    pass
"""
PARENT = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())]).wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_child_that_never_listens_ends_with_its_parent():
    psutil = pytest.importorskip("psutil")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    child.wait(10)
