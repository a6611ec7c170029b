import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.fields import smooth


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", [(2, 1, 13, 17), (1, 3, 9, 14, 11), (1, 1, 5, 1, 7)])
@pytest.mark.parametrize("sigma", [1.25, 2.0])  # where scipy cuts the kernel at the same tap
def test_agrees_with_scipy(shape, sigma):
    image = random(*shape)
    expected = np.stack(
        [
            [gaussian_filter(c, sigma, mode="nearest", truncate=4.0) for c in n]
            for n in image.numpy()
        ]
    )
    assert_close(smooth(image, sigma), torch.from_numpy(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [4.25, 40.0])
def test_gaussians_wider_than_the_image_agree_with_scipy_too(sigma):
    image = random(1, 1, 7, 12)
    expected = gaussian_filter(image[0, 0].numpy(), sigma, mode="nearest", truncate=4.0)
    assert_close(smooth(image, sigma)[0, 0].numpy(), expected, rtol=0, atol=1e-12)


def test_a_sigma_without_bounds_leaves_the_mean_of_both_borders():
    rows = random(1, 1, 7, 1)
    found = smooth(rows, (1e30, 0.0))  # taps to four sigmas would fill any memory
    expected = (rows[0, 0, 0, 0] + rows[0, 0, -1, 0]) / 2
    assert (found - expected).abs().max() < 0.01


def test_each_axis_has_its_own_sigma_and_zero_leaves_an_axis_alone():
    image = random(1, 1, 12, 15, 9)
    expected = gaussian_filter(image[0, 0].numpy(), (0, 2.0, 1.25), mode="nearest", truncate=4.0)
    assert_close(smooth(image, (0.0, 2.0, 1.25))[0, 0].numpy(), expected, rtol=0, atol=1e-12)


def test_sigma_in_millimetres_is_divided_by_the_voxel_size_of_its_axis():
    image = random(1, 2, 12, 15)
    assert_close(smooth(image, 3.0, spacing=(1.5, 3.0)), smooth(image, (2.0, 1.0)))


@pytest.mark.parametrize("sigma", [0.3, 2.0, 40.0])
def test_a_constant_stays_constant_up_to_the_border(sigma):
    # but for the rounding of one sum per tap and axis
    for dtype, rounding in ((torch.float32, 6e-8), (torch.float64, 1.2e-16)):
        image = torch.full((1, 1, 11, 6, 9), 0.7, dtype=dtype)
        assert_close(smooth(image, sigma), image, rtol=0, atol=rounding * (6 + sigma))


def test_the_variance_of_a_point_is_sigma_squared():
    image = torch.zeros(1, 1, 81, 3, dtype=torch.float64)
    image[0, 0, 40] = 1
    line = smooth(image, (3.0, 0.0))[0, 0, :, 1]
    position = torch.arange(81.0, dtype=torch.float64) - 40
    # Cut at 4 sigma, the variance lacks 0.1 %.
    assert math.isclose((line * position.square()).sum(), 9.0, rel_tol=2e-3)


def test_is_linear_with_the_transpose_as_gradient():
    image = random(1, 2, 7, 6, 5).requires_grad_()
    other = random(1, 2, 7, 6, 5, seed=1)
    (smooth(image, 1.3) * other).sum().backward()
    impulse = torch.zeros_like(other)
    impulse[0, 1, 2, 3, 4] = 1
    assert math.isclose(image.grad[0, 1, 2, 3, 4], (smooth(impulse, 1.3) * other).sum())
    corner = torch.zeros_like(other)
    corner[0, 0, 0, 5, 0] = 1
    assert math.isclose(image.grad[0, 0, 0, 5, 0], (smooth(corner, 1.3) * other).sum())


def test_gradient_agrees_with_finite_differences():
    image = random(1, 2, 3, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: smooth(x, (1.2, 0.7)), image)


def test_is_bitwise_equal_for_any_number_of_threads():
    image = random(1, 3, 40, 56, 97, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(smooth(image, 1.5))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_refuses_a_sigma_that_is_none(sigma):
    with pytest.raises(ArgumentError, match="sigma must be finite"):
        smooth(random(1, 1, 4, 4), sigma)


def test_refuses_wrong_numbers_of_entries_and_spacings_of_zero():
    with pytest.raises(ShapeError, match="sigma must be one number or 2"):
        smooth(random(1, 1, 4, 4), (1.0, 1.0, 1.0))
    with pytest.raises(ArgumentError, match="spacing must be positive"):
        smooth(random(1, 1, 4, 4), 1.0, spacing=(1.0, 0.0))
    with pytest.raises(ShapeError, match=r"\(N, C, \*spatial\)"):
        smooth(random(4, 4), 1.0)
