import dataclasses
import hashlib
import json

import pytest
import torch

from itk_ncr import checkpoints
from itk_ncr.checkpoints import (
    ModelDescription,
    find_model,
    load_model,
    places,
    read_state,
    save_model,
    verify_model,
    write_state,
)
from itk_ncr.errors import ArgumentError, CheckpointError


@pytest.fixture
def folder(tmp_path, network, description):
    save_model(tmp_path / "tiny", network, description)
    return tmp_path / "tiny"


def predict(network):
    images = torch.rand(2, 1, 1, 48, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(images[0], images[1], scales=1)


def test_a_loaded_model_predicts_what_the_saved_one_does(folder, network, description):
    loaded, found = load_model(folder)
    assert not loaded.training
    assert found == dataclasses.replace(description, network_settings=dict(network.settings))
    before, after = predict(network), predict(loaded)
    assert before.velocity[0].abs().max() > 0
    assert torch.equal(before.velocity[0], after.velocity[0])
    assert torch.equal(before.noncorrespondence[0], after.noncorrespondence[0])


def test_half_precision_halves_the_file_and_keeps_the_statistics(tmp_path, network, description):
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.fill_(1.0 + 2**-20)
    save_model(tmp_path / "full", network, description)
    save_model(tmp_path / "half", network, description, half=True)
    full, half = (tmp_path / name / "weights.safetensors" for name in ("full", "half"))
    assert half.stat().st_size < 0.6 * full.stat().st_size
    loaded, _ = load_model(tmp_path / "half")
    state = loaded.state_dict()
    assert all(t.dtype != torch.float16 for t in state.values())
    for name, tensor in network.state_dict().items():
        exact = name.endswith(("running_mean", "running_var")) or not tensor.is_floating_point()
        torch.testing.assert_close(state[name], tensor, rtol=0 if exact else 2**-11, atol=1e-7)


def test_weights_that_are_not_finite_in_half_precision_are_refused(tmp_path, network, description):
    with torch.no_grad():
        next(network.parameters()).fill_(1e5)
    with pytest.raises(ArgumentError, match="finite in half precision"):
        save_model(tmp_path / "m", network, description, half=True)
    assert not (tmp_path / "m" / "model.json").exists()


def test_descriptions_survive_json(description):
    again = ModelDescription.from_dict(json.loads(json.dumps(description.as_dict())))
    assert again == description


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dimension": 4}, "dimension"),
        ({"spacing_mm": (1.0,)}, "spacing_mm"),
        ({"spacing_mm": (1.0, 0.0)}, "spacing_mm"),
        ({"orientation": "LPS"}, "orientation must name a side for each of 2 axes"),
        ({"orientation": "LR"}, "orientation"),
        ({"size": (0, 3)}, "size"),
        ({"colour": "red"}, "colour"),
        ({"refine": -1}, "refine must be a whole number >= 0; got -1"),
        ({"refine": "many"}, "refine must be a whole number"),
    ],
)
def test_descriptions_that_cannot_be_are_refused(description, change, word):
    with pytest.raises(ArgumentError, match=word):
        ModelDescription.from_dict(description.as_dict() | change)


def test_orientations_name_three_different_axes(description):
    volume = {"dimension": 3, "spacing_mm": (2, 2, 2), "size": (8, 8, 8)}
    assert dataclasses.replace(description, **volume, orientation="RAS").orientation == "RAS"
    for wrong in ("RLS", "RA", None, "XYZ"):
        with pytest.raises(ArgumentError, match="orientation"):
            dataclasses.replace(description, **volume, orientation=wrong)


def test_changed_weights_are_refused_by_load_and_by_verify(folder):
    assert verify_model(folder) == json.loads((folder / "model.json").read_text())["sha256"]
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    for use in (verify_model, load_model):
        with pytest.raises(CheckpointError, match="SHA-256"):
            use(folder)


def test_a_changed_description_is_refused(folder):
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"ncr-u"', '"ncr-b"'))
    for use in (verify_model, load_model):
        with pytest.raises(CheckpointError, match="not the description"):
            use(folder)


