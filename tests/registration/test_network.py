import dataclasses
import itertools
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import itk_ncr
from itk_ncr.checkpoints import ModelDescription, load_model, places, save_model
from itk_ncr.errors import (
    ArgumentError,
    CheckpointError,
    GeometryError,
    RegistrationAborted,
    ShapeError,
)
from itk_ncr.geometry import direction_of, orientation_code
from itk_ncr.networks import build_network
from itk_ncr.prediction import Prediction
from itk_ncr.preprocessing import normalise
from itk_ncr.registration import network as network_module
from itk_ncr.registration.orientation import Turn
from itk_ncr.registration.solver import Level, Start, fill
from itk_ncr.registration.solver.descent import MomentumDescent
from itk_ncr.registration.solver.solve import refinement_levels
from itk_ncr.registration.solver.start import COLLAPSED, MARGIN, doubtful


def stored_otherwise(image, order, flipped):
    """The same image in space with its index axes (x, y, z) permuted, then some reversed."""
    dimension = image.dimension
    array = image.array.transpose(
        [dimension - 1 - order[dimension - 1 - a] for a in range(dimension)]
    )
    direction = np.asarray(image.grid.direction)[:, order]
    spacing = np.asarray(image.grid.spacing)[list(order)]
    size = np.asarray(image.grid.size)[list(order)]
    origin = np.asarray(image.grid.origin)
    for axis in range(dimension):
        if flipped[axis]:
            array = np.flip(array, dimension - 1 - axis)
            origin = origin + direction[:, axis] * spacing[axis] * (size[axis] - 1)
            direction = direction.copy()
            direction[:, axis] *= -1
    grid = itk_ncr.Grid(
        tuple(size.tolist()), tuple(spacing), tuple(origin), tuple(map(tuple, direction))
    )
    return itk_ncr.Image(np.ascontiguousarray(array), grid)


def restored(field, order, flipped):
    """A vector field of :func:`stored_otherwise`'s image, as an array in the first storage."""
    array, dimension = field.array, field.dimension
    for axis in range(dimension):
        if flipped[axis]:
            array = np.flip(array, dimension - 1 - axis)
    axes = [dimension - 1 - order[dimension - 1 - a] for a in range(dimension)]
    return array.transpose([*np.argsort(axes), *range(dimension, array.ndim)])


def smooth_model(folder, dimension, description_of):
    """A model whose heads are zero: it moves nothing."""
    network = build_network("ncr-net", dimension=dimension, width=4)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "registration.heads" in name:
                parameter.zero_()
    size = (54, 48) if dimension == 2 else (30, 36, 32)
    save_model(folder, network.eval(), description_of(network, "still", (2.0,) * dimension, size))
    return folder


@pytest.fixture
def describe(slice_model):
    stored = json.loads((slice_model / "model.json").read_text())["description"]

    def make(network, name, spacing, size):
        changes = {"name": name, "spacing_mm": spacing, "size": size, "dimension": len(size)}
        changes |= {"orientation": "LPS"[: len(size)]}
        return ModelDescription.from_dict(stored | changes)

    return make


def test_a_network_that_moves_nothing_gives_the_affine_alone(slice_pair, tmp_path, describe):
    fixed, moving, _ = slice_pair
    shifted = itk_ncr.Image(moving.array, dataclasses.replace(moving.grid, origin=(4.0, -3.0)))
    model = smooth_model(tmp_path / "still", 2, describe)
    result = itk_ncr.register(fixed, shifted, model=model, refine=0)
    points = fixed.grid.points()
    expected = result.affine(points) - points
    np.testing.assert_allclose(result.displacement.array, expected, atol=1e-3)
    assert np.linalg.norm(expected, axis=-1).mean() > 2
    assert result.engine == "network"
    assert result.quality.iterations == 0


class Constant(nn.Module):
    """Says one velocity everywhere, whatever it sees, and keeps what it was shown."""

    def __init__(self, velocity, probability=0.0):
        super().__init__()
        self.velocity, self.probability = velocity, probability
        self.shown = []

    def forward(self, fixed, moving, *, scales=3):
        self.shown.append((fixed.clone(), moving.clone()))
        v = torch.tensor(self.velocity).view(1, -1, *(1,) * (fixed.ndim - 2))
        v = v.expand(1, -1, *fixed.shape[2:]).contiguous()
        return Prediction((v,), (v,), (torch.full_like(fixed, self.probability),))


