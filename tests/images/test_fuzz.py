"""Files with random damage: an image or one clear line, never another error, a hang or a crash."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.errors import NCRError
from itk_ncr.images import ImageWarning, read_image

NAMES = ["a.nii", "b.nii.gz", "c.mha", "d.mha", "e.nrrd", "f.nrrd", "g.png", "h.tif", "i.dcm"]
PACKED = {"b.nii.gz", "d.mha", "f.nrrd"}


def write(name):
    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    if name in ("g.png", "h.tif", "i.dcm"):
        values = np.abs(values * 60).astype(np.uint8)[:1] if name == "i.dcm" else values[0]
        values = values.astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(values), name, useCompression=name in PACKED)
    return Path(name).read_bytes()


def harmed(content: bytes, chance: random.Random) -> bytes:
    """Cut short, or some bytes changed, mostly near the beginning."""
    if chance.random() < 0.15:
        return content[: chance.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(min(500, len(content)) if chance.random() < 0.8 else len(content))
        digit = ord("0") + chance.randrange(10)
        changed[at] = chance.choice([0, 255, digit, chance.randrange(256), changed[at] ^ 16])
    return bytes(changed)


# 4500 such files were read without a foreign error when this was written; here are 40 of each.
@pytest.mark.filterwarnings("ignore::itk_ncr.images.ImageWarning")
@pytest.mark.parametrize("name", NAMES)
def test_random_damage_never_surprises(here, name):
    content, chance, refused = write(name), random.Random(name), 0
    values = read_image(name).array
    for _ in range(40):
        harm = harmed(content, chance)
        Path(name).write_bytes(harm)
        try:
            image = read_image(name)
        except NCRError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
            assert repr(name) in str(error)  # noqa: PT017
        else:
            assert image.grid.dimension in (2, 3)
    assert refused > 5
    Path(name).write_bytes(content)
    assert np.array_equal(read_image(name).array, values)


@pytest.mark.parametrize("name", sorted(PACKED))
def test_no_flipped_bit_in_packed_voxels_passes(here, name):
    """One bit in every 7th packed byte: the voxels are right, or the file is refused."""
    content = write(name)
    values = read_image(name).array
    begin = {"b.nii.gz": 10}.get(name, content.index(b"LOCAL\n") + 6 if name == "d.mha" else None)
    if begin is None:
        begin = content.index(b"\n\n") + 12
    passed = 0
    for at in range(begin, len(content), 7):
        Path(name).write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImageWarning)
                again = read_image(name).array
        except NCRError:
            continue
        passed += 1
        assert np.array_equal(again, values)
    assert passed < 3  # bits that carry nothing, such as the gzip header's
