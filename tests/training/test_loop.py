"""The loop: what it changes when, what it refuses, and that it may be stopped at any moment."""

from __future__ import annotations

import csv
import shutil
import time
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.checkpoints import read_state
from itk_ncr.data import collate
from itk_ncr.errors import ArgumentError, CheckpointError, TrainingError
from itk_ncr.networks import build_network
from itk_ncr.training import FAILED, LOSSES, STATE, TrainingSettings, Validation, tensorboard
from itk_ncr.training.streams import generator_of


def assert_same_bits(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def without_seconds(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, make_training):
    """A finished training; its folder is not to be written to."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training = make_training(tmp_path_factory.mktemp("unbroken"))
    training.run()
    torch.set_num_threads(threads)
    return training


@pytest.fixture
def finished(tmp_path, unbroken):
    """A copy of its folder."""
    return shutil.copytree(unbroken.folder, tmp_path / "finished")


@pytest.mark.parametrize("places", [(1,), (3, 4), (5, 7)])
def test_a_stopped_and_resumed_run_equals_an_unbroken_one(
    places, tmp_path, make_training, weights_of, unbroken
):
    for place in places:
        part = make_training(tmp_path / "parts")
        part.run(stop=lambda part=part, place=place: part.step == place)
        assert part.step == place
    last = make_training(tmp_path / "parts")
    assert last.step == places[-1]
    last.run()
    assert_same_bits(weights_of(last), weights_of(unbroken))
    assert without_seconds(last.rows) == without_seconds(unbroken.rows)
    one, _ = read_state(tmp_path / "parts" / STATE)
    two, _ = read_state(unbroken.folder / STATE)
    assert_same_bits(one, two)


def test_what_is_dropped_depends_on_the_step_alone(tmp_path, make_training, weights_of):
    options = {"network_settings": {"width": 2, "dropout": 0.3}, "variant": "ncr-b", "steps": 4}
    torch.manual_seed(1)
    whole = make_training(tmp_path / "whole", **options)
    whole.run()
    part = make_training(tmp_path / "part", **options)
    part.run(stop=lambda: part.step == 3)
    torch.manual_seed(2)
    rest = make_training(tmp_path / "part", **options)
    rest.run()
    assert_same_bits(weights_of(rest), weights_of(whole))
    without = make_training(tmp_path / "plain", **{**options, "network_settings": {"width": 2}})
    without.run()
    head = "registration.heads.0.2.weight"
    assert not torch.equal(weights_of(without)[head], weights_of(whole)[head])


def test_a_killed_run_loses_what_it_had_not_saved_and_nothing_else(
    tmp_path, make_training, start_program, weights_of, unbroken
):
    folder = tmp_path / "killed"
    program = start_program(
        f"import time\nmake_training({str(folder)!r}, checkpoint_seconds=0).run("
        "progress=lambda _: time.sleep(0.2))"
    )
    try:
        step = 0
        while step < 3:
            assert program.poll() is None, program.communicate()
            if (folder / STATE).exists():
                step = read_state(folder / STATE)[1]["step"]
            time.sleep(0.02)
    finally:
        program.kill()
        program.communicate()
    resumed = make_training(folder)
    assert 3 <= resumed.step < resumed.settings.steps
    resumed.run()
    assert_same_bits(weights_of(resumed), weights_of(unbroken))
    assert without_seconds(resumed.rows) == without_seconds(unbroken.rows)


def test_looking_at_other_pairs_changes_nothing_but_the_log(
    tmp_path, make_training, weights_of, unbroken
):
    def looking():
        return make_training(tmp_path / "looking", validation=Validation(unbroken.source, 3, 2))

    first = looking()
    first.run(stop=lambda: first.step == 4)
    last = looking()
    last.run()
    assert_same_bits(weights_of(last), weights_of(unbroken))
    found = {row["step"]: row for row in last.rows if "validation_distance" in row}
    assert list(found) == [3, 6, 8]
    assert all(0 < row["validation_jaccard"] < 1 for row in found.values())
    assert {row["step"] for row in last.rows if "total" in row} == {2, 4, 6, 8}


def test_the_figures_of_validation_are_those_of_the_pairs_as_they_are(tmp_path, make_training):
    training = make_training(tmp_path, variant="regnet")
    validation = Validation(training.source, pairs=2)
    # Heads that are zero move nothing, so the figures are those of the images.
    figures = validation(
        training.network, training.objective.functional, masks=False, seed=training.settings.seed
    )
    overlaps, distances = [], []
    for index in (0, 2):
        sample = training.source.sample(index, generator_of(training.settings.seed, index, 2))
        one, two = sample.fixed_labels, sample.moving_labels
        each = [
            float(((one == k) & (two == k)).sum() / ((one == k) | (two == k)).sum()) for k in (1, 2)
        ]
        overlaps.append(sum(each) / 2)
        f, m = sample.fixed.double(), sample.moving.double()
        distances.append(float(1 - (f * m).sum() ** 2 / ((f * f).sum() * (m * m).sum())))
    assert figures["validation_jaccard"] == pytest.approx(sum(overlaps) / 2, abs=1e-6)
    # eps 1e-3 of the correlation and heads of 1e-5: a thousandth of the distance.
    assert figures["validation_distance"] == pytest.approx(sum(distances) / 2, rel=1e-2)


@pytest.mark.parametrize("kept", [0, 7, 1000, -1])
def test_a_truncated_state_is_refused_in_one_line(kept, make_training, finished):
    path = finished / STATE
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError) as caught:
        make_training(finished)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 7}, "steps 8 instead of 7"),
        ({"seed": 1}, "seed 0 instead of 1"),
        ({"variant": "ncr-b"}, "variant ncr-s instead of ncr-b"),
        ({"data_hash": "others"}, "other images"),
    ],
)
def test_a_training_of_something_else_in_the_folder_is_refused(
    changes, words, make_training, finished
):
    before = (finished / STATE).read_bytes()
    with pytest.raises(ArgumentError, match=words):
        make_training(finished, **changes)
    assert (finished / STATE).read_bytes() == before


def test_settings_that_an_older_state_does_not_know_had_their_defaults(
    tmp_path, make_training, monkeypatch
):
    full = TrainingSettings.as_dict
    with monkeypatch.context() as old:
        old.setattr(
            TrainingSettings,
            "as_dict",
            lambda self: {k: v for k, v in full(self).items() if k != "clip"},
        )
        training = make_training(tmp_path)
        training.run(stop=lambda: training.step == 1)
    assert make_training(tmp_path).step == 1
    with pytest.raises(ArgumentError, match=r"clip 10\.0 instead of 5\.0"):
        make_training(tmp_path, clip=5.0)


def test_a_loss_that_is_no_number_names_the_pair_and_keeps_the_state_before(
    tmp_path, make_training, weights_of
):
    broken = make_training(tmp_path / "broken", broken=3, batch=1)
    with pytest.raises(TrainingError) as caught:
        broken.run()
    assert "pair 3" in str(caught.value)
    assert "\n" not in str(caught.value)
    healthy = make_training(tmp_path / "healthy", batch=1)
    if broken.step:
        healthy.run(stop=lambda: healthy.step == broken.step)
    tensors, record = read_state(tmp_path / "broken" / FAILED)
    assert record["step"] == broken.step
    for name, tensor in weights_of(healthy).items():
        assert torch.equal(tensors[f"network.{name}"], tensor), name


def test_a_gradient_that_is_no_number_stops_before_it_is_used(tmp_path, make_training, weights_of):
    training = make_training(tmp_path)
    training.objective = lambda prediction, *_: {
        # Zero, with an infinite derivative.
        "total": (0 * prediction.displacement[0].sum()).sqrt()
    }
    before = weights_of(training)
    with pytest.raises(TrainingError, match=r"gradient must stay finite.*pair"):
        training.run()
    assert_same_bits(weights_of(training), before)


def test_the_mask_decoder_waits_for_the_second_part(tmp_path, make_training, weights_of):
    training = make_training(tmp_path, batch=1)
    at_first = weights_of(training)
    switch = training.settings.first_masked_step
    assert 0 < switch < training.settings.steps
    training.run(stop=lambda: training.step == switch)
    at_the_switch = weights_of(training)
    parameters = dict(training.network.named_parameters())
    for name, tensor in at_the_switch.items():
        same = torch.equal(tensor, at_first[name])
        assert same == name.startswith("segmentation."), name
    again = make_training(tmp_path, batch=1)
    again.run(stop=lambda: again.step == switch + 2)
    later = weights_of(again)
    assert parameters.keys() < later.keys()
    for name, tensor in later.items():
        assert not torch.equal(tensor, at_the_switch[name]), name


def test_in_the_warm_up_only_the_fresh_head_learns(tmp_path, make_training, weights_of):
    training = make_training(tmp_path, head_warm_up=2, batch=1)
    switch = training.settings.first_masked_step
    training.run(stop=lambda: training.step == switch)
    at_the_switch = weights_of(training)
    warm = make_training(tmp_path, head_warm_up=2, batch=1)
    parameters = dict(warm.network.named_parameters())
    warm.run(stop=lambda: warm.step == switch + 2)
    for name, tensor in weights_of(warm).items():
        is_waiting = name in parameters and not name.startswith("segmentation.")
        assert torch.equal(tensor, at_the_switch[name]) == is_waiting, name
    after = make_training(tmp_path, head_warm_up=2, batch=1)
    after.run(stop=lambda: after.step == switch + 3)
    moved = [
        n for n in parameters if not torch.equal(after.network.state_dict()[n], at_the_switch[n])
    ]
    assert any(n.startswith("encoder.") for n in moved)
    assert any(n.startswith("registration.") for n in moved)


def test_the_learning_rate_falls_to_four_fifths_nine_times(tmp_path, make_training):
    training = make_training(
        tmp_path, steps=20, decays=10, learning_rate=1e-4, variant="regnet", batch=1
    )
    rates = []
    training.run(progress=lambda _: rates.append(training.optimizer.param_groups[0]["lr"]))
    assert rates == pytest.approx([1e-4 * 0.8**k for k in range(10) for _ in range(2)], rel=1e-12)


def test_the_cosine_starts_at_the_rate_and_ends_near_a_hundredth_of_it(tmp_path, make_training):
    settings = make_training(tmp_path, steps=1000, learning_rate=1e-3, schedule="cosine").settings
    rates = [settings.learning_rate_at(step) for step in range(1000)]
    assert rates[0] == 1e-3
    assert rates[500] == pytest.approx(0.505e-3)
    assert rates[-1] == pytest.approx(1e-5, rel=1e-3)
    assert all(a > b for a, b in pairwise(rates))


def test_the_average_of_the_weights_is_the_result_and_survives_a_stop(
    tmp_path, make_training, weights_of
):
    unbroken = make_training(tmp_path / "one", variant="ncr-b", averaging=0.5)
    result = unbroken.run().state_dict()
    part = make_training(tmp_path / "two", variant="ncr-b", averaging=0.5)
    part.run(stop=lambda: part.step == 3)
    resumed = make_training(tmp_path / "two", variant="ncr-b", averaging=0.5)
    assert_same_bits(resumed.run().state_dict(), result)
    assert_same_bits(weights_of(resumed), weights_of(unbroken))
    plain = make_training(tmp_path / "three", variant="ncr-b")
    wanted, steps = weights_of(plain), 0
    while plain.step < plain.settings.steps:
        plain.run(stop=lambda: True)
        decay, steps = min(0.5, (1 + steps) / (10 + steps)), steps + 1
        for name, tensor in weights_of(plain).items():
            wanted[name] = decay * wanted[name] + (1 - decay) * tensor
    for name, tensor in result.items():
        if tensor.is_floating_point():
            assert_close(tensor, wanted[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("variant", ["ncr-s", "regnet"])
def test_the_pyramid_learns_by_the_same_loop(variant, tmp_path, make_training):
    settings = {"variant": variant, "head_warm_up": 1, "batch": 1, "network_settings": {"width": 4}}
    training = make_training(tmp_path, architecture="ncr-pyramid", **settings)
    assert training.settings.network == "ncr-pyramid"
    before = {name: p.clone() for name, p in training.network.named_parameters()}
    training.run()
    still = [n for n, p in training.network.named_parameters() if torch.equal(p, before[n])]
    assert still == []
    assert (training.network.segmentation is None) == (variant == "regnet")


def test_the_rival_has_an_architecture_of_its_own(make_training, tmp_path):
    with pytest.raises(ArgumentError, match="architecture must be ncr-net with variant voxelmorph"):
        make_training(tmp_path, variant="voxelmorph", architecture="ncr-pyramid")
    with pytest.raises(ArgumentError, match=r"averaging must be in \[0, 1\); got 1"):
        make_training(tmp_path, averaging=1.0)


def test_accumulated_passes_give_the_mean_of_their_gradients(tmp_path, make_training):
    training = make_training(tmp_path, batch=2, accumulate=2, clip=1e9, variant="ncr-b")
    settings = training.settings
    plain = build_network("ncr-net", dimension=2, **settings.network_settings).train()
    plain.load_state_dict(training.network.state_dict())
    order = torch.randperm(5, generator=generator_of(settings.seed, 0, -7)).tolist()
    for part in range(2):
        pairs = [
            training.source.sample(order[position], generator_of(settings.seed, position, 1))
            for position in (2 * part, 2 * part + 1)
        ]
        batch = collate(pairs)
        draw = generator_of(settings.seed, 0, -1 - part)
        (training.objective(plain(batch.fixed, batch.moving), batch, draw)["total"] / 2).backward()
    training.run(stop=lambda: True)
    for name, parameter in plain.named_parameters():
        moment = training.optimizer.state[dict(training.network.named_parameters())[name]][
            "exp_avg"
        ]
        assert_close(moment, 0.1 * parameter.grad, rtol=1e-6, atol=0)  # 1 - the first beta of Adam


def test_every_pair_of_an_epoch_is_seen_once_in_an_order_of_its_own(tmp_path, make_training):
    training = make_training(tmp_path)
    seen = [training._sample(position).name for position in range(15)]
    epochs = [seen[:5], seen[5:10], seen[10:]]
    assert all(sorted(epoch) == [f"pair {i}" for i in range(5)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_losses_are_means_between_their_rows(tmp_path, make_training):
    training = make_training(tmp_path)
    totals = []
    training.run(progress=lambda report: totals.append(report.losses["total"]))
    with open(tmp_path / LOSSES, newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["step"]) for row in rows] == [2, 4, 6, 8]
    means = [sum(totals[i : i + 2]) / 2 for i in range(0, 8, 2)]
    assert [float(row["total"]) for row in rows] == pytest.approx(means, rel=1e-5)  # six digits


def test_a_resumed_training_keeps_the_columns_of_its_losses(tmp_path, make_training):
    make_training(tmp_path / "whole").run()
    stopped = make_training(tmp_path / "parts")
    stopped.run(stop=lambda: stopped.step >= 6)
    make_training(tmp_path / "parts").run()
    headings = [
        (tmp_path / name / LOSSES).read_text().partition("\n")[0] for name in ("whole", "parts")
    ]
    assert headings[0] == headings[1]
    assert headings[0].startswith("step,seconds,total,registration,")


def test_more_steps_than_before_go_on_and_the_mask_stays_where_it_began(
    tmp_path, make_training, weights_of
):
    done = make_training(tmp_path)
    done.run()
    before = weights_of(done)
    longer = make_training(tmp_path, steps=20)
    assert (longer.step, longer.masked_from) == (8, 4)  # a training of 20 steps begins at 10
    longer.run(stop=lambda: longer.step >= 9)
    assert "volume" in longer.rows[-1] or "volume" in longer._since
    again = make_training(tmp_path, steps=20)
    again.run()
    assert (again.step, again.masked_from) == (20, 4)
    assert any(not torch.equal(before[name], t) for name, t in again.network.state_dict().items())


def test_rows_go_to_a_listener_too(tmp_path, make_training):
    training = make_training(tmp_path)
    heard = []
    training.run(listener=heard.append)
    assert heard == training.rows


def test_tensorboard_hears_the_rows_where_it_is_installed(tmp_path, make_training):
    pytest.importorskip("tensorboard", reason="pip install itk_ncr[train]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = make_training(tmp_path)
    training.run(listener=tensorboard(tmp_path, 0))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("total")]
    assert told == [(row["step"], pytest.approx(row["total"], rel=1e-6)) for row in training.rows]
