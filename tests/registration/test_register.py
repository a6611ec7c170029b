import dataclasses
import json
import threading

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import itk_ncr
from itk_ncr.data import OctPhantoms
from itk_ncr.errors import (
    ArgumentError,
    GeometryError,
    ImageReadError,
    ImageValueError,
    MemoryLimitError,
    RegistrationAborted,
    ShapeError,
)
from itk_ncr.images import to_sitk
from itk_ncr.registration import REGISTRATIONS, RegistrationSettings, Request
from itk_ncr.registration.pairwise import threads

DARK = 20.0


def with_lesion(image):
    """The image with a dark disc of 9 % of its extent, and the disc."""
    axes = np.meshgrid(*[np.arange(n) for n in image.array.shape], indexing="ij")
    centre = [0.62 * n if i else 0.5 * n for i, n in enumerate(image.array.shape)]
    radius = 0.13 * max(image.array.shape)
    inside = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2
    array = np.where(inside, DARK, image.array).astype(np.float32)
    return itk_ncr.Image(array, image.grid), inside


def error_px(result, field, among):
    """Mean end-point error in voxels."""
    spacing = np.asarray(result.displacement.grid.spacing)
    found = result.displacement.array / spacing
    true = np.moveaxis(field, 0, -1)[..., ::-1]
    return float(np.linalg.norm(found - true, axis=-1)[among].mean())


@pytest.fixture(scope="module")
def plain(slice_pair):
    fixed, moving, _ = slice_pair
    return itk_ncr.register(fixed, moving, affine="none")


def test_a_known_deformation_is_found(slice_pair, plain):
    fixed, _, field = slice_pair
    brain = fixed.array > 0
    before = float(np.linalg.norm(field, axis=0)[brain].mean())
    assert error_px(plain, field, brain) < 0.3 * before
    assert plain.quality.folding_fraction == 0
    assert plain.quality.masked_fraction < 0.01


def test_a_known_deformation_is_found_in_3d(volume_pair):
    fixed, moving, field = volume_pair
    result = itk_ncr.register(fixed, moving, affine="none")
    brain = fixed.array > 0
    before = float(np.linalg.norm(field, axis=0)[brain].mean())
    assert error_px(result, field, brain) < 0.45 * before
    assert result.quality.minimum_jacobian > 0


def test_fields_and_image_agree(slice_pair, plain):
    fixed, moving, _ = slice_pair
    again = plain.resample(moving)
    np.testing.assert_allclose(again.array, plain.warped.array, atol=1e-3)
    assert plain.displacement.grid == fixed.grid
    points = np.array([[30.0, 40.0], [50.0, 60.0]])
    back = plain.transform_points(plain.transform_points(points), inverse=True)
    assert np.abs(back - points).max() < 0.2
    assert plain.quality.inverse_error_mean_voxel < 0.05


def test_a_lesion_is_masked_and_does_no_harm(slice_pair):
    fixed, moving, field = slice_pair
    ill, lesion = with_lesion(fixed)
    told_nothing = itk_ncr.register(ill, moving, affine="none")
    unmasked = itk_ncr.register(ill, moving, affine="none", mask="none")
    found = told_nothing.mask.array > 0
    assert 2 * (found & lesion).sum() / (found.sum() + lesion.sum()) > 0.8
    healthy = (fixed.array > 0) & ~lesion
    assert error_px(told_nothing, field, healthy) < error_px(unmasked, field, healthy)
    assert unmasked.noncorrespondence.array.max() == 0


def test_a_lesion_of_the_moving_image_is_masked_in_its_space(slice_pair):
    fixed, moving, _ = slice_pair
    ill, lesion = with_lesion(moving)
    result = itk_ncr.register(fixed, ill, affine="none")
    found = result.mask_moving.array > 0
    assert 2 * (found & lesion).sum() / (found.sum() + lesion.sum()) > 0.9


def test_a_lesion_of_the_moving_image_is_masked_in_the_fixed_space_too(slice_pair):
    fixed, moving, _ = slice_pair
    ill, lesion = with_lesion(moving)
    result = itk_ncr.register(fixed, ill, affine="none")
    assert result.mask.array.sum() > 0.5 * lesion.sum()


