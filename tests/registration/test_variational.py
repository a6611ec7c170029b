"""Forces, regularisers and schedules of the variational methods."""

import numpy as np
import pytest
import torch
from scipy import fft

import itk_ncr
from itk_ncr.errors import ArgumentError, RegistrationError
from itk_ncr.ops import warp
from itk_ncr.registration.solver import Pair
from itk_ncr.registration.variational import forces, regularisers, schedule
from itk_ncr.registration.variational.solver import Flow, descend_level
from itk_ncr.registration.variational.varreg import VarRegOptions

from .conftest import bend, head


def images(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(1, 1, *shape, generator=generator) for _ in range(2))


def middle_correlation(moved, fixed, place, radius):
    """One minus the squared correlation in the window around one voxel, by the definition."""
    window = (0, 0, *(slice(max(0, p - radius), p + radius + 1) for p in place))
    m, f = moved[window].double(), fixed[window].double()
    m, f = m - m.mean(), f - f.mean()
    return 1 - (m * f).sum().square() / (m.square().sum() * f.square().sum())


@pytest.mark.parametrize(
    ("shape", "place"), [((9, 8), (4, 3)), ((9, 8), (0, 7)), ((5, 6, 7), (2, 3, 6))]
)
def test_the_correlation_force_is_the_derivative_at_the_middle_of_the_window(shape, place):
    moved, fixed = images(shape)
    found, metric = forces.correlation_force(2)(moved, fixed, torch.ones_like(moved))
    moved.requires_grad_()
    value = middle_correlation(moved, fixed, place, 2)
    value.backward()
    where = (0, 0, *place)
    np.testing.assert_allclose(metric[where], value.item(), atol=1e-5)
    np.testing.assert_allclose(found[where], -moved.grad[where], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 11), (7, 8, 6)])
def test_the_ssd_force_is_half_the_derivative_along_the_gradient(shape):
    fixed, moving = (image * 0.5 for image in images(shape, 1))
    # Linear along the last axis, where central differences are exact.
    moving = torch.linspace(0, 1, shape[-1]).expand(1, 1, *shape).contiguous() + 0 * moving
    shift = torch.zeros(1, len(shape), *shape, requires_grad=True)
    (warp(moving, shift + 0.25) - fixed).square().sum().backward()
    moved = warp(moving, torch.full_like(shift, 0.25)).detach()
    found, _ = forces.ssd_force(moved, fixed, forces.gradient(moved))
    inner = (0, -1, *(slice(2, -2),) * len(shape))
    np.testing.assert_allclose(2 * found[inner], -shift.grad[inner], atol=1e-5)


def test_demons_move_no_voxel_by_more_than_half():
    moved, fixed = images((20, 20), 2)
    found, _ = forces.demons_force(moved, fixed, forces.gradient(moved))
    assert found.square().sum(1).sqrt().max() <= 0.5 + 1e-6
    same, metric = forces.demons_force(fixed, fixed, forces.gradient(fixed))
    assert not same.any()
    assert not metric.any()


def test_flat_windows_exert_no_force():
    flat = torch.full((1, 1, 9, 9), 0.4)
    found, metric = forces.correlation_force(2)(flat, flat + 0.1, torch.ones(1, 2, 9, 9))
    assert not found.any()
    assert not metric.any()


@pytest.mark.parametrize("name", regularisers.REGULARISERS)
@pytest.mark.parametrize("shape", [(12, 9), (8, 6, 7)])
def test_a_regulariser_keeps_constants_and_smooths_noise(name, shape):
    regularise = regularisers.regulariser_of(name, 1.0)
    constant = torch.full((1, len(shape), *shape), 3.0)
    torch.testing.assert_close(regularise(constant), constant, atol=2e-6, rtol=0)
    noise = torch.randn(1, len(shape), *shape, generator=torch.Generator().manual_seed(0))
    assert regularise(noise).var() < 0.6 * noise.var()


def test_the_frequencies_of_the_original_damp_a_constant_field():
    constant = torch.ones(1, 2, 10, 10)
    compat = regularisers.curvature(1.0, itk_compat=True)(constant)
    assert (constant - compat).abs().max() > 1e-4


def test_the_cosines_are_those_of_a_fast_transform():
    field = torch.randn(7, dtype=torch.float64)
    found = regularisers.cosines(7) @ field
    np.testing.assert_allclose(found, fft.dct(field.numpy(), norm="ortho"), atol=1e-12)


