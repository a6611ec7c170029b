"""Models that are added: verified before anything is written, found by name, removed."""

import hashlib
import json
import os
import socket
from pathlib import Path, PurePosixPath

import pytest
import torch

from itk_ncr.checkpoints import (
    add_model,
    find_model,
    installed_models,
    load_model,
    models_folder,
    places,
    remove_model,
    save_model,
    verify_model,
    write_state,
)
from itk_ncr.errors import ArgumentError, CheckpointError, InputError, NCRError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ITK_NCR_MODELS", str(tmp_path / "data" / "models"))
    return tmp_path / "data" / "models"


@pytest.fixture
def folder(tmp_path, network, description):
    save_model(tmp_path / "given", network, description)
    return tmp_path / "given"


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_an_added_folder_is_the_same_model_and_is_found_by_name(folder, home):
    (folder / "notes.py").write_text("raise SystemExit")
    stored = add_model(folder)
    assert stored == find_model("tiny")
    assert stored.folder == home / "tiny"
    assert stored.sha256 == verify_model(folder) == verify_model("tiny")
    assert list(installed_models()) == ["tiny"]
    assert sorted(p.name for p in stored.folder.iterdir()) == [
        "card.md", "model.json", "weights.safetensors"
    ]  # fmt: skip
    given, kept = load_model(folder)[0].state_dict(), load_model("tiny")[0].state_dict()
    assert all(torch.equal(given[name], kept[name]) for name in given)
    # Nothing beside it, and the given one may go.
    assert [p.name for p in home.iterdir()] == ["tiny"]


def test_weights_alone_carry_their_description(folder, home):
    add_model(folder, "first")
    stored = add_model(folder / "weights.safetensors", "second")
    first, second = (home / name / "weights.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert find_model("first").description == find_model("second").description
    assert stored.description == find_model(folder).description


def test_the_same_model_again_changes_nothing_and_another_one_is_refused(
    folder, home, network, description
):
    add_model(folder)
    before = content(home)
    assert add_model(folder).folder == home / "tiny"
    with torch.no_grad():
        next(network.parameters()).add_(1)
    save_model(folder, network, description)
    for name in (None, "TINY"):
        with pytest.raises(ArgumentError, match=r"name of an added model must"):
            add_model(folder, name)
    assert content(home) == before
    remove_model("tiny")
    assert add_model(folder).sha256 == verify_model(folder)


def test_names_of_the_package_are_not_to_be_had(folder, home, monkeypatch):
    monkeypatch.setattr(places, "SHIPPED", folder.parent)
    for name in ("given", "Given"):
        with pytest.raises(ArgumentError, match="must not be that of a model of the package"):
            add_model(folder, name)
    with pytest.raises(ArgumentError, match="it comes with the package"):
        remove_model("given")
    assert not home.exists()


def test_a_model_of_the_package_hides_an_added_one_of_its_name(folder, home, monkeypatch):
    add_model(folder, "given")
    monkeypatch.setattr(places, "SHIPPED", folder.parent)
    assert find_model("given").folder == folder
    assert not installed_models()
    assert remove_model("given") == home / "given"


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../tiny", "a/b", "a\\b", "/tiny", ".hidden", "-o", "a b", "con", "NUL.x",
        "ends.", "weights.pt", "x" * 65, "caf\u00e9", "tiny\n", "\x1b[31m",
    ],
)  # fmt: skip
def test_names_that_cannot_be_folders_everywhere_are_refused(name, folder, home):
    with pytest.raises(ArgumentError, match="name of an added model must") as caught:
        add_model(folder, name)
    assert "\n" not in str(caught.value)
    with pytest.raises(ArgumentError, match="must be that of an added model"):
        remove_model(name)
    assert not home.exists()
    assert folder.exists()


def cut(folder, share):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flip(folder):
    path = folder / "weights.safetensors"
    changed = bytearray(path.read_bytes())
    changed[-9] ^= 1
    path.write_bytes(changed)


def swell(folder):
    """A hundred gigabytes of nothing, which the disk does not store."""
    with (folder / "weights.safetensors").open("r+b") as file:
        file.truncate(100 * 10**9)


def longest_header(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def foreign(folder):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, folder / "weights.safetensors")


def pickled(folder):
    torch.save({"a": torch.ones(2)}, folder / "weights.safetensors")


def training_state(folder):
    write_state(folder / "weights.safetensors", {"a": torch.ones(2)}, {"step": 3})


def not_finite(folder):
    described = find_model(folder)
    tensors = load_model(folder)[0].state_dict()
    next(iter(tensors.values())).fill_(float("nan"))
    _rewrite(folder, tensors, described.description.as_dict())


def of_another_network(folder):
    about = find_model(folder).description.as_dict()
    about["network_settings"]["width"] = 8
    _rewrite(folder, load_model(folder)[0].state_dict(), about)


