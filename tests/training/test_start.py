"""Trainings that begin with the weights of another one."""

from __future__ import annotations

import pytest
import torch

from itk_ncr.errors import ArgumentError


def test_a_training_begins_with_the_weights_it_is_given(tmp_path, make_training, weights_of):
    first = make_training(tmp_path / "first", variant="ncr-b", seed=1)
    start = weights_of(first)
    second = make_training(tmp_path / "second", variant="ncr-b", seed=2, start=start)
    assert all(torch.equal(t, start[name]) for name, t in weights_of(second).items())


def test_a_network_without_a_mask_can_be_gone_on_with_by_one_that_has(
    tmp_path, make_training, weights_of
):
    start = weights_of(make_training(tmp_path / "regnet", variant="regnet", seed=1))
    with_mask = make_training(tmp_path / "mask", variant="ncr-b", seed=2, start=start)
    fresh = weights_of(make_training(tmp_path / "fresh", variant="ncr-b", seed=2))
    for name, tensor in weights_of(with_mask).items():
        wanted = fresh if name.startswith("segmentation.") else start
        assert torch.equal(tensor, wanted[name]), name
    back = make_training(tmp_path / "back", variant="regnet", seed=3, start=weights_of(with_mask))
    assert all(torch.equal(t, start[name]) for name, t in weights_of(back).items())


def test_weights_of_another_width_are_refused(tmp_path, make_training, weights_of):
    start = weights_of(make_training(tmp_path / "wide", network_settings={"width": 4}))
    with pytest.raises(ArgumentError, match="same network and width"):
        make_training(tmp_path / "narrow", start=start)


def test_a_state_comes_before_the_weights_to_begin_with(tmp_path, make_training, weights_of):
    start = weights_of(make_training(tmp_path / "first", seed=1))
    training = make_training(tmp_path / "run", seed=2, steps=2, start=start)
    training.run()
    learnt = weights_of(training)
    again = make_training(tmp_path / "run", seed=2, steps=2, start=start)
    assert again.step == 2
    assert all(torch.equal(t, learnt[name]) for name, t in weights_of(again).items())
