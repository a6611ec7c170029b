import pickle

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.losses import (
    PRESETS,
    SIMILARITIES,
    Functional,
    FunctionalValue,
    dice,
    masked_mse,
    multi_resolution,
    perimeter,
    smoothness,
    volume,
)


def batch(*shape, seed=0):
    """moved, fixed, velocity, mask, (moved labels, fixed labels)."""
    generator = torch.Generator().manual_seed(seed)

    def random(channels):
        return torch.rand(2, channels, *shape, generator=generator, dtype=torch.float64)

    return random(1), random(1), random(len(shape)), random(1), (random(3), random(3))


FULL = Functional(alpha=0.3, tau=0.2, kappa=0.1, lam=0.7)


def test_the_total_is_the_sum_of_the_named_terms():
    moved, fixed, velocity, mask, labels = batch(6, 7, 8)
    value = FULL(moved, fixed, velocity, mask, labels=labels)
    assert_close(value.distance, masked_mse(moved, fixed, 1 - mask))
    assert_close(value.smoothness, 0.3 * smoothness(velocity))
    assert_close(value.volume, 0.2 * volume(mask))
    assert_close(value.perimeter, 0.1 * perimeter(mask, "tv"))
    assert_close(value.overlap, 0.7 * (1 - dice(*labels)))
    assert list(value.parts()) == ["distance", "smoothness", "volume", "perimeter", "overlap"]
    assert_close(value.total, sum(value.parts().values()))


def test_without_a_mask_it_is_the_registration_loss():
    moved, fixed, velocity, _, labels = batch(6, 7)
    plain = FULL(moved, fixed, velocity, labels=labels)
    empty = FULL(moved, fixed, velocity, torch.zeros_like(fixed), labels=labels)
    assert plain.volume.eq(0).all()
    assert plain.perimeter.eq(0).all()
    assert_close(plain.total, empty.total)
    assert_close(plain.distance, masked_mse(moved, fixed))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_every_similarity_and_every_perimeter_can_be_minimised(similarity):
    moved, fixed, velocity, mask, labels = batch(8, 9)
    inputs = [t.requires_grad_() for t in (moved, velocity, mask)]
    for form in ("tv", "faces", "sobel", "released"):
        settings = Functional(similarity=similarity, perimeter_form=form, lam=1.0)
        value = settings(moved, fixed, velocity, mask, labels=labels)
        gradients = torch.autograd.grad(value.total.sum(), inputs)
        assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients)


def test_settings_reach_the_similarity():
    moved, fixed, velocity, *_ = batch(9, 9)
    settings = Functional(similarity="lncc", similarity_settings={"radius": 3, "noise": 0.2})
    value = settings(moved, fixed, velocity)
    assert_close(value.distance, SIMILARITIES["lncc"](moved, fixed, radius=3, noise=0.2))
    assert (value.distance - SIMILARITIES["lncc"](moved, fixed)).abs().min() > 1e-3


def test_the_field_is_stiffer_inside_the_mask_and_the_mask_does_not_feel_it():
    moved, fixed, velocity, mask, _ = batch(8, 10)
    mask = (mask > 0.5).double().requires_grad_()
    stiff = Functional(alpha=0.3, stiffness=9.0)
    value = stiff(moved, fixed, velocity, mask)
    assert_close(value.smoothness, 0.3 * smoothness(velocity, weight=1 + 9 * mask.detach()))
    assert not value.smoothness.requires_grad
    # A velocity at half resolution sees the mask on its own grid.
    half = torch.rand(2, 2, 4, 5, dtype=torch.float64)
    everywhere = torch.ones_like(fixed)
    value = stiff(moved, fixed, half, everywhere)
    assert_close(value.smoothness, 10 * 0.3 * smoothness(half))


