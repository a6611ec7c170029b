"""The ONNX file computes what torch does; skipped where onnx is not installed."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError, MissingDependencyError
from itk_ncr.networks import build_network, write_onnx
from itk_ncr.networks.export import NetworkOutputs

SAME = {"rtol": 1e-4, "atol": 1e-4}
# An exported pyramid takes a fixed number of squarings; these weights move by a dozen voxels.
ALIKE = {"ncr-pyramid": {"rtol": 5e-3, "atol": 5e-3}}


@pytest.mark.parametrize("name", ["ncr-net", "regnet", "ncr-pyramid"])
def test_the_onnx_file_computes_the_maps_for_any_size(name, lively, pair, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")

    network = lively(name, 2, width=4)
    write_onnx(network, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    assert [x.name for x in session.get_inputs()] == ["fixed", "moving"]
    names = [x.name for x in session.get_outputs()]
    assert names == NetworkOutputs(network).names
    # An output's sizes are not those of the images: its axes must not be called so.
    axes = [axis for x in session.get_outputs() for axis in x.shape[2:]]
    assert len({*axes}) == len(axes)
    assert not {"y", "x"} & {*axes}
    assert session.get_modelmeta().custom_metadata_map == {
        "itk_ncr.network": name,
        "itk_ncr.dimension": "2",
        "itk_ncr.size_multiple": "16",
        "itk_ncr.padding": "repeated far borders, in the graph",
    }
    for size, batch in (((32, 32), 1), ((48, 16), 2), ((97, 113), 2), ((5, 33), 1)):
        fixed, moving = pair(*size, batch=batch)
        found = session.run(None, {"fixed": fixed.numpy(), "moving": moving.numpy()})
        with torch.inference_mode():
            velocities, masks = network.maps(fixed, moving)
        for a, b in zip(found, [*velocities, *masks], strict=True):
            assert_close(torch.from_numpy(a), b, **ALIKE.get(name, SAME))


@pytest.mark.parametrize(
    ("name", "dimension", "reason"),
    [
        ("voxelmorph", 2, "ncr-net, regnet or ncr-pyramid; got VoxelMorph"),
        ("ncr-pyramid", 3, "must be 2D where it is ncr-pyramid; got 3D"),
    ],
)
def test_a_network_that_cannot_be_written_is_refused(name, dimension, reason, tmp_path):
    pytest.importorskip("onnx")
    network = build_network(name, dimension=dimension)
    with pytest.raises(ArgumentError, match=reason):
        write_onnx(network, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_names_its_extra(lively, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'itk_ncr\[onnx\]'"):
        write_onnx(lively("ncr-net", 2, width=4), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_does_not_fit_is_refused(lively, tmp_path):
    pytest.importorskip("onnx")
    network = lively("ncr-net", 2, width=4)
    for size, said in {
        (32, 40): "multiples of 16; got 32x40. Take 32x48 and pad",
        (0, 16): "multiples of 16; got 0x16. Take 16x16 and pad",
        (32, 32, 32): "must have 2 numbers, because the network is 2D; got 32x32x32",
    }.items():
        with pytest.raises(ArgumentError, match=said):
            write_onnx(network, tmp_path / "model.onnx", size=size)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_nothing(lively, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    (tmp_path / "model.onnx").write_bytes(b"before")

    def fail(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(RuntimeError, match="no"):
        write_onnx(lively("ncr-net", 2, width=4), tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"before"
