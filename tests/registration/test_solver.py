"""The parts of the per-pair solver, one by one and exchanged."""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.fields import smooth
from itk_ncr.losses import perimeter
from itk_ncr.ops import required_squarings
from itk_ncr.registration.solver import Level, Pair, moved_by, solve, solver_preset
from itk_ncr.registration.solver.energy import FEWER_SQUARINGS, Energy
from itk_ncr.registration.solver.masking import level_set_function

SETTINGS = replace(solver_preset("mri-2d", 2), levels=(Level(2, 2, 12), Level(1, 1, 8)))
LESION = (..., slice(12, 18), slice(14, 22))


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    moving = smooth(torch.rand(1, 1, 32, 36, generator=generator), 2.0)
    moving = (moving - moving.min()) / (moving.max() - moving.min())
    velocity = smooth(torch.randn(1, 2, 32, 36, generator=generator), 5.0)
    fixed = moved_by(2.0 * velocity / velocity.abs().max(), moving)
    return Pair(fixed, moving, torch.ones_like(fixed), None, None, (1.0, 1.0))


def test_the_solver_descends_the_functional_that_a_network_is_trained_with(pair):
    mask = torch.zeros_like(pair.fixed)
    mask[LESION] = 1
    functional = SETTINGS.functional
    energy = Energy(replace(pair, suspected=mask), functional, dilation=0)
    velocity = 0.3 * torch.randn(1, 2, 16, 18, generator=torch.Generator().manual_seed(1))
    energy.update(velocity)
    moved = moved_by(velocity, pair.moving, int(required_squarings(velocity)) - FEWER_SQUARINGS)
    value = functional(moved, pair.fixed, velocity, mask, foreground=pair.foreground)
    assert_close(energy(velocity), (value.total - value.volume - value.perimeter).sum())
    assert value.perimeter > 0


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_step_finds_the_cheapest_mask_of_the_functional(seed):
    functional = replace(SETTINGS.functional, tau=1.5, kappa=0.7)
    generator = torch.Generator().manual_seed(seed)
    log_odds = 2 * torch.randn(1, 1, 3, 4, generator=generator, dtype=torch.float64)

    def cost(masks):
        of_voxels = (masks * (math.log(functional.tau) - log_odds)).mean((1, 2, 3))
        return of_voxels + functional.kappa * perimeter(masks, functional.perimeter_form)

    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=12))).view(-1, 1, 3, 4).double()
    u = level_set_function(log_odds - math.log(functional.tau), functional.kappa, iterations=4000)
    assert cost((u > 0).double())[0] <= cost(every).min() + 1e-9


@dataclass(frozen=True)
class FixedSteps:
    """Another descent: plain steps of one length."""

    length: float = 0.2

    def begin(self, velocity, iterations):
        return Walking(velocity, self.length)

    def stiffer(self, factor):
        return self


class Walking:
    def __init__(self, velocity, length):
        self.velocity, self.length = velocity, length

    def step(self, energy):
        velocity = self.velocity.detach().requires_grad_()
        value = energy(velocity)
        (gradient,) = torch.autograd.grad(value, velocity)
        self.velocity = velocity.detach() - self.length * gradient / gradient.abs().max()
        return float(value.detach())


@dataclass(frozen=True)
class Square:
    """Another search: the mask is a square, whatever the images show."""

    path: tuple = ()

    def search(self, pair, path, functional, support=None):
        mask = torch.zeros_like(pair.fixed)
        mask[LESION] = 1
        return Found(mask)


@dataclass(frozen=True)
class Found:
    mask: torch.Tensor
    support: None = None

    def first(self):
        return self.mask

    def second(self, velocity):
        return self.mask


def test_another_descent_solves_the_same_functional(pair):
    found = solve(pair, replace(SETTINGS, descent=FixedSteps()), find_mask=False)
    energy = Energy(pair, SETTINGS.functional, 0)
    energy.update(found.velocity)
    assert energy(found.velocity) < 0.3 * energy(torch.zeros_like(found.velocity))


def test_another_search_for_the_mask_decides_what_is_compared(pair):
    ill = pair.fixed.clone()
    ill[LESION] = 0
    settings = replace(SETTINGS, masks=Square())
    healthy, masked = (solve(p, settings).velocity for p in (pair, replace(pair, fixed=ill)))
    plain = solve(replace(pair, fixed=ill), settings, find_mask=False).velocity
    error = (masked - healthy).abs().mean()
    assert error < 0.5 * (plain - healthy).abs().mean()
