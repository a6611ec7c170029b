"""What every row of SIMILARITIES promises; a new row runs through all of this for free."""

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ShapeError
from itk_ncr.losses import SIMILARITIES

SHAPES = {"2d": (14, 17), "3d": (8, 9, 10)}
# Small regularisers, so that the laws of the formulas can be seen through them.
SETTINGS = {"lncc": {"noise": 1e-3}, "ncc": {"eps": 1e-9}, "ncc-centred": {"eps": 1e-9}}
# intensity changes of the moved image that a row is blind to, as (scale, offset)
BLIND = {
    "mse": [],
    "ncc": [(3.0, 0.0), (-0.5, 0.0)],
    "ncc-centred": [(3.0, 0.0), (-0.5, 2.0)],
    "lncc": [(3.0, 0.0), (-0.5, 2.0)],
    "mind": [(3.0, 0.0), (-0.5, 2.0)],
}
# what half a correspondence does to the distance: the first three are sums of independent voxels
HALVED = {"mse": 0.5, "lncc": 0.5, "mind": 0.5, "ncc": 1.0, "ncc-centred": 1.0}


@pytest.fixture(params=SIMILARITIES)
def name(request):
    return request.param


@pytest.fixture(params=SHAPES)
def pair(request):
    """moved, fixed (N=2, C=1), a mask with hard and soft voxels."""
    generator = torch.Generator().manual_seed(7)
    shape = (2, 1, *SHAPES[request.param])
    fixed, moved, weight = (
        torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    return (fixed + moved) / 2, fixed, weight * (weight > 0.4)


def distance(name, *images, **options):
    return SIMILARITIES[name](*images, **SETTINGS.get(name, {}), **options)


def test_every_row_is_described_here(name):
    assert name in BLIND
    assert name in HALVED


def test_identical_images_have_no_distance_and_others_do(name, pair):
    moved, fixed, weight = pair
    for correspondence in (None, weight):
        same = distance(name, fixed, fixed, correspondence)
        assert same.shape == (2,)
        assert same.abs().max() < 1e-8
        other = distance(name, moved, fixed, correspondence)
        assert (other > 1e-3).all()
        assert (other < 1).all()


def test_is_blind_to_what_it_says(name, pair):
    moved, fixed, weight = pair
    for scale, offset in BLIND[name]:
        changed = distance(name, scale * moved + offset, fixed, weight)
        assert_close(changed, distance(name, moved, fixed, weight), rtol=1e-5, atol=1e-9)


def test_sees_what_it_is_not_blind_to(name, pair):
    moved, fixed, weight = pair
    for scale, offset in {(3.0, 0.0), (-0.5, 2.0)} - set(BLIND[name]):
        changed = distance(name, scale * moved + offset, fixed, weight)
        assert (changed - distance(name, moved, fixed, weight)).abs().min() > 1e-3


def test_masked_voxels_have_no_influence_and_get_no_gradient(name, pair):
    moved, fixed, weight = pair
    garbage = torch.where(weight > 0, 0.0, 100.0)
    assert_close(
        distance(name, moved + garbage, fixed - 2 * garbage, weight),
        distance(name, moved, fixed, weight),
        rtol=1e-7,
        atol=1e-9,
    )
    moved = moved.clone().requires_grad_()
    distance(name, moved, fixed, weight).sum().backward()
    assert moved.grad[weight == 0].eq(0).all()
    assert moved.grad[weight > 0].abs().max() > 0


def test_masking_everything_costs_nothing_but_the_price(name, pair):
    moved, fixed, weight = pair
    assert_close(
        distance(name, moved, fixed, torch.zeros_like(weight)),
        torch.zeros(2, dtype=torch.float64),
        rtol=0,
        atol=1e-12,
    )


def test_means_are_over_all_voxels_not_over_the_unmasked(name, pair):
    moved, fixed, _ = pair
    half = torch.full_like(fixed, 0.5)
    assert_close(
        distance(name, moved, fixed, half),
        HALVED[name] * distance(name, moved, fixed),
        rtol=1e-5,
        atol=1e-9,
    )


def test_only_the_proportions_of_a_foreground_count(name, pair):
    moved, fixed, weight = pair
    generator = torch.Generator().manual_seed(0)
    foreground = torch.rand(fixed.shape, generator=generator, dtype=fixed.dtype)
    once = distance(name, moved, fixed, weight, foreground=foreground)
    assert_close(distance(name, moved, fixed, weight, foreground=3 * foreground), once)
    everything = torch.ones_like(fixed)
    assert_close(
        distance(name, moved, fixed, weight, foreground=everything),
        distance(name, moved, fixed, weight),
    )
    # Voxels beyond the foreground are no centres: what they are worth alone does not count.
    assert (once - distance(name, moved, fixed, weight)).abs().min() > 1e-5


def test_an_empty_foreground_is_no_division_by_zero(name, pair):
    moved, fixed, weight = pair
    assert (
        distance(name, moved, fixed, weight, foreground=torch.zeros_like(fixed)).abs().max() < 1e-9
    )


def test_samples_do_not_see_each_other(name, pair):
    moved, fixed, weight = pair
    together = distance(name, moved, fixed, weight)
    alone = [distance(name, m[None], f[None], w[None]) for m, f, w in zip(*pair, strict=True)]
    assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-14)


