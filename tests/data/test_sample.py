"""Samples become batches without losing or inventing a truth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from itk_ncr.data import Sample, collate
from itk_ncr.errors import ArgumentError, ShapeError


def sample(name: str, value: float, **fields) -> Sample:
    return Sample(name, torch.full((1, 4, 5), value), torch.full((1, 4, 5), -value), **fields)


def test_a_batch_stacks_what_its_samples_hold() -> None:
    batch = collate([sample("a", 1.0), sample("b", 2.0), sample("c", 3.0)])
    assert batch.names == ("a", "b", "c")
    assert batch.fixed.shape == batch.moving.shape == (3, 1, 4, 5)
    assert batch.fixed[:, 0, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert batch.moving[:, 0, 0, 0].tolist() == [-1.0, -2.0, -3.0]
    assert batch.lesion is None
    assert batch.fixed_labels is None


def test_missing_labels_become_no_label_and_the_wider_type_wins() -> None:
    small = torch.full((4, 5), 7, dtype=torch.uint8)
    large = torch.full((4, 5), 700, dtype=torch.int16)
    batch = collate(
        [
            sample("a", 1.0, fixed_labels=small, moving_labels=small),
            sample("b", 1.0),
            sample("c", 1.0, fixed_labels=large, moving_labels=large),
        ]
    )
    assert batch.fixed_labels is not None
    assert batch.fixed_labels.dtype == torch.int16
    assert batch.fixed_labels[:, 0, 0].tolist() == [7, 0, 700]


@pytest.mark.parametrize("truth", ["lesion", "displacement", "velocity"])
def test_a_truth_known_for_some_samples_only_is_refused(truth) -> None:
    known = replace(sample("a", 1.0), **{truth: torch.zeros(2, 4, 5)})
    assert getattr(collate([known, known]), truth).shape == (2, 2, 4, 5)
    with pytest.raises(ArgumentError, match=f"{truth} must be known for all"):
        collate([known, sample("b", 1.0)])


def test_images_of_different_size_are_refused_by_name() -> None:
    other = Sample("odd", torch.zeros(1, 4, 6), torch.zeros(1, 4, 6))
    with pytest.raises(ShapeError, match="fixed of 'odd'"):
        collate([sample("a", 1.0), other])
    with pytest.raises(ArgumentError, match="at least one"):
        collate([])