@pytest.fixture
def with_network(monkeypatch, volume_model, slice_model):
    """Registers with any module in the place of the network of a model."""

    def register(network, fixed, moving, **options):
        monkeypatch.setattr(network_module, "_network", lambda folder, sha256: network)
        model = slice_model if fixed.dimension == 2 else volume_model
        return itk_ncr.register(fixed, moving, model=model, affine="none", **options)

    return register


def test_the_network_sees_the_voxels_and_the_orientation_it_was_trained_with(
    volume_pair, with_network
):
    fixed, moving, _ = volume_pair  # 2 mm, (x, y, z) = L, P, S; the model wants RAS, 3 x 2 x 2.5
    seen = Constant((0.0, 0.0, 0.0))
    with_network(seen, fixed, moving, refine=0)
    shown = seen.shown[0][0][0, 0]
    assert shown.shape == (round(29 * 2 / 2.5) + 1, 36, round(31 * 2 / 3) + 1)
    # y keeps its voxels: a line through the middle runs from anterior to posterior there, and
    # backwards here.
    line = fixed.array[15, :, 16]
    far = shown[12, :, 10].numpy()
    assert np.corrcoef(far[::-1], line)[0, 1] > 0.95
    assert np.corrcoef(far, line)[0, 1] < 0.9


def test_a_constant_velocity_moves_as_it_says_in_space(volume_pair, with_network):
    fixed, moving, _ = volume_pair
    one = with_network(Constant((1.0, 0.0, 0.0)), fixed, moving, refine=0)
    two = with_network(Constant((0.0, 0.0, 0.5)), fixed, moving, refine=0)
    # Array axis z of RAS runs to superior (+z of LPS), in steps of 29 / 23 voxels of 2 mm.
    np.testing.assert_allclose(one.displacement.array[..., 2], 2 * 29 / 23, rtol=1e-4)
    np.testing.assert_allclose(one.displacement.array[..., :2], 0, atol=1e-4)
    # Array axis x of RAS runs to the right (-x of LPS).
    np.testing.assert_allclose(two.displacement.array[..., 0], -0.5 * 2 * 31 / 21, rtol=1e-4)


ORDERS = list(itertools.permutations(range(3)))


@pytest.mark.parametrize("number", range(6))
def test_the_storage_of_a_volume_does_not_change_the_displacement(
    number, volume_pair, volume_model
):
    fixed, moving, _ = volume_pair
    order = ORDERS[number]
    flipped = [bool(number >> axis & 1) for axis in range(3)]
    reference = itk_ncr.register(fixed, moving, affine="none", model=volume_model, refine=0)
    turned = itk_ncr.register(
        stored_otherwise(fixed, order, flipped), moving, affine="none", model=volume_model, refine=0
    )
    again = restored(turned.displacement, order, flipped)
    assert np.linalg.norm(reference.displacement.array, axis=-1).mean() > 1  # mm
    np.testing.assert_allclose(again, reference.displacement.array, atol=2e-3)
    mask = restored(turned.noncorrespondence, order, flipped)
    np.testing.assert_allclose(mask, reference.noncorrespondence.array, atol=1e-3)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("flipped", [(True, False), (True, True)])
def test_the_storage_of_a_slice_does_not_change_the_displacement(
    order, flipped, slice_pair, slice_model
):
    fixed, moving, _ = slice_pair
    reference = itk_ncr.register(fixed, moving, affine="none", model=slice_model, refine=0)
    turned = itk_ncr.register(
        stored_otherwise(fixed, order, flipped),
        stored_otherwise(moving, order, flipped),
        affine="none",
        model=slice_model,
        refine=0,
    )
    again = restored(turned.displacement, order, flipped)
    np.testing.assert_allclose(again, reference.displacement.array, atol=2e-3)


STORAGES_2D = [
    (order, flipped)
    for order in itertools.permutations(range(2))
    for flipped in itertools.product([False, True], repeat=2)
]


