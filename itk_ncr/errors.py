"""Errors by name: every error of the package derives from :class:`NCRError`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any


class NCRError(Exception):
    """Base of all errors raised by itk_ncr; its text is one line."""


class ArgumentError(NCRError, ValueError):
    """An argument is outside what its documentation allows."""


class InputError(NCRError, ValueError):
    """A file, folder or table that was named cannot be used; nothing has been written."""


class ShapeError(NCRError, ValueError):
    """Arrays or tensors do not fit each other."""


class GeometryError(NCRError, ValueError):
    """An image's origin, spacing or direction is unusable, or two images do not overlap."""


class ImageValueError(NCRError, ValueError):
    """The voxels of an image cannot be registered (none finite, all equal, empty mask)."""


class ImageReadError(NCRError, OSError):
    """A file cannot be read, or reading it would give a silently wrong image."""


class ImageWriteError(NCRError, OSError):
    """A file cannot be written; nothing partial is left behind."""


class CheckpointError(NCRError, OSError):
    """Saved weights or a saved training state cannot be read, or are not what was written."""


class TrainingError(NCRError, RuntimeError):
    """A training cannot continue; its last state is saved."""


class MemoryLimitError(NCRError, MemoryError):
    """The work needs more memory than there is."""


class MissingDependencyError(NCRError, ImportError):
    """An optional package is needed and not installed."""


class RegistrationError(NCRError, RuntimeError):
    """A registration tool failed, or returned an invalid transform."""


class RegistrationAborted(NCRError, RuntimeError):
    """The caller's abort callback asked to stop."""


class WorkerError(NCRError, RuntimeError):
    """The processes that were to do the work do not start, or cannot be reached any more."""


def require_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Check that an argument is one of several values.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Its value.
    choices : iterable
        What it may be.

    Raises
    ------
    ArgumentError
        If it is none of them; the message lists them.
    """
    known = list(choices)
    if value not in known:
        raise ArgumentError(
            f"{name} must be one of {', '.join(map(str, known))}; got {value!r}. "
            "Check the spelling."
        )


def require_package(module: str, purpose: str, extra: str) -> Any:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Name of the module.
    purpose : str
        What it is needed for.
    extra : str
        Extra of itk_ncr that installs the package.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_package(module.partition(".")[0], purpose, extra) from error


def missing_package(name: str, purpose: str, extra: str) -> MissingDependencyError:
    """The error for an optional package that is not installed.

    Parameters
    ----------
    name, purpose, extra : str
        As for :func:`require_package`.

    Returns
    -------
    MissingDependencyError
        To be raised.
    """
    return MissingDependencyError(
        f"{name} must be installed for {purpose}; run: pip install 'itk_ncr[{extra}]'"
    )
