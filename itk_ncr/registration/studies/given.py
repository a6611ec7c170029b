"""Images that a study was given, by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from itk_ncr.errors import ArgumentError
from itk_ncr.images import Image, as_image
from itk_ncr.registration.inputs import path_of, sources_of
from itk_ncr.registration.request import Progress


@dataclass(frozen=True)
class GivenImage:
    """An image of a study.

    Attributes
    ----------
    name : str
        Of its file, or its role.
    place : str
        Its role and path, for messages.
    image : Image
    source : mapping, optional
        Path and SHA-256, if it was given as a file.
    """

    name: str
    place: str
    image: Image
    source: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, given: Any, role: str) -> GivenImage:
        """Read an image; ``role`` is what it is to the caller, "visit 2" for example."""
        image = as_image(given, role=role)
        place = role if path_of(given) is None else f"{role} '{given}'"
        return cls(name_of(given, role), place, image, sources_of({"image": given}).get("image"))


def name_of(given: Any, role: str) -> str:
    """The name of a file, or else the role of the image."""
    return Path(given).name if isinstance(given, (str, os.PathLike)) else role


def require_different(images: Sequence[GivenImage]) -> None:
    """Raise an :class:`ArgumentError` if two images are the same."""
    for number, image in enumerate(images):
        for earlier in images[:number]:
            if np.array_equal(image.image.array, earlier.image.array, equal_nan=True):
                raise ArgumentError(
                    f"images must differ; got {image.place} like {earlier.place}. Leave it out."
                )


def part_of(progress: Progress | None, number: int, count: int, word: str) -> Progress | None:
    """The progress of one part of several."""
    if progress is None:
        return None
    return lambda share, text: progress((number + share) / count, f"{word} {number + 1}: {text}")