@pytest.mark.parametrize("trained", STORAGES_2D)
def test_a_2d_network_gets_the_array_of_its_training_whatever_the_storage(
    trained, slice_pair, tmp_path, describe, monkeypatch
):
    image = itk_ncr.Image(slice_pair[0].array[:40, :34].copy(), itk_ncr.Grid.of_array((40, 34)))
    learnt_from = stored_otherwise(image, *trained)
    description = dataclasses.replace(
        describe(build_network("ncr-net", dimension=2, width=4), "still", (1.0, 1.0), (40, 34)),
        size=learnt_from.grid.shape,
        orientation=orientation_code(learnt_from.grid),
    )
    network = build_network("ncr-net", dimension=2, width=4)
    save_model(tmp_path / "still", network, description)
    seen = Constant((0.0, 0.0))
    monkeypatch.setattr(network_module, "_network", lambda folder, sha256: seen)
    for number, storage in enumerate(STORAGES_2D):
        given = stored_otherwise(image, *storage)
        itk_ncr.register(given, given, model=tmp_path / "still", affine="none", refine=0)
        shown = seen.shown[number][0][0, 0].numpy()
        np.testing.assert_allclose(shown, normalise(learnt_from.array).values, atol=1e-5)


def test_a_2d_model_without_orientation_says_so_once(slice_pair, tmp_path, describe):
    network = build_network("ncr-net", dimension=2, width=4)
    old = dataclasses.replace(describe(network, "old", (2.0, 2.0), (54, 48)), orientation=None)
    save_model(tmp_path / "old", network, old)
    for expected in (1, 0):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            itk_ncr.register(*slice_pair[:2], model=tmp_path / "old", affine="none", refine=0)
        said = [str(w.message) for w in heard if "does not record" in str(w.message)]
        assert len(said) == expected
    # Weights that are older than the entry agree with a description that has it.
    content = json.loads((tmp_path / "old" / "model.json").read_text())
    content["description"]["orientation"] = "RA"
    (tmp_path / "old" / "model.json").write_text(json.dumps(content))
    assert load_model(tmp_path / "old")[1].orientation == "RA"


def test_a_picture_turned_by_its_header_is_reported(slice_pair):
    turned = [stored_otherwise(image, (0, 1), (True, True)) for image in slice_pair[:2]]
    for images, reported in ((slice_pair[:2], False), (turned, True)):
        result = itk_ncr.register(*images, model="oct-2d", affine="none", refine=0)
        assert any("turns it for the network" in w for w in result.warnings) == reported


@pytest.mark.parametrize("code", ["LPS", "RAS", "SRA", "PIL"])
def test_turning_an_array_gives_the_direction_that_was_asked_for(code):
    grid = itk_ncr.Grid((3, 4, 5), (1.0, 1.0, 1.0), (0.0,) * 3, direction_of("ALI"))
    turn = Turn.towards(grid, code)
    points = torch.from_numpy(grid.points()).movedim(-1, 0)[None]
    turned = turn.image(points)[0]
    wanted = np.asarray(direction_of(code))
    for axis in range(3):  # the step along index axis i is column i of the direction
        step = turned.diff(dim=3 - axis).flatten(1)
        expected = torch.from_numpy(wanted[:, axis].copy())[:, None].expand_as(step)
        torch.testing.assert_close(step, expected)
    assert torch.equal(turn.image_back(turn.image(points)), points)


def test_oblique_directions_go_to_the_nearest_axes():
    angle = np.radians(30)
    turned = ((np.cos(angle), -np.sin(angle), 0), (np.sin(angle), np.cos(angle), 0), (0, 0, 1))
    grid = itk_ncr.Grid((3, 4, 5), (1.0,) * 3, (0.0,) * 3, turned)
    assert Turn.towards(grid, "LPS") == Turn((0, 1, 2), (False, False, False))
    assert Turn.towards(grid, "RPS") == Turn((0, 1, 2), (False, False, True))


def test_refinement_brings_the_images_closer_than_the_network(slice_pair, slice_model):
    fixed, moving, _ = slice_pair
    options = {"affine": "none", "model": slice_model}
    alone = itk_ncr.register(fixed, moving, refine=0, **options)
    refined = itk_ncr.register(fixed, moving, refine=40, **options)
    assert 0 < refined.quality.iterations <= 40
    assert refined.quality.distance_outside < 0.2 * alone.quality.distance_outside


def test_refinement_lasts_as_long_as_the_model_recommends(slice_pair, tmp_path, describe):
    fixed, moving, _ = slice_pair
    folder = smooth_model(tmp_path / "still", 2, describe)
    network, description = load_model(folder)
    for refine in (0, 4):
        save_model(folder, network, dataclasses.replace(description, refine=refine))
        result = itk_ncr.register(fixed, moving, affine="none", model=folder)
        assert (result.quality.iterations > 0) == (refine > 0)
        assert result.quality.iterations <= refine


