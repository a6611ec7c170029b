"""Votes of several moving images about one fixed image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

import itk_ncr
from itk_ncr.errors import ArgumentError, GeometryError, ImageReadError, RegistrationError
from itk_ncr.registration.studies.vote import MOST_CERTAIN, combined

SHAPE = (48, 56)


def person(seed: int) -> np.ndarray:
    """A bright disc with folds of its own on a dark ground."""
    rows, columns = np.indices(SHAPE)
    distance = np.hypot(rows - 24, (columns - 28) * 0.85)
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 3.0)
    common = ndimage.gaussian_filter(np.random.default_rng(99).standard_normal(SHAPE), 2.0)
    return ((distance < 19) * (120 + 160 * common + 60 * texture)).clip(0).astype(np.float32)


@pytest.fixture(scope="module")
def patient() -> np.ndarray:
    ill = person(0)
    ill[18:28, 30:42] = 250.0
    return ill


@pytest.fixture(scope="module")
def vote(patient):
    return itk_ncr.register(patient, [person(1), person(2)], affine="none", threads=1)


def test_a_list_of_moving_images_is_a_vote_with_every_single_map(vote):
    assert isinstance(vote, itk_ncr.VoteResult)
    assert [ballot.name for ballot in vote.ballots] == ["moving image 1", "moving image 2"]
    assert vote.noncorrespondence.array.shape == SHAPE
    masks = np.stack([result.mask.array for result in vote.results])
    np.testing.assert_allclose(vote.agreement.array, masks.mean(0))
    np.testing.assert_array_equal(vote.mask.array, vote.noncorrespondence.array > 0.5)


def test_a_region_that_only_one_of_three_images_lacks_is_voted_down():
    odds = torch.full((3, *SHAPE), -3.0)
    odds[:, 10:20, 10:20] = 3.0  # all
    odds[0, 30:40, 30:40] = 50.0  # one alone, and sure of it
    together = combined(list(odds))
    assert (together[12:18, 12:18] > 0).all()
    assert (together[30:40, 30:40] < 0).all()
    assert together.max() <= MOST_CERTAIN


def test_a_vote_does_not_depend_on_the_order_of_its_images(vote, patient):
    turned = itk_ncr.vote(patient, [person(2), person(1)], affine="none", threads=1)
    np.testing.assert_allclose(
        turned.noncorrespondence.array, vote.noncorrespondence.array, atol=1e-5
    )


def test_an_unreadable_image_is_named_and_left_out_only_when_asked(tmp_path, patient):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"nothing")
    with pytest.raises(ImageReadError, match=r"moving image 2.*broken\.nii\.gz"):
        itk_ncr.vote(patient, [person(1), broken], affine="none")
    left = itk_ncr.vote(patient, [person(1), broken], affine="none", keep_going=True, threads=1)
    assert [name for name, _ in left.failures] == ["broken.nii.gz"]
    assert any("broken.nii.gz was left out" in text for text in left.warnings)


def test_an_image_that_cannot_be_registered_is_named(patient):
    far = itk_ncr.Image(person(1), itk_ncr.Grid.of_array(SHAPE, origin=(9000.0, 0.0)))
    with pytest.raises(GeometryError, match=r"overlap.*\(moving image 2\)"):
        itk_ncr.vote(patient, [person(2), far], affine="none", threads=1)


def test_a_vote_of_nobody_is_an_error(tmp_path, patient):
    missing = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    with pytest.raises(RegistrationError, match=r"no moving image.*a\.nii\.gz"):
        itk_ncr.vote(patient, missing, keep_going=True)


@pytest.mark.parametrize(
    ("moving", "options", "said"),
    [
        ([person(1)], {}, "two images or more"),
        (person(1), {}, "must be a list"),
        ([person(1), person(1)], {}, "moving image 2 like moving image 1"),
        ([person(1), person(0)], {}, "moving image 2 like fixed image"),
        ([person(1), person(2)], {"mask": "none"}, "mask must be 'auto'"),
        ([person(1), person(2)], {"moving_lesion_mask": [None]}, "one entry per moving image, 2"),
        ([person(1), person(2)], {"moving_lesion_mask": person(1)}, "must be a list"),
        ([person(1), person(2)], {"method": "demons"}, "'demons', which finds none"),
    ],
)
def test_what_makes_no_vote_is_refused_in_one_line(moving, options, said):
    with pytest.raises(ArgumentError, match=said):
        itk_ncr.vote(person(0), moving, affine="none", **options)


def test_a_vote_is_saved_with_maps_record_and_page(vote, tmp_path):
    folder = vote.save(tmp_path / "out")
    names = {path.name for path in folder.iterdir()}
    assert {"mask.nrrd", "agreement.nrrd", "mask_probability_2.nrrd", "transform_1.h5"} <= names
    read = itk_ncr.read_image(folder / "mask.nrrd")
    np.testing.assert_array_equal(read.array, vote.mask.array)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "moving image 2" in page
    assert page.count("data:image/png") >= 5
