"""The kernels on a real CUDA device against plain torch on the CPU. Without a device: skipped."""

from __future__ import annotations

import pytest
import torch

from itk_ncr import ops
from itk_ncr.ops import calls, reference
from itk_ncr.ops.extension import build_info, run_on_device

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and build_info()["cuda"]),
    reason="needs a CUDA device, a torch with CUDA and kernels built with it",
)
SHAPES = [(5, 6, 3), (40, 37, 51), (1, 1, 9), (300, 217), (12, 1)]


@pytest.fixture(autouse=True)
def compiled_kernels_run():
    assert run_on_device(torch.cuda.current_device())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_cuda_kernels_agree_with_the_twins(shape, dtype, agree_with_twins):
    agree_with_twins(shape, dtype, "cuda")


def test_denoising_agrees_with_its_twin():
    image = torch.rand(2, 2, 30, 41)
    found = ops.total_variation_denoise(image.cuda(), 0.1, 30)
    for a, b in zip(found, reference.total_variation_denoise(image, 0.1, 30), strict=True):
        torch.testing.assert_close(a.cpu(), b, atol=1e-3, rtol=1e-3)


def test_operators_pass_opcheck_on_the_device(smooth_field):
    u = smooth_field((6, 7, 9), 2.0, batch=2).cuda()
    x = torch.rand(2, 2, 6, 7, 9, device="cuda")
    for operator, arguments in {
        torch.ops.itk_ncr.exponential: (u.clone().requires_grad_(), None, 3, 1, 1.0),
        torch.ops.itk_ncr.warp: (x, u.clone().requires_grad_(), None, True, 0.5),
        torch.ops.itk_ncr.jacobian: (u.clone().requires_grad_(),),
        torch.ops.itk_ncr.box_sum: (x.clone().requires_grad_(), 2),
    }.items():
        torch.library.opcheck(operator.default, arguments)


def test_another_stream_is_followed(smooth_field):
    v = smooth_field((40, 37, 51), 5.0)
    expected = ops.exponential(v)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = ops.exponential(v.cuda(non_blocking=True))
    stream.synchronize()
    torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=1e-5)


def test_forward_results_have_the_same_bits_every_time(smooth_field):
    v = smooth_field((40, 37, 51), 5.0).cuda()
    image = torch.rand(1, 2, 40, 37, 51, device="cuda")
    first = [ops.exponential(v), ops.warp(image, v), ops.jacobian_determinant(v)]
    again = [ops.exponential(v), ops.warp(image, v), ops.jacobian_determinant(v)]
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)


def test_deterministic_mode_refuses_what_adds_atomically(smooth_field):
    v = smooth_field((6, 7, 9), 2.0).cuda().requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="must not run on CUDA"):
            ops.exponential(v).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_scratch_memory_comes_from_torch():
    before = torch.cuda.memory_allocated()
    scratch = calls.scratch_on(torch.device("cuda"))
    scratch(1 << 20)
    assert torch.cuda.memory_allocated() >= before + (1 << 20)
    del scratch
    assert torch.cuda.memory_allocated() == before