class Truth(nn.Module):
    """Knows the answer to one pair: a velocity on the grid it is asked for."""

    def __init__(self, velocity):
        super().__init__()
        self.velocity = velocity

    def forward(self, fixed, moving, *, scales=3):
        v = self.velocity
        assert v.shape[2:] == fixed.shape[2:]
        return Prediction((v,), (v,), (torch.zeros_like(fixed),))


def test_refinement_keeps_a_guess_that_it_cannot_improve(slice_pair, with_network, monkeypatch):
    fixed, moving, _ = slice_pair
    solved = itk_ncr.register(fixed, moving, affine="none", mask="none")
    known = torch.from_numpy(np.moveaxis(solved.deformation.array[..., ::-1] / 1.5, -1, 0).copy())[
        None
    ]
    # A step that leads astray: refinement ends further away than it began.
    solver = itk_ncr.registration.pairwise.solver_preset("mri-2d", 2)
    descent = MomentumDescent(step=5.0, final_step=1.0)
    wild = dataclasses.replace(solver, descent=descent)
    monkeypatch.setitem(itk_ncr.registration.SOLVER_PRESETS, "mri-2d", wild)
    truth = Truth(itk_ncr.fields.resize_velocity(known, (54, 48)))
    alone = with_network(truth, fixed, moving, refine=0, mask="none")
    refined = with_network(truth, fixed, moving, refine=4, mask="none")
    # Brought to the grid of the solver's velocity, no more than that.
    assert refined.quality.distance_outside < 1.2 * alone.quality.distance_outside
    assert alone.quality.distance_outside < 0.3 * alone.quality.distance_before


def test_a_lesion_that_the_network_squeezed_away_is_found_again(slice_pair, with_network):
    fixed, moving, _ = slice_pair
    rows, columns = np.indices(fixed.array.shape)
    lesion = (rows - 36) ** 2 + (columns - 40) ** 2 < 8**2
    ill = itk_ncr.Image(np.where(lesion, 20.0, fixed.array).astype(np.float32), fixed.grid)
    unmasked = itk_ncr.register(ill, moving, affine="none", mask="none", smoothness=0.3)
    squeezed = torch.from_numpy(
        np.moveaxis(unmasked.deformation.array[..., ::-1] / 1.5, -1, 0).copy()
    )[None]
    truth = Truth(itk_ncr.fields.resize_velocity(squeezed, (54, 48)))
    found = with_network(truth, ill, moving, refine=60).mask.array > 0
    assert 2 * (found & lesion).sum() / (found.sum() + lesion.sum()) > 0.6


def test_filling_continues_what_is_around_and_touches_nothing_else():
    rows = torch.arange(40.0).view(1, 1, 40, 1).expand(1, 1, 40, 30)
    velocity = torch.cat([rows / 10, torch.full_like(rows, 2.0)], 1)
    blank = torch.zeros(1, 1, 40, 30)
    blank[..., 15:25, 10:20] = 1
    broken = torch.where(blank > 0, torch.full_like(velocity, 50.0), velocity)
    filled = fill(broken, blank)
    keep = blank.expand_as(velocity) == 0
    assert torch.equal(filled[keep], velocity[keep])
    # A harmonic continuation of a linear field is the field; 20 relaxations come within 0.3.
    assert (filled - velocity).abs().max() < 0.3
    assert torch.equal(fill(velocity, torch.ones(1, 1, 40, 30)), torch.zeros_like(velocity))
    assert fill(velocity, torch.zeros(1, 1, 40, 30)) is velocity


def test_masked_and_collapsed_places_are_doubted():
    velocity = torch.zeros(1, 2, 41, 41)
    probability = torch.zeros(1, 1, 41, 41)
    assert not doubtful(Start(velocity, probability)).any()
    probability[..., 10, 10] = 0.4
    flagged = doubtful(Start(velocity, probability))[0, 0]
    assert flagged.sum() == (2 * MARGIN + 1) ** 2
    assert flagged[10 - MARGIN, 10 + MARGIN] == 1
    # v = -(1 + COLLAPSED) / 2 x shrinks an area by exp(-(1 + COLLAPSED)) at its centre.
    grid = torch.arange(41.0) - 20
    bump = torch.exp(-(grid[:, None] ** 2 + grid**2) / 128)
    rate = -(1 + COLLAPSED) / 2
    squeeze = rate * bump * torch.stack([grid[:, None].expand(41, 41), grid.expand(41, 41)])
    flagged = doubtful(Start(squeeze[None]))[0, 0]
    assert flagged[20, 20] == 1
    assert flagged[0, 0] == 0


