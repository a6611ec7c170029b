"""What a training minimises, term by term."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.data import Batch
from itk_ncr.errors import ArgumentError
from itk_ncr.losses import Functional
from itk_ncr.ops import exponential
from itk_ncr.prediction import Prediction
from itk_ncr.training import RECIPES, Objective, TrainingSettings, recipe
from itk_ncr.training.objective import supervised_mask

PLAIN = Functional(
    similarity="mse", alpha=0.5, tau=0.1, kappa=0.0, lam=0.0, level_weights=(0.7, 0.3)
)
SHAPE = (12, 10)


def batch(*, labels: bool = False, lesion: bool = False, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    fixed, moving = torch.rand(2, 2, 1, *SHAPE, generator=draw)
    named = torch.zeros(2, *SHAPE, dtype=torch.uint8)
    named[:, 2:6, 2:6], named[:, 7:10, 3:8] = 3, 9
    ill = torch.zeros(2, 1, *SHAPE)
    ill[0, :, 4:8, 4:8] = 1
    return Batch(
        names=("a", "b"),
        fixed=fixed,
        moving=moving,
        fixed_labels=named if labels else None,
        moving_labels=named.roll(1, 1) if labels else None,
        lesion=ill if lesion else None,
    )


def prediction(scales: int = 2, *, mask: float | None = None, seed: int = 1) -> Prediction:
    draw = torch.Generator().manual_seed(seed)
    velocities, masks = [], []
    for scale in range(scales):
        shape = [n // 2**scale for n in SHAPE]
        velocities.append((0.3 * torch.randn(2, 2, *shape, generator=draw)).requires_grad_())
        if mask is not None:
            masks.append(torch.full((2, 1, *shape), mask, requires_grad=True))
    return Prediction(tuple(velocities), tuple(exponential(v) for v in velocities), tuple(masks))


def settings(**changes: object) -> TrainingSettings:
    return TrainingSettings(2, **{"functional": PLAIN, "scales": 2, "labels": "none", **changes})  # type: ignore[arg-type]


def value(chosen: TrainingSettings, found: Prediction, given: Batch) -> dict[str, torch.Tensor]:
    return Objective(chosen)(found, given, torch.Generator().manual_seed(0))


def test_identical_images_without_motion_cost_nothing():
    given = batch()
    given = replace(given, moving=given.fixed)
    still = Prediction(
        tuple(torch.zeros_like(v) for v in prediction().velocity),
        tuple(torch.zeros_like(v) for v in prediction().velocity),
    )
    assert float(value(settings(), still, given)["total"]) == 0.0


def test_scales_are_means_over_blocks_and_are_weighted():
    given = batch()
    still = Prediction(
        tuple(torch.zeros_like(v) for v in prediction().velocity),
        tuple(torch.zeros_like(v) for v in prediction().velocity),
    )
    difference = given.fixed - given.moving
    blocks = difference.view(2, 1, 6, 2, 5, 2).mean((3, 5))
    expected = 0.7 * difference.square().mean() + 0.3 * blocks.square().mean()
    assert_close(value(settings(), still, given)["total"], expected)


def test_a_training_compares_what_its_functional_describes():
    given = batch()
    darker = replace(given, moving=2 - 0.5 * given.fixed)
    still = Prediction(
        tuple(torch.zeros_like(v) for v in prediction().velocity),
        tuple(torch.zeros_like(v) for v in prediction().velocity),
    )
    chosen = settings(functional=replace(PLAIN, descriptor="mind"))
    assert float(value(chosen, still, darker)["total"]) < 1e-6
    with pytest.raises(ArgumentError, match="mask_functional must have the descriptor"):
        settings(functional=replace(PLAIN, descriptor="mind"), mask_functional=PLAIN)


def test_the_total_is_the_sum_of_the_parts():
    chosen = settings(
        functional=replace(PLAIN, lam=1.0),
        mask_functional=PLAIN,
        labels="all",
        mask_supervision=0.3,
    )
    parts = value(chosen, prediction(mask=0.3), batch(labels=True, lesion=True))
    total = parts.pop("total")
    assert_close(sum(parts.values()), total)
    assert {"overlap", "mask", "mask_supervision", "volume"} <= set(parts)


def test_with_a_functional_of_its_own_the_mask_and_the_velocity_do_not_shape_each_other():
    found = prediction(mask=0.3)
    value(settings(mask_functional=PLAIN), found, batch())["total"].backward()
    alone = prediction(mask=0.3)
    objective = Objective(settings(mask_functional=replace(PLAIN, tau=5.0)))
    objective(alone, batch(), torch.Generator())["total"].backward()
    # Another price of the mask: the velocity's gradient stays, the mask's does not.
    assert_close(found.velocity[0].grad, alone.velocity[0].grad)
    assert not torch.allclose(found.noncorrespondence[0].grad, alone.noncorrespondence[0].grad)


def test_with_one_functional_a_larger_mask_weakens_the_pull_on_the_velocity():
    gradients = []
    for mask in (0.0, 0.9):
        found = prediction(mask=mask)
        value(settings(functional=replace(PLAIN, alpha=0.0)), found, batch())["total"].backward()
        gradients.append(found.velocity[0].grad)
    assert_close(gradients[1], 0.1 * gradients[0], rtol=1e-4, atol=1e-9)


def test_supervision_of_the_mask_has_its_closed_form():
    lesion = batch(lesion=True).lesion
    half = torch.full_like(lesion, 0.5)
    area, size = 16, SHAPE[0] * SHAPE[1]
    dice = 2 * 0.5 * area / (0.5 * size + area)
    # The second image has no lesion: cross-entropy alone.
    expected = torch.tensor([math.log(2) + 1 - dice, math.log(2)])
    assert_close(supervised_mask(half, lesion), expected, rtol=1e-4, atol=1e-5)
    assert supervised_mask(lesion, lesion).abs().max() < 1e-5


@pytest.mark.parametrize(("labels", "variant"), [("none", "ncr-b"), ("all", "ncr-u")])
def test_labels_take_no_part_where_none_are_wanted(labels, variant):
    chosen = settings(functional=replace(PLAIN, lam=1.0), labels=labels, variant=variant)
    assert float(value(chosen, prediction(mask=0.1), batch(labels=True))["overlap"]) == 0


def test_a_label_that_only_one_image_has_takes_no_part():
    given = batch(labels=True)
    alone = given.fixed_labels.clone()
    alone[:, 0, 0] = 77
    chosen = settings(functional=replace(PLAIN, lam=1.0), labels="all")
    one = value(chosen, prediction(), given)["overlap"]
    two = value(chosen, prediction(), replace(given, fixed_labels=alone))["overlap"]
    assert_close(one, two)
    # "foreground" sees it: everything labelled is one region.
    chosen = replace(chosen, labels="foreground")
    one = value(chosen, prediction(), given)["overlap"]
    two = value(chosen, prediction(), replace(given, fixed_labels=alone))["overlap"]
    assert float(two) > float(one)


def test_known_displacements_pull_outside_lesions_only():
    given = batch(lesion=True)
    truth = torch.ones(2, 2, *SHAPE)
    found = prediction()
    chosen = settings(functional=replace(PLAIN, alpha=0.0), displacement_supervision=1.0)
    given = replace(given, displacement=truth, moving=given.fixed * 0, fixed=given.fixed * 0)
    value(chosen, found, given)["displacement"].backward()
    inside = given.lesion[0, 0] > 0
    outside = (found.displacement[0] - truth).square().sum(1) * (1 - given.lesion[:, 0])
    assert_close(value(chosen, prediction(), given)["displacement"], outside.mean())
    assert inside.any()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("budget", ["full", "small"])
def test_every_recipe_is_complete_and_plain(name, budget):
    chosen = recipe(name, budget)
    text = json.dumps({"s": chosen.settings.as_dict(), "d": chosen.sampling.as_dict()})
    assert json.loads(text)["s"]["steps"] == chosen.settings.steps
    assert chosen.settings.learning_rate_at(0) == chosen.settings.learning_rate
    last = chosen.settings.learning_rate_at(chosen.settings.steps - 1)
    share = 0.8**9 if chosen.settings.schedule == "steps" else 0.01
    assert last == pytest.approx(chosen.settings.learning_rate * share, rel=1e-3)


def test_a_small_budget_shifts_by_the_same_millimetres():
    full, small = recipe("mri-2d"), recipe("mri-2d", "small")
    ratio = small.sampling.reduce / full.sampling.reduce
    shifts = [r.sampling.augmentation.shift_voxels for r in (full, small)]
    assert shifts[0] == pytest.approx(ratio * shifts[1])


def test_unknown_recipes_name_the_known_ones():
    with pytest.raises(ArgumentError, match="brain-t1-2d"):
        recipe("brain")
    with pytest.raises(ArgumentError, match="small"):
        recipe("mri-2d", "tiny")
