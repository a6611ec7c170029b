"""The CUDA source without a GPU: compiled by g++ against a stand-in for CUDA's header, and run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pybind11
import pytest
import torch

from itk_ncr import ops
from itk_ncr.ops import calls, extension, integration, reference, sampling
from itk_ncr.ops.extension import kernels, run_on_device

ROOT = Path(__file__).parents[2]
SHIM = Path(__file__).parent / "cuda_shim"
# Volumes of 15 to 900 voxels: a part of a block, and many rounds of the three blocks.
SHAPES = [(5, 6, 3), (6, 7, 21), (1, 1, 9), (3, 5), (1, 9, 17), (20, 17), (12, 1)]
BLOCKS = ["-DNCR_THREADS_PER_BLOCK=32", "-DNCR_MOST_BLOCKS=3"]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("cuda_shim")
    options = [
        "-std=c++17", "-O0", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", *BLOCKS,
        f"-I{SHIM}", f"-I{ROOT / 'cpp_ext/include'}", f"-I{ROOT / 'wrapping'}",
        f"-I{pybind11.get_include()}", f"-I{sysconfig.get_paths()['include']}",
    ]  # fmt: skip
    sources = [ROOT / "cpp_ext/src/kernels.cu", SHIM / "module.cpp"]
    objects = [folder / f"{source.name}.o" for source in sources]
    started = [
        subprocess.Popen([compiler, *options, "-c", "-x", "c++", source, "-o", to], text=True,
                         stderr=subprocess.PIPE)
        for source, to in zip(sources, objects, strict=True)
    ]  # fmt: skip
    for one in started:
        _, errors = one.communicate()
        assert one.returncode == 0, errors
    library = folder / f"cuda_shim{sysconfig.get_config_var('EXT_SUFFIX')}"
    linked = subprocess.run([compiler, "-shared", *objects, "-o", library], capture_output=True)
    assert linked.returncode == 0, linked.stderr
    spec = importlib.util.spec_from_file_location("cuda_shim", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cuda(shim: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """CPU tensors take the way of CUDA tensors: same operators, binding and launches."""
    cpu = torch.device("cpu")
    monkeypatch.setattr(
        calls, "machine_of", lambda like: (shim, shim.Cuda(0, 0, calls.scratch_on(cpu)))
    )
    monkeypatch.setattr(integration, "required_squarings", reference.required_squarings)
    return shim


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_cuda_source_agrees_with_the_twins(shape, dtype, cuda, agree_with_twins):
    before = cuda.count_launches()
    agree_with_twins(shape, dtype)
    assert cuda.count_launches() > before + 100
    assert cuda.largest_grid() == 3


def test_sums_of_many_voxels_take_several_rounds(cuda):
    # More than 64 * 64 voxels, the two rounds that smaller images need.
    image = torch.rand(2, 1, 80, 83).double()
    gap = ops.total_variation_denoise(image, 0.1, 3)[2]
    expected = reference.total_variation_denoise(image, 0.1, 3)[2]
    torch.testing.assert_close(gap, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_denoises_as_its_twin_does(shape, cuda):
    image = torch.rand(2, 2, *shape)
    u, dual, gap = ops.total_variation_denoise(image, 0.1, 30)
    expected = reference.total_variation_denoise(image, 0.1, 30)
    torch.testing.assert_close(u, expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(dual, expected[1], atol=1e-5, rtol=0)
    # The gap is a difference of sums of some hundred voxels.
    torch.testing.assert_close(gap, expected[2], atol=1e-3, rtol=1e-3)
    again = ops.total_variation_denoise(image, 0.1, 30, dual)
    torch.testing.assert_close(
        again[0], reference.total_variation_denoise(image, 0.1, 30, dual)[0], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("pixel", [torch.uint8, torch.int16, torch.int32, torch.float64], ids=str)
def test_labels_keep_their_type_and_values(pixel, cuda, smooth_field):
    labels = torch.randint(0, 200, (1, 2, 7, 9, 11)).to(pixel)
    u = smooth_field((6, 8, 10), 5.0)
    for padding in ("border", "fill"):
        found = ops.warp(labels, u, mode="nearest", padding=padding, fill_value=7)
        assert found.dtype == pixel
        expected = reference.warp(labels, u, mode="nearest", padding=padding, fill_value=7)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("squarings", [None, 1, 5, 7])
def test_fields_computed_again_give_the_gradient_of_kept_ones(squarings, cuda, smooth_field):
    v = smooth_field((6, 5, 7), 7.0, batch=2)
    # One sample with fewer squarings, hence fewer fields than there is room for.
    v = (v * torch.tensor([1.0, 0.1]).view(2, 1, 1, 1, 1)).requires_grad_()
    weight = torch.randn_like(v)
    (all_kept,) = torch.autograd.grad(ops.exponential(v, squarings), v, weight)
    for keep_every in (2, 3, 20):
        again = ops.exponential(v, squarings, keep_every=keep_every)
        assert torch.equal(torch.autograd.grad(again, v, weight)[0], all_kept)
    for found in torch.ops.itk_ncr.exponential(v.detach(), torch.tensor([7, 3]), 7, 2, 1.0):
        assert not found.isnan().any()


def everything(smooth_field) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Results that are promised to have the same bits every time, and those that are not."""
    torch.manual_seed(0)
    shape = (7, 6, 9)
    v = smooth_field(shape, 6.0, batch=2).requires_grad_()
    x = torch.rand(2, 2, *shape).requires_grad_()
    moved = ops.warp(x, v, padding="fill")
    same = [
        ops.exponential(v), moved, ops.warp(x, v, mode="nearest"), ops.compose(v, v),
        *torch.autograd.grad(moved.square().sum(), v, retain_graph=True),
        *ops.total_variation_denoise(x, 0.1, 9),
    ]  # fmt: skip
    for value, of in (
        (ops.jacobian_determinant(v), v), (ops.box_sum(x, 2), x),
        (ops.resize(x, (5, 9, 9)), x),
    ):  # fmt: skip
        same += [value, *torch.autograd.grad(value.square().sum(), of, retain_graph=True)]
    added = [
        *torch.autograd.grad(same[0].square().sum(), v, retain_graph=True),
        *torch.autograd.grad(moved.square().sum(), x, retain_graph=True),
        *torch.autograd.grad(same[2].square().sum(), x, retain_graph=True),
    ]
    return same, added


