"""Samples are what a registration would see, the same for the same number and seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.testing import assert_close

import itk_ncr
from itk_ncr.data import (
    APPEARANCES,
    AUGMENTATIONS,
    NAMED_LESIONS,
    AllToAll,
    Augmentation,
    GivenPairs,
    LesionBank,
    LesionMask,
    Lesions,
    Manifest,
    Sample,
    Subject,
    SyntheticPairs,
    TrainingLayout,
)
from itk_ncr.errors import ArgumentError
from itk_ncr.preprocessing import match_histogram, normalise
from tests.data.conftest import seeded

PLAIN = {"match": False}
EVERYTHING = replace(AUGMENTATIONS["mri"], gamma=0.2, bias=0.2)


@pytest.fixture
def bank(manifest_3d: Manifest, tmp_path: Path) -> LesionBank:
    """One lesion that fits the 3D subjects."""
    grid = itk_ncr.read_image(manifest_3d.subjects[0].image).grid
    array = np.zeros(grid.shape, np.uint8)
    array[8:16, 8:16, 6:12] = 1
    (tmp_path / "masks").mkdir()
    itk_ncr.write_image(itk_ncr.Image(array, grid), tmp_path / "masks" / "lesion.nii.gz")
    return LesionBank([LesionMask.read(tmp_path / "masks" / "lesion.nii.gz")])


def same(one: Sample, two: Sample) -> bool:
    for field in fields(Sample):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            if a.dtype != b.dtype or not torch.equal(a, b):
                return False
        elif a != b:
            return False
    return True


def sources(manifest_2d: Manifest, manifest_3d: Manifest, bank: LesionBank) -> dict[str, Callable]:
    pairs = replace(manifest_2d, pairs=((0, 1), (1, 2)))
    return {
        "2d": lambda: AllToAll(manifest_2d, augmentation=EVERYTHING, lesions=Lesions(None)),
        "3d": lambda: AllToAll(
            manifest_3d, augmentation=EVERYTHING, lesions=Lesions(bank, where="both", blobs=0.3)
        ),
        "pairs": lambda: GivenPairs(pairs, augmentation=AUGMENTATIONS["oct"]),
        "synthetic": lambda: SyntheticPairs(manifest_3d, lesions=Lesions(bank, where="both")),
        "shapes": lambda: SyntheticPairs(shape=(40, 32)),
    }


@pytest.mark.parametrize("name", ["2d", "3d", "pairs", "synthetic", "shapes"])
def test_a_number_and_a_seed_make_one_sample(name, manifest_2d, manifest_3d, bank) -> None:
    make = sources(manifest_2d, manifest_3d, bank)[name]
    source, again = make(), make()
    for index in (1, 0):  # in another order: nothing is remembered
        assert same(source.sample(index, seeded(5)), again.sample(index, seeded(5)))
    assert same(source.sample(1, seeded(5)), again.sample(1, seeded(5)))
    assert not same(source.sample(1, seeded(5)), source.sample(1, seeded(6)))
    # Random shapes come from the generator alone.
    other = same(source.sample(1, seeded(5)), source.sample(0, seeded(5)))
    assert other == (name == "shapes")


@pytest.mark.parametrize("name", ["2d", "3d", "pairs", "synthetic", "shapes"])
def test_samples_have_the_promised_shapes_and_types(name, manifest_2d, manifest_3d, bank) -> None:
    sample = sources(manifest_2d, manifest_3d, bank)[name]().sample(0, seeded(0))
    spatial = sample.fixed.shape[1:]
    for image in (sample.fixed, sample.moving, *([] if sample.lesion is None else [sample.lesion])):
        assert image.shape == (1, *spatial)
        assert image.dtype == torch.float32
        assert image.isfinite().all()
        assert image.min() >= 0
    for labels in (sample.fixed_labels, sample.moving_labels):
        assert labels is not None
        assert labels.shape == spatial
        assert labels.dtype == torch.uint8
    if sample.lesion is not None:
        assert set(sample.lesion.unique().tolist()) <= {0.0, 1.0}
    if sample.displacement is not None:
        assert sample.displacement.shape == sample.velocity.shape == (len(spatial), *spatial)


def test_a_plain_sample_is_what_preprocessing_gives(manifest_2d) -> None:
    """Half precision in memory: 11 bits."""
    source = AllToAll(manifest_2d, "train")
    fixed, moving = (normalise(itk_ncr.read_image(manifest_2d.subjects[i].image).array)
                     for i in (0, 1))  # fmt: skip
    matched, accepted = match_histogram(
        moving.values, fixed.values, moving.foreground, fixed.foreground
    )
    sample = source.sample(0, seeded(0))
    assert sample.name == "p0.png <- p1.png"
    assert_close(sample.fixed[0].numpy(), fixed.values, atol=1e-3, rtol=0)
    # Matched intensities near a knot of the map differ by what rounding makes of its slope.
    assert_close(sample.moving[0].numpy(), matched, atol=5e-3, rtol=0)
    unmatched = AllToAll(manifest_2d, "train", match=False).sample(0, seeded(0)).moving
    assert_close(unmatched[0].numpy(), moving.values, atol=1e-3, rtol=0)
    assert accepted == (not torch.equal(unmatched, sample.moving))
    assert sample.lesion is None


def test_all_to_all_pairs_different_patients_of_one_split_and_group(manifest_2d) -> None:
    doubled = Manifest(
        tuple(replace(s, group=group) for s in manifest_2d.subjects for group in ("low", "high"))
    )
    source = AllToAll(doubled, "train")
    assert len(source) == 2 * 3 * 2
    for i, j, _ in source.pairs:
        one, two = doubled.subjects[i], doubled.subjects[j]
        assert one.patient != two.patient
        assert one.group == two.group
        assert one.split == two.split == "train"
    published = AllToAll(doubled, "test", moving_split="all")
    assert len(published) == 2 * 2 * 4
    assert {doubled.subjects[i].split for i, _, _ in published.pairs} == {"test"}
    assert {doubled.subjects[j].split for _, j, _ in published.pairs} == {"train", "test"}


def test_a_split_with_one_patient_has_no_pairs(manifest_2d) -> None:
    alone = manifest_2d.assigned({f"p{i}": "val" if i == 0 else "train" for i in range(5)})
    with pytest.raises(ArgumentError, match="two patients in the split 'val'; got 1"):
        AllToAll(alone, "val")
    with pytest.raises(ArgumentError, match="must name pairs"):
        GivenPairs(alone)


def test_given_pairs_keep_their_direction_unless_both_are_asked_for(manifest_2d) -> None:
    pairs = replace(manifest_2d, pairs=((0, 1), (3, 4)))
    assert GivenPairs(pairs).sample(0, seeded(0)).name == "p0.png <- p1.png"
    assert len(GivenPairs(pairs)) == 1
    both = GivenPairs(pairs, both_orders=True)
    assert both.sample(1, seeded(0)).name == "p1.png <- p0.png"


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_the_truth_is_where_the_lesion_is(manifest_3d, bank, appearance) -> None:
    healthy = AllToAll(manifest_3d, **PLAIN).sample(0, seeded(0))
    lesions = Lesions(bank, probability=1.0, appearances=(appearance,), blobs=0.0)
    ill = AllToAll(manifest_3d, lesions=lesions, **PLAIN).sample(0, seeded(0))
    truth = ill.lesion[0].numpy() > 0
    assert truth.sum() >= bank.smallest_voxels
    assert_close(ill.moving, healthy.moving)
    changed = (ill.fixed - healthy.fixed)[0].abs().numpy()
    # The scale of intensities follows the brightest per cent, which a bright lesion moves.
    inside, outside = changed[truth], changed[ndimage.distance_transform_edt(~truth) > 4]
    assert np.median(inside) > 0.05
    assert np.median(inside) > 2 * outside.max() or appearance == "bright"


def test_without_a_lesion_the_truth_is_empty_and_known(manifest_2d) -> None:
    source = AllToAll(manifest_2d, lesions=Lesions(None, probability=0.0))
    assert source.sample(0, seeded(0)).lesion.sum() == 0


def test_lesions_come_as_often_and_where_they_are_asked_for(manifest_2d) -> None:
    healthy = AllToAll(manifest_2d, **PLAIN).sample(0, seeded(0))
    for where in ("fixed", "moving", "both"):
        source = AllToAll(manifest_2d, lesions=Lesions(None, 0.5, where), **PLAIN)
        samples = [source.sample(0, seeded(seed)) for seed in range(40)]
        fixed = [not torch.equal(s.fixed, healthy.fixed) for s in samples]
        moving = [not torch.equal(s.moving, healthy.moving) for s in samples]
        assert (sum(fixed) == 0) == (where == "moving")
        assert (sum(moving) == 0) == (where == "fixed")
        for found in (fixed, moving):
            assert sum(found) == 0 or 10 <= sum(found) <= 30
        known = [bool(s.lesion.any()) for s in samples]
        assert known == [one or two for one, two in zip(fixed, moving, strict=True)]


def test_both_images_of_a_remapped_pair_show_one_other_contrast(manifest_2d) -> None:
    def drawn(share: float) -> list[Sample]:
        # The images of a pair are one here, so that what happens to both can be seen in both.
        alone = Manifest((manifest_2d.subjects[0],) * 2)
        source = GivenPairs(
            replace(alone, pairs=((0, 1),)), augmentation=Augmentation(remapped=share), **PLAIN
        )
        return [source.sample(0, seeded(seed)) for seed in range(20)]

    plain = drawn(0.0)
    assert all(torch.equal(sample.fixed, plain[0].fixed) for sample in plain)
    other = [not torch.equal(sample.fixed, plain[0].fixed) for sample in drawn(0.5)]
    assert 4 <= sum(other) <= 16
    for sample in drawn(1.0):
        assert_close(sample.fixed, sample.moving)
        assert torch.equal(sample.fixed > 0, plain[0].fixed > 0)
        # A map of intensities: what was alike stays alike.
        values = torch.stack([plain[0].fixed.flatten(), sample.fixed.flatten()]).unique(dim=1)
        assert values.shape[1] == plain[0].fixed.unique().numel()
    with pytest.raises(ArgumentError, match=r"remapped must be in \[0, 1\]; got 1.5"):
        Augmentation(remapped=1.5)


def test_a_lesion_is_inserted_after_the_contrast_was_changed(manifest_2d) -> None:
    """So it looks like what was drawn for it, not like what its grey value means elsewhere."""
    source = AllToAll(
        manifest_2d,
        augmentation=Augmentation(remapped=1.0),
        lesions=Lesions(None, 1.0, appearances=("chronic",)),
        **PLAIN,
    )
    shares = []
    for seed in range(12):
        sample = source.sample(0, seeded(seed))
        core = torch.from_numpy(ndimage.binary_erosion(sample.lesion[0].numpy(), iterations=2))
        brain = (sample.fixed[0] > 0) & (sample.lesion[0] == 0)
        if min(core.sum(), brain.sum()) > 10:
            white = sample.fixed[0][brain].quantile(0.75)
            shares.append(float(sample.fixed[0][core].mean() / white))
    assert len(shares) > 6
    assert min(shares) > 0.15
    assert max(shares) < 0.65


def test_lesions_of_the_users_own_are_the_truth(manifest_2d, tmp_path) -> None:
    array = np.zeros((48, 40), np.uint8)
    array[20:30, 10:20] = 255
    own = tmp_path / "own.png"
    itk_ncr.write_image(itk_ncr.Image(array, itk_ncr.Grid.of_array((48, 40))), own)
    subjects = (replace(manifest_2d.subjects[0], lesion=own), *manifest_2d.subjects[1:])
    sample = AllToAll(Manifest(subjects)).sample(0, seeded(0))
    assert (sample.lesion[0].numpy() > 0).tolist() == (array > 0).tolist()


def test_named_lesions_are_the_same_for_every_moving_image(manifest_3d, bank, tmp_path) -> None:
    for lesion in NAMED_LESIONS.values():
        (tmp_path / "masks" / f"{lesion.mask}.nii.gz").symlink_to(
            tmp_path / "masks" / "lesion.nii.gz"
        )
    source = AllToAll(
        manifest_3d, versions=("none", "L1", "L4"), named_masks=tmp_path / "masks", **PLAIN
    )
    assert len(source) == 3 * 2 * 3
    none, grey, dark = (source.sample(k, seeded(k)) for k in range(3))
    other = source.sample(4, seeded(9))
    assert grey.name.endswith("with L1")
    assert other.name.split(" <- ")[0] == grey.name.split(" <- ")[0]
    assert_close(other.fixed, grey.fixed)
    assert not torch.equal(other.moving, grey.moving)
    assert none.lesion.sum() == 0
    assert torch.equal(grey.lesion, dark.lesion)
    core = torch.from_numpy(ndimage.binary_erosion(grey.lesion[0].numpy(), iterations=2))
    assert dark.fixed[0][core].mean() < 0.7 * grey.fixed[0][core].mean()
    with pytest.raises(ArgumentError, match="named_masks the folder"):
        AllToAll(manifest_3d, versions=("L1",))


def test_reduced_images_show_the_same_and_labels_stay_labels(manifest_2d) -> None:
    full = AllToAll(manifest_2d, **PLAIN).sample(0, seeded(0))
    small = AllToAll(manifest_2d, layout=TrainingLayout(reduce=2), **PLAIN).sample(0, seeded(0))
    assert small.fixed.shape == (1, 24, 20)
    assert set(small.fixed_labels.unique().tolist()) == {0, 1, 2, 3}
    # Both end at the same voxel centres.
    zoomed = ndimage.zoom(ndimage.gaussian_filter(full.fixed[0].numpy(), 1.0), 0.5, order=1)
    assert np.abs(zoomed - small.fixed[0].numpy()).mean() < 0.03
    by_zoom = ndimage.zoom(full.fixed_labels.numpy(), 0.5, order=0)
    assert (by_zoom == small.fixed_labels.numpy()).mean() > 0.97
    assert AllToAll(manifest_2d, layout=TrainingLayout(reduce=(1, 4))).shape == (48, 10)


def test_cropping_and_padding_keep_the_middle(manifest_2d) -> None:
    full = AllToAll(manifest_2d, **PLAIN).sample(0, seeded(0))
    wide = AllToAll(manifest_2d, layout=TrainingLayout(size=(40, 48)), **PLAIN).sample(0, seeded(0))
    assert wide.fixed.shape == (1, 40, 48)
    assert_close(wide.fixed[:, :, 4:44], full.fixed[:, 4:44])
    assert torch.equal(wide.fixed_labels[:, 4:44], full.fixed_labels[4:44])
    assert wide.fixed[:, :, :4].eq(0).all()
    assert wide.fixed[:, :, 44:].eq(0).all()


def test_a_cropped_and_reduced_grid_knows_where_it_lies(manifest_3d) -> None:
    layout = TrainingLayout(size=(20, 32, 26), reduce=2)
    source = AllToAll(manifest_3d, layout=layout)
    grid = itk_ncr.read_image(manifest_3d.subjects[0].image).grid
    placement = source.store.placement(0)
    # 2 voxels cut and 2 added at the start of the first two axes; ends coincide.
    for index, old in (((0, 0, 0), (2, -2, 0)), ((9, 15, 12), (21, 29, 25))):
        mm = placement.matrix @ (*index, 1.0)
        expected = grid.matrix @ np.array(old[::-1]) + grid.origin
        assert_close(mm, expected)


def test_ignored_labels_become_no_label(manifest_2d) -> None:
    layout = TrainingLayout(ignore_labels=(1, 3))
    sample = AllToAll(manifest_2d, layout=layout).sample(0, seeded(0))
    assert set(sample.fixed_labels.unique().tolist()) == {0, 2}
    plain = SyntheticPairs(manifest_2d, layout=layout).sample(0, seeded(0))
    assert set(plain.fixed_labels.unique().tolist()) == {0, 2}


def test_labels_can_be_left_out_and_may_be_missing_for_some(manifest_2d) -> None:
    assert AllToAll(manifest_2d, labels=False).sample(0, seeded(0)).fixed_labels is None
    first, *others = manifest_2d.subjects
    partly = Manifest((replace(first, labels=None), *others))
    source = AllToAll(partly)
    assert source.sample(0, seeded(0)).moving_labels is None  # p0 <- p1
    assert source.sample(3, seeded(0)).moving_labels is not None  # p1 <- p2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": "everywhere"}, "where must be one of"),
        ({"appearances": ("pink",)}, "appearances of"),
        ({"probability": 1.5}, "probability must be in"),
        ({"blobs": -0.1}, "blobs must be in"),
    ],
)
def test_lesions_that_make_no_sense_are_refused(options, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        Lesions(None, **options)


def test_a_layout_that_does_not_fit_is_refused(manifest_2d) -> None:
    for layout in (
        TrainingLayout(reduce=0),
        TrainingLayout(reduce=(2, 2, 2)),
        TrainingLayout(size=(10,)),
    ):
        with pytest.raises(ArgumentError, match="must"):
            AllToAll(manifest_2d, layout=layout)


def test_subjects_know_their_files() -> None:
    subject = Subject("a", Path("a.png"), labels=Path("b.png"))
    assert subject.files == (Path("a.png"), Path("b.png"))