def test_channels_are_accepted_and_repeating_them_changes_nothing(name, pair):
    moved, fixed, weight = pair
    twice = distance(
        name,
        moved.repeat(1, 2, 1, *(1,) * (moved.ndim - 3)),
        fixed.repeat(1, 2, 1, *(1,) * (moved.ndim - 3)),
        weight,
    )
    assert_close(twice, distance(name, moved, fixed, weight), rtol=1e-7, atol=1e-9)


def test_gradient_agrees_with_finite_differences(name):
    generator = torch.Generator().manual_seed(1)
    shape = (1, 2, 5, 4, 6) if name != "mind" else (1, 1, 5, 6)
    moved, fixed = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    weight = torch.rand(1, 1, *shape[2:], generator=generator, dtype=torch.float64)
    weight[..., 1, 2] = 0
    foreground = torch.rand(1, 1, *shape[2:], generator=generator, dtype=torch.float64)

    def of_moved(x):
        return SIMILARITIES[name](x, fixed, weight, foreground=foreground)

    assert torch.autograd.gradcheck(of_moved, moved.clone().requires_grad_())

    def of_weight(x):
        return SIMILARITIES[name](moved, fixed, x, foreground=foreground)

    weight = weight.clamp(min=0.1)  # at 0, windows without any weight are a kink
    assert torch.autograd.gradcheck(of_weight, weight.clone().requires_grad_())


@pytest.mark.parametrize("kind", ["identical", "black", "flat", "flat moved", "masked"])
def test_values_and_gradients_stay_finite_for_degenerate_images(name, pair, kind):
    moved, fixed, weight = (t.float() for t in pair)
    moved, fixed, weight = {
        "identical": (fixed, fixed, weight),
        "black": (0 * fixed, 0 * fixed, weight),
        "flat": (0 * fixed + 0.7, 0 * fixed + 0.7, weight),
        "flat moved": (0 * fixed + 0.7, fixed, weight),
        "masked": (moved, fixed, 0 * weight),
    }[kind]
    moved, weight = moved.clone().requires_grad_(), weight.clone().requires_grad_()
    value = SIMILARITIES[name](moved, fixed, weight)
    gradients = torch.autograd.grad(value.sum(), (moved, weight), allow_unused=True)
    assert value.isfinite().all()
    assert all(g.isfinite().all() for g in gradients if g is not None)
    if kind in ("black", "flat", "masked"):
        assert value.abs().max() < 1e-5


def test_the_background_of_two_images_is_alike(name):
    draw = torch.Generator().manual_seed(3)
    fixed = torch.zeros(1, 1, 20, 20)
    fixed[..., 8:12, 8:12] = torch.rand(4, 4, generator=draw)
    moved = fixed.clone()
    moved[..., 8:12, 8:12] = torch.rand(4, 4, generator=draw)
    background = torch.zeros_like(fixed)
    background[..., :4, :] = 1
    # 4 voxels away from anything; the running sums of float32 leave up to 1e-6.
    assert distance(name, moved, fixed, foreground=background).abs().max() < 1e-5
    assert distance(name, moved, fixed, foreground=(fixed > 0).float()) > 0.01


def test_follows_the_dtype_and_float32_is_good_to_four_digits(name, pair):
    exact = distance(name, *pair)
    single = distance(name, *(t.float() for t in pair))
    assert single.dtype == torch.float32
    assert_close(single.double(), exact, rtol=1e-4, atol=1e-7)


def test_is_bitwise_equal_for_any_number_of_threads(name):
    generator = torch.Generator().manual_seed(5)
    fixed, moved, weight = (torch.rand(1, 1, 34, 40, 48, generator=generator) for _ in range(3))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            moved = moved.detach().clone().requires_grad_()
            value = SIMILARITIES[name](moved, fixed, weight)
            value.sum().backward()
            results.append((value.detach(), moved.grad))
    finally:
        torch.set_num_threads(before)
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_errors_name_the_tensor_that_does_not_fit(name, pair):
    moved, fixed, weight = pair
    with pytest.raises(ShapeError, match="moved must have the shape of fixed"):
        SIMILARITIES[name](moved[..., 1:], fixed)
    with pytest.raises(ShapeError, match="correspondence must have shape"):
        SIMILARITIES[name](moved, fixed, weight[..., 1:])
    with pytest.raises(ShapeError, match="foreground must have shape"):
        SIMILARITIES[name](
            moved, fixed, foreground=weight.repeat(1, 2, 1, *(1,) * (fixed.ndim - 3))
        )
    with pytest.raises(ShapeError, match="fixed must have shape"):
        SIMILARITIES[name](moved[0, 0], fixed[0, 0])


def test_an_empty_batch_has_no_distances(name, pair):
    moved, fixed, weight = (t[:0] for t in pair)
    assert SIMILARITIES[name](moved, fixed, weight).shape == (0,)
    assert SIMILARITIES[name](moved, fixed).shape == (0,)
