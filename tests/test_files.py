"""A file is whole or as it was, whatever happens while it is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from itk_ncr.files import replacing


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