def test_the_order_of_threads_changes_atomic_sums_alone_and_those_by_rounding(cuda, smooth_field):
    same, added = everything(smooth_field)
    cuda.set_backwards(True)
    try:
        same_backwards, added_backwards = everything(smooth_field)
    finally:
        cuda.set_backwards(False)
    for a, b in zip(same, same_backwards, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(added, added_backwards, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    # Else the order was not another one.
    assert any(not torch.equal(a, b) for a, b in zip(added, added_backwards, strict=True))


def test_a_nan_position_shows_and_touches_nothing_else(cuda, smooth_field):
    image, u = torch.rand(1, 1, 6, 7, 19), smooth_field((6, 7, 19), 2.0)
    whole = ops.warp(image, u)
    u[0, 1, 3, 3, 9] = float("nan")
    found = ops.warp(image, u)
    assert found[0, 0, 3, 3, 9].isnan()
    assert torch.equal(found[~found.isnan()], whole[~found.isnan()])
    assert found.isnan().sum() == 1


def test_an_empty_batch_launches_nothing(cuda):
    before = cuda.count_launches()
    assert ops.warp(torch.zeros(0, 1, 4, 5), torch.zeros(0, 2, 4, 5)).shape == (0, 1, 4, 5)
    assert ops.box_sum(torch.zeros(0, 1, 4, 5), 1).shape == (0, 1, 4, 5)
    assert cuda.count_launches() == before


def test_work_goes_to_the_device_of_the_tensor_and_the_current_one_stays(shim):
    shim.set_devices(2)
    try:
        assert [shim.usable(device) for device in (0, 1, 2)] == [True, True, False]
        values = torch.rand(2, 1, 4, 5)
        sums = torch.empty_like(values)
        scratch = calls.scratch_on(torch.device("cpu"))
        arguments = (values.data_ptr(), 2, [4, 5], 1, sums.data_ptr())
        shim.box_sum_float32(shim.Cuda(1, 0, scratch), *arguments)
        torch.testing.assert_close(sums, reference.box_sum(values, 1))
        with pytest.raises(RuntimeError, match="choosing a CUDA device failed: invalid device"):
            shim.box_sum_float32(shim.Cuda(2, 0, scratch), *arguments)
        assert shim.current_device() == 0
    finally:
        shim.set_devices(1)


def test_memory_that_is_not_there_is_the_caller_s_error(shim):
    def refuse(size: int) -> int:
        raise torch.cuda.OutOfMemoryError(f"no {size} bytes")

    values = torch.rand(2, 1, 4, 5)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="no 160 bytes"):
        shim.box_sum_float32(
            shim.Cuda(0, 0, refuse), values.data_ptr(), 2, [4, 5], 1, values.data_ptr()
        )


def test_every_kernel_is_there_on_both_machines(shim):
    def names(module: ModuleType) -> set[str]:
        return {n for n in dir(module) if n.endswith(("_float32", "_float64"))}

    counted_by_torch = {"required_squarings_float32", "required_squarings_float64"}
    assert names(kernels()) - names(shim) == counted_by_torch
    assert names(shim) <= names(kernels())


def test_where_bits_may_differ_deterministic_mode_is_told():
    somewhere_else = torch.empty(1, device="meta")
    calls.alert_not_deterministic("a gradient", somewhere_else)
    torch.use_deterministic_algorithms(True)
    try:
        calls.alert_not_deterministic("a gradient", torch.empty(1))
        image, u = torch.empty(2, 1, 4, 5, device="meta"), torch.empty(2, 2, 4, 5, device="meta")
        for adjoint, arguments in (
            (integration.exponential_adjoint, (u, u, u, None, 3, 1, 1.0)),
            (sampling.warp_adjoint, (image, image, u, False, False, True)),
            (sampling.warp_nearest_adjoint, (image, u, [4, 5], False)),
        ):
            with pytest.raises(RuntimeError, match=r"gradient of \w+ .*must not run on CUDA"):
                adjoint.implementation(*arguments)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="adds atomically"):
            calls.alert_not_deterministic("a gradient", somewhere_else)
    finally:
        torch.use_deterministic_algorithms(False)