def test_diffusion_solves_its_system_along_each_axis():
    field = torch.randn(1, 1, 11, 1, generator=torch.Generator().manual_seed(0))
    # An axis of one voxel leaves its half of the average as it was.
    solved = 2 * regularisers.diffusive(1.5)(field) - field
    padded = torch.nn.functional.pad(solved, (0, 0, 1, 1), mode="replicate")
    second = padded[:, :, 2:] - 2 * solved + padded[:, :, :-2]
    torch.testing.assert_close(solved - 2 * 1.5 * second, field, atol=1e-6, rtol=0)


def test_an_elastic_step_solves_the_equations_of_its_stencils():
    u = torch.randn(1, 2, 8, 10, generator=torch.Generator().manual_seed(1))
    mu, lam = 0.5, 0.8

    def at(field, *steps):
        return torch.roll(field, [-s for s in steps], (0, 1))

    done = regularisers.elastic(mu, lam)(u)[0]
    y, x = done
    laplace = [at(c, 1, 0) + at(c, -1, 0) + at(c, 0, 1) + at(c, 0, -1) - 4 * c for c in done]
    mixed = [(at(c, 1, 1) - at(c, 1, -1) - at(c, -1, 1) + at(c, -1, -1)) / 4 for c in (x, y)]
    own = [at(y, 1, 0) - 2 * y + at(y, -1, 0), at(x, 0, 1) - 2 * x + at(x, 0, -1)]
    for i in range(2):
        left = done[i] - mu * laplace[i] - (lam + mu) * (own[i] + mixed[i])
        torch.testing.assert_close(left, u[0, i], atol=1e-5, rtol=0)


def test_a_level_ends_without_progress_or_on_a_flat_line():
    rising = schedule.MetricHistory(finest=False)
    assert [rising.done(v) for v in range(13)].index(True) == 11
    flat = schedule.MetricHistory(finest=True)
    values = [1.0, 0.5, *(0.1 - 1e-6 * i for i in range(40))]
    assert [flat.done(v) for v in values].index(True) == 21
    falling = schedule.MetricHistory(finest=True)
    assert not any(falling.done(1 - 0.01 * i) for i in range(50))


def lesioned_pair():
    """A bent head and the head, on the scale of the solver, with a dark blob in the fixed one."""
    moving = head((48, 48), 0) / 200
    fixed, _ = bend(moving, 1, 2.0, 7.0)
    rows, columns = np.indices((48, 48))
    lesion = (rows - 26) ** 2 + (columns - 22) ** 2 < 36
    fixed = np.where(lesion, 0.02, fixed)
    tensors = [torch.from_numpy(a.astype(np.float32))[None, None] for a in (fixed, moving)]
    return Pair(*tensors, torch.ones(1, 1, 48, 48), None, None, (1.0, 1.0)), lesion


def pair_of_heads():
    moving = head((48, 48), 0)
    fixed, _ = bend(moving, 1, 2.0, 7.0)
    return fixed.astype(np.float32), moving


@pytest.mark.parametrize(
    "options",
    [
        {"force": "demons", "regulariser": "gaussian"},
        {"force": "ssd", "regulariser": "diffusive", "space": "standard"},
        {"regulariser": "elastic", "space": "symmetric", "alpha": 0.3},
    ],
)
def test_every_force_regulariser_and_space_brings_the_images_together(options):
    fixed, moving = pair_of_heads()
    result = itk_ncr.register(
        fixed, moving, method="varreg", affine="none", threads=1, method_options=options
    )
    assert result.quality.distance_outside < 0.4 * result.quality.distance_before


@pytest.mark.parametrize("growth", [1.0, float("nan")])
def test_what_diverges_is_one_line_with_a_remedy(growth):
    pair, _ = lesioned_pair()
    flow = Flow(forces.ssd_force, lambda field: field + growth, 1.0, "standard", "varreg")
    with pytest.raises(RegistrationError, match=r"method 'varreg' .*smaller tau") as caught:
        descend_level(flow, pair, torch.zeros(1, 2, 48, 48), 20, True, lambda: None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"force": "mi"}, "option force must be one of demons, ssd, ncc; got 'mi'"),
        ({"alpha": -1}, "option alpha must be a positive number; got -1"),
        ({"levels": 0}, "option levels must be a positive number; got 0"),
        ({"space": "log"}, "option space must be one of"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ArgumentError, match=said):
        VarRegOptions(**options)


def test_identical_images_stay_where_they_are():
    _, moving = pair_of_heads()
    result = itk_ncr.register(moving, moving, method="varreg", affine="none", threads=1)
    assert np.abs(result.displacement.array).max() < 1e-3
