"""Process identities: who wrote a file, whether it still runs, and ending with the parent."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import sys
import threading
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Machine, process id, when it started, and the namespace in which the id counts.
_SIGNATURE = re.compile(r"([A-Za-z0-9]*)-(\d+)-(\d+)n(\d+)(?:-|$)")


def signature() -> str:
    """Signature of this process, unique among the machines that share a folder.

    Process ids are used again, in containers at once; with the time of the start they are unique.
    """
    return _signature(os.getpid())


@lru_cache(maxsize=4)  # by number: a forked child is another process
def _signature(process: int) -> str:
    return f"{_machine()}-{process}-{_start(process) or 0}n{_namespace()}"


def is_ours(name: str) -> bool:
    """Whether a signature is that of a process on this machine."""
    found = _SIGNATURE.match(name)
    return found is not None and found[1] == _machine()


def ended(name: str) -> bool | None:
    """Whether the process of a signature has ended.

    Parameters
    ----------
    name : str
        Begins with what :func:`signature` returned.

    Returns
    -------
    bool or None
        None where it cannot be known: of another machine, or of another container.
    """
    found = _SIGNATURE.match(name)
    if found is None or found[1] != _machine() or int(found[4]) != _namespace():
        return None
    process, start = int(found[2]), int(found[3])
    if start:
        return _start(process) != start
    if os.name != "posix":  # asking there ends the process
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return False


def _machine() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node())[:40]


def _start(process: int) -> int | None:
    """Start time of a process in ticks since boot; None if there is none (or not on Linux)."""
    try:
        # The name of the program, in brackets, may hold anything.
        fields = (_PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _namespace() -> int:
    try:
        return (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return 0


def end_with_parent(parent: int) -> None:
    """Kill this process when its parent ends, however that happens.

    Linux only; elsewhere a child has to notice the end of a pipe. The call belongs at the very
    beginning of a child.

    Parameters
    ----------
    parent : int
        Its process id.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def end_with_spawning_process() -> None:
    """:func:`end_with_parent` for the children of ``multiprocessing``, on every system."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    end_with_parent(parent.pid)

    def wait() -> None:
        parent.join()  # the end of a pipe
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
