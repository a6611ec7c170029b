"""Calling a compiled kernel: threads, addresses, memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from itk_ncr.ops.extension import kernels


def run(name: str, like: Tensor, *arguments: Any) -> Any:
    """Run the kernel for the dtype of ``like`` on torch's number of threads."""
    module = kernels()
    assert module is not None
    function = getattr(module, f"{name}_{str(like.dtype).removeprefix('torch.')}")
    return function(torch.get_num_threads(), *arguments)


def address(tensor: Tensor | None) -> int:
    """Address of the first value; 0 stands for none."""
    return 0 if tensor is None else tensor.data_ptr()


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
    module = kernels()
    assert module is not None
    if count * like.element_size() < _POOLED_BYTES:
        return like.new_empty(shape)
    space = module.Workspace(count * like.element_size())
    return torch.frombuffer(space, dtype=like.dtype, count=count).view(shape)


def allocate_like(tensor: Tensor) -> Tensor:
    """As :func:`allocate`, with the shape of ``tensor``."""
    return allocate(tensor, *tensor.shape)
