"""A trained network behind both faces: the settings reach it, and the result says so."""

from __future__ import annotations

import pickle
from pathlib import Path

import itk
import numpy as np
import pytest
import SimpleITK as sitk

import itk_ncr
from itk_ncr import NCRRegistrationFilter
from itk_ncr.checkpoints import ModelDescription, save_model
from itk_ncr.errors import ArgumentError
from itk_ncr.images import to_itk, to_sitk
from itk_ncr.networks import build_network

from .conftest import smooth_image


@pytest.fixture
def images() -> tuple[itk_ncr.Image, itk_ncr.Image]:
    return smooth_image((30, 26), seed=1), smooth_image((28, 30), seed=1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network = build_network("ncr-net", dimension=2, width=4)
    description = ModelDescription(
        name="waves",
        network="ncr-net",
        network_settings=dict(network.settings),
        dimension=2,
        contrast="waves",
        preset="mri-2d",
        spacing_mm=(2.0, 2.0),
        orientation="LP",
        size=(22, 20),
        variant="ncr-u",
    )
    save_model(tmp_path / "waves", network, description)
    return tmp_path / "waves"


def test_the_itk_filter_takes_a_model_and_runs_again_when_refine_changes(images, model):
    stage = NCRRegistrationFilter.New(*map(to_itk, images), model=model, refine=0, affine="none")
    assert stage.GetEngine() == "auto"
    stage.Update()
    assert stage.GetResult().engine == "network"
    assert stage.GetResult().model.name == "waves"
    assert stage.GetQuality().iterations == 0
    stage.SetRefine(6)
    stage.Update()
    assert stage.GetQuality().iterations > 0
    truth = itk_ncr.register(*images, model=model, refine=6, affine="none")
    found = itk.array_from_image(stage.GetOutput())
    np.testing.assert_array_equal(found, truth.displacement.array.astype(np.float32))


def test_the_simpleitk_filter_takes_a_model(images, model):
    registration = itk_ncr.sitk.NCRRegistration()
    registration.SetModel(str(model))
    registration.SetRefine(0)
    registration.SetAffine("none")
    field = registration.Execute(*map(to_sitk, images))
    truth = itk_ncr.register(*images, model=model, refine=0, affine="none")
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(field), truth.displacement.array.astype(np.float64)
    )
    assert registration.GetResult().model.name == "waves"


def test_a_pickled_filter_remembers_its_model(images, model):
    stage = NCRRegistrationFilter.New(*map(to_itk, images), model=str(model), engine="network")
    again = pickle.loads(pickle.dumps(stage))
    assert (again.GetModel(), again.GetEngine()) == (str(model), "network")


def test_engines_that_do_not_exist_are_refused_at_once():
    stage = NCRRegistrationFilter[2].New()
    for setter, wrong in ((stage.SetEngine, "ants"), (stage.SetRefine, -1), (stage.SetModel, 7)):
        with pytest.raises(ArgumentError):
            setter(wrong)
    assert (stage.GetEngine(), stage.GetRefine(), stage.GetModel()) == ("auto", None, None)
