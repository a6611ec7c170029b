"""Label maps read from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from itk_ncr.errors import ImageValueError

if TYPE_CHECKING:
    from itk_ncr.images import Image


def as_labels(image: Image, path: Path | None = None) -> Image:
    """Convert a label map to an integer type; NIfTI files often hold labels as floats.

    Parameters
    ----------
    image : Image
        Label map.
    path : Path, optional
        Its file, for the error.

    Returns
    -------
    Image
        The same labels; ``image`` itself if it has an integer type.

    Raises
    ------
    ImageValueError
        If a value is not a whole number.
    """
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