def test_a_given_mask_is_used_in_its_own_space(slice_pair):
    fixed, moving, _ = slice_pair
    ill, lesion = with_lesion(fixed)
    coarse = itk_ncr.Grid((32, 36), (3.0, 3.0), (0.75, 0.75), ((1, 0), (0, 1)))
    mask = itk_ncr.Image(lesion[::2, ::2].astype(np.uint8), coarse)
    result = itk_ncr.register(ill, moving, affine="none", mask="none", lesion_mask=mask)
    found = result.mask.array > 0
    assert 2 * (found & lesion).sum() / (found.sum() + lesion.sum()) > 0.85
    # What the lesion looks like must not matter, but for the scale of the intensities.
    other = itk_ncr.Image(np.where(lesion, 150.0, fixed.array).astype(np.float32), fixed.grid)
    same = itk_ncr.register(
        other,
        moving,
        affine="none",
        mask="none",
        lesion_mask=itk_ncr.Image(lesion.astype(np.uint8), fixed.grid),
    )
    reference = itk_ncr.register(
        ill,
        moving,
        affine="none",
        mask="none",
        lesion_mask=itk_ncr.Image(lesion.astype(np.uint8), fixed.grid),
    )
    difference = np.abs(same.displacement.array - reference.displacement.array)
    assert difference.mean() < 0.15


def test_only_the_region_of_interest_counts(slice_pair, plain):
    fixed, moving, _ = slice_pair
    half = np.zeros(fixed.array.shape, np.uint8)
    half[:, :32] = 1
    result = itk_ncr.register(
        fixed, moving, affine="none", roi_mask=itk_ncr.Image(half, fixed.grid)
    )
    moved = np.linalg.norm(result.displacement.array, axis=-1)
    everywhere = np.linalg.norm(plain.displacement.array, axis=-1)
    right = (fixed.array > 0) & (np.arange(64) > 44)
    assert moved[right].mean() < 0.8 * everywhere[right].mean()


def test_the_knobs_turn_the_right_way(slice_pair):
    fixed, moving, _ = slice_pair
    ill, _ = with_lesion(fixed)
    rough, stiff = (
        itk_ncr.register(ill, moving, affine="none", smoothness=s).jacobian.array.std()
        for s in (0.5, 20.0)
    )
    assert stiff < rough
    cheap, dear = (
        itk_ncr.register(ill, moving, affine="none", mask_price=p).quality.masked_fraction
        for p in (0.2, 30.0)
    )
    assert dear < cheap


def test_another_threshold_needs_no_registration(plain):
    again = plain.with_threshold(0.1)
    assert again.displacement is plain.displacement
    assert again.mask.array.sum() >= plain.mask.array.sum()
    brain = again.foreground.array > 0
    assert again.quality.masked_fraction == (again.mask.array[brain] > 0).mean()
    with pytest.raises(ArgumentError, match="mask_threshold"):
        plain.with_threshold(1.5)


def test_a_result_resamples_whatever_is_an_image(plain, slice_pair):
    fixed, moving, _ = slice_pair
    expected = plain.resample(moving).array
    for given in (to_sitk(moving), moving.array, torch.from_numpy(moving.array)[None, None]):
        np.testing.assert_array_equal(plain.resample(given).array, expected)
    back = plain.resample_inverse(fixed)
    np.testing.assert_array_equal(plain.resample_inverse(fixed.array).array, back.array)
    with pytest.raises(ShapeError, match="image must have the shape of the grid it is from"):
        plain.resample(moving.array[:-1])
    with pytest.raises(ShapeError, match=r"got \(2, 3, 4\)"):
        plain.resample(np.zeros((2, 3, 4)))
    line = repr(plain)
    assert "\n" not in line
    assert len(line) < 200
    assert f"masked {100 * plain.quality.masked_fraction:.3g} %" in line


def test_b_scans_are_recognised_and_never_sheared():
    source = OctPhantoms(2, shape=(96, 192))
    sample = source.sample(1, torch.Generator().manual_seed(1))
    fixed, moving = sample.fixed[0].numpy(), sample.moving[0].numpy()
    result = itk_ncr.register(fixed, moving, threads=1)
    assert result.settings.preset == "oct"
    assert sum("B-scans" in note for note in result.notes) == 1
    matrix = np.asarray(result.affine.matrix)
    assert abs(matrix[:, 0] @ matrix[:, 1]) < 1e-4  # axes that were at right angles stay so
    named = itk_ncr.register(fixed, moving, preset="mri-2d", threads=1)
    assert named.settings.preset == "mri-2d"
    assert not any("B-scans" in note for note in named.notes)