def test_a_descriptor_is_compared_in_place_of_the_image():
    _, fixed, velocity, mask, _ = batch(12, 13)
    functional = Functional(descriptor="mind", similarity="mse")
    # A linear change of contrast leaves the self-similarity as it is.
    seen, darker = functional.features(fixed), functional.features(2 - 0.5 * fixed)
    assert_close(functional(darker, seen, velocity, mask).distance, torch.zeros(2).double())
    assert Functional()(2 - 0.5 * fixed, fixed, velocity, mask).distance.min() > 0.1


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_distance_to_one_image_is_the_distance_of_the_functional(similarity):
    moved, fixed, velocity, mask, _ = batch(8, 9)
    functional = Functional(similarity=similarity)
    value = functional(moved, fixed, velocity, mask)
    assert_close(functional.distance_to(fixed, 1 - mask)(moved), value.distance)
    mask.requires_grad_()
    assert_close(functional(moved, fixed, velocity, mask).distance.detach(), value.distance)


def test_alpha_may_differ_between_components():
    moved, fixed, velocity, *_ = batch(6, 7)
    settings = Functional(alpha=(0.2, 0.5))
    value = settings(moved, fixed, velocity)
    only_rows, only_columns = velocity.clone(), velocity.clone()
    only_rows[:, 1], only_columns[:, 0] = 0, 0
    assert_close(value.smoothness, 0.2 * smoothness(only_rows) + 0.5 * smoothness(only_columns))


def test_the_spacing_of_a_level_divides_the_gradient():
    moved, fixed, velocity, *_ = batch(6, 7)
    functional = Functional(level_spacing=(1.0, 2.0, 4.0))
    fine, middle, coarse, coarser = (
        functional(moved, fixed, velocity, level=level).smoothness for level in range(4)
    )
    assert_close(middle, fine / 4)
    assert_close(coarse, fine / 16)
    assert_close(coarser, coarse)


def test_a_foreground_is_what_all_means_are_about():
    moved, fixed, velocity, mask, _ = batch(8, 9)
    foreground = torch.zeros_like(fixed)
    foreground[..., 2:6, 1:7] = 1
    value = FULL(moved, fixed, velocity, mask, foreground=foreground)
    crop = (..., slice(2, 6), slice(1, 7))
    assert_close(value.distance, masked_mse(moved[crop], fixed[crop], 1 - mask[crop]))
    assert_close(value.volume, 0.2 * volume(mask[crop]))


def test_paper_sums_equal_means_at_the_reference_size_and_are_cheaper_on_coarser_levels():
    moved, fixed, velocity, mask, _ = batch(8, 10)
    settings = {"tau": 0.2, "kappa": 0.1, "reference_voxels": 80}
    mean, paper, released = (
        Functional(volume_reduction=r, **settings)
        for r in ("mean", "paper-sum", "mean-as-released")
    )
    full = mean(moved, fixed, velocity, mask)
    assert_close(paper(moved, fixed, velocity, mask).total, full.total)
    assert_close(released(moved, fixed, velocity, mask).volume, full.volume / 80)
    assert_close(released(moved, fixed, velocity, mask).perimeter, full.perimeter / 80)
    quarter = [t[..., :4, :5] for t in (moved, fixed, velocity, mask)]
    assert_close(paper(*quarter).volume, mean(*quarter).volume / 4)


def test_scales_are_added_with_their_weights():
    moved, fixed, velocity, mask, labels = batch(6, 7)
    fine = FULL(moved, fixed, velocity, mask, labels=labels)
    coarse = FULL(fixed, fixed, 2 * velocity, mask / 2, labels=labels)
    both = multi_resolution([fine, coarse], (0.7, 0.3))
    assert isinstance(both, FunctionalValue)
    for name, part in both.parts().items():
        assert_close(part, 0.7 * fine.parts()[name] + 0.3 * coarse.parts()[name])
    assert_close(both.total, 0.7 * fine.total + 0.3 * coarse.total)
    # linear in the weights; and weights that sum to 1 leave equal scales as they are
    assert_close(multi_resolution([fine, coarse], (1.4, 0.6)).total, 2 * both.total)
    assert_close(multi_resolution([fine] * 3, PRESETS["oct"].level_weights).total, fine.total)
    with pytest.raises(ShapeError, match="one entry per scale, 2; got 3"):
        multi_resolution([fine, coarse], (0.5, 0.3, 0.2))


