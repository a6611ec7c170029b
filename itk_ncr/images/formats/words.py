"""Voxels written as text: numbers between blanks and commas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.images.formats.content import Refused

BLANKS = bytes.maketrans(b",\t\r\n\v\f", b"      ")
# Longer than any number that a program writes; a text without blanks is not a list of numbers.
WORD_LIMIT = 400


def numbers_in(chunks: Iterable[bytes], needed: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The first ``needed`` numbers of a text, in native byte order.

    Refuses a text with fewer of them, or with words that are not numbers of this type.
    """
    values = np.empty(needed, dtype.newbyteorder("="))
    got, rest = 0, b""
    for chunk in chunks:
        text = rest + chunk.translate(BLANKS)
        whole = text.rfind(b" ") + 1
        rest = text[whole:]
        if len(rest) > WORD_LIMIT:
            raise Refused("its voxels are not written as numbers")
        got += _put(values[got:], text[:whole].split())
    got += _put(values[got:], rest.split())
    if got < needed:
        raise Refused(f"truncated (header needs {needed} numbers, file has {got})")
    return values


def _put(values: NDArray[Any], words: list[bytes]) -> int:
    """Write the numbers to the front of ``values``, as many as there is room for."""
    words = words[: len(values)]
    kind = float if values.dtype.kind == "f" else int
    try:
        values[: len(words)] = [kind(word) for word in words]
    except (ValueError, OverflowError):
        raise Refused(f"its voxels are not all {values.dtype} numbers") from None
    return len(words)