def test_an_image_to_itself_stays(slice_pair):
    fixed, _, _ = slice_pair
    result = itk_ncr.register(fixed, fixed)
    assert np.linalg.norm(result.displacement.array, axis=-1).max() < 0.1 * 1.5
    assert result.mask.array.sum() == 0
    assert result.mask_moving.array.sum() == 0


@pytest.mark.parametrize(
    ("pair", "threads"), [("slice_pair", (1, 2, 4)), ("volume_pair", (1, 4))], ids=["2D", "3D"]
)
def test_threads_change_no_bit(pair, threads, request):
    fixed, moving, _ = request.getfixturevalue(pair)
    ill, _ = with_lesion(fixed)
    results = [itk_ncr.register(ill, moving, threads=n) for n in threads]
    for other in results[1:]:
        for field in ("displacement", "displacement_inverse", "noncorrespondence"):
            first, second = getattr(results[0], field), getattr(other, field)
            assert np.array_equal(first.array, second.array), field


def test_the_affine_is_found_and_contained(volume_pair):
    fixed, moving, _ = volume_pair
    angle = np.radians(25)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    origin = turn @ np.asarray(moving.grid.origin) + [5.0, -4.0, 3.0]
    grid = itk_ncr.Grid(
        moving.grid.size, moving.grid.spacing, tuple(origin), tuple(map(tuple, turn))
    )
    turned = itk_ncr.Image(moving.array, grid)
    result = itk_ncr.register(fixed, turned)
    np.testing.assert_allclose(np.asarray(result.affine.matrix), turn, atol=0.08)
    brain = fixed.array > 0
    assert np.corrcoef(result.warped.array[brain], fixed.array[brain])[0, 1] > 0.9
    points = np.array([[20.0, 24.0, 30.0], [30.0, 40.0, 24.0]])
    back = result.transform_points(result.transform_points(points), inverse=True)
    assert np.abs(back - points).max() < 0.5


def test_an_affine_may_come_from_any_library(slice_pair):
    fixed, moving, _ = slice_pair
    matrix = np.array([[1.02, 0.03, 1.5], [-0.04, 0.97, -2.0], [0.0, 0.0, 1.0]])
    rows = tuple(map(tuple, matrix[:2, :2].tolist()))
    theirs = sitk.Euler2DTransform((3.0, 4.0), 0.05, (1.0, -2.0))
    cases = {
        "ours": (itk_ncr.AffineMap(rows, (1.5, -2.0)), matrix),
        "matrix": (matrix, matrix),
        "nested": (matrix.tolist(), matrix),
        "sitk": (sitk.AffineTransform(matrix[:2, :2].ravel().tolist(), (1.5, -2.0)), matrix),
        "composite": (sitk.CompositeTransform([theirs]), None),
    }
    for name, (given, expected) in cases.items():
        for options in ({"affine": given}, {"affine": "none", "initial_transform": given}):
            found = itk_ncr.register(fixed, moving, method="affine", **options).affine
            point = np.array([7.0, -5.0])
            there = theirs.TransformPoint(point) if expected is None else expected[:2] @ [*point, 1]
            np.testing.assert_allclose(found(point), there, atol=1e-9, err_msg=name)


def test_numbers_of_numpy_are_numbers(slice_pair):
    fixed, moving, _ = slice_pair
    settings = itk_ncr.register(
        fixed,
        moving,
        affine="none",
        smoothness=np.float32(2),
        mask_price=np.int64(3),
        mask_threshold=np.float64(0.25),
        seed=np.uint8(4),
        threads=np.int32(1),
        working_voxels=np.int64(6000),
    ).settings
    expected = {"smoothness": 2.0, "mask_price": 3.0, "mask_threshold": 0.25, "seed": 4}
    assert json.loads(json.dumps(settings.as_dict())).items() >= expected.items()


