"""Grids, images and files that the rooms of `images` are tested with."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from itk_ncr.geometry import Grid
from itk_ncr.images import Image


def smooth_noise(shape, seed, width=5, peak=1.0):
    """Smooth random values, by box means repeated along every axis."""
    values = np.random.default_rng(seed).normal(size=shape)
    kernel = np.ones(width) / width
    for axis in range(values.ndim):
        for _ in range(2):
            values = np.apply_along_axis(np.convolve, axis, values, kernel, mode="same")
    return values * (peak / np.abs(values).max())


def oblique_grid(shape, spacing, seed, left_handed=False, shift=0.0):
    """A rotated grid whose centre lies near the point 0."""
    generator = np.random.default_rng(seed)
    dimension = len(shape)
    direction = np.linalg.qr(generator.normal(size=(dimension, dimension)))[0]
    if (np.linalg.det(direction) < 0) != left_handed:
        direction[:, 0] *= -1
    size = np.array(shape[::-1])
    origin = -(direction * np.asarray(spacing)) @ ((size - 1) / 2) + shift
    return Grid(tuple(size), tuple(spacing), tuple(origin), direction)


@pytest.fixture
def make_grid():
    return oblique_grid


@pytest.fixture
def make_noise():
    return smooth_noise


@pytest.fixture(params=[(2, False), (2, True), (3, False), (3, True)], ids=str)
def oblique_image(request):
    """A small float32 image on an oblique, anisotropic grid, right- and left-handed."""
    dimension, left = request.param
    grid = oblique_grid((5, 6, 7)[-dimension:], (0.7, 1.3, 2.1)[:dimension], 3, left, 12.5)
    values = np.random.default_rng(4).normal(size=grid.shape) * 40 + 50
    return Image(values.astype(np.float32), grid)


@pytest.fixture
def nifti_bytes():
    """A function that writes a NIfTI-1 file byte by byte, so that every field can be wrong."""

    def build(
        array=None,
        *,
        dim=None,
        datatype=16,
        bitpix=32,
        pixdim=(1, 1, 1, 1),
        offset=352.0,
        sform=None,
        qform=(0, 0, 0, 0, 0, 0),
        qform_code=1,
        magic=b"n+1\0",
        order="<",
        slope=0.0,
        units=2,
    ):
        array = np.zeros((4, 5, 6), np.float32) if array is None else array
        dim = (array.ndim, *array.shape[::-1]) if dim is None else dim
        header = bytearray(352)
        struct.pack_into(order + "i", header, 0, 348)
        struct.pack_into(f"{order}{len(dim)}h", header, 40, *dim)
        for at in range(len(dim), 8):
            struct.pack_into(order + "h", header, 40 + 2 * at, 1)
        struct.pack_into(order + "2h", header, 70, datatype, bitpix)
        struct.pack_into(f"{order}{len(pixdim)}f", header, 76, *pixdim)
        struct.pack_into(order + "3f", header, 108, offset, slope, 0.0)
        header[123] = units
        struct.pack_into(order + "2h", header, 252, qform_code, 0 if sform is None else 1)
        struct.pack_into(order + "6f", header, 256, *qform)
        if sform is not None:
            struct.pack_into(order + "12f", header, 280, *np.ravel(sform))
        header[344:348] = magic
        return bytes(header) + array.astype(array.dtype.newbyteorder(order)).tobytes()

    return build


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, so that messages hold short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
