"""What a reproduction does: the paper's protocol in numbers, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from itk_ncr.data import fold_audit
from itk_ncr.errors import ArgumentError
from itk_ncr_reproduction.cases import brains_of, case_keys, common_labels, load_case
from itk_ncr_reproduction.design import VERSIONS, Dealing, design
from itk_ncr_reproduction.methods import METHODS
from itk_ncr_reproduction.models import settings_of
from itk_ncr_reproduction.printed import TABLE_1, TABLE_2, TABLE_3, TABLE_4
from itk_ncr_reproduction.run import reproduce
from itk_ncr_reproduction.sources import brains


def test_the_full_budget_is_the_published_protocol():
    full = design("full")
    assert (full.dealing.patients, full.dealing.folds, full.used_folds) == (40, 5, (1, 2, 3, 4, 5))
    brains_2d = full.experiment("mri-2d")
    assert brains_2d.pairs is None
    # 500 epochs of 32 x 31 pairs in 5 versions.
    settings = brains_2d.settings
    assert settings.steps * settings.batch == 500 * 4960
    assert settings.learning_rate == 1e-4


def test_every_row_is_a_method_and_every_network_of_a_row_is_trained():
    for budget in ("small", "full"):
        for experiment in design(budget).experiments:
            assert {*experiment.rows, *experiment.strict_rows} <= METHODS.keys()
            needed = {METHODS[row].variant for row in experiment.rows} - {None}
            assert needed == set(experiment.variants)
            for variant in experiment.variants:
                assert settings_of(experiment, variant).variant == variant
    assert {*TABLE_1, *TABLE_2, *TABLE_4} <= METHODS.keys()
    assert TABLE_3.keys() - METHODS.keys() == {"ProbReg"}


def test_experiments_are_those_that_tables_and_figures_need():
    def needed(tables, figures):
        return [e.name for e in design().needed(tables, figures)]

    assert needed((1,), ()) == ["oct"]
    assert needed((), (5,)) == ["mri-2d"]
    assert needed((4,), (4,)) == ["oct", "mri-3d"]
    assert needed((), ()) == []


def test_patients_come_from_the_training_split_and_are_never_on_both_sides(data, tiny):
    group = brains_of(data, 2, tiny.dealing)
    patients = group.manifest.patients()
    assert len(patients) == 10
    assert not {"P10", "P11"} & set(patients)
    audit = fold_audit(group.manifest, group.rounds)
    # 8 x 7 pairs in 5 versions to train on; 2 test patients with the 9 others; all: 10 x 9.
    assert "8 train / 2 test patients, none in both; 280 train pairs" in audit
    assert "90 test pairs per lesion type (10 strict)" in audit
    training = group.training_pairs(tiny.experiments[0], 1)
    fold = group.rounds[0]
    seen = {group.manifest.subjects[i].patient for pair in training.pairs for i in pair[:2]}
    assert seen == set(fold.train)
    assert len(training) == 280


def test_the_pairs_are_drawn_by_the_seed_and_come_in_all_versions(data, tiny):
    experiment = tiny.experiments[0]
    keys = case_keys(data, tiny, experiment, 1)
    assert keys == case_keys(data, tiny, experiment, 1)
    other = replace(tiny, dealing=Dealing(10, 5, 1))
    assert keys != case_keys(data, other, experiment, 1)
    assert [k.version for k in keys[:5]] == list(VERSIONS)
    # One pair of the published protocol, and as many as there must be of the stricter one.
    assert len({k.pair for k in keys}) <= 2
    assert len({k.pair for k in keys if k.strict}) == 1
    assert (
        case_keys(data, tiny, replace(experiment, pairs=None, strict_pairs=None), 1)[-1].pair == 17
    )


def test_a_case_has_its_lesion_where_the_images_differ(data, tiny):
    keys = case_keys(data, tiny, tiny.experiments[0], 1)
    plain, ill = (load_case(data, tiny, keys[i]) for i in (0, 4))
    assert (plain.key.version, ill.key.version) == ("none", "L4")
    assert not plain.lesion.any()
    assert ill.lesion.sum() > 100
    assert (plain.moving.array == ill.moving.array).all()
    changed = abs(plain.fixed.array - ill.fixed.array) > 0.1
    # The edge of a lesion is soft, so it reaches a little beyond its mask.
    assert changed[ill.lesion].mean() > 0.5
    assert changed[~ill.lesion].mean() < 0.02
    assert ill.counted == common_labels(data, 2, tiny.dealing) == (2, 3, 5)


def test_what_cannot_be_is_refused_in_one_line(data, tiny, tmp_path):
    with pytest.raises(ArgumentError, match=r"budget must be 'small' or 'full'; got 'huge'"):
        design("huge")
    with pytest.raises(ArgumentError, match=r"tables must be among 1, 2, 3, 4; got 9"):
        reproduce(data, tmp_path / "a", tiny, tables=(9,))
    with pytest.raises(ArgumentError, match=r"which lacks ixi_dlmuse/subjects.csv"):
        reproduce(tmp_path, tmp_path / "a", tiny)
    with pytest.raises(ArgumentError, match="must hold 11 patients in its split 'train'; got 10"):
        brains(data, 2, split="train", count=11)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="holds other files"):
        reproduce(data, tmp_path / "full", tiny)
