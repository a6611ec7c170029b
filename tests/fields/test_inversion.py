import pytest
import torch

from itk_ncr.errors import ShapeError
from itk_ncr.fields import inverse_consistency, invert_displacement
from itk_ncr.ops import exponential


def smooth_velocity(shape, peak, seed):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, len(shape), *(5,) * len(shape), generator=generator)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    field = torch.nn.functional.interpolate(coarse, shape, mode=mode, align_corners=True)
    return field * (peak / field.abs().max())


@pytest.mark.parametrize("shape", [(40, 33), (20, 17, 23)])
def test_the_inverse_of_an_exponential_is_that_of_minus_the_velocity(shape):
    velocity = smooth_velocity(shape, 1.0, 0)
    found = invert_displacement(exponential(velocity))
    inner = (slice(None),) * 2 + (slice(4, -4),) * len(shape)
    # The closed form is off by its own interpolation; see the laws of the exponential.
    assert (found - exponential(-velocity))[inner].abs().max() < 0.1


def test_there_and_back_is_as_close_as_asked():
    displacement = exponential(smooth_velocity((40, 33), 3.0, 1))
    for tolerance in (0.2, 0.01):
        found = invert_displacement(displacement, tolerance=tolerance)
        back = inverse_consistency(found, displacement)
        assert back.max() <= tolerance
    assert torch.equal(invert_displacement(displacement, iterations=0), 0 * displacement)


def test_a_constant_shift_is_undone_at_once():
    shift = torch.full((1, 2, 9, 9), 1.5)
    assert torch.equal(invert_displacement(shift, iterations=1), -shift)


def test_a_fold_has_no_inverse_but_the_best_that_was_seen():
    folding = 3 * smooth_velocity((30, 30), 6.0, 2)
    found = invert_displacement(folding)
    assert found.isfinite().all()
    assert inverse_consistency(found, folding).mean() < folding.norm(dim=1).mean()


def test_what_is_no_displacement_is_refused():
    with pytest.raises(ShapeError, match="one channel per axis"):
        invert_displacement(torch.zeros(1, 3, 8, 8))