def test_a_larger_price_makes_a_smaller_mask_and_a_larger_perimeter_price_fewer_specks():
    generator = torch.Generator().manual_seed(4)
    fixed = torch.rand(1, 1, 32, 32, generator=generator)
    moved = fixed + 0.25 * torch.randn(1, 1, 32, 32, generator=generator)
    moved[..., 10:20, 10:20] += 0.8

    def optimal(tau, kappa):
        functional = Functional(tau=tau, kappa=kappa, alpha=0.0)
        logits = torch.zeros_like(fixed).requires_grad_()
        adam = torch.optim.Adam([logits], lr=0.2)
        for _ in range(120):
            adam.zero_grad()
            functional(
                moved, fixed, torch.zeros(1, 2, 32, 32), torch.sigmoid(logits)
            ).total.sum().backward()
            adam.step()
        return logits.detach() > 0

    volumes = [optimal(tau, 0.0).sum() for tau in (0.02, 0.05, 0.1, 0.3)]
    assert volumes == sorted(volumes, reverse=True)
    assert volumes[0] > 2 * volumes[-1]
    specks = []
    for kappa in (0.0, 0.01, 0.03, 0.1):
        mask = optimal(0.1, kappa)
        specks.append(int(mask.sum() - mask[..., 9:21, 9:21].sum()))
    assert specks == sorted(specks, reverse=True)
    assert specks[0] > 20
    assert specks[-1] < specks[0] / 4


def test_healthy_tissue_is_not_masked_at_the_canonical_price_and_is_at_the_released_one():
    # Two noisy images of one healthy brain.
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 104), torch.linspace(-1, 1, 88), indexing="ij")
    brain = ((y**2 + x**2) < 0.8)[None, None]
    tissue = torch.where(brain, 0.5 + 0.2 * torch.sin(9 * x) * torch.cos(7 * y), 0.0)
    fixed, moved = (tissue + 0.02 * torch.randn(tissue.shape, generator=generator) for _ in "fm")
    masked = {}
    for reduction in ("mean", "paper-sum", "mean-as-released"):
        settings = PRESETS["mri-2d"].__dict__ | {
            "volume_reduction": reduction,
            "reference_voxels": 104 * 88,
        }
        functional = Functional(**settings)
        logits = torch.full_like(fixed, -2.0).requires_grad_()
        adam = torch.optim.Adam([logits], lr=0.1)
        for _ in range(200):
            adam.zero_grad()
            functional(
                moved, fixed, torch.zeros(1, 2, 104, 88), torch.sigmoid(logits)
            ).total.sum().backward()
            adam.step()
        masked[reduction] = float((logits > 0)[brain].double().mean())
    assert masked["mean"] < 0.01
    assert masked["paper-sum"] < 0.01
    assert masked["mean-as-released"] > 0.2


def test_settings_and_presets_can_be_sent_to_other_processes():
    for settings in (*PRESETS.values(), FULL):
        assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"similarity": "ssd"}, "similarity must be one of mse, ncc"),
        ({"volume_reduction": "sum"}, "volume_reduction must be one of mean"),
        ({"alpha": -1.0}, "alpha must be finite and not negative"),
        ({"alpha": (0.1, float("nan"))}, "alpha must be finite"),
        ({"tau": float("inf")}, "tau must be finite"),
        ({"level_weights": ()}, "level_weights must be finite"),
        ({"level_spacing": (1.0, 0.0)}, "level_spacing must be positive"),
        ({"reference_voxels": 0}, "reference_voxels must be positive"),
    ],
)
def test_refuses_settings_that_mean_nothing(change, text):
    with pytest.raises(ArgumentError, match=text):
        Functional(**change)


def test_refuses_tensors_and_settings_that_do_not_fit():
    moved, fixed, velocity, mask, _ = batch(6, 7)
    with pytest.raises(ShapeError, match="moved must have the shape of fixed"):
        FULL(moved[..., 1:], fixed, velocity)
    with pytest.raises(ShapeError, match="noncorrespondence must have shape"):
        FULL(moved, fixed, velocity, mask[..., 1:])
    with pytest.raises(ArgumentError, match="foreground must be left out"):
        Functional(volume_reduction="paper-sum")(moved, fixed, velocity, mask, foreground=mask)
