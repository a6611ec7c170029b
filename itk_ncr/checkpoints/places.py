"""Locations of models by name: in the package, and in the user's data folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from itk_ncr.errors import InputError

WEIGHTS, DESCRIPTION, CARD = "weights.safetensors", "model.json", "card.md"
SHIPPED = Path(__file__).parent / "shipped"
VARIABLE = "ITK_NCR_MODELS"


def models_folder() -> Path:
    """The folder of the models that the user has added.

    The environment variable ``ITK_NCR_MODELS`` if it is set. Otherwise ``itk_ncr/models`` in the
    system's folder for user data: ``%LOCALAPPDATA%`` on Windows, ``~/Library/Application Support``
    on macOS, elsewhere ``$XDG_DATA_HOME`` or ``~/.local/share``.

    Returns
    -------
    Path
        Absolute; it need not exist.

    Raises
    ------
    InputError
        If the user's home folder is unknown.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).absolute()
    try:
        return _user_data() / "itk_ncr" / "models"
    except RuntimeError:
        raise InputError(
            "home folder of the user must be known to find added models; the system names none. "
            f"Set {VARIABLE} to a folder."
        ) from None


def _user_data() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    given = os.environ.get("XDG_DATA_HOME", "")
    # The XDG rule: paths that are not absolute are ignored.
    return Path(given) if os.path.isabs(given) else Path.home() / ".local" / "share"


def shipped_names() -> list[str]:
    """Names of the models that come with the package, sorted."""
    return _names(SHIPPED)


def installed_names() -> list[str]:
    """Names of the models that the user has added.

    Returns
    -------
    list of str
        Sorted, without those that a model of the package hides.
    """
    try:
        names = _names(models_folder())
    except InputError:
        return []
    return [name for name in names if name not in shipped_names()]


def named_folder(name: str) -> Path | None:
    """Folder of a model that is known by name.

    Parameters
    ----------
    name : str
        Name of a shipped or added model.

    Returns
    -------
    Path or None
        None if there is no such model.
    """
    if name in shipped_names():
        return SHIPPED / name
    return models_folder() / name if name in installed_names() else None


def _names(folder: Path) -> list[str]:
    found = folder.glob(f"*/{DESCRIPTION}")
    return sorted(path.parent.name for path in found if not path.parent.name.startswith("."))