def of_an_absurd_network(folder):
    about = find_model(folder).description.as_dict()
    about["network_settings"]["width"] = 10**9
    _rewrite(folder, load_model(folder)[0].state_dict(), about)


def _rewrite(folder, tensors, about):
    path = folder / "weights.safetensors"
    write_state(path, tensors, {"description": about})
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps({"description": about, "sha256": sha256}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: cut(folder, 0), lambda folder: cut(folder, 0.2),
        lambda folder: cut(folder, 0.999), flip, swell, longest_header, foreign, pickled,
        training_state, not_finite, of_another_network, of_an_absurd_network,
    ],
)  # fmt: skip
@pytest.mark.parametrize("alone", [False, True])
def test_wrong_weights_are_refused_and_nothing_is_left(damage, alone, folder, home):
    resource = pytest.importorskip("resource", reason="not on Windows")
    damage(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        add_model(folder / "weights.safetensors" if alone else folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not home.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB on Linux


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("{", "cannot read"),
        ("[]", "not what"),
        ("x" * 5_000_000, "larger than"),
        (None, "no model"),
    ],
)
def test_a_folder_without_a_sound_description_is_refused(text, fragment, folder, home):
    path = folder / "model.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(NCRError, match=fragment):
        add_model(folder)
    assert not home.exists()


def test_what_is_no_model_says_what_to_give(folder, tmp_path, home):
    (tmp_path / "model.zip").write_bytes(b"PK")
    (tmp_path / "model.pth").write_bytes(b"cos\nsystem\n")
    for source, fragment in (
        (tmp_path / "nothing", "there is no"),
        (tmp_path / "model.zip", "Unpack an archive first"),
        (folder / "model.json", f"Give '{folder}'"),
        (tmp_path, f"Give '{folder}'"),
    ):
        with pytest.raises(InputError, match=fragment):
            add_model(source)
    with pytest.raises(CheckpointError, match="can run code"):
        add_model(tmp_path / "model.pth")
    assert not home.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_in_place_of_weights_does_not_hang(folder, home):
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        add_model(folder)
    with pytest.raises(InputError):
        add_model(folder / "weights.safetensors")


def test_a_damaged_added_model_hides_no_other_and_can_be_removed(folder, home):
    add_model(folder)
    add_model(folder, "other")
    (home / "tiny" / "model.json").write_text("{")
    assert list(installed_models()) == ["other"]
    assert load_model("other")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_model("tiny")
    with pytest.raises(CheckpointError, match="cannot read"):
        add_model(folder)
    remove_model("tiny")
    add_model(folder)


def test_removing_a_link_keeps_what_it_leads_to(folder, home):
    home.mkdir(parents=True)
    try:
        (home / "linked").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("Windows: links need rights")
    assert list(installed_models()) == ["linked"]
    remove_model("linked")
    assert verify_model(folder)
    assert not installed_models()


def test_a_disk_that_refuses_leaves_no_half_model(folder, home, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("itk_ncr.checkpoints.installing.os.rename", full)
    with pytest.raises(CheckpointError, match="No space left"):
        add_model(folder)
    assert not home.exists()


@pytest.mark.parametrize(
    ("platform", "variables", "wanted"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/itk_ncr/models"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "HOME/.local/share/itk_ncr/models"),
        ("linux", {}, "HOME/.local/share/itk_ncr/models"),
        ("darwin", {"XDG_DATA_HOME": "/data"}, "HOME/Library/Application Support/itk_ncr/models"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/itk_ncr/models"),
        ("win32", {}, "HOME/AppData/Local/itk_ncr/models"),
        ("linux", {"ITK_NCR_MODELS": "/group/models"}, "/group/models"),
    ],
)
def test_every_system_has_its_place_for_the_data_of_a_user(
    platform, variables, wanted, monkeypatch
):
    for name in ("ITK_NCR_MODELS", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(places.sys, "platform", platform)
    wanted = wanted.replace("HOME", Path.home().as_posix())
    assert PurePosixPath(models_folder().as_posix()) == PurePosixPath(wanted)


def test_without_a_home_the_models_of_the_package_still_work(monkeypatch):
    def unknown():
        raise RuntimeError("no home")

    monkeypatch.delenv("ITK_NCR_MODELS")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(places.Path, "home", unknown)
    assert find_model("brain-t1-2d")
    with pytest.raises(InputError, match="Set ITK_NCR_MODELS"):
        models_folder()


def test_adding_needs_no_network(folder, monkeypatch):
    def none(*_, **__):
        raise AssertionError("the network is used")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, none)
    monkeypatch.setattr(socket.socket, "connect", none)
    add_model(folder)
    assert load_model("tiny")
