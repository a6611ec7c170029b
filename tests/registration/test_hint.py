"""The shipped network's opinion on a pair that the per-pair solver registers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import itk_ncr
from itk_ncr.geometry import Grid
from itk_ncr.registration import Request
from itk_ncr.registration.hint import looks_like_t1_brain, network_opinion
from itk_ncr.registration.preparation import Preparation
from itk_ncr.registration.request import GivenMasks
from itk_ncr.settings import RegistrationSettings

SPACING = 2.0


def brain(seed: int, *, lesion: bool = False, head: bool = False) -> itk_ncr.Image:
    """A slice like one of a T1 brain: dark rim, bright inside, ventricles; air around it."""
    generator = np.random.default_rng(seed)
    y, x = np.indices((112, 96)) - np.array([56, 48]).reshape(2, 1, 1)
    radius = np.hypot(y / 42, x / 34)
    values = np.where(radius < 1, np.where(radius < 0.92, 170.0, 110.0), 0.0)
    values[np.hypot(y / 12, (np.abs(x) - 6) / 4) < 1] = 40
    if lesion:
        values[np.hypot(y + 12, x - 18) < 8] = 35
    if head:
        values[(radius > 1.06) & (radius < 1.25)] = 230
    values += np.where(values > 0, 4 * generator.standard_normal(values.shape), 0)
    grid = Grid((96, 112), (SPACING, SPACING), (0.0, 0.0), ((1.0, 0.0), (0.0, 1.0)))
    return itk_ncr.Image(values.clip(0).astype(np.float32), grid)


def aligned(fixed: itk_ncr.Image, moving: itk_ncr.Image, affine: str = "none") -> Preparation:
    settings = RegistrationSettings(affine=affine)
    return Preparation(Request(fixed, moving), settings)


def opinion(pair: Preparation) -> tuple[torch.Tensor, torch.Tensor]:
    found = network_opinion(pair)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("ill", ["fixed", "moving"])
def test_a_lesion_is_found_in_the_image_that_has_it(ill):
    images = {"fixed": brain(1), "moving": brain(2)} | {ill: brain(3, lesion=True)}
    of_fixed, of_moving = opinion(aligned(images["fixed"], images["moving"]))
    mine, other = (of_fixed, of_moving) if ill == "fixed" else (of_moving, of_fixed)
    assert (mine > 0).sum() > 4 * (other > 0).sum()
    assert (mine > 0).sum() > 20


def test_a_stripped_brain_and_a_head_are_compared_where_both_show_brain():
    pair = aligned(brain(1, lesion=True), brain(2, head=True), "auto")
    assert pair.stripped == "fixed"
    of_fixed, _ = opinion(pair)
    assert (of_fixed > 0).sum() > 20


def test_two_heads_get_no_opinion():
    assert network_opinion(aligned(brain(1, head=True), brain(2, head=True))) is None


def test_an_image_that_is_brighter_outside_is_no_t1_brain():
    image = brain(1)
    inside = image.array > 0
    assert looks_like_t1_brain(image.array, inside, image.grid)
    assert not looks_like_t1_brain(np.where(inside, 250 - image.array, 0), inside, image.grid)


def test_two_heads_with_brain_masks_are_looked_at_inside_them():
    images = {"fixed": brain(3, lesion=True, head=True), "moving": brain(2, head=True)}
    inside = brain(3).array > 0
    masks = {name: itk_ncr.Image(inside.view(np.uint8), i.grid) for name, i in images.items()}
    request = Request(**images, masks=GivenMasks(roi=masks["fixed"], moving_roi=masks["moving"]))
    of_fixed, of_moving = opinion(Preparation(request, RegistrationSettings(affine="none")))
    assert (of_fixed > 0).sum() > max(20, 4 * int((of_moving > 0).sum()))


@pytest.mark.parametrize(("radius", "noted"), [(90.0, True), (70.0, False), (130.0, False)])
def test_two_volumes_as_large_as_heads_get_a_note_about_brain_masks(radius, noted):
    grid = Grid((70, 70, 70), (4.0,) * 3, (-138.0,) * 3, tuple(map(tuple, np.eye(3))))
    distance = np.linalg.norm(grid.points(), axis=-1)
    noise = 5 * np.random.default_rng(0).standard_normal(distance.shape)
    ball = np.where(distance < radius, 100 + noise, 0).astype(np.float32)
    pair = aligned(itk_ncr.Image(ball, grid), itk_ncr.Image(ball, grid))
    assert network_opinion(pair) is None
    assert any("--brain-mask" in note for note in pair.notes) == noted
