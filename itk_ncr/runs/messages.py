"""Warnings and one-line errors of a run."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from itk_ncr.errors import NCRError

# What torch, the loader of shared libraries and Python's threads say where memory is short.
SHORT_OF_MEMORY = ("cannot allocate memory", "can't allocate memory", "not enough memory",
                   "failed to map segment", "can't start new thread", "std::bad_alloc",
                   "out of memory")  # fmt: skip
FOR_PEOPLE = (UserWarning, RuntimeWarning)  # the others are notices between programmers


@contextlib.contextmanager
def heard_warnings() -> Iterator[list[str]]:
    """Record the warnings given within the block, each once; they are shown as usual.

    Yields
    ------
    list of str
        Grows with every warning.
    """
    heard: list[str] = []
    show = warnings.showwarning

    def listen(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        text = " ".join(str(message).split())
        if issubclass(category, FOR_PEOPLE) and text not in heard:
            heard.append(text)
        show(message, category, *rest, **more)

    with warnings.catch_warnings():
        for category in FOR_PEOPLE:
            # By default Python gives a warning only once per process: the first pair of
            # several would have it in its record, and the others would not.
            warnings.simplefilter("always", category, append=True)
        warnings.showwarning = listen
        yield heard


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, in any library."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in SHORT_OF_MEMORY)


def reason(error: BaseException) -> str:
    """Describe an error in one line.

    Parameters
    ----------
    error : BaseException
        Any exception.

    Returns
    -------
    str
        Its message; unexpected errors ask for a report.
    """
    if isinstance(error, NCRError):
        text = str(error)
    elif is_out_of_memory(error):
        text = "out of memory. Close other programs or give smaller images."
    elif isinstance(error, OSError) and error.strerror:
        where = f" '{error.filename}'" if error.filename else ""
        text = f"cannot access{where or ' a file'}: {error.strerror}"
    else:
        text = (
            f"internal error: {type(error).__name__}: {error}. "
            "Please report it with what --traceback shows."
        )
    return " ".join(text.split())
