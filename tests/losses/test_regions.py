import math

import pytest
import torch
from scipy.ndimage import sobel
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.losses import perimeter, volume
from itk_ncr.losses.regions import LENGTHS

ROUND = {(64, 64): lambda r: 2 * math.pi * r, (44, 44, 44): lambda r: 4 * math.pi * r**2}


def ball(shape, radius, *, soft=False):
    """A disc or ball, a little off the centre of the grid; edges of one voxel if soft."""
    axes = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 - 0.13 for n in shape]
    distance = sum(a.square() for a in torch.meshgrid(*axes, indexing="ij")).sqrt()
    inside = (radius - distance + 0.5).clamp(0, 1) if soft else (distance <= radius).double()
    return inside[None, None]


def size(mask, form, **options):
    """Boundary in voxels."""
    return float(perimeter(mask, form, **options) * mask[0, 0].numel())


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7)])
@pytest.mark.parametrize("form", [*LENGTHS, "released"])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.5, 1.0])
def test_a_constant_mask_has_no_boundary(shape, form, value):
    mask = torch.full((2, 1, *shape), value, dtype=torch.float64).requires_grad_()
    found = perimeter(mask, form)
    assert found.shape == (2,)
    assert found.abs().max() < 1e-14
    found.sum().backward()
    assert mask.grad.abs().max() < 1e-9


@pytest.mark.parametrize("shape", ROUND)
@pytest.mark.parametrize("radius", [8, 12, 16])
def test_the_boundary_of_a_round_mask_is_its_circumference_or_surface(shape, radius):
    truth = ROUND[shape](radius)
    binary, soft = ball(shape, radius), ball(shape, radius, soft=True)
    for form in ("tv", "sobel"):
        assert_close(size(binary, form), truth, rtol=0.10, atol=0)
        assert_close(size(soft, form), truth, rtol=0.03, atol=0)
    # Mean of |cos| + |sin| over all directions, and of three such terms over the sphere.
    assert_close(
        size(binary, "faces"), truth * {2: 4 / math.pi, 3: 1.5}[len(shape)], rtol=0.02, atol=0
    )


@pytest.mark.parametrize("form", LENGTHS)
def test_the_sides_of_a_square_and_half_its_height_count_in_full_and_half(form):
    square = torch.zeros(1, 1, 40, 50, dtype=torch.float64)
    square[..., 10:30, 15:35] = 1
    assert_close(size(square, form), 80.0, rtol=0.03, atol=0)
    assert_close(size(0.5 * square, form), size(square, form) / 2)


@pytest.mark.parametrize("form", LENGTHS)
def test_a_mask_at_the_rim_of_the_image_pays_for_its_inner_side_only(form):
    mask = torch.zeros(1, 1, 12, 20, dtype=torch.float64)
    mask[..., :7] = 1
    assert_close(size(mask, form), 12.0)


@pytest.mark.parametrize("form", ["tv", "sobel"])
def test_a_sharp_boundary_keeps_its_gradient_and_the_released_form_does_not(form):
    disc = ball((64, 64), 12).requires_grad_()
    (living,) = torch.autograd.grad(perimeter(disc, form).sum(), disc)
    (dead,) = torch.autograd.grad(perimeter(disc, "released").sum(), disc)
    assert living.norm() > 1e-3
    # the corners of the disc are not quite saturated; at straight edges tanh' is 5e-14
    straight = dead[..., 31:33, :]
    assert straight.norm() < 1e-10


def test_shrinking_a_disc_lowers_its_perimeter():
    disc = ball((64, 64), 12)
    for form in LENGTHS:
        moving = disc.clone().requires_grad_()
        perimeter(moving, form).sum().backward()
        rim = disc - ball((64, 64), 11)
        # taking the outermost ring off a little makes the boundary lower there
        assert (moving.grad * rim).sum() > 0


def test_the_sobel_form_is_scipys_filter_divided_by_its_gain():
    for shape, gain in (((9, 11), 8.0), ((6, 7, 8), 32.0)):
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        parts = [sobel(mask.numpy(), axis, mode="nearest") / gain for axis in range(len(shape))]
        expected = torch.from_numpy(sum(p**2 for p in parts) ** 0.5).mean()
        assert_close(perimeter(mask[None, None], "sobel")[0], expected)


def test_the_released_form_is_tanh_of_scipys_undivided_filter_without_the_rim():
    for shape in ((9, 11), (6, 7, 8)):
        mask = 0.2 * torch.rand(shape, generator=torch.Generator().manual_seed(0)).double()
        inner = (slice(1, -1),) * len(shape)
        energy = sum(
            torch.from_numpy(sobel(mask.numpy(), a))[inner] ** 2 for a in range(len(shape))
        )
        assert_close(perimeter(mask[None, None], "released")[0], torch.tanh(energy).mean())


def test_the_kernels_of_the_paper_give_a_constant_mask_a_perimeter():
    # Probes of the published code: .1, .5, 1 -> .16, .999, 1 and before .31, 1, 1
    for value, released, paper in ((0.1, 0.16, 0.31), (0.5, 0.999, 1.0), (1.0, 1.0, 1.0)):
        mask = torch.full((1, 1, 5, 6, 7), value)
        assert abs(perimeter(mask, "released", sobel3d="released") - released) < 0.005
        assert abs(perimeter(mask, "released", sobel3d="paper") - paper) < 0.005
        assert perimeter(mask, "released", sobel3d="correct") == 0
    flat = torch.full((1, 1, 5, 6), 0.5)
    assert perimeter(flat, "released", sobel3d="paper") == 0  # the 2D kernels were right


@pytest.mark.parametrize("form", [*LENGTHS, "released"])
def test_gradients_agree_with_finite_differences(form):
    generator = torch.Generator().manual_seed(0)
    for shape in ((5, 6), (4, 4, 5)):
        mask = 0.3 * torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda m: perimeter(m, form), mask.requires_grad_())


def test_volume_is_the_share_of_masked_voxels():
    mask = torch.zeros(2, 1, 4, 5)
    mask[0, 0, :2] = 1
    mask[1, 0, 0, 0] = 0.5
    assert_close(volume(mask), torch.tensor([0.5, 0.025]))
    foreground = torch.zeros_like(mask)
    foreground[..., 1:3, :] = 1
    assert_close(volume(mask, foreground=foreground), torch.tensor([0.5, 0.0]))
    assert_close(perimeter(mask, foreground=foreground)[:1] * 10, torch.tensor([5.0]))


def test_refuses_what_does_not_fit():
    mask = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ShapeError, match="noncorrespondence must have one channel"):
        perimeter(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ArgumentError, match="form must be one of tv, faces, sobel, released"):
        perimeter(mask, "round")
    with pytest.raises(ArgumentError, match="sobel3d must be one of"):
        perimeter(mask, "released", sobel3d="none")
    with pytest.raises(ArgumentError, match="foreground must be left out"):
        perimeter(mask, "released", foreground=mask)
    with pytest.raises(ShapeError, match="3 voxels or more"):
        perimeter(mask[..., :2], "released")
    with pytest.raises(ShapeError, match="foreground must have shape"):
        volume(mask, foreground=mask[..., 1:])