def test_a_model_of_before_a_new_entry_is_still_whole(folder):
    tensors, record = read_state(folder / "weights.safetensors")
    assert record["description"].pop("refine") == 60
    write_state(folder / "weights.safetensors", tensors, record)
    sha256 = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(record | {"sha256": sha256}))
    assert verify_model(folder) == sha256
    assert load_model(folder)[1].refine == 60


def test_weights_of_another_network_are_refused(folder, tmp_path, description):
    from itk_ncr.networks import build_network

    other = build_network("ncr-net", dimension=2, width=8)
    other.settings = {**other.settings, "width": 4}  # a lie
    save_model(folder, other, description)
    with pytest.raises(CheckpointError, match="must fit its network"):
        load_model(folder)


def test_missing_files_and_unknown_names_say_what_there_is(folder, monkeypatch):
    monkeypatch.setattr(places, "SHIPPED", folder.parent)
    assert list(checkpoints.shipped_models()) == ["tiny"]
    assert load_model("tiny")[1].name == "tiny"
    with pytest.raises(ArgumentError, match=r"tiny.*got 'large'"):
        load_model("large")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load_model("tiny")
    (folder / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"model\.json"):
        load_model("tiny")


def test_a_pickle_is_no_model(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"cos\nsystem\n")
    with pytest.raises(CheckpointError, match="can run code"):
        load_model(tmp_path / "weights.pt")


def test_the_card_says_what_the_description_says(folder):
    text = (folder / "card.md").read_text()
    for word in ("# tiny", "ncr-u", "1.5 x 2 mm", "Apache-2.0", "A test.", verify_model(folder)):
        assert word in text


def test_every_shipped_model_is_whole():
    for name in checkpoints.shipped_models():
        assert verify_model(name)
        assert load_model(name)[1].name == name


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"description": ' + '{"a": ' * 60 + "1" + "}" * 61, "nested too deeply"),
        ('{"description": 1e999}', "finite"),
        ('{"description": NaN}', "finite"),
        ('{"description": ' + "9" * 5000 + "}", "limit"),
        ("[1, 2]", "not what a model's description is"),
        ('{"sha256": ""}', "lacks the entry 'description'"),
        ('{"description": [], "sha256": ""}', "must be an object of names and values"),
        ("\x00\xff", ""),
    ],
)
def test_a_description_that_is_none_is_refused_in_one_line(text, fragment, folder):
    (folder / "model.json").write_text(text)
    with pytest.raises(CheckpointError) as caught:
        find_model(folder)
    assert fragment in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("name", 3), ("network", None), ("network_settings", [1]), ("dimension", 2.0),
        ("dimension", True), ("contrast", {}), ("preset", []), ("refine", True),
        ("refine", 10**30), ("spacing_mm", 1.0), ("spacing_mm", ["1", "2"]),
        ("spacing_mm", [10**400, 1]), ("orientation", 5), ("size", 7), ("size", [48.5, 40]),
        ("size", [10**30, 40]), ("size", "ab"), ("variant", 1), ("training", "x"),
        ("figures", [[]]), ("licence", "MIT"), ("limits", ["none"]),
    ],
)  # fmt: skip
def test_entries_of_another_type_are_refused(entry, value, folder):
    content = json.loads((folder / "model.json").read_text())
    content["description"][entry] = value
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="cannot read") as caught:
        find_model(folder)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 100_000}, {"width": 10**15}, {"width": "8"}, {"width": 2.5}, {"width": -1},
        {"colour": "red"}, {"dropout": "much"}, {"integration": ["half"]}, {"compat": "torch"},
        {"x": "y" * 10_000},
    ],
)  # fmt: skip
def test_unknown_and_absurd_settings_are_refused_before_memory_is_taken(
    settings, network, description, tmp_path
):
    resource = pytest.importorskip("resource", reason="not on Windows")
    network.settings = {**network.settings, **settings}
    save_model(tmp_path / "absurd", network, description)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"cannot build the network|must fit its network"):
        load_model(tmp_path / "absurd")
    # In kB on Linux: the network would have 72 GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
