"""B-scans of a retina are told from other 2D images by their layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from itk_ncr import read_image
from itk_ncr.data import OctPhantoms
from itk_ncr.preprocessing import is_layered, normalise

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
SHAPES = [(96, 192), (400, 300), (256, 640)]


def scan(shape: tuple[int, int], patient: int) -> np.ndarray:
    source = OctPhantoms(patient + 1, shape=shape)
    return source.sample(patient, torch.Generator().manual_seed(0)).fixed[0].numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("patient", range(4))
def test_a_b_scan_is_layered_and_its_transpose_is_not(shape, patient):
    image = scan(shape, patient)
    everywhere = np.ones(shape, bool)
    assert is_layered(image, everywhere)
    assert not is_layered(np.ascontiguousarray(image.T), everywhere.T)


def test_layers_that_end_inside_the_image_are_none():
    image = scan((96, 192), 0)
    shown = np.zeros(image.shape, bool)
    shown[:, 30:] = True
    assert not is_layered(image * shown, shown)


def test_an_axial_slice_of_a_brain_is_not_layered(brain_slice):
    scaled = normalise(brain_slice)
    assert not is_layered(scaled.values, scaled.foreground)
    # Nor is one that fills the image.
    inner = np.ascontiguousarray(brain_slice[25:-25, 25:-25])
    assert not is_layered(inner.astype(np.float32), np.ones(inner.shape, bool))


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (2, 2)])
def test_an_image_without_room_for_layers_has_none(shape):
    assert not is_layered(np.ones(shape, np.float32), np.ones(shape, bool))
    assert not is_layered(np.ones((3, *shape), np.float32), np.ones((3, *shape), bool))


@pytest.fixture(scope="module")
def brain_slice() -> np.ndarray:
    volume = read_image(EXAMPLES / "fixed_t1.nii.gz").array
    return volume[volume.shape[0] // 2].astype(np.float32)
