"""Fields of large images are made in pieces, and are the same as if made whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itk_ncr.fields import downsample, smooth
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import DeferredImage, Image, map_values, resample
from itk_ncr.ops import exponential_pair, jacobian_determinant
from itk_ncr.registration import full_resolution, reduction
from itk_ncr.registration.full_resolution import FullResolution
from itk_ncr.registration.reduction import reduced

FIXED = Grid.of_array((13, 14, 15), spacing=(1.0, 1.5, 2.0))
AFFINE = AffineMap(((1.1, 0.1, 0.0), (0.0, 0.9, 0.0), (0.0, 0.0, 1.2)), (1.0, -2.0, 0.5))
FIELDS = ("displacement", "displacement_inverse", "deformation", "determinant", "inverse_error")


def made(working: Grid) -> FullResolution:
    generator = torch.Generator().manual_seed(0)
    velocity = 4 * smooth(torch.randn(1, 3, *working.shape, generator=generator), 1.5)
    return FullResolution(*exponential_pair(velocity), working, FIXED, FIXED, AFFINE)


@pytest.fixture(params=["same", "coarser"])
def full(request):
    return made(FIXED if request.param == "same" else FIXED.resized((7, 8, 9)))


def test_what_is_deferred_is_what_would_be_kept(full, monkeypatch):
    monkeypatch.setattr("itk_ncr.images.image.SLAB_VOXELS", 450)  # slabs of two rows
    kept = {name: getattr(full, name)().array for name in FIELDS}
    region = np.zeros(FIXED.shape, bool)
    region[3:11, 4:12, 2:13] = True
    figures = full.regularity(full.determinant(), region)
    monkeypatch.setattr(full_resolution, "KEPT_VOXELS", 0)
    for name in FIELDS[:-1]:
        image = getattr(full, name)()
        assert isinstance(image, DeferredImage)
        assert image.dtype == kept[name].dtype
        assert np.array_equal(image.array, kept[name]), name
    assert full.regularity(full.determinant(), region) == figures


def test_figures_are_those_of_the_region(full):
    region = np.zeros(FIXED.shape, bool)
    region[3:11, 4:12, 2:13] = True
    determinant, error = full.determinant(), full.inverse_error(voxels=True)
    figures = full.regularity(determinant, region)
    assert figures.minimum_jacobian == determinant.array[region].min()
    assert figures.inverse_error_mean_voxel == pytest.approx(error.array[region].mean(), rel=1e-5)
    assert figures.inverse_error_max_voxel == error.array[region].max()
    everywhere = full.regularity(determinant, np.zeros_like(region))
    assert everywhere.minimum_jacobian == determinant.array.min()


def test_the_determinant_in_slabs_has_all_its_neighbours(monkeypatch):
    full = made(FIXED)
    whole = jacobian_determinant(full.u)[0, 0].numpy()
    for size in (1, 450, 10_000):
        monkeypatch.setattr("itk_ncr.images.image.SLAB_VOXELS", size)
        assert np.array_equal(full.determinant().array, whole)


def test_the_working_deformation_is_the_deformation():
    full = made(FIXED.resized((7, 8, 9)))
    fine = resample(full.working_deformation(), FIXED).array
    np.testing.assert_allclose(fine, full.deformation().array, atol=1e-4)


def test_the_inverse_error_in_voxels_is_that_of_the_fields_as_written():
    full = made(FIXED.resized((7, 8, 9)))
    there = FIXED.points() + full.displacement().array
    back = full.displacement_inverse()
    index = np.stack(
        [resample(Image(FIXED.points()[..., c].copy(), FIXED), FIXED).array for c in range(3)], -1
    )
    np.testing.assert_allclose(index, FIXED.points(), atol=1e-4)
    inner = (slice(3, -3),) * 3
    points = there[inner].reshape(-1, 3)
    from itk_ncr.images import transform_points

    keep = ((FIXED.continuous_index(points) > 0.5).all(1)) & (
        FIXED.continuous_index(points) < np.asarray(FIXED.size) - 1.5
    ).all(1)
    missed = transform_points(points[keep], back) - FIXED.points()[inner].reshape(-1, 3)[keep]
    found = full.inverse_error().array[inner].reshape(-1)[keep]
    # The file is interpolated between its voxels once more.
    assert np.abs(np.linalg.norm(missed, axis=1) - found).mean() < 0.25


def test_a_deferred_image_is_kept_only_while_it_is_in_use():
    calls = []

    def open_rows():
        calls.append(1)
        return lambda slab: np.full((slab.stop - slab.start, *FIXED.shape[1:]), 7, np.int16)

    image = DeferredImage(FIXED, np.int16, open_rows)
    assert repr(image).startswith("<Image (15, 14, 13) int16")
    assert not calls
    held = image.array
    assert image.array is held
    assert len(calls) == 1
    del held
    assert image.array[0, 0, 0] == 7
    assert len(calls) == 2
    doubled = map_values(image, lambda values: values * 2, np.float32)
    assert isinstance(doubled, DeferredImage)
    assert doubled.array.dtype == np.float32
    assert (doubled.array == 14).all()


def test_reduction_in_slabs_is_the_reduction(monkeypatch):
    noise = np.random.default_rng(0).normal(size=FIXED.shape).astype(np.float32)
    whole = downsample(torch.from_numpy(noise)[None, None], (6, 14, 7))
    assert torch.equal(reduced(Image(noise, FIXED), (6, 14, 7)), whole)
    monkeypatch.setattr(reduction, "WHOLE_VOXELS", 0)
    monkeypatch.setattr("itk_ncr.images.image.SLAB_VOXELS", 450)
    torch.testing.assert_close(reduced(Image(noise, FIXED), (6, 14, 7)), whole, atol=1e-6, rtol=0)