@pytest.mark.parametrize("method", ["instance", "network", "affine"])
def test_what_the_caller_has_set_in_torch_changes_nothing(slice_pair, slice_model, method):
    fixed, moving, _ = slice_pair
    options = {"method": method} | ({"model": slice_model} if method == "network" else {})
    expected = itk_ncr.register(fixed, moving, **options)
    with torch.inference_mode(), torch.device("meta"):
        found = itk_ncr.register(fixed, moving, **options)
        assert not torch.is_grad_enabled()
        assert torch.zeros(1).is_meta
    np.testing.assert_array_equal(found.displacement.array, expected.displacement.array)


def test_the_number_of_threads_is_restored_after_blocks_in_several_threads():
    usual = torch.get_num_threads()
    entered, left = threading.Event(), threading.Event()

    def other():
        with threads(usual + 2):
            entered.set()
            left.wait(60)

    worker = threading.Thread(target=other)
    with threads(usual + 1):
        worker.start()
        assert entered.wait(60)
    left.set()
    worker.join()
    assert torch.get_num_threads() == usual


def test_large_images_are_solved_on_a_coarser_grid(slice_pair):
    fixed, moving, field = slice_pair
    result = itk_ncr.register(fixed, moving, affine="none", working_voxels=2000)
    assert result.displacement.grid == fixed.grid
    brain = fixed.array > 0
    assert error_px(result, field, brain) < 0.5 * np.linalg.norm(field, axis=0)[brain].mean()


def test_moving_images_of_any_grid(slice_pair):
    fixed, moving, _ = slice_pair
    coarse = itk_ncr.Grid((32, 36), (3.0, 3.0), (0.0, 0.0), ((1, 0), (0, 1)))
    result = itk_ncr.register(fixed, itk_ncr.Image(moving.array[::2, ::2], coarse), affine="none")
    assert result.displacement_inverse.grid == coarse
    assert result.noncorrespondence_moving.grid == coarse
    assert result.warped.grid == fixed.grid
    brain = fixed.array > 0
    assert np.corrcoef(result.warped.array[brain], fixed.array[brain])[0, 1] > 0.85


def test_progress_rises_to_one_and_abort_stops(slice_pair):
    fixed, moving, _ = slice_pair
    shares = []
    itk_ncr.register(fixed, moving, progress=lambda share, text: shares.append(share))
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert len(shares) > 10
    asked = []
    with pytest.raises(RegistrationAborted):
        itk_ncr.register(fixed, moving, abort=lambda: asked.append(0) or len(asked) > 30)
    assert len(asked) == 31


@pytest.mark.parametrize("shape", [(5, 5), (12, 2), (2, 2, 2), (1, 1, 30), (3, 4, 5), (1, 24, 20)])
@pytest.mark.parametrize("affine", ["auto", "none"])
def test_tiny_and_thin_images_come_through(shape, affine):
    moving = np.random.default_rng(0).random(shape).astype(np.float32)
    result = itk_ncr.register(np.roll(moving, 1, -1), moving, affine=affine)
    assert result.displacement.array.shape == (*shape, len(shape))
    assert np.isfinite(result.displacement.array).all()
    assert np.isfinite(result.warped.array).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_any_pixel_type_and_unit_gives_the_same_map(slice_pair, dtype):
    fixed, moving, _ = slice_pair
    reference = itk_ncr.register(fixed.array.round(), moving.array.round(), affine="none")
    scale = 1 if dtype == np.uint8 else 7
    other = (scale * moving.array.round()).astype(dtype)
    result = itk_ncr.register(fixed.array.round(), other, affine="none")
    difference = np.abs(result.displacement.array - reference.displacement.array)
    # Rounding may end a level ten iterations sooner; three units gave at most .20 and .005 mm.
    assert difference.max() < 0.25
    assert difference.mean() < 0.01


def test_bad_voxels_are_counted_and_background(slice_pair):
    fixed, moving, _ = slice_pair
    array = moving.array.copy()
    array[0, :5] = np.nan
    array[1, 0] = np.inf
    result = itk_ncr.register(fixed, itk_ncr.Image(array, moving.grid), affine="none")
    assert any("6 NaN" in line for line in result.warnings)
    assert np.isfinite(result.warped.array).all()
    assert np.isfinite(result.displacement.array).all()


