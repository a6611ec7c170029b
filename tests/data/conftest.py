"""A few small subjects: ellipses with an inner one, of different size, as files with labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import itk_ncr
from itk_ncr.data import Manifest, read_manifest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def anatomy(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with background 0, shell, inner part and a bright spot; and its labels 1 to 3."""
    generator = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radii = 0.75 + 0.1 * generator.random(len(shape))
    distance = np.sqrt(sum((axis / r) ** 2 for axis, r in zip(axes, radii, strict=True)))
    spot = np.sqrt(sum((axis - 0.3) ** 2 for axis in axes)) < 0.25
    labels = (distance < 1).astype(np.uint8) + (distance < 0.5)
    labels[spot] = 3
    image = np.array([0, 90, 170, 230], float)[labels] + 8 * generator.random(shape)
    image[labels == 0] = 0
    return image.astype(np.uint8), labels


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """Writes subjects and a CSV; the first ones are in train, the last in test."""

    def make(shape: tuple[int, ...] = (48, 40), train: int = 3, test: int = 2) -> Path:
        suffix = ".png" if len(shape) == 2 else ".nii.gz"
        rows = ["subject,image,labels,split"]
        for i in range(train + test):
            image, labels = anatomy(shape, i)
            # RAS, as brains are stored, with the origin in the middle.
            spacing, direction = None, None
            origin = None
            if len(shape) == 3:
                spacing, direction = (2.0, 2.0, 2.0), np.diag([-1.0, -1.0, 1.0])
                z, y, x = (n - 1.0 for n in shape)
                origin = (x, y, -z)
            grid = itk_ncr.Grid.of_array(shape, spacing, origin, direction)
            for name, array in ((f"p{i}", image), (f"p{i}_seg", labels)):
                itk_ncr.write_image(itk_ncr.Image(array, grid), tmp_path / f"{name}{suffix}")
            split = "train" if i < train else "test"
            rows.append(f"p{i},p{i}{suffix},p{i}_seg{suffix},{split}")
        (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
        return tmp_path / "data.csv"

    return make


@pytest.fixture
def manifest_2d(make_data: Callable[..., Path]) -> Manifest:
    return read_manifest(make_data())


@pytest.fixture
def manifest_3d(make_data: Callable[..., Path]) -> Manifest:
    return read_manifest(make_data((24, 28, 26)))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