def test_cuda_tensors_find_the_cuda_functions_their_device_and_stream(monkeypatch):
    module = SimpleNamespace(cuda=SimpleNamespace(Cuda=lambda *handle: handle))
    monkeypatch.setattr(calls, "kernels", lambda: module)
    streams = {torch.device("cuda", 1): SimpleNamespace(cuda_stream=1234)}
    monkeypatch.setattr(torch.cuda, "current_stream", streams.__getitem__)
    functions, (device, stream, _) = calls.machine_of(
        SimpleNamespace(device=torch.device("cuda", 1))
    )
    assert functions is module.cuda
    assert (device, stream) == (1, 1234)
    for name in ("exponential", "exponential_adjoint", "warp", "box_sum"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"itk_ncr::{name}", "CUDA")


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("torch_has_cuda", [True, False])
@pytest.mark.parametrize("usable", [True, False])
def test_the_twins_take_over_where_the_kernels_cannot_run(
    built, torch_has_cuda, usable, monkeypatch
):
    module = SimpleNamespace(
        build_info=lambda: {"cuda": built}, cuda=SimpleNamespace(usable=lambda device: usable)
    )
    monkeypatch.setattr(extension, "kernels", lambda: module)
    monkeypatch.setattr(torch.version, "cuda", "13.0" if torch_has_cuda else None)
    extension._run_on_device.cache_clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = [run_on_device(3), run_on_device(3)]
    extension._run_on_device.cache_clear()
    assert found == 2 * [built and torch_has_cuda and usable]
    # A build that could, on a device that cannot, is worth a word; once.
    expected = 1 if built and torch_has_cuda and not usable else 0
    assert len([w for w in seen if "on CUDA device 3" in str(w.message)]) == expected


def test_graphs_take_which_kernels_run_as_a_constant():
    def choose(values):
        return values + 1 if run_on_device(0) else values - 1

    found = torch.compile(choose, fullgraph=True, backend="eager")(torch.zeros(2))
    assert torch.equal(found, choose(torch.zeros(2)))


def test_nvcc_compiles_the_source(tmp_path):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("needs nvcc")
    source, result = ROOT / "cpp_ext/src/kernels.cu", tmp_path / "kernels.o"
    command = [
        compiler, "-std=c++17", "-arch=sm_80", "-Werror=all-warnings", "-Xcompiler=-Wall,-Wextra",
        f"-I{ROOT / 'cpp_ext/include'}", "-c", source, "-o", result,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # Each kernel's name is in the code for the device.
    for kernel in (b"SumInParts", b"WarpNearestAdjoint", b"DualStep", b"ResizeAlongAdjoint"):
        assert kernel in result.read_bytes()
