"""B-scans of virtual patients: what the labels say is what was drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from itk_ncr.data import OctGrowth, OctPhantoms, collate, surfaces
from itk_ncr.data.phantoms.oct.anatomy import DEPTH_MM
from itk_ncr.data.phantoms.oct.painting import paint
from itk_ncr.errors import ArgumentError, ShapeError
from tests.data.conftest import seeded

SHAPE = (96, 192)
ONLY_GROWTH = OctGrowth((3, 3), appears=0, grows=1, stays=0, shrinks=0, vanishes=0)
ONLY_NEW = replace(ONLY_GROWTH, grows=0, appears=1)


@pytest.mark.parametrize("visit", ["baseline", "follow-up"])
def test_boundaries_lie_in_their_order_in_every_column(visit: str) -> None:
    pairs = OctPhantoms(30, shape=SHAPE, seed=4, scans=3)
    for index in range(len(pairs)):
        layers = pairs.scan(index).layers(visit)
        stack = np.stack([*layers.inner, layers.rpe, layers.bm, layers.choroid])
        # Depths are float32 sums of about 1 mm.
        assert (np.diff(stack, axis=0) > -1e-6).all()
        assert stack[0].min() > 0
        assert layers.bm.max() < DEPTH_MM


def test_surfaces_of_the_labels_are_the_boundaries_drawn() -> None:
    pairs = OctPhantoms(8, shape=SHAPE, seed=1)
    for index in range(8):
        layers = pairs.scan(index).layers("follow-up")
        found = surfaces(pairs.sample(index, seeded(0)).fixed_labels)
        for name, depth in (("ILM", layers.inner[0]), ("RPE", layers.rpe), ("BM", layers.bm)):
            # Row r shows the depths around r; an edge between two rows is at most half a row off.
            assert np.abs(found[name] - depth * SHAPE[0] / DEPTH_MM).max() <= 0.5 + 1e-3


def test_surfaces_of_a_hand_made_map() -> None:
    labels = np.zeros((6, 4), int)
    labels[1:3, 0], labels[3:5, 0] = 1, 2  # a full column
    labels[2:4, 1] = 1  # no membrane
    labels[0:2, 2], labels[2:6, 2] = 1, 2  # cut off at both ends
    found = surfaces(torch.from_numpy(labels))
    nan = np.nan
    np.testing.assert_array_equal(found["ILM"], [0.5, 1.5, nan, nan])
    np.testing.assert_array_equal(found["RPE"], [2.5, nan, 1.5, nan])
    np.testing.assert_array_equal(found["BM"], [4.5, nan, nan, nan])


def test_a_pair_shows_bright_bands_and_dark_fluid_where_the_labels_say() -> None:
    pairs = OctPhantoms(40, shape=SHAPE, seed=2, growth=replace(ONLY_NEW, structures=(1, 1)))
    fluid, tissue = [], []
    for index in range(len(pairs)):
        pair = pairs.sample(index, seeded(index))
        assert pair.fixed_labels is not None
        assert pair.lesion is not None
        image, labels = pair.fixed[0], pair.fixed_labels
        top = int(labels[:, 96].gt(0).float().argmax())
        assert image[labels == 2].mean() > image[labels == 1].mean() > image[:top].mean() + 0.1
        kinds = {one.kind for one in pairs.scan(index).structures}
        if kinds <= {"subretinal", "intraretinal"} and pair.lesion.any():
            fluid.append(float(image[pair.lesion[0] > 0].mean()))
            tissue.append(float(image[(labels == 1) & (pair.lesion[0] == 0)].mean()))
    assert len(fluid) >= 10
    ratios = np.array(fluid) / np.array(tissue)
    # Slivers a pixel wide share it with their rim: 0.83 at most, 0.39 in the middle, of 14.
    assert np.median(ratios) < 0.5
    assert ratios.max() < 0.95


def test_what_is_new_lies_within_the_retina_and_nothing_is_new_where_all_only_grows() -> None:
    new = OctPhantoms(12, shape=SHAPE, seed=3, growth=ONLY_NEW)
    shares = []
    for index in range(12):
        pair = new.sample(index, seeded(0))
        assert pair.lesion is not None
        assert pair.fixed_labels is not None
        assert (pair.fixed_labels[pair.lesion[0] > 0] > 0).all()
        shares.append(float(pair.lesion.mean()))
    # Foveal scans, so that most of three structures within 0.3 mm (sigma) of the fovea are cut.
    assert np.mean(np.array(shares) > 0) > 0.8
    grown = OctPhantoms(12, shape=SHAPE, seed=3, growth=ONLY_GROWTH)
    for index in range(12):
        scan = grown.scan(index)
        numbers = [{n for n, _ in scan.visible(v)} for v in ("baseline", "follow-up")]
        if numbers[0] == numbers[1]:
            assert not grown.sample(index, seeded(0)).lesion.any()


def test_what_grows_takes_more_room_and_lifts_the_epithelium() -> None:
    pairs = OctPhantoms(12, shape=SHAPE, seed=6, growth=ONLY_GROWTH)
    for index in range(12):
        scan = pairs.scan(index)
        before, after = (paint(scan, SHAPE[0], v) for v in ("baseline", "follow-up"))
        if not after.fluid.any():
            continue
        assert after.fluid.sum() > before.fluid.sum()
        raised = scan.layers("baseline").rpe - scan.layers("follow-up").rpe
        # A profile that widens while its flank steepens may sink by less than a hundredth of a row.
        assert raised.min() > -0.03
        np.testing.assert_array_equal(scan.layers("baseline").bm, scan.layers("follow-up").bm)


def test_a_patient_follows_from_seed_and_number_alone() -> None:
    one = OctPhantoms(6, shape=SHAPE, seed=5)
    other = OctPhantoms(2, shape=SHAPE, seed=5, first=4)
    again, elsewhere = one.sample(4, seeded(1)), other.sample(0, seeded(1))
    assert torch.equal(again.fixed, elsewhere.fixed)
    assert torch.equal(again.moving, elsewhere.moving)
    # Another generator: the same patient, other speckle, the baseline in another place.
    new = one.sample(4, seeded(2))
    assert torch.equal(new.fixed_labels, again.fixed_labels)
    assert not torch.equal(new.fixed, again.fixed)
    assert not torch.equal(new.moving_labels, again.moving_labels)
    for stranger in (
        OctPhantoms(6, shape=SHAPE, seed=6).sample(4, seeded(1)),
        one.sample(3, seeded(1)),
    ):
        assert not torch.equal(stranger.fixed_labels, again.fixed_labels)


def test_scans_of_a_patient_share_the_disease_and_not_the_place() -> None:
    pairs = OctPhantoms(6, shape=SHAPE, seed=5, scans=3)
    assert [pairs.patient(i) for i in range(6)] == [0, 0, 0, 1, 1, 1]
    first, second, stranger = (pairs.scan(i) for i in (0, 1, 3))
    assert first.structures == second.structures != stranger.structures
    assert first.z_mm != second.z_mm


def test_the_same_patient_is_drawn_at_every_resolution() -> None:
    coarse = surfaces(OctPhantoms(1, shape=(96, 192)).sample(0, seeded(0)).fixed_labels)
    fine = surfaces(OctPhantoms(1, shape=(192, 384)).sample(0, seeded(0)).fixed_labels)
    for name in coarse:
        # Two edges of at most half a row, and the row's centre: (r + 1/2) / 96 is not r / 96.
        assert np.abs(coarse[name] - fine[name].reshape(-1, 2).mean(1) / 2).max() < 1.5


def test_mirrored_pairs_are_mirrored_as_a_whole() -> None:
    pairs = OctPhantoms(1, shape=SHAPE, seed=9, flip=True)
    plain = OctPhantoms(1, shape=SHAPE, seed=9).sample(0, seeded(0)).fixed_labels
    seen = set()
    for seed in range(12):
        labels = pairs.sample(0, seeded(seed)).fixed_labels
        seen.add("as it was" if torch.equal(labels, plain) else "mirrored")
        assert torch.equal(labels, plain) or torch.equal(labels, plain.flip(-1))
    assert seen == {"as it was", "mirrored"}


def test_pairs_become_batches_and_impossible_requests_are_refused() -> None:
    pairs = OctPhantoms(3, shape=SHAPE)
    batch = collate([pairs.sample(i, seeded(i)) for i in range(3)])
    assert batch.fixed.shape == batch.moving.shape == batch.lesion.shape == (3, 1, *SHAPE)
    assert batch.fixed_labels.shape == (3, *SHAPE)
    assert set(batch.fixed_labels.unique().tolist()) == {0, 1, 2}
    assert batch.fixed.min() >= 0
    assert batch.fixed.max() <= 1.5
    with pytest.raises(ShapeError, match="shape"):
        OctPhantoms(1, shape=(16, 192))
    for wrong in ({"count": 0}, {"count": 1, "scans": 0}, {"count": 1, "seed": -1}):
        with pytest.raises(ArgumentError, match="at least"):
            OctPhantoms(**wrong)
    with pytest.raises(ArgumentError, match="index"):
        pairs.sample(3, seeded(0))
    with pytest.raises(ArgumentError, match="factor"):
        OctGrowth(factor=(0.5, 2))
    with pytest.raises(ArgumentError, match="appears"):
        OctGrowth(appears=0, grows=0, stays=0, shrinks=0, vanishes=0)
    with pytest.raises(ShapeError, match="labels"):
        surfaces(np.zeros((1, 2, 3)))