def test_iterations_of_refinement_are_shared_by_the_two_finest_levels():
    levels = (Level(4, 4, 100), Level(2, 2, 80), Level(1, 2, 60))
    counts = {n: [level.iterations for level in refinement_levels(levels, n)] for n in (1, 2, 61)}
    assert counts == {1: [1], 2: [1, 1], 61: [30, 31]}
    assert refinement_levels(levels, 61)[1].image_factor == 1
    assert [level.iterations for level in refinement_levels(levels[2:], 7)] == [7]


def test_the_networks_probability_is_reported_in_both_spaces(slice_pair, with_network):
    fixed, moving, _ = slice_pair
    result = with_network(Constant((0.0, 0.0), 0.7), fixed, moving, refine=0)
    np.testing.assert_allclose(result.noncorrespondence.array, 0.7, atol=1e-5)
    np.testing.assert_allclose(result.noncorrespondence_moving.array, 0.7, atol=1e-5)
    assert any("found no partner" in line for line in result.warnings)
    # The price divides the odds: 7 / 3 at a price of 7 is 1 / 3, a probability of 1 / 4.
    dear = with_network(Constant((0.0, 0.0), 0.7), fixed, moving, refine=0, mask_price=7.0)
    np.testing.assert_allclose(dear.noncorrespondence.array, 0.25, atol=1e-5)
    off = with_network(Constant((0.0, 0.0), 0.7), fixed, moving, refine=0, mask="none")
    assert off.noncorrespondence.array.max() == 0


def test_a_known_lesion_is_masked_and_not_moved(slice_pair, with_network):
    fixed, moving, _ = slice_pair
    lesion = np.zeros(fixed.array.shape, np.uint8)
    lesion[30:40, 25:40] = 1
    mask = itk_ncr.Image(lesion, fixed.grid)

    class Poke(Constant):
        def forward(self, fixed, moving, *, scales=3):
            velocity = torch.zeros(1, 2, *fixed.shape[2:])
            velocity[:, :, 25:28, 22:26] = 3.0  # within the lesion
            return Prediction((velocity,), (velocity,), (torch.zeros_like(fixed),))

    poked = with_network(Poke(()), fixed, moving, refine=0)
    told = with_network(Poke(()), fixed, moving, refine=0, lesion_mask=mask)
    assert np.abs(poked.displacement.array).max() > 1
    assert np.abs(told.displacement.array).max() < 1e-3
    assert np.array_equal(told.mask.array, lesion)


@pytest.mark.parametrize("refine", [0, 20])
def test_threads_change_no_bit(refine, slice_pair, slice_model):
    fixed, moving, _ = slice_pair
    options = {"model": slice_model, "refine": refine, "affine": "none"}
    one, two, four = (itk_ncr.register(fixed, moving, threads=n, **options) for n in (1, 2, 4))
    for other in (two, four):
        assert np.array_equal(one.displacement.array, other.displacement.array)
        assert np.array_equal(one.noncorrespondence.array, other.noncorrespondence.array)


def test_progress_rises_to_one_and_abort_stops(slice_pair, slice_model):
    fixed, moving, _ = slice_pair
    shares = []
    options = {"model": slice_model, "refine": 10, "affine": "none"}
    itk_ncr.register(fixed, moving, progress=lambda share, text: shares.append(share), **options)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    with pytest.raises(RegistrationAborted):
        itk_ncr.register(fixed, moving, abort=lambda: True, **options)


def test_the_result_says_which_weights_took_part(slice_pair, slice_model):
    fixed, moving, _ = slice_pair
    result = itk_ncr.register(fixed, moving, model=slice_model, affine="none", refine=0)
    stored = json.loads((slice_model / "model.json").read_text())
    assert (result.model.name, result.model.sha256) == ("tiny-2d", stored["sha256"])
    assert result.settings.model == str(slice_model)
    without = itk_ncr.register(fixed, moving, affine="none")
    assert (without.engine, without.model) == ("instance", None)


