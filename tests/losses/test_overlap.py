import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ShapeError
from itk_ncr.losses import dice


def test_pooled_dice_by_hand():
    fixed, moved = torch.zeros(1, 2, 2, 5), torch.zeros(1, 2, 2, 5)
    fixed[0, 0] = 1  # 10 voxels, all found
    moved[0, 0] = 1
    fixed[0, 1, 0, :3] = 1  # 3 voxels, one of 2 found
    moved[0, 1, 0, 2:4] = 1
    # pooled: 2 (10 + 1) / (10 + 3 + 10 + 2); the mean over classes would be .7
    assert_close(dice(moved, fixed), torch.tensor([22 / 25]), rtol=1e-6, atol=0)
    assert_close(
        dice(moved, fixed, per_class=True), torch.tensor([[1.0, 2 / 5]]), rtol=1e-5, atol=0
    )


def test_soft_labels_count_by_their_probability():
    fixed, moved = torch.full((2, 1, 3, 3), 0.5), torch.full((2, 1, 3, 3), 1.0)
    moved[1] = 0.5
    assert_close(dice(moved, fixed), torch.tensor([2 * 4.5 / 13.5, 2 * 2.25 / 9]))


def test_empty_masks_overlap_perfectly_and_strangers_not_at_all():
    empty = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    assert dice(empty, empty) == 1
    assert dice(empty, empty + 1) == 1e-5 / (16 + 1e-5)


def test_gradient_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(2, 2, 3, 3, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda m: dice(m, labels.flip(2), per_class=True), labels.requires_grad_()
    )


def test_refuses_labels_of_different_shape():
    with pytest.raises(ShapeError, match="moved must have the shape of fixed"):
        dice(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4))
