"""Images side by side, for the examples; needs matplotlib (`pip install 'itk_ncr[report]'`)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from itk_ncr import Image

LIMITS = {"Jacobian": (0.5, 1.5)}
COLOURS = {"Jacobian": "coolwarm", "mask": "magma", "labels": "viridis"}


def show(**images: Image) -> None:
    """Draw 2D images in a row, each with its name above; an underscore stands for a blank."""
    extents = [
        np.multiply(image.array.shape, image.grid.spacing[::-1]) for image in images.values()
    ]
    widest = max(width / height for height, width in extents)
    size = (min(2.9 * widest, 4.6) * len(images), min(2.9, 4.6 / widest) + 0.5)
    figure, row = plt.subplots(1, len(images), figsize=size, squeeze=False)
    for axes, (name, image) in zip(row[0], images.items(), strict=True):
        kind = name.split("_")[0]
        low, high = LIMITS.get(kind, (0, float(np.quantile(image.array, 0.995)) or 1))
        down, along = image.grid.spacing[::-1]
        axes.imshow(
            image.array, cmap=COLOURS.get(kind, "gray"), vmin=low, vmax=high, aspect=down / along
        )
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.axis("off")
    figure.tight_layout()
    plt.show()
