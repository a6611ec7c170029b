"""From images in files to a plan, and from the plan to the description of a model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import itk_ncr
from itk_ncr.checkpoints import load_model
from itk_ncr.errors import ArgumentError, ImageReadError
from itk_ncr.registration import network as network_module
from itk_ncr.training import RECIPES, make_plan, recipe

# As nibabel's files with an affine of ones come out of ITK.
UPSIDE_DOWN = ((-1.0, 0.0), (0.0, -1.0))


def anatomy(number: int) -> np.ndarray:
    rows, columns = np.meshgrid(np.linspace(-1, 1, 36), np.linspace(-1, 1, 32), indexing="ij")
    radius = rows**2 + (columns - 0.03 * number) ** 2
    return np.where(radius < 0.6, 90 + 60 * rows + 30 * columns, 0).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Writes patients as 2D images with label maps: 0 outside, then the given values."""

    def make(patients=6, labels=(1, 2), direction=UPSIDE_DOWN):
        folder = tmp_path / "images"
        folder.mkdir()
        for number in range(patients):
            image = anatomy(number)
            grid = itk_ncr.Grid.of_array(image.shape, (1.0, 1.0), None, direction)
            values = np.zeros(image.shape, np.uint8)
            if labels:
                values[image > 0] = labels[0]
                values[image > 100] = labels[-1]
                itk_ncr.write_image(itk_ncr.Image(values, grid), folder / f"p{number}_seg.nrrd")
            itk_ncr.write_image(itk_ncr.Image(image, grid), folder / f"p{number}.nrrd")
        return folder

    return make


@pytest.fixture
def tiny():
    """The recipe of 2D brains with next to nothing to do."""
    whole = recipe("brain-t1-2d", "small")
    settings = dataclasses.replace(
        whole.settings, steps=1, batch=1, network_settings={"width": 2}, variant="regnet"
    )
    sampling = dataclasses.replace(whole.sampling, lesions=0.0)
    return dataclasses.replace(whole, settings=settings, sampling=sampling)


def test_a_model_is_shown_its_training_images_as_they_were_stored(
    write, tiny, tmp_path, monkeypatch
):
    images = write()
    plan = make_plan(images, tiny)
    training = plan.training(tmp_path / "run", validate_every=5)
    training.run()
    stored = plan.save(training, tmp_path / "run" / "model", name="tiny")
    assert stored.description.orientation == "RA"
    network, shown = load_model(stored.folder)[0], []

    def seen(fixed, moving, **options):
        shown.append(fixed)
        return network(fixed, moving, **options)

    monkeypatch.setattr(network_module, "_network", lambda folder, sha256: seen)
    pair = [itk_ncr.read_image(images / name) for name in ("p1.nrrd", "p2.nrrd")]
    itk_ncr.register(*pair, model=stored.folder, refine=0, affine="none")
    position = [s.patient for s in plan.manifest.subjects].index("p1")
    learnt_from = plan.source.store[position].image.float()
    np.testing.assert_allclose(shown[0][0], learnt_from, atol=1e-3)  # the store's half precision


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_plan_reads_the_images_of_every_split(split, write, tiny):
    images = write()
    lines = [f"p{i},images/p{i}.nrrd,{'train' if i < 5 else split}" for i in range(6)]
    table = images.parent / "data.csv"
    table.write_text("subject,image,split\n" + "\n".join(lines) + "\n")
    plan = make_plan(table, tiny)
    assert any("nothing is validated" in note for note in plan.notes) == (split == "val")
    whole = (images / "p5.nrrd").read_bytes()
    (images / "p5.nrrd").write_bytes(whole[:-40])
    with pytest.raises(ImageReadError, match=r"1 file cannot be used: .*p5\.nrrd"):
        make_plan(table, tiny)


def test_every_label_but_0_counts_unless_the_data_say_otherwise(write, tiny):
    images = write(labels=(1, 46))
    plan = make_plan(images, tiny)
    assert dict(plan.summary())["labels"] == "1, 46; not counted: 0"
    sample = plan.source.sample(0, torch.Generator().manual_seed(0))
    assert torch.unique(sample.fixed_labels).tolist() == [0, 1, 46]
    sampling = dataclasses.replace(tiny.sampling, ignore_labels=(46,))
    plan = make_plan(images, dataclasses.replace(tiny, sampling=sampling))
    assert dict(plan.summary())["labels"] == "1; not counted: 0, 46"


@pytest.mark.parametrize(("labels", "ignored"), [((0, 0), ()), ((1, 69), (1, 69))])
def test_a_training_whose_labels_all_vanish_is_refused(labels, ignored, write, tiny):
    sampling = dataclasses.replace(tiny.sampling, ignore_labels=ignored)
    with pytest.raises(ArgumentError, match=r"got none in the [45] label maps for training"):
        make_plan(write(labels=labels), dataclasses.replace(tiny, sampling=sampling))


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_decides_which_labels_count(name):
    assert recipe(name).sampling.ignore_labels == ()