@pytest.fixture
def shipped(tmp_path, monkeypatch, slice_model):
    """A shipped model for slices of brains, 2 mm."""
    from itk_ncr.checkpoints import load_model

    network, description = load_model(slice_model)
    changed = dataclasses.replace(description, name="brain-2d", contrast="brain-t1")
    save_model(tmp_path / "shipped" / "brain-2d", network, changed)
    monkeypatch.setattr(places, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped" / "brain-2d"


def test_auto_takes_the_network_only_where_the_preset_names_its_contrast(slice_pair, shipped):
    fixed, moving, _ = slice_pair

    def engine(**options):
        return itk_ncr.register(fixed, moving, affine="none", **options).engine

    assert engine() == "instance"
    assert engine(preset="mri-2d") == "instance"
    assert engine(preset="oct") == "instance"
    assert engine(preset="brain-t1", refine=0) == "network"
    assert engine(preset="brain-t1", engine="instance") == "instance"
    assert engine(model="brain-2d", refine=0) == "network"
    assert engine(engine="network", preset="brain-t1", refine=0) == "network"


def test_auto_falls_back_with_a_warning_where_the_image_has_another_size(slice_pair, shipped):
    fixed, _, _ = slice_pair
    small = itk_ncr.Image(fixed.array, dataclasses.replace(fixed.grid, spacing=(0.01, 0.01)))
    result = itk_ncr.register(small, small, preset="brain-t1", affine="none")
    assert result.engine == "instance"
    assert any("Check the spacing" in line for line in result.warnings)
    with pytest.raises(GeometryError, match="Check the spacing"):
        itk_ncr.register(small, small, model="brain-2d", affine="none")


def test_a_contrast_without_a_model_solves_as_its_preset_and_says_so(slice_pair):
    fixed, moving, _ = slice_pair
    result = itk_ncr.register(fixed, moving, preset="mri-2d", affine="none", refine=3)
    assert any("refine had no effect" in line for line in result.warnings)


def test_pictures_without_a_physical_size_are_brought_to_the_size_of_training(
    slice_pair, tmp_path, describe
):
    fixed, moving, _ = slice_pair
    network = build_network("ncr-net", dimension=2, width=4)
    description = dataclasses.replace(
        describe(network, "pictures", (1.0, 1.0), (40, 60)), spacing_mm=None
    )
    grid = network_module.network_grid(description, fixed.grid)
    assert grid.shape == (60, round(63 * 59 / 71) + 1)
    save_model(tmp_path / "pictures", network, description)
    result = itk_ncr.register(fixed, moving, model=tmp_path / "pictures", affine="none", refine=0)
    assert result.engine == "network"


@pytest.mark.parametrize(
    ("options", "error", "fragment"),
    [
        ({"model": "nowhere"}, ArgumentError, "got 'nowhere'"),
        ({"engine": "magic"}, ArgumentError, "engine must be one of"),
        ({"engine": "network", "preset": "mri-2d"}, ArgumentError, "model must be given"),
        ({"engine": "instance", "refine": 3}, ArgumentError, "must be left out"),
        ({"refine": -1}, ArgumentError, "refine"),
        ({"refine": 2.5}, ArgumentError, "refine"),
        ({"refine": True}, ArgumentError, "refine"),
        ({"model": "weights.pt"}, CheckpointError, "can run code"),
    ],
)
def test_bad_requests_are_one_clear_line(options, error, fragment, slice_pair):
    fixed, moving, _ = slice_pair
    with pytest.raises(error, match=fragment) as caught:
        itk_ncr.register(fixed, moving, **options)
    assert "\n" not in str(caught.value)


def test_a_model_for_other_images_is_refused(slice_pair, volume_model):
    fixed, moving, _ = slice_pair
    with pytest.raises(ShapeError, match="must get 3D images; got 2D") as caught:
        itk_ncr.register(fixed, moving, model=volume_model)
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused(slice_pair, slice_model, tmp_path):
    fixed, moving, _ = slice_pair
    shutil.copytree(slice_model, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256"):
        itk_ncr.register(fixed, moving, model=tmp_path / "damaged", affine="none")


def test_new_weights_in_a_folder_are_loaded_anew(slice_pair, slice_model, tmp_path, describe):
    fixed, moving, _ = slice_pair
    folder = tmp_path / "model"
    shutil.copytree(slice_model, folder)
    options = {"model": folder, "affine": "none", "refine": 0}
    before = itk_ncr.register(fixed, moving, **options)
    smooth_model(folder, 2, describe)
    after = itk_ncr.register(fixed, moving, **options)
    assert np.abs(before.displacement.array).max() > 0.5
    assert np.abs(after.displacement.array).max() < 1e-3