@pytest.mark.parametrize(
    ("change", "error", "fragment"),
    [
        ({"fixed": np.zeros((20, 20))}, ImageValueError, "fixed image must show something"),
        ({"moving": np.full((20, 20), np.nan)}, ImageValueError, "voxels that are finite"),
        ({"moving": np.ones((8, 20, 20))}, ShapeError, "axes"),
        (
            {"fixed": np.eye(20) * 1e300},
            ImageValueError,
            "show something in float32; got values that",
        ),
        ({"moving": np.eye(20) + 1e12}, ImageValueError, "show something in float32"),
        ({"smoothness": 0.0}, ArgumentError, "smoothness must be a positive number"),
        ({"smoothness": 1e308}, ArgumentError, "from 1e-06 to 1e.06; got 1e.308"),
        ({"mask_price": 1e-308}, ArgumentError, "from 1e-06 to 1e.06; got 1e-308"),
        ({"mask_price": float("nan")}, ArgumentError, "mask_price"),
        ({"mask": "maybe"}, ArgumentError, "mask must be 'auto' or 'none'"),
        ({"preset": "knee"}, ArgumentError, "preset"),
        ({"affine": "rigid"}, ArgumentError, "affine"),
        ({"threads": 0}, ArgumentError, "threads"),
        ({"mask_threshold": 2.0}, ArgumentError, "mask_threshold"),
        ({"mask_threshold": "a half"}, ArgumentError, r"mask_threshold must lie in \[0, 1\]"),
        ({"smoothness": True}, ArgumentError, "smoothness must be a positive .* got True"),
        ({"threads": 1.5}, ArgumentError, "threads must be a whole number"),
        ({"seed": None}, ArgumentError, "seed must be a whole number"),
        ({"working_voxels": 0}, ArgumentError, "working_voxels must be .* 512 or more; got 0"),
        ({"mask": np.ones((4, 4))}, ArgumentError, "got ndarray. Give a known lesion as lesion_m"),
        ({"affine": None}, ArgumentError, "affine must be an AffineMap, a linear"),
        ({"affine": "given"}, ArgumentError, "affine must be 'auto', 'none', an AffineMap or the"),
        ({"affine": np.eye(2)}, GeometryError, "matrix must be 3 x 3 or 4 x 4"),
        ({"affine": np.eye(4)}, ShapeError, "affine must have 2 axes like the fixed image; got 3"),
        ({"initial_transform": "a.tfm"}, ImageReadError, "initial_transform 'a.tfm': no such file"),
        ({"initial_transform": np.eye(4)}, ShapeError, "initial_transform must have 2 axes"),
        (
            {"initial_transform": sitk.BSplineTransform(2)},
            ArgumentError,
            "initial_transform must be linear; got a BSplineTransform",
        ),
        ({"initial_transform": np.eye(3), "affine": np.eye(3)}, ArgumentError, "must be left out"),
    ],
)
def test_bad_input_is_one_clear_line(change, error, fragment, slice_pair):
    fixed, moving, _ = slice_pair
    arguments = {"fixed": fixed, "moving": moving} | change
    with pytest.raises(error, match=fragment) as caught:
        itk_ncr.register(arguments.pop("fixed"), arguments.pop("moving"), **arguments)
    assert "\n" not in str(caught.value)


def test_images_that_do_not_overlap_are_refused(slice_pair):
    fixed, moving, _ = slice_pair
    far = dataclasses.replace(moving.grid, origin=(5000.0, 0.0))
    with pytest.raises(GeometryError, match=r"overlap.*affine 'auto'"):
        itk_ncr.register(fixed, itk_ncr.Image(moving.array, far), affine="none")


def test_an_image_in_metres_is_asked_about(slice_pair):
    fixed, moving, _ = slice_pair
    metres = dataclasses.replace(moving.grid, spacing=tuple(1e-3 * np.array(moving.grid.spacing)))
    with pytest.raises(GeometryError, match=r"0\.001 times as large .* in mm\? No alignment"):
        itk_ncr.register(fixed, itk_ncr.Image(moving.array, metres))


