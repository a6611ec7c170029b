"""Fields in voxels mean what Learn2Reg and VoxelMorph mean by them; their formula is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from itk_ncr.errors import ArgumentError, ImageReadError, ImageValueError, ShapeError
from itk_ncr.images import (
    Image,
    from_voxel_field,
    read_voxel_field,
    resample,
    to_voxel_field,
    write_image,
    write_voxel_field,
)

RNG = np.random.default_rng(4)
SPACINGS = (0.8, 1.5, 2.5)


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def grids(request, make_grid):
    """Fixed and moving: other size, spacing, direction and place."""
    dimension = request.param
    fixed = make_grid((9, 8, 10)[:dimension], SPACINGS[:dimension], seed=1)
    moving = make_grid(
        (11, 12, 9)[:dimension], SPACINGS[::-1][:dimension], seed=2, left_handed=True, shift=0.5
    )
    return fixed, moving


def small_field(grid):
    return Image(RNG.normal(scale=0.7, size=(*grid.shape, grid.dimension)).astype(np.float32), grid)


def learn2reg_warp(moving, field):
    """As its evaluation does it, with nibabel's order of axes."""
    identity = np.meshgrid(*(np.arange(n) for n in field.shape[:-1]), indexing="ij")
    return map_coordinates(moving, identity + np.moveaxis(field, -1, 0), order=1)


def test_learn2reg_warps_the_moving_array_to_where_we_warp_the_moving_image(grids):
    fixed, moving_grid = grids
    displacement = small_field(fixed)
    moving = Image(RNG.normal(size=moving_grid.shape).astype(np.float32), moving_grid)
    theirs = learn2reg_warp(moving.array.T, to_voxel_field(displacement, moving_grid))
    ours = resample(moving, fixed, displacement=displacement).array.T
    inside = (theirs != 0) & (ours != 0)  # they differ in what is outside
    assert inside.mean() > 0.2
    assert np.abs(theirs - ours)[inside].max() < 1e-4


def test_there_and_back_is_the_same(grids):
    fixed, moving = grids
    displacement = small_field(fixed)
    for grid in (moving, None):
        back = from_voxel_field(to_voxel_field(displacement, grid), fixed, grid)
        assert back.grid.equals(fixed)
        np.testing.assert_allclose(back.array, displacement.array, atol=1e-4)


def test_one_voxel_along_x_is_one_spacing_along_the_first_direction(make_grid):
    grid = make_grid((4, 5, 6), SPACINGS, seed=3)
    field = np.zeros((*grid.size, 3))
    field[..., 0] = 1
    expected = np.asarray(grid.direction)[:, 0] * grid.spacing[0]
    np.testing.assert_allclose(
        from_voxel_field(field, grid).array, np.broadcast_to(expected, (*grid.shape, 3)), atol=1e-5
    )


@pytest.mark.parametrize("layout", ["last", "first", "npz of Learn2Reg", "npz of VoxelMorph"])
def test_files_of_all_layouts_are_the_same_field(layout, grids, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    fixed, moving = grids
    displacement = small_field(fixed)
    field = to_voxel_field(displacement, moving)
    path = tmp_path / ("x.npz" if "npz" in layout else "x.nii.gz")
    first = np.moveaxis(field, -1, 0)
    if layout == "npz of Learn2Reg":
        np.savez(path, first.astype(np.float16))
    elif layout == "npz of VoxelMorph":
        np.savez(path, vol=field)
    else:
        values = field if layout == "last" else first
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    found = read_voxel_field(path, fixed, moving)
    # float16 has steps of .004 at the largest positions here, in voxels of up to 2.5 mm.
    tolerance = 0.05 if "Learn2Reg" in layout else 1e-4
    np.testing.assert_allclose(found.array, displacement.array, atol=tolerance)


def test_a_file_that_we_write_is_read_by_nibabel_as_the_field(grids, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    fixed, moving = grids
    displacement = small_field(fixed)
    write_voxel_field(displacement, tmp_path / "x.nii.gz", moving)
    theirs = nibabel.load(tmp_path / "x.nii.gz")
    assert theirs.shape == (*fixed.size, fixed.dimension)
    assert np.array_equal(theirs.get_fdata(), to_voxel_field(displacement, moving))
    np.testing.assert_allclose(
        read_voxel_field(tmp_path / "x.nii.gz", fixed, moving).array, displacement.array, atol=1e-4
    )


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((9, 8, 10, 3), "that of the fixed image; got"),  # (z, y, x), as numpy has it
        ((5, 4, 4, 3), "half the size: double it first"),
        ((10, 8, 9), "must have the shape"),
        ((10, 8, 9, 2), "must have the shape"),
    ],
)
def test_a_field_of_another_image_is_refused(shape, reason, make_grid):
    with pytest.raises(ShapeError, match=reason):
        from_voxel_field(np.zeros(shape), make_grid((9, 8, 10), SPACINGS, seed=0))


def test_values_that_are_no_positions_are_refused(make_grid):
    grid = make_grid((4, 5, 6), SPACINGS, seed=0)
    field = np.zeros((*grid.size, 3))
    field[0, 0, 0, 0] = np.nan
    with pytest.raises(ImageValueError, match="finite; got 1 NaN"):
        from_voxel_field(field, grid)
    with pytest.raises(ImageValueError, match="real numbers; got complex"):
        from_voxel_field(field.astype(complex), grid)
    with pytest.raises(ArgumentError, match="moving must have 3 axes"):
        from_voxel_field(np.zeros((*grid.size, 3)), grid, make_grid((4, 5), (1, 1), seed=0))


def test_fields_of_others_are_named_with_what_to_do(make_grid, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    grid = make_grid((4, 5, 6), SPACINGS, seed=0)
    write_image(small_field(grid), tmp_path / "itk.nii.gz")
    fsl = nibabel.Nifti1Image(np.zeros((*grid.size, 3), np.float32), np.eye(4))
    fsl.header["intent_code"] = 2006
    nibabel.save(fsl, tmp_path / "fsl.nii.gz")
    np.savez(tmp_path / "none.npz", warp=np.zeros(3))
    np.savez(tmp_path / "objects.npz", arr_0=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("text")
    plain = nibabel.Nifti1Image(np.ones((*grid.size, 3), np.float32), np.eye(4))
    nibabel.save(plain, tmp_path / "plain.nii.gz")
    whole = (tmp_path / "plain.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[:-9])
    for name, reason in {
        "itk.nii.gz": "in mm, of ITK, ANTs or greedy. Use it as it is",
        "fsl.nii.gz": "wb_command -convert-warpfield -from-fnirt",
        "none.npz": "must hold an array arr_0 or vol; it holds warp",
        "objects.npz": "not a file of numpy arrays, or damaged",
        "text.npz": "not a file of numpy arrays, or damaged",
        "cut.nii.gz": "truncated|damaged",
        "gone.nii.gz": "no such file",
        "x.mha": "must end in one of .nii",
    }.items():
        with pytest.raises(ImageReadError, match=f"cannot read voxel field.*{reason}"):
            read_voxel_field(tmp_path / name, grid)


@pytest.mark.parametrize("size", [(6, 5, 4, 3), (6, 5, 4, 1, 3)])
def test_a_voxel_field_is_not_taken_for_one_in_mm(size, make_grid, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    from itk_ncr.images import read_displacement

    nibabel.save(nibabel.Nifti1Image(np.zeros(size, np.float32), np.eye(4)), tmp_path / "u.nii.gz")
    with pytest.raises(ImageReadError, match="Learn2Reg or VoxelMorph: `itk-ncr convert`"):
        read_displacement(tmp_path / "u.nii.gz")
