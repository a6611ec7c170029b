"""A rigid transformer learns from images paired with themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

import itk_ncr
from itk_ncr.data import AUGMENTATIONS, AllToAll, Augmentation, WithItself, read_manifest
from itk_ncr.errors import ArgumentError
from itk_ncr.geometry import AffineMap
from itk_ncr.images import resample
from itk_ncr.ops import warp
from itk_ncr.training import RigidSettings, train_rigid

SHAPE = (48, 64)
# Far enough for a lot to be undone, near enough for the blobs to stay in the image.
FAR = Augmentation(rotate_one_degrees=10.0, shift_voxels=5.0)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Smooth blobs on background 0, three to train on and one to test."""
    folder = tmp_path_factory.mktemp("blobs")
    rows = ["subject,image,split"]
    for number in range(4):
        generator = np.random.default_rng(number)
        array = np.zeros(SHAPE)
        array[14:34, 18:46] = generator.random((20, 28))
        array = ndimage.gaussian_filter(array, 2.5)
        array = np.where(array > 0.02, array, 0) / array.max()
        grid = itk_ncr.Grid.of_array(SHAPE)
        image = itk_ncr.Image(array.astype(np.float32), grid)
        itk_ncr.write_image(image, folder / f"{number}.nrrd")
        rows.append(f"p{number},{number}.nrrd,{'test' if number == 3 else 'train'}")
    (folder / "data.csv").write_text("\n".join(rows))
    return read_manifest(folder / "data.csv")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("changes", [{}, {"flip": True}, {"rotate_both_degrees": 8.0}])
def test_the_known_displacement_undoes_the_motion(manifest, changes):
    source = WithItself(manifest, augmentation=replace(FAR, **changes), match=False)
    assert len(source) == 3
    for seed in range(6):
        sample = source.sample(seed % 3, seeded(seed))
        moved = warp(sample.moving[None], sample.displacement[None])[0]
        before = (sample.moving - sample.fixed).abs().max()
        # Interpolated twice: .024, .13 of what it was, at worst of 18.
        assert (moved - sample.fixed).abs().max() < min(0.04, 0.25 * before)


def test_only_an_image_with_itself_has_a_known_displacement(manifest):
    source = AllToAll(manifest, augmentation=FAR, match=False)
    assert source.sample(0, seeded(0)).displacement is None
    with pytest.raises(ArgumentError, match="an augmentation must be given"):
        WithItself(manifest)


def test_training_is_a_function_of_its_seed_and_lowers_the_error(manifest):
    source = WithItself(manifest, augmentation=Augmentation(shift_voxels=6.0), match=False)
    settings = RigidSettings(steps=60, batch=8, learning_rate=1e-2, seed=1)
    errors = []
    torch.manual_seed(1)
    network = train_rigid(source, settings, progress=lambda _, error: errors.append(error))
    assert len(errors) == 60
    # 5.0 voxels at first, 2.5 at the end; 3.5 and 3.7 with two other seeds.
    assert np.mean(errors[-10:]) < 0.8 * np.mean(errors[:10])
    short = replace(settings, steps=2)
    torch.manual_seed(2)
    one, two = (train_rigid(source, short).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not network.training
    other = train_rigid(source, replace(short, seed=2)).state_dict()
    assert not torch.equal(one["parameters_head.weight"], other["parameters_head.weight"])


def test_the_result_can_be_what_a_registration_starts_from(manifest):
    image = itk_ncr.read_image(manifest.subjects[0].image)
    moved = itk_ncr.Image(np.roll(image.array, (3, -5), (0, 1)), image.grid)
    matrix = np.array([[1.0, 0, 3], [0, 1, -5]])  # position in the rolled image
    start = AffineMap.between_voxels(matrix, image.grid, moved.grid)
    back = resample(moved, image.grid, start)
    np.testing.assert_allclose(back.array[5:-5, 7:-7], image.array[5:-5, 7:-7], atol=1e-6)


def test_what_cannot_teach_is_refused(manifest):
    with pytest.raises(ArgumentError, match="source must know the displacement"):
        train_rigid(AllToAll(manifest, augmentation=AUGMENTATIONS["rigid"]))
    with pytest.raises(ArgumentError, match="steps, batch and passes must be at least 1"):
        RigidSettings(steps=0)