def test_a_single_bright_voxel_is_a_point_to_align_not_a_failure():
    array = np.zeros((24, 24), np.float32)
    array[9, 11] = 1
    fixed = itk_ncr.Image(array, itk_ncr.Grid.of_array(array.shape, (2.0, 2.0)))
    result = itk_ncr.register(fixed, fixed, method="affine")
    assert np.isfinite(result.displacement.array).all()
    assert np.array_equal(result.warped.array, array)


def test_values_beyond_float32_are_one_error_without_a_warning_of_numpy(slice_pair, recwarn):
    fixed, moving, _ = slice_pair
    huge = itk_ncr.Image(moving.array.astype(np.float64) * 1e300 + 1e300, moving.grid)
    with pytest.raises(ImageValueError, match="finite in float32"):
        itk_ncr.register(fixed, huge)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_masks_that_leave_nothing_are_refused(slice_pair):
    fixed, moving, _ = slice_pair
    everything = itk_ncr.Image(np.ones(fixed.array.shape, np.uint8), fixed.grid)
    nothing = itk_ncr.Image(np.zeros(fixed.array.shape, np.uint8), fixed.grid)
    with pytest.raises(ImageValueError, match=r"lesion mask must leave .*\(1 = ignore\)"):
        itk_ncr.register(fixed, moving, affine="none", lesion_mask=everything)
    with pytest.raises(ImageValueError, match=r"ROI or brain mask must cover .*\(1 = use\)"):
        itk_ncr.register(fixed, moving, affine="none", roi_mask=nothing)


def test_too_little_memory_is_said_beforehand(slice_pair, monkeypatch):
    fixed, moving, _ = slice_pair
    monkeypatch.setattr("itk_ncr.images.memory.available_memory", lambda: 1000)
    with pytest.raises(MemoryLimitError, match=r"needs .* GB"):
        itk_ncr.register(fixed, moving, affine="none")


@pytest.mark.parametrize("name", ["network", "instance"])
def test_every_way_to_register_keeps_the_contract(name, slice_pair, slice_model):
    fixed, moving, _ = slice_pair
    model = str(slice_model) if name == "network" else None
    settings = RegistrationSettings(affine="none", model=model)
    result = REGISTRATIONS[name](settings)(Request(fixed, moving))
    assert result.engine == name
    assert result.displacement.array.shape == (*fixed.grid.shape, 2)
    for image in (result.warped, result.noncorrespondence, result.jacobian, result.inverse_error):
        assert image.grid == fixed.grid
        assert image.array.dtype == np.float32
    assert result.noncorrespondence.array.min() >= 0
    assert result.noncorrespondence.array.max() <= 1
    assert result.mask.array.dtype == np.uint8
    assert np.isfinite(result.displacement.array).all()
    assert result.quality.distance_outside < result.quality.distance_before


def test_a_ct_is_warped_in_its_own_numbers_with_air_around_it(slice_pair) -> None:
    _, moving, _ = slice_pair
    numbers = np.where(moving.array > 0, moving.array / 4, -1000).astype(np.float32)
    ct = itk_ncr.Image(numbers, moving.grid)
    aside = itk_ncr.AffineMap(((1.0, 0.0), (0.0, 1.0)), (30.0, 0.0))
    result = itk_ncr.register(ct, ct, affine=aside, method="affine")
    assert [note.split(":")[0] for note in result.notes] == [
        "fixed image looks like CT",
        "moving image looks like CT",
    ]
    assert (result.warped.array[:, -19:] == -1000).all()
    assert np.array_equal(result.warped.array[:, :40], numbers[:, 20:60])


def test_a_slice_in_an_inverted_contrast_is_registered(slice_pair) -> None:
    fixed, moving, field = slice_pair
    inverted = np.where(moving.array > 0, 260 - moving.array, 0).astype(np.float32)
    other = itk_ncr.Image(inverted, moving.grid)
    result = itk_ncr.register(fixed, other, affine="none", preset="multimodal", threads=1)
    found = np.moveaxis(result.displacement.array, -1, 0)[::-1] / 1.5
    error = np.abs(found - field)[:, fixed.array > 0].mean()
    # .61 before; .10 by local correlation, .19 by self-similarity.
    assert error < 0.14
    assert result.quality.masked_fraction < 0.01
