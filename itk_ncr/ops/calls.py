"""Calling a compiled kernel: threads or device, addresses, memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from itk_ncr.ops.extension import kernels


def run(name: str, like: Tensor, *arguments: Any) -> Any:
    """Run the kernel for the dtype of ``like`` on its device."""
    module, machine = machine_of(like)
    function = getattr(module, f"{name}_{str(like.dtype).removeprefix('torch.')}")
    return function(machine, *arguments)


def machine_of(like: Tensor) -> tuple[ModuleType, Any]:
    """The functions for the device of ``like``, and their first arguments.

    On the processor that is torch's number of threads, on a CUDA device torch's current stream.
    """
    module = kernels()
    assert module is not None
    if like.device.type == "cpu":
        return module, torch.get_num_threads()
    stream = torch.cuda.current_stream(like.device).cuda_stream
    return module.cuda, module.cuda.Cuda(like.device.index, stream, scratch_on(like.device))


def scratch_on(device: torch.device) -> Callable[[int], int]:
    """Gives addresses of memory that lives as long as the function: what a kernel's call needs.

    torch gives freed memory to nothing but the same stream, so the call need not wait for the end
    of the work.
    """
    held: list[Tensor] = []

    def scratch(size: int) -> int:
        held.append(torch.empty(size, dtype=torch.uint8, device=device))
        return held[-1].data_ptr()

    return scratch


def alert_not_deterministic(name: str, like: Tensor) -> None:
    """Raise or warn where deterministic algorithms are required, as torch's own operators do."""
    if like.device.type == "cpu" or not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        f"{name} must not run on CUDA under torch.use_deterministic_algorithms(True): it adds "
        f"atomically; got device {like.device}. Compute on the CPU, where it is deterministic."
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, UserWarning, stacklevel=3)


def address(tensor: Tensor | None) -> int:
    """Address of the first value; 0 stands for none."""
    return 0 if tensor is None else tensor.data_ptr()


def dense(tensor: Tensor) -> Tensor:
    """The values of a tensor as they lie in memory: what a kernel may read at its address.

    Contiguous views may still be lazy: torch keeps the sign of ``-x`` or of ``x.conj().imag`` as a
    bit beside the memory of ``x``.
    """
    return tensor.detach().resolve_neg().contiguous()


def new(tensor: Tensor, *shape: Any) -> Tensor:
    """Uninitialised tensor with dtype and device of ``tensor``."""
    return tensor.new_empty(shape)


# Smaller tensors come faster from torch, whose allocator keeps their pages.
_POOLED_BYTES = 1 << 18


def allocate(like: Tensor, *shape: int) -> Tensor:
    """Uninitialised tensor for a kernel to fill.

    Large ones come out of the kernels' pool: faulting in the pages of a fresh field of 12 MB took
    4.4 ms, warping it 3.
    """
    count = math.prod(shape)
    if like.device.type != "cpu" or count * like.element_size() < _POOLED_BYTES:
        return like.new_empty(shape)
    module = kernels()
    assert module is not None
    space = module.Workspace(count * like.element_size())
    return torch.frombuffer(space, dtype=like.dtype, count=count).view(shape)


def allocate_like(tensor: Tensor) -> Tensor:
    """As :func:`allocate`, with the shape of ``tensor``."""
    return allocate(tensor, *tensor.shape)
