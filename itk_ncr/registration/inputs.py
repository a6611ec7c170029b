"""The inputs of a result, kept for its folder and its report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from itk_ncr.errors import ArgumentError
from itk_ncr.files import fingerprint
from itk_ncr.geometry import AffineMap
from itk_ncr.images import Image, as_affine
from itk_ncr.images.transform_files import READABLE
from itk_ncr.settings import GIVEN, SETTINGS


@dataclass(frozen=True)
class Inputs:
    """The images, masks and transforms of one call of :func:`itk_ncr.register`.

    Attributes
    ----------
    fixed, moving : Image
        As they were given, in their own intensities.
    lesion_mask, roi_mask, brain_mask, and the same with moving_ : Image, optional
    affine, initial_transform : AffineMap, optional
        If the caller brought one.
    sources : mapping of str to dict
        By the names above, path and SHA-256 of what was given as a file.
    """

    fixed: Image
    moving: Image
    lesion_mask: Image | None = None
    moving_lesion_mask: Image | None = None
    roi_mask: Image | None = None
    moving_roi_mask: Image | None = None
    brain_mask: Image | None = None
    moving_brain_mask: Image | None = None
    affine: AffineMap | None = None
    initial_transform: AffineMap | None = None
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def by_role(self) -> dict[str, Image | AffineMap]:
        """The inputs that were given, by name; fixed first."""
        roles = [entry.name for entry in fields(self) if entry.name != "sources"]
        given = {role: getattr(self, role) for role in roles}
        return {role: value for role, value in given.items() if value is not None}


def affine_of(value: Any) -> tuple[str, AffineMap | None]:
    """Split the argument ``affine`` into its word and its map.

    Parameters
    ----------
    value : str, path or AffineMap
        "auto", "none", an AffineMap or whatever :func:`itk_ncr.images.as_affine` takes.

    Returns
    -------
    word : str
        The value of the setting; "given" for a map.
    map : AffineMap or None
        The map, if there is one.

    Raises
    ------
    ArgumentError, GeometryError
        If it is neither a word nor an affine map.
    """
    if not isinstance(value, str) or value.lower().endswith(READABLE):
        return GIVEN, as_affine(value)
    if value not in SETTINGS["affine"].words:
        raise ArgumentError(
            "affine must be 'auto', 'none', an AffineMap or the path of a transform file "
            f"({', '.join(READABLE)}); got {value!r}. Correct the word."
        )
    return value, None


def sources_of(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Path and SHA-256 of those arguments that are files or folders."""
    found = {}
    for role, value in given.items():
        path = path_of(value)
        if path is not None:
            found[role] = fingerprint(path)
    return found


def path_of(value: Any) -> Path | None:
    """The file or folder that an argument names, if it names one."""
    return Path(value) if isinstance(value, (str, os.PathLike)) and Path(value).exists() else None
