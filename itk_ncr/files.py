"""Atomic file writing, locks of output folders, and fingerprints of inputs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from itk_ncr import processes
from itk_ncr.errors import InputError

# Prefix of unfinished files and folders; the signature of the writing process follows.
PREFIX = ".itk-ncr-"
# Ending of folders that hold what a run replaces; they are put back, not removed.
REPLACED = ".replaced"


def hidden_name(ending: str = "") -> str:
    """Unique hidden name for an unfinished file or folder; it encodes the writing process."""
    return f"{PREFIX}{processes.signature()}-{secrets.token_hex(4)}{ending}"


@contextlib.contextmanager
def replacing(target: Path, suffix: str = "") -> Iterator[Path]:
    """Temporary file beside ``target`` that replaces it on success (context manager).

    What was written is on the disk before it is seen. The temporary file exists, empty, from the
    start: Python reports faults of a folder or a disk; other writers often do not.

    Parameters
    ----------
    target : Path
        Replaced if it exists; its folder must exist.
    suffix : str
        Ending of the temporary name, by which some writers choose a format.

    Raises
    ------
    OSError
        If it cannot be written; ``target`` is as before, and nothing is left beside it.
    """
    temporary = target.with_name(hidden_name(f".partial{suffix}"))
    try:
        with temporary.open("xb"):
            pass
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def holds_files(folder: Path) -> bool:
    """Whether a folder holds anything but leftovers of unfinished runs.

    Parameters
    ----------
    folder : Path
        It need not exist.

    Returns
    -------
    bool
        False for a folder that does not exist.
    """
    try:
        return any(not name.startswith(PREFIX) for name in os.listdir(folder))
    except OSError:
        return False


@contextlib.contextmanager
def locked(folder: Path, *, wait: float | None = None) -> Iterator[None]:
    """Lock a folder against other runs until the block or the process ends.

    POSIX only; Windows and some network file systems have no such lock, and nothing happens there.

    Parameters
    ----------
    folder : Path
    wait : float, optional
        Seconds to wait for a run that is there. Default: as long as it takes.

    Raises
    ------
    BlockingIOError
        If a run is there for longer.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        until = None if wait is None else time.monotonic() + wait
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if until is None else fcntl.LOCK_NB))
            except BlockingIOError:
                if until is None or time.monotonic() >= until:
                    raise
                time.sleep(0.05)
            except OSError:  # some network file systems know no locks
                break
            else:
                break
        yield
    finally:
        os.close(handle)


def require_free_folder(folder: Path) -> None:
    """Raise an error if another run is using a folder.

    Raises
    ------
    InputError
        If one is; two seconds are waited for one that only has to finish its writing.
    """
    with _refusing(folder, wait=2.0):
        pass


@contextlib.contextmanager
def _refusing(folder: Path, wait: float) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder, wait=wait))
        except BlockingIOError:
            raise InputError(
                f"another run is at work in '{folder}'. Wait for it, or give another folder."
            ) from None
        yield


@contextlib.contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Create a folder if necessary and lock it for this run (context manager).

    Unfinished files of killed runs, in it and in the folders below, are removed.

    Parameters
    ----------
    folder : Path
        Output folder; removed again if the block fails and it is empty.

    Yields
    ------
    None
        The lock is held within the block.

    Raises
    ------
    InputError
        If another run is at work there, or the folder cannot be made.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"output folder '{folder}' cannot be made: {error.strerror}. Give another folder."
        ) from error
    try:
        with _refusing(folder, wait=0):
            for place, _, _ in os.walk(folder):
                remove_abandoned(Path(place))
            yield
    except BaseException:
        remove_empty(made)
        raise


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove empty folders, innermost first."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def remove_abandoned(folder: Path) -> None:
    """Remove leftovers of processes of this machine that have ended."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(PREFIX) and not name.endswith(REPLACED):
                path = folder / name
                if is_abandoned(path):
                    _remove(path)


def is_abandoned(path: Path) -> bool:
    """Whether an unfinished file belongs to a process that has certainly ended."""
    name = path.name.removeprefix(PREFIX)
    ended = processes.ended(name)
    if ended is None and processes.is_ours(name) and path.is_dir():
        # Of another container of this machine: those that are alive keep their folders locked.
        return _is_unlocked(path)
    return bool(ended)


def _is_unlocked(folder: Path) -> bool:
    """Whether a folder can be locked for certain."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def fingerprint(path: Path) -> dict[str, Any]:
    """Name and checksum of an input.

    Parameters
    ----------
    path : Path
        A file, or a folder of several.

    Returns
    -------
    dict
        ``path`` and ``sha256``; of several files also ``files``, their number, with the checksum
        over their hashes and names.
    """
    parts = _parts(path)
    if parts == [path]:
        return {"path": _text(path), "sha256": _sha256(path)}
    lines = "".join(f"{_sha256(part)}  {part.name}\n" for part in parts)
    digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
    return {"path": _text(path), "sha256": digest, "files": len(parts)}


def _parts(path: Path) -> list[Path]:
    """Files of an image: those of a DICOM folder, or a header and its data."""
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.is_file())
    suffix = path.suffix.lower()
    names: list[str] = []
    if suffix == ".hdr":
        names = [path.stem + ".img", path.stem + ".img.gz"]
    elif suffix in (".mhd", ".nhdr"):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        names = re.findall(r"(?mi)^(?:ElementDataFile\s*=|data ?file:)[ \t]*(\S[^\r\n]*)", text)
    return [path, *(path.parent / name for name in names if (path.parent / name).is_file())]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
