import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.fields import resize_velocity, smooth
from itk_ncr.losses import smoothness


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gradient_energy_against_a_loop():
    field, weight = random(1, 3, 3, 4, 5), random(1, 1, 3, 4, 5, seed=1)
    spacing, importances = (2.0, 1.0, 0.5), (1.0, 3.0, 0.25)
    energy = 0.0
    for p in itertools.product(range(3), range(4), range(5)):
        for c, i in itertools.product(range(3), range(3)):
            q = list(p)
            q[i] = min(p[i] + 1, field.shape[2 + i] - 1)
            step = float(field[(0, c, *q)] - field[(0, c, *p)]) * spacing[c] / spacing[i]
            energy += float(weight[(0, 0, *p)]) * importances[c] * step**2
    found = smoothness(field, spacing=spacing, component_weights=importances, weight=weight)
    assert_close(found.item(), energy / 60)


def test_curvature_energy_against_a_loop():
    field, spacing = random(1, 2, 5, 4), (2.0, 0.5)
    energy = 0.0
    for c, y, x in itertools.product(range(2), range(5), range(4)):

        def at(j, i, c=c):
            return float(field[0, c, min(max(j, 0), 4), min(max(i, 0), 3)])

        laplacian = (at(y + 1, x) - 2 * at(y, x) + at(y - 1, x)) / spacing[0] ** 2
        laplacian += (at(y, x + 1) - 2 * at(y, x) + at(y, x - 1)) / spacing[1] ** 2
        energy += (spacing[c] * laplacian) ** 2
    assert_close(smoothness(field, kind="curvature", spacing=spacing).item(), energy / 20)


def test_a_linear_field_costs_the_sum_of_its_squared_slopes():
    rows = torch.arange(50, dtype=torch.float64).view(1, 1, 50, 1).expand(1, 1, 50, 40)
    field = torch.cat([0.3 * rows, -0.1 * rows], 1)
    expected = (0.09 + 0.01) * 49 / 50  # the last row has no next one
    assert_close(smoothness(field), torch.tensor([expected], dtype=torch.float64))
    assert_close(smoothness(field[..., 1:-1, :], kind="curvature").item(), (0.09 + 0.01) * 2 / 48)


@pytest.mark.parametrize("kind", ["gradient", "curvature"])
def test_a_shift_of_everything_is_free_and_samples_are_apart(kind):
    field = random(2, 2, 7, 8)
    field[1] = 3.0
    found = smoothness(field, kind=kind)
    assert found[1] == 0
    assert_close(found[0], smoothness(field[:1], kind=kind)[0])
    assert_close(smoothness(field + 5.0, kind=kind)[0], found[0])


def test_the_same_motion_costs_the_same_on_a_finer_grid():
    # In voxels of its own grid a motion grows with the resolution and its gradient does not.
    coarse = smooth(random(1, 2, 30, 36, seed=4), 4.0)
    fine = resize_velocity(coarse, (59, 71))
    assert_close(smoothness(fine), smoothness(coarse), rtol=0.05, atol=0)


def test_only_unequal_voxel_sizes_matter():
    field = random(1, 3, 4, 5, 6)
    assert_close(smoothness(field, spacing=(2.5, 2.5, 2.5)), smoothness(field))
    assert abs(smoothness(field, spacing=(5.0, 1.0, 1.0)) / smoothness(field) - 1) > 0.5


def test_a_weight_makes_the_field_stiffer_where_it_is():
    field, weight = random(1, 2, 6, 8), torch.ones(1, 1, 6, 8, dtype=torch.float64)
    weight[..., :4] = 10
    left, right = field[..., :5].clone(), field[..., 4:]
    # forward differences: those that start in the left half count ten times
    energy = 10 * (smoothness(left) * 30 - (left[..., 4:].diff(dim=2) ** 2).sum()) + (
        smoothness(right) * 24
    )
    assert_close(smoothness(field, weight=weight), energy / 48)


@pytest.mark.parametrize("kind", ["gradient", "curvature"])
def test_gradients_agree_with_finite_differences(kind):
    weight = random(1, 1, 3, 4, 3, seed=1)

    def energy(field):
        return smoothness(field, kind=kind, spacing=(1.0, 2.0, 0.7), weight=weight)

    assert torch.autograd.gradcheck(energy, random(1, 3, 3, 4, 3).requires_grad_())


@pytest.mark.parametrize("kind", ["gradient", "curvature"])
def test_the_weight_has_a_gradient_too(kind):
    fields = random(2, 2, 3, 4).requires_grad_()

    def energy(weight):
        return smoothness(fields, kind=kind, spacing=(1.0, 2.0), weight=weight) * torch.arange(1, 3)

    assert torch.autograd.gradcheck(energy, random(2, 1, 3, 4, seed=1).requires_grad_())


def test_axes_of_one_voxel_have_no_gradient():
    assert math.isfinite(smoothness(random(1, 2, 1, 6)))
    assert smoothness(random(1, 2, 1, 1)) == 0
    assert smoothness(random(1, 2, 1, 1), kind="curvature") == 0


def test_refuses_what_does_not_fit():
    with pytest.raises(ShapeError, match="one channel per axis"):
        smoothness(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ShapeError, match="spacing must have 2 entries"):
        smoothness(torch.zeros(1, 2, 4, 4), spacing=(1.0, 1.0, 1.0))
    with pytest.raises(ShapeError, match="weight must have shape"):
        smoothness(torch.zeros(1, 2, 4, 4), weight=torch.ones(1, 1, 4, 5))
    with pytest.raises(ArgumentError, match="kind must be one of gradient, curvature"):
        smoothness(torch.zeros(1, 2, 4, 4), kind="elastic")
    with pytest.raises(ArgumentError, match="spacing must be positive"):
        smoothness(torch.zeros(1, 2, 4, 4), spacing=(1.0, 0.0))
