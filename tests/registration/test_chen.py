"""Joint functional after Chen: exact regions, an energy that never rises, least-squares steps."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

import itk_ncr
from itk_ncr.errors import ArgumentError
from itk_ncr.registration.variational import chen
from itk_ncr.registration.variational.chen import ChenFunctional, ChenOptions, State
from itk_ncr.registration.variational.least_squares import LeastSquares, descend
from itk_ncr.registration.variational.regularisers import cosines, laplacian

from .conftest import bend, head
from .test_variational import lesioned_pair

# Capacities of the graph are whole multiples of 1 / WHOLE.
WHOLE = 10**6


@pytest.mark.parametrize("kappa", [0.0, 0.02, 0.1])
def test_the_region_is_the_best_of_all_on_four_by_four_voxels(kappa):
    generator = torch.Generator().manual_seed(int(100 * kappa))
    squares = 0.15 * torch.rand(1, 1, 4, 4, generator=generator)
    bits = torch.tensor(list(itertools.product((0.0, 1.0), repeat=16))).view(-1, 1, 4, 4)
    faces = sum(bits.diff(dim=axis).abs().sum((1, 2, 3)) for axis in (2, 3))
    costs = ((1 - bits) * squares + 0.05 * bits).sum((1, 2, 3)) + kappa * faces
    found, _ = chen.best_region(squares, 0.05, kappa)
    cost = ((1 - found) * squares + 0.05 * found).sum() + kappa * chen.perimeter(found)
    assert float(cost) <= float(costs.min()) + 1e-6


def minimum_cut(squares, tau, kappa):
    """Least energy over all regions, as the maximum flow of a graph with whole capacities."""
    count = squares.size
    index = np.arange(count).reshape(squares.shape)
    kept, masked = count, count + 1
    edges = [(masked, i, value) for i, value in enumerate(squares.ravel())]
    edges += [(i, kept, tau) for i in range(count)]
    for axis in range(squares.ndim):
        lower = np.delete(index, -1, axis).ravel()
        upper = np.delete(index, 0, axis).ravel()
        edges += [(i, j, kappa) for i, j in zip(lower, upper, strict=True)]
        edges += [(j, i, kappa) for i, j in zip(lower, upper, strict=True)]
    rows, columns, costs = zip(*edges, strict=True)
    capacities = np.rint(np.array(costs) * WHOLE).astype(np.int32)
    graph = sparse.csr_array((capacities, (rows, columns)), shape=(count + 2, count + 2))
    return sparse.csgraph.maximum_flow(graph, masked, kept).flow_value / WHOLE


@pytest.mark.parametrize("shape", [(14, 12), (6, 7, 5)])
def test_the_region_has_the_energy_of_the_maximum_flow(shape):
    generator = np.random.default_rng(4)
    rising = np.linspace(0, 1, shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    squares = (0.12 * generator.random(shape) * rising).astype(np.float32)
    found, _ = chen.best_region(torch.from_numpy(squares)[None, None], 0.05, 0.02)
    cost = float(0.02 * chen.perimeter(found))
    cost += float(np.where(found[0, 0].numpy() > 0, 0.05, squares.astype(np.float64)).sum())
    assert cost == pytest.approx(minimum_cut(squares, 0.05, 0.02), abs=len(squares.ravel()) / WHOLE)
    assert 0 < found.mean() < 1


def functional_of(pair, alpha=0.05):
    return ChenFunctional(LeastSquares(pair, alpha), ChenOptions())


def test_neither_half_step_ever_raises_the_energy():
    pair, lesion = lesioned_pair()
    functional = functional_of(pair)
    state = State.of(torch.zeros(1, 2, 48, 48), torch.zeros(1, 1, 48, 48))
    energies = [functional.energy(state)]
    for _ in range(6):
        kept = 1 - state.region
        field, _ = descend(functional.problem, state.field, kept, 3, lambda: None)
        state = replace(state, field=field)
        energies.append(functional.energy(state))
        state = chen.improved_region(functional, state)
        energies.append(functional.energy(state))
    assert energies == sorted(energies, reverse=True)
    assert energies[-1] < 0.5 * energies[0]
    region = state.region[0, 0].numpy() > 0
    assert 2 * (region & lesion).sum() / (region.sum() + lesion.sum()) > 0.8


def test_forces_that_would_raise_the_energy_are_not_followed():
    """Pulling where the energy does not look must not cost anything where it does."""
    pair, lesion = lesioned_pair()
    problem = LeastSquares(pair, 0.05)
    field, _ = descend(
        problem, torch.zeros(1, 2, 48, 48), torch.ones_like(pair.fixed), 6, lambda: None
    )
    weight = 1 - torch.from_numpy(lesion).float()[None, None]
    before = problem.energy(field, weight)
    found, _ = descend(problem, field, weight, 8, lambda: None, pulling=1 - weight)
    assert problem.energy(found, weight) <= before


def test_the_step_is_the_solution_of_its_normal_equations(monkeypatch):
    monkeypatch.setattr("itk_ncr.registration.variational.least_squares.INNER_STEPS", 300)
    generator = torch.Generator().manual_seed(0)
    pair, _ = lesioned_pair()
    crop = (..., slice(20, 26), slice(18, 25))
    small = replace(
        pair, **{n: getattr(pair, n)[crop].double() for n in ("fixed", "moving", "foreground")}
    )
    weight = torch.rand(1, 1, 6, 7, generator=generator, dtype=torch.float64)
    field = torch.zeros(1, 2, 6, 7, dtype=torch.float64)
    problem = LeastSquares(small, 0.03)
    found = problem.step(field, weight, 0.5).flatten()
    direction = torch.cat([torch.gradient(small.moving, dim=axis)[0] for axis in (2, 3)], 1)
    rows = torch.zeros(42, 84, dtype=torch.float64)
    for axis in range(2):
        rows[:, 42 * axis : 42 * (axis + 1)] = torch.diag(direction[0, axis].flatten())
    basis = torch.eye(42, dtype=torch.float64).view(42, 1, 6, 7)
    once = laplacian(basis).view(42, 42)
    stiff = torch.block_diag(once.T @ once, once.T @ once)
    w = torch.diag(weight.flatten())
    scale = float((weight * direction.square()).sum() / weight.sum().clamp(min=1)) / 2
    system = rows.T @ w @ rows + 0.03 * stiff + 0.5 * scale * torch.eye(84, dtype=torch.float64)
    right = rows.T @ w @ (small.fixed - small.moving).flatten()
    torch.testing.assert_close(found, torch.linalg.solve(system, right), rtol=1e-4, atol=1e-7)


def test_the_laplacian_is_diagonal_in_the_basis_of_cosines():
    field = torch.randn(1, 1, 7, 1, dtype=torch.float64)
    spectrum = cosines(7) @ laplacian(field)[0, 0, :, 0]
    symbol = 2 * torch.cos(torch.pi * torch.arange(7, dtype=torch.float64) / 7) - 2
    torch.testing.assert_close(spectrum, symbol * (cosines(7) @ field[0, 0, :, 0]))


def heads(level=None):
    moving = head((64, 64), 0)
    fixed, _ = bend(moving, 1, 3.0, 7.0)
    rows, columns = np.indices((64, 64))
    lesion = (rows - 36) ** 2 + (columns - 30) ** 2 < 81
    if level is not None:
        fixed = np.where(lesion, level, fixed)
    return fixed.astype(np.float32), moving, lesion


def test_a_lesion_is_found_and_nothing_else():
    fixed, moving, lesion = heads(5.0)
    options = {"method": "chen", "affine": "none", "threads": 1}
    result = itk_ncr.register(fixed, moving, **options)
    assert result.finds_mask
    mask = result.mask.array > 0
    assert 2 * (mask & lesion).sum() / (mask.sum() + lesion.sum()) > 0.85
    healthy = itk_ncr.register(*heads()[:2], **options)
    assert healthy.quality.masked_fraction < 0.001
    blind = itk_ncr.register(fixed, moving, mask="none", **options)
    assert not blind.noncorrespondence.array.any()
    assert not blind.finds_mask


def test_a_higher_price_masks_less():
    fixed, moving, _ = heads(5.0)
    found = [
        itk_ncr.register(
            fixed, moving, method="chen", affine="none", threads=1, method_options={"tau": tau}
        ).quality.masked_fraction
        for tau in (0.05, 0.3, 4.0)
    ]
    assert found[0] > found[1] > found[2] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tau": 0}, "option tau must be a positive number; got 0"),
        ({"kappa": -0.1}, "option kappa must be 0 or a positive number; got -0.1"),
        ({"rounds": 0}, "option rounds must be a positive number; got 0"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ArgumentError, match=said):
        ChenOptions(**options)


def test_identical_images_stay_where_they_are():
    _, moving, _ = heads()
    result = itk_ncr.register(moving, moving, method="chen", affine="none", threads=1)
    assert np.abs(result.displacement.array).max() < 1e-3
    assert result.quality.masked_fraction == 0
