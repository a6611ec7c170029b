"""Label maps read from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from itk_ncr.errors import ImageValueError

if TYPE_CHECKING:
    from itk_ncr.images import Image


def as_labels(image: Image, path: Path | None = None) -> Image:
    """The same label map in a whole-number type; NIfTI files often hold labels as floats."""
    import numpy as np

    if image.array.dtype.kind in "iub":
        return image
    whole = np.round(image.array)
    if not np.array_equal(whole, image.array) or np.abs(whole).max(initial=0) >= 2**31:
        where = "" if path is None else f" in '{path}'"
        raise ImageValueError(
            f"labels must be whole numbers; got others{where}. Give a label map, or carry "
            "this image with `itk-ncr apply`."
        )
    return type(image)(whole.astype(np.int32), image.grid)
