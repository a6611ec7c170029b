"""Other engines give what torch gives; skipped where their packages are not installed."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.testing import assert_close

from itk_ncr.errors import ArgumentError, MissingDependencyError, ShapeError
from itk_ncr.networks import accelerate, build_network, write_onnx
from itk_ncr.networks.backends import Outputs

SAME = {"rtol": 1e-4, "atol": 1e-4}


def everything(prediction):
    return (*prediction.velocity, *prediction.displacement, *prediction.noncorrespondence)


def needs(backend):
    for package in {"openvino": ["openvino"], "onnxruntime": ["onnx", "onnxruntime"]}[backend]:
        pytest.importorskip(package)


@pytest.mark.parametrize(
    ("backend", "name", "dimension"),
    [
        ("openvino", "ncr-net", 2),
        ("openvino", "ncr-net", 3),
        ("openvino", "regnet", 3),
        ("onnxruntime", "ncr-net", 2),
        ("onnxruntime", "regnet", 3),
    ],
)
def test_another_engine_predicts_the_same(backend, name, dimension, lively, pair):
    needs(backend)
    network = lively(name, dimension, width={2: 8, 3: 4}[dimension])
    fast = accelerate(network, backend, threads=1)
    images = pair(*((45, 32), (16, 30, 16))[dimension - 2], batch=2)
    with torch.inference_mode():
        wanted = network(*images)
        for _ in range(2):  # compiled, then again
            for a, b in zip(everything(fast(*images)), everything(wanted), strict=True):
                assert_close(a, b, **SAME)
    with pytest.raises(ShapeError, match="one shape"):
        fast(images[0], images[1][..., :-1])


@pytest.mark.parametrize("name", ["ncr-net", "regnet"])
def test_the_onnx_file_computes_the_maps_for_any_size(name, lively, pair, tmp_path):
    needs("onnxruntime")
    import onnxruntime

    network = lively(name, 2, width=4)
    write_onnx(network, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    assert [x.name for x in session.get_inputs()] == ["fixed", "moving"]
    names = [x.name for x in session.get_outputs()]
    assert names == Outputs(network).names
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
            assert_close(torch.from_numpy(a), b, **SAME)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_scales_and_mask_can_be_left_out(backend, lively, pair):
    needs(backend)
    network = lively("ncr-net", 2, width=4)
    images = pair(32, 32)
    with torch.inference_mode():
        fast = accelerate(network, backend, threads=1)
        found = fast(*images, scales=1, find_mask=False)
        wanted = network(*images)
        masks = fast(*images, scales=2).noncorrespondence
    assert len(everything(found)) == 2
    assert_close(found.displacement[0], wanted.displacement[0], **SAME)
    for a, b in zip(masks, wanted.noncorrespondence[:2], strict=True):
        assert_close(a, b, **SAME)


def test_torch_is_a_backend_too(lively, pair):
    network = lively("ncr-net", 2, width=4)
    images = pair(32, 32)
    with torch.inference_mode():
        found = accelerate(network)(*images)
        assert_close(found.displacement[0], network(*images).displacement[0], **SAME)


def test_what_cannot_be_done_is_refused_in_one_line(lively, tmp_path, monkeypatch):
    network = lively("ncr-net", 2, width=4)
    with pytest.raises(ArgumentError, match="backend must be one of torch, openvino, onnxruntime"):
        accelerate(network, "tensorrt")
    with pytest.raises(ArgumentError, match="precision must be one of float32 for onnxruntime"):
        accelerate(network, "onnxruntime", precision="bfloat16")
    with pytest.raises(ArgumentError, match="network must be ncr-net or regnet; got VoxelMorph"):
        accelerate(build_network("voxelmorph", dimension=2), "openvino")
    for package in ("onnx", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r'pip install "itk_ncr\[openvino\]"'):
        accelerate(network, "openvino")
    with pytest.raises(MissingDependencyError, match=r'pip install "itk_ncr\[onnx\]"'):
        write_onnx(network, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_does_not_fit_is_refused(lively, tmp_path):
    pytest.importorskip("onnx")
    network = lively("ncr-net", 2, width=4)
    for size, said in {
        (32, 40): "multiples of 16; got 32x40. Take 32x48 and pad",
        (0, 16): "multiples of 16; got 0x16. Take 16x16 and pad",
        (32, 32, 32): "must have 2 numbers, for the network is 2D; got 32x32x32",
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
